//! One HTTP request from inside a namespace, or to a Unix socket: enough for health checks, metrics,
//! the store and Docker.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::netns::Netns;

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub body: String,
}

/// Sends the request to a TCP port, from inside a namespace.
pub fn request(
    from: &Netns,
    server: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Response> {
    let attempted = || format!("{method} http://{server}{path} from {}", from.name());
    let connect = || {
        let stream = from.run(|| Ok(TcpStream::connect_timeout(&server, TIMEOUT)?))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        exchange(stream, &server.to_string(), method, path, body)
    };
    connect().with_context(attempted)
}

/// Sends the request to a Unix socket.
pub fn request_unix(socket: &Path, method: &str, path: &str, body: &str) -> Result<Response> {
    let attempted = || format!("{method} {path} at {}", socket.display());
    let connect = || {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        exchange(stream, "localhost", method, path, body)
    };
    connect().with_context(attempted)
}

/// Sends the request and reads the whole answer.
///
/// HTTP/1.0 on purpose: the server then neither keeps the connection nor sends chunks. It may also
/// answer and close before it has read the body, as Go's does where a handler needs none; the
/// kernel then resets the connection behind the answer. So the request goes out in one piece, and
/// an answer that came whole counts, whatever the connection ends with.
fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<Response> {
    let message = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let ended = stream
        .write_all(message.as_bytes())
        .and(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer);
    match ended {
        Err(error) if !is_whole(&answer) => Err(error.into()),
        Ok(_) | Err(_) => parse(&answer),
    }
}

/// Whether everything that the header announces is there. Without a length only the end of the
/// connection tells.
fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse::<usize>().ok())?
    });
    length == Some(body.len())
}

/// `GET`, and an error unless the status is 200.
pub fn get(from: &Netns, server: SocketAddr, path: &str) -> Result<String> {
    let response = request(from, server, "GET", path, "")?;
    if response.status != 200 {
        bail!(
            "GET http://{server}{path}: status {}: {}",
            response.status,
            response.body.trim()
        );
    }
    Ok(response.body)
}

fn parse(answer: &str) -> Result<Response> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("no end of the header")?;
    let status = head.split_whitespace().nth(1).context("no status")?;
    let status = status.parse().with_context(|| format!("status {status}"))?;
    Ok(Response {
        status,
        body: body.to_owned(),
    })
}

//! Raw HTTP: a request is bytes, an answer is bytes, nothing is helpful.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A store, by its base address (`http://127.0.0.1:8500`).
#[derive(Debug, Clone)]
pub(crate) struct Server {
    authority: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Server {
    pub(crate) fn new(base: &str) -> Self {
        let authority = base.trim_start_matches("http://").trim_end_matches('/');
        Self {
            authority: authority.to_owned(),
        }
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn send(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.authority).expect("connect to the store");
        let timeout = Some(Duration::from_secs(60));
        stream.set_read_timeout(timeout).expect("set a timeout");
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            self.authority,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("send the head");
        // A server that refuses by the head alone may close before it has read the body.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        if let Err(err) = stream.read_to_end(&mut bytes) {
            assert!(!bytes.is_empty(), "{method} {target}: no answer: {err}");
        }
        Answer::parse(&bytes).unwrap_or_else(|| panic!("{method} {target}: {bytes:?}"))
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send("GET", target, b"")
    }

    pub(crate) fn put(&self, target: &str, body: &str) -> Answer {
        self.send("PUT", target, body.as_bytes())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The index this answer is valid at.
    pub(crate) fn index(&self) -> u64 {
        let index = self.header("x-consul-index").expect("an index");
        index.parse().expect("an index that is a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|part| part == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .map(|line| line.split_once(": ").unwrap_or((line, "")))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answer = Self {
            status,
            headers,
            body: bytes[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body)?;
        }
        Some(answer)
    }
}

fn unchunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|part| part == b"\r\n")?;
        let length = std::str::from_utf8(&bytes[..end]).ok()?;
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(bytes.get(end + 2..end + 2 + length)?);
        bytes = bytes.get(end + 2 + length + 2..)?;
    }
}

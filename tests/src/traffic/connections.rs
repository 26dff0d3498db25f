//! TCP connections that carry one byte each way: what none of the load tools at hand measures.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{OnOneCpu, udp::pin};

const PORT: u16 = 5004;

/// A connection that takes this long is none.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Connect, send a byte, receive one, close: how often in a second, one after the other.
pub fn per_second(ends: &OnOneCpu<'_>) -> Result<f64> {
    let OnOneCpu { from, to, cpu, .. } = *ends;
    let address = SocketAddr::new(ends.address, PORT);
    let listener =
        to.run(|| TcpListener::bind(address).with_context(|| format!("listen on {address}")))?;
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            pin(Some(cpu))?;
            serve(&listener)
        });
        let measured = from.run(|| {
            pin(Some(cpu))?;
            let measured = ask(address, ends.duration);
            // Who says nothing is the last.
            TcpStream::connect_timeout(&address, TIMEOUT).context("end the server")?;
            measured
        });
        server
            .join()
            .map_err(|_| anyhow!("the server of connections panicked"))??;
        measured
    })
}

/// Answers until somebody connects and says nothing. The server closes first: the client's port is
/// free again at once, and there are enough of them for any rate.
fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().context("accept a connection")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let mut byte = [0];
        match stream.read_exact(&mut byte) {
            Ok(()) => stream.write_all(&byte).context("answer")?,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error).context("read a request"),
        }
    }
}

fn ask(address: SocketAddr, duration: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut asked = 0_u32;
    let mut answer = Vec::new();
    while started.elapsed() < duration {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .with_context(|| format!("connect to {address}, after {asked} times"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(&[1]).context("send a request")?;
        answer.clear();
        stream.read_to_end(&mut answer).context("read an answer")?;
        ensure!(answer == [1], "another answer than the request: {answer:?}");
        asked += 1;
    }
    Ok(f64::from(asked) / started.elapsed().as_secs_f64())
}

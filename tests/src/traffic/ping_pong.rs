//! Round trips that are counted while something else happens. qperf gives up where too little gets through.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use super::{OnOneCpu, udp::pin};

const PORT: u16 = 5006;
const TIMEOUT: Duration = Duration::from_secs(5);

/// One byte there and back by TCP, again and again, until this is dropped.
#[derive(Debug)]
pub struct PingPong {
    count: Arc<AtomicU64>,
    streams: [TcpStream; 2],
    threads: Vec<JoinHandle<Result<()>>>,
}

impl PingPong {
    /// Connects, and begins.
    pub fn start(ends: &OnOneCpu<'_>) -> Result<Self> {
        let OnOneCpu { from, to, cpu, .. } = *ends;
        let address = SocketAddr::new(ends.address, PORT);
        let listener =
            to.run(|| TcpListener::bind(address).with_context(|| format!("listen on {address}")))?;
        let client = from.run(|| {
            TcpStream::connect_timeout(&address, TIMEOUT)
                .with_context(|| format!("connect to {address}"))
        })?;
        let (server, _) = listener.accept().context("accept the connection")?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).context("send each byte at once")?;
        }
        let streams = [client.try_clone()?, server.try_clone()?];
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        let asking = move || {
            let mut client = client;
            pin(Some(cpu))?;
            loop {
                client.write_all(&[1])?;
                client.read_exact(&mut [0])?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let answering = move || {
            let mut server = server;
            pin(Some(cpu))?;
            loop {
                let mut byte = [0];
                server.read_exact(&mut byte)?;
                server.write_all(&byte)?;
            }
        };
        Ok(Self {
            count,
            streams,
            threads: vec![thread::spawn(asking), thread::spawn(answering)],
        })
    }

    /// Round trips per second, from now on.
    pub fn per_second(&self, duration: Duration) -> Result<f64> {
        let (before, started) = (self.count.load(Ordering::Relaxed), Instant::now());
        thread::sleep(duration);
        let count = self.count.load(Ordering::Relaxed) - before;
        if self.threads.iter().any(JoinHandle::is_finished) {
            return Err(anyhow!("the connection broke"));
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 round trips")]
        let rate = count as f64 / started.elapsed().as_secs_f64();
        Ok(rate)
    }
}

impl Drop for PingPong {
    /// Ends both threads, whose error that is.
    fn drop(&mut self) {
        for stream in &self.streams {
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

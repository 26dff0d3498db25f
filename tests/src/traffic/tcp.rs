//! A TCP transfer with a hash at both ends.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};

use crate::netns::Netns;

const CHUNK: usize = 128 << 10;

/// No progress for this long is a failure.
const STALL: Duration = Duration::from_secs(20);

/// What was sent and what arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub bytes: u64,
    pub elapsed: Duration,
    pub sent_sha256: String,
    pub received_sha256: String,
}

impl Transfer {
    /// An error unless the same bytes arrived.
    pub fn verify(&self) -> Result<()> {
        if self.sent_sha256 != self.received_sha256 {
            bail!(
                "{} bytes arrived changed: sha256 {} was sent, {} received",
                self.bytes,
                self.sent_sha256,
                self.received_sha256
            );
        }
        Ok(())
    }
}

/// Sends `bytes` bytes of noise from one namespace to a server at `address` in another.
pub fn transfer(from: &Netns, to: &Netns, address: SocketAddr, bytes: u64) -> Result<Transfer> {
    let listener =
        to.run(|| TcpListener::bind(address).with_context(|| format!("listen on {address}")))?;
    let connecting = || {
        TcpStream::connect_timeout(&address, STALL).with_context(|| format!("connect to {address}"))
    };
    let client = from.run(connecting)?;
    // The connection is there, so this does not block.
    let (server, _) = listener.accept().context("accept the connection")?;
    client
        .set_write_timeout(Some(STALL))
        .context("set a write timeout")?;
    server
        .set_read_timeout(Some(STALL))
        .context("set a read timeout")?;

    let started = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| send(client, bytes));
        let received = receive(server);
        (
            sender.join().map_err(|_| anyhow!("the sender panicked")),
            received,
        )
    });
    let elapsed = started.elapsed();
    let (received_bytes, received_sha256) =
        received.with_context(|| format!("receive from {}", from.name()))?;
    let sent_sha256 = sent?.with_context(|| format!("send to {address}"))?;
    if received_bytes != bytes {
        bail!("{bytes} bytes were sent to {address}, {received_bytes} arrived");
    }
    Ok(Transfer {
        bytes,
        elapsed,
        sent_sha256,
        received_sha256,
    })
}

fn send(mut stream: TcpStream, bytes: u64) -> Result<String> {
    let mut chunk: Vec<u8> = (0..CHUNK).map(|_| rand::random()).collect();
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        // No two chunks are equal, so a lost, doubled or swapped one changes the hash.
        chunk[..8].copy_from_slice(&left.to_be_bytes());
        let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        hash.update(&chunk[..length]);
        stream.write_all(&chunk[..length])?;
        left -= length as u64;
    }
    Ok(hex(hash))
}

fn receive(mut stream: TcpStream) -> Result<(u64, String)> {
    let mut buffer = vec![0; CHUNK];
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok((bytes, hex(hash)));
        }
        hash.update(&buffer[..length]);
        bytes += length as u64;
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

//! Counted UDP datagrams.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    unistd::Pid,
};

use crate::netns::Netns;

/// How often the receiver looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// Counts what arrives at an address, on a thread, until it is stopped or dropped.
#[derive(Debug)]
pub struct UdpCounter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    received: AtomicU64,
    stop: AtomicBool,
}

impl UdpCounter {
    /// `cpu` pins the receiving thread.
    pub fn start(netns: &Netns, address: SocketAddr, cpu: Option<usize>) -> Result<Self> {
        let socket = netns
            .run(|| UdpSocket::bind(address).with_context(|| format!("bind UDP {address}")))?;
        socket
            .set_read_timeout(Some(TICK))
            .context("set a read timeout")?;
        // Room for bursts: what the receiver is too slow for is not the network's loss.
        setsockopt(&socket, RcvBufForce, &(8 << 20)).context("enlarge the receive buffer")?;
        let shared = Arc::new(Shared::default());
        let counting = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            pin(cpu)?;
            count(&socket, &counting)
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Datagrams so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Stops; all datagrams received.
    pub fn stop(mut self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow!("the UDP receiver panicked"))??;
        }
        Ok(self.received())
    }
}

impl Drop for UdpCounter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

fn count(socket: &UdpSocket, shared: &Shared) -> Result<()> {
    let mut buffer = [0; 65_536];
    while !shared.stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(_) => {
                shared.received.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error).context("receive a datagram"),
        }
    }
    Ok(())
}

/// Sends `count` datagrams of `length` bytes, `pause` apart.
pub fn send(
    from: &Netns,
    to: SocketAddr,
    length: usize,
    count: u64,
    pause: Duration,
) -> Result<()> {
    let socket = sender(from, to)?;
    let datagram = vec![0x5a; length];
    for _ in 0..count {
        socket
            .send(&datagram)
            .with_context(|| format!("send a datagram to {to}"))?;
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    Ok(())
}

/// Sends datagrams of `length` bytes as fast as it goes for `duration`; how many. `cpu` pins
/// the sender.
pub fn flood(
    from: &Netns,
    to: SocketAddr,
    length: usize,
    duration: Duration,
    cpu: Option<usize>,
) -> Result<u64> {
    /// The clock is looked at once per batch.
    const BATCH: u64 = 64;
    let socket = sender(from, to)?;
    let datagram = vec![0x5a; length];
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            pin(cpu)?;
            let deadline = Instant::now() + duration;
            let mut sent = 0;
            while Instant::now() < deadline {
                for _ in 0..BATCH {
                    match socket.send(&datagram) {
                        Ok(_) => sent += 1,
                        // A full queue is what a flood is for.
                        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                        Err(error) => {
                            return Err(error).with_context(|| format!("send to {to}"));
                        }
                    }
                }
            }
            Ok(sent)
        });
        sending
            .join()
            .map_err(|_| anyhow!("the UDP sender panicked"))?
    })
}

fn sender(from: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    from.run(|| {
        let socket = UdpSocket::bind((any, 0)).context("bind a UDP socket")?;
        socket
            .connect(to)
            .with_context(|| format!("aim a UDP socket at {to}"))?;
        Ok(socket)
    })
}

/// Keeps the calling thread on a CPU.
pub(super) fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("pin a thread to CPU {cpu}"))
}

//! Datagrams that a sender hands to its kernel many at once, told apart by what is in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use tests::netns::Netns;

/// A socket with room for a burst.
pub struct Receiver(UdpSocket);

impl Receiver {
    pub fn bind(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind(address).context("bind"))?;
        setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).context("enlarge the buffer")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(socket))
    }

    /// Takes the datagrams that were sent, in any order, and no other.
    pub fn expect(&self, mut sent: Vec<Vec<u8>>) -> Result<()> {
        let mut buffer = vec![0; 1 << 16];
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let length = self.0.recv(&mut buffer).with_context(|| {
                format!("{} of {} datagrams arrived", received.len(), sent.len())
            })?;
            received.push(buffer[..length].to_vec());
        }
        self.0.set_nonblocking(true)?;
        if self.0.recv(&mut buffer).is_ok() {
            bail!("more than {} datagrams arrived", sent.len());
        }
        sent.sort_unstable();
        received.sort_unstable();
        ensure!(sent == received, "the datagrams arrived changed");
        Ok(())
    }
}

/// Sends noise, cut into datagrams of `segment` bytes by whoever does it last. What is to arrive.
pub fn send_segmented(
    from: &Netns,
    to: SocketAddr,
    segment: u16,
    times: usize,
    length: usize,
) -> Result<Vec<Vec<u8>>> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = from.run(|| UdpSocket::bind((any, 0)).context("bind"))?;
    socket.connect(to)?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::from(segment)).context("UDP_SEGMENT")?;
    let mut datagrams = Vec::new();
    for _ in 0..times {
        let payload: Vec<u8> = (0..length).map(|_| rand::random()).collect();
        let sent = socket.send(&payload).context("send an aggregate")?;
        ensure!(sent == length, "{sent} of {length} bytes sent");
        datagrams.extend(payload.chunks(segment.into()).map(<[u8]>::to_vec));
    }
    Ok(datagrams)
}

//! What several suites do: a lab with a store, agents and containers; forged frames.

pub mod relay;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_common::net::MacAddr;
use tests::consul::Consul;
use tests::lab::{Host, Lab, Station};
use tests::netns::Netns;
use tests::store::EmbeddedStore;
use tests::traffic::ping::ping;
use tests::wait::until;
use tests::workdir::WorkDir;

/// A change in the store is in every host's maps well within this time.
pub const CONVERGE: Duration = Duration::from_secs(15);

/// The server that a lab's agents share, on a machine of its own.
pub enum Store {
    Consul(Consul),
    Embedded(EmbeddedStore),
}

impl Store {
    pub fn url(&self) -> String {
        match self {
            Self::Consul(consul) => consul.url(),
            Self::Embedded(store) => store.url(),
        }
    }

    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Consul(consul) => consul.address(),
            Self::Embedded(store) => store.address(),
        }
    }
}

#[derive(Clone, Copy)]
pub enum StoreKind {
    Consul,
    Embedded,
}

/// Two hosts and a store on one switch, an agent on each host. Dropped in this order: the
/// processes, then the namespaces.
pub struct World {
    pub store: Store,
    pub lab: Lab,
    pub store_station: Station,
    pub work: WorkDir,
}

impl World {
    /// Agents are started and ready.
    pub fn new(kind: StoreKind) -> Result<Self> {
        let mut world = Self::without_agents(kind)?;
        let url = world.store.url();
        for host in &mut world.lab.hosts {
            host.start_agent(&url)?;
        }
        Ok(world)
    }

    pub fn without_agents(kind: StoreKind) -> Result<Self> {
        let mut lab = Lab::switched(2)?;
        let work = WorkDir::new("store")?;
        let station = lab.station("store")?;
        let ip = IpAddr::V4(station.ip);
        let store = match kind {
            StoreKind::Consul => Store::Consul(Consul::start(&station.netns, ip, work.path())?),
            StoreKind::Embedded => {
                Store::Embedded(EmbeddedStore::start(&station.netns, ip, work.path())?)
            }
        };
        Ok(Self {
            store,
            lab,
            store_station: station,
            work,
        })
    }

    pub fn host(&self, n: usize) -> &Host {
        &self.lab.hosts[n - 1]
    }

    pub fn host_mut(&mut self, n: usize) -> &mut Host {
        &mut self.lab.hosts[n - 1]
    }

    pub fn create_network(&self, name: &str, more: &[&str]) -> Result<()> {
        let args = [&["network", "create", name], more].concat();
        self.host(1).cli_ok(&args)?;
        // The other host knows it without being told.
        until(CONVERGE, || network(self.host(2), name).map(drop))
    }

    /// A container on host `n` with an endpoint on the network.
    pub fn container(&self, n: usize, network: &str, label: &str) -> Result<Container> {
        let host = self.host(n);
        let netns = host.container(label)?;
        let ip = host.add_endpoint(network, &netns, &["--name", label])?;
        let mac = mac_of(&netns)?;
        Ok(Container { netns, ip, mac })
    }
}

pub struct Container {
    pub netns: Netns,
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
}

impl Container {
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }
}

/// `network ls` of a host, the entry of one network.
pub fn network(host: &Host, name: &str) -> Result<serde_json::Value> {
    host.cli_json(&["network", "ls"])?
        .as_array()
        .context("`network ls -o json` is not a list")?
        .iter()
        .find(|network| network["name"] == name)
        .cloned()
        .with_context(|| format!("{} does not list network {name}", host.label()))
}

/// Waits until a ping goes through, then wants `count` in a row without loss.
pub fn reachable(from: &Container, to: &Container, count: u32) -> Result<()> {
    let address = IpAddr::V4(to.ip);
    until(CONVERGE, || {
        ensure!(
            ping(&from.netns, address, 1)?.lost() == 0,
            "no answer from {address}"
        );
        Ok(())
    })?;
    let summary = ping(&from.netns, address, count)?;
    ensure!(
        summary.lost() == 0 && summary.sent == count,
        "ping {address}: {summary:?}"
    );
    Ok(())
}

/// MAC of a container's `eth0`.
pub fn mac_of(netns: &Netns) -> Result<MacAddr> {
    let link = netns.ip(&["-o", "link", "show", "eth0"])?;
    let mac = link
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .context("no MAC in `ip link show eth0`")?;
    mac.parse().context("read the MAC of eth0")
}

/// Sends an inner frame in VXLAN as a process of `from` would, through a UDP socket. Without a
/// UDP checksum it takes the receiver's fast path, with one its fallback path.
pub fn send_vxlan(
    from: &Netns,
    to: Ipv4Addr,
    vni: u32,
    inner: &[u8],
    checksum: bool,
) -> Result<()> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    from.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind a UDP socket")?;
        if !checksum {
            let one: libc::c_int = 1;
            // SAFETY: the option takes an int, whose address and size are given.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_NO_CHECK,
                    (&raw const one).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            ensure!(
                result == 0,
                "SO_NO_CHECK: {}",
                std::io::Error::last_os_error()
            );
        }
        socket
            .send_to(&payload, (to, 4789))
            .context("send a VXLAN datagram")?;
        Ok(())
    })
}

/// Sends a frame as it is out of a namespace's `eth0`.
pub fn send_raw(from: &Netns, frame: &[u8]) -> Result<()> {
    from.run(|| {
        // SAFETY: plain numbers.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(
            socket >= 0,
            "open a packet socket: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: the descriptor was just opened and is owned by nobody else.
        let socket =
            unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
        let index = nix::net::if_::if_nametoindex("eth0").context("find eth0")?;
        // SAFETY: all zero is a value of this C struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = i32::try_from(index).context("index of eth0")?;
        // SAFETY: buffer and address are valid for the lengths given.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        ensure!(
            usize::try_from(sent).is_ok_and(|sent| sent == frame.len()),
            "send a frame: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    })
}

/// An inner UDP frame.
pub fn udp_frame(
    (source_mac, source): (MacAddr, Ipv4Addr),
    (destination_mac, destination): (MacAddr, Ipv4Addr),
    port: u16,
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(source_mac.0, destination_mac.0)
        .ipv4(source.octets(), destination.octets(), 64)
        .udp(5555, port)
        .write(&mut frame, b"overlay test datagram")
        .context("build a frame")?;
    Ok(frame)
}

//! What several suites do: a lab with a store, agents and containers; forged frames.

pub mod datagrams;
pub mod dns;
pub mod families;
pub mod nested;
mod reads;
pub mod relay;
pub mod snapshot;
pub mod traces;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use overlay_common::net::MacAddr;
use tests::consul::Consul;
use tests::lab::{Host, Lab, Station, UNDERLAY};
use tests::netns::Netns;
use tests::store::EmbeddedStore;
use tests::traffic::ping::ping;
use tests::wait::until;
use tests::workdir::WorkDir;

/// A change in the store is in every host's maps well within this time.
pub const CONVERGE: Duration = Duration::from_secs(15);

/// Where hosts take VXLAN.
pub const VXLAN_PORT: u16 = 4789;

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
        world.start_agents(&[])?;
        Ok(world)
    }

    /// Starts an agent on each host, with these arguments of `run`, and waits until they are ready.
    pub fn start_agents(&mut self, options: &[&str]) -> Result<()> {
        let url = self.store.url();
        for host in &mut self.lab.hosts {
            host.start_agent_with(&url, options)?;
        }
        Ok(())
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

    pub fn kill_store(&mut self) -> Result<()> {
        match &mut self.store {
            Store::Consul(consul) => consul.daemon().kill9(),
            Store::Embedded(store) => store.daemon().kill9(),
        }
    }

    /// Starts the store again, with the data it had.
    pub fn restart_store(&mut self) -> Result<()> {
        let (netns, ip) = (&self.store_station.netns, self.store_station.ip.into());
        let folder = self.work.path();
        self.store = match self.store {
            Store::Consul(_) => Store::Consul(Consul::start(netns, ip, folder)?),
            Store::Embedded(_) => Store::Embedded(EmbeddedStore::start(netns, ip, folder)?),
        };
        Ok(())
    }

    /// What Consul's own command says of this world's server.
    pub fn consul(&self, args: &[&str]) -> Result<String> {
        let mut command = self
            .store_station
            .netns
            .command(tests::packages::consul()?)?;
        command.args(args).env("CONSUL_HTTP_ADDR", self.store.url());
        tests::command::output(&mut command)
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

/// The VNI of a network that the host lists.
pub fn vni_of(host: &Host, name: &str) -> Result<u32> {
    let vni = network(host, name)?["vni"].as_u64().context("no VNI")?;
    u32::try_from(vni).context("a VNI of 24 bits")
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

/// Counters of a host, by name and labels; 0 while there is none.
pub fn count(host: &Host, name: &str, labels: &[(&str, &str)]) -> Result<u64> {
    let sum = host.metrics()?.sum(name, labels)?.unwrap_or(0.0);
    ensure!(sum >= 0.0 && sum.fract() == 0.0, "{name} is {sum}");
    Ok(sum as u64)
}

/// The kernel here soon finds out that a neighbour is silent. To be set before there are
/// neighbours: a timer that runs already keeps its time.
pub fn ask_neighbours_often(here: &Netns) -> Result<()> {
    for (key, value) in [
        ("base_reachable_time_ms", "500"),
        ("delay_first_probe_time", "1"),
        ("retrans_time_ms", "100"),
    ] {
        here.sysctl(&format!("net.ipv4.neigh.{UNDERLAY}.{key}"), value)?;
    }
    Ok(())
}

/// MAC of a container's `eth0`.
pub fn mac_of(netns: &Netns) -> Result<MacAddr> {
    mac_of_device(netns, "eth0")
}

pub fn mac_of_device(netns: &Netns, device: &str) -> Result<MacAddr> {
    let link = netns.ip(&["-o", "link", "show", device])?;
    let mac = link
        .split("link/ether ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .with_context(|| format!("no MAC in `ip link show {device}`"))?;
    mac.parse()
        .with_context(|| format!("read the MAC of {device}"))
}

/// Sends an inner frame in VXLAN from `from` to a host, past everything that `from` is guarded by.
/// Without a UDP checksum it takes the receiver's fast path, with one its fallback path.
pub fn send_vxlan(from: &Netns, to: &Host, vni: u32, inner: &[u8], checksum: bool) -> Result<()> {
    let source = from.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("bind a UDP socket")?;
        socket.connect((to.ip(), VXLAN_PORT)).context("route")?;
        match socket.local_addr().context("own address")? {
            SocketAddr::V4(address) => Ok(*address.ip()),
            SocketAddr::V6(address) => bail!("{address} is no IPv4 address"),
        }
    })?;
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(mac_of(from)?.0, mac_of(to.netns())?.0)
        .ipv4(source.octets(), to.ip().octets(), 64)
        .udp(50000, VXLAN_PORT)
        .write(&mut frame, &vxlan_payload(vni, inner))?;
    if !checksum {
        frame[40..42].fill(0);
    }
    send_unguarded(from, &frame)
}

/// What a VXLAN datagram carries: its header and an inner frame.
pub fn vxlan_payload(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    payload
}

/// Sends a frame as it is out of a namespace's `eth0`, past its egress hooks.
pub fn send_unguarded(from: &Netns, frame: &[u8]) -> Result<()> {
    from.run(|| {
        let socket = PacketSocket::open(0)?;
        socket.bypass()?;
        socket.send(frame)
    })
}

/// Sends a frame as it is out of a namespace's `eth0`.
pub fn send_raw(from: &Netns, frame: &[u8]) -> Result<()> {
    from.run(|| PacketSocket::open(0)?.send(frame))
}

/// A packet socket on a device of the calling thread's namespace.
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// On `eth0`, for sending, and for receiving the frames of one ethertype (0: none).
    pub fn open(ethertype: u16) -> Result<Self> {
        Self::on("eth0", ethertype)
    }

    pub fn on(device: &str, ethertype: u16) -> Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: plain numbers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        ensure!(
            socket >= 0,
            "open a packet socket: {}",
            std::io::Error::last_os_error()
        );
        // SAFETY: the descriptor was just opened and is owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let index =
            nix::net::if_::if_nametoindex(device).with_context(|| format!("find {device}"))?;
        // SAFETY: all zero is a value of this C struct.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = i32::try_from(index).context("the index as the kernel has it")?;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is valid for the length given.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        ensure!(
            bound == 0,
            "bind a packet socket: {}",
            std::io::Error::last_os_error()
        );
        Ok(Self { socket })
    }

    /// Sends straight to the driver from now on, as no program at the device's egress can stop.
    pub fn bypass(&self) -> Result<()> {
        let one: libc::c_int = 1;
        // SAFETY: the option takes an int, whose address and size are given.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const one).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        ensure!(
            result == 0,
            "PACKET_QDISC_BYPASS: {}",
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = nix::sys::socket::send(
            self.socket.as_raw_fd(),
            frame,
            nix::sys::socket::MsgFlags::empty(),
        );
        let sent = sent.context("send a frame")?;
        ensure!(sent == frame.len(), "{sent} bytes of a frame were sent");
        Ok(())
    }

    /// The next frame that came in; `None` when there is none.
    pub fn receive(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; 1 << 16];
        let flags = nix::sys::socket::MsgFlags::MSG_DONTWAIT;
        match nix::sys::socket::recv(self.socket.as_raw_fd(), &mut frame, flags) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error).context("receive a frame"),
        }
    }
}

/// Sends as fast as it can, on a thread, until it is dropped.
pub struct Flood {
    shared: Arc<FloodShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct FloodShared {
    tried: AtomicU64,
    stop: AtomicBool,
}

impl Flood {
    /// A frame out of `eth0`, from the first moment that there is one, and again after it was
    /// replaced.
    pub fn frames(from: &Netns, frame: Vec<u8>) -> Result<Self> {
        let mut socket = None;
        Self::start(from, move || {
            if socket.is_none() {
                socket = PacketSocket::open(0).ok();
            }
            let open = socket.as_ref();
            let refused = open.is_some_and(|open: &PacketSocket| open.send(&frame).is_err());
            let tried = open.is_some();
            if refused {
                // Without a carrier, or gone and perhaps replaced.
                socket = None;
            }
            tried
        })
    }

    /// An inner frame in VXLAN to a host.
    pub fn vxlan(from: &Netns, to: Ipv4Addr, vni: u32, inner: &[u8]) -> Result<Self> {
        let payload = vxlan_payload(vni, inner);
        let socket = from.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
        Self::start(from, move || {
            socket.send_to(&payload, (to, VXLAN_PORT)).is_ok()
        })
    }

    /// `send` is called in the namespace and tells whether it could try.
    fn start(from: &Netns, mut send: impl FnMut() -> bool + Send + 'static) -> Result<Self> {
        let namespace = std::fs::File::open(from.path()).context("open the namespace")?;
        let shared = Arc::new(FloodShared::default());
        let counting = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            if setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            while !counting.stop.load(Ordering::Relaxed) {
                if send() {
                    counting.tried.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Waits until `count` more were tried.
    pub fn goes_on(&self, count: u64) -> Result<()> {
        let tried = || self.shared.tried.load(Ordering::Relaxed);
        let before = tried();
        until(CONVERGE, || {
            ensure!(tried() >= before + count, "the flood has stopped");
            Ok(())
        })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
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

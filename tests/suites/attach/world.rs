//! One host with an underlay device, and its only neighbour.

use std::fs;
use std::path::Path;

use anyhow::Result;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{SchedClassifier, TcAttachType};
use overlay_agent::datapath::{Datapath, DatapathError, DecapMode, Paths, Settings, XdpMode};
use overlay_agent::host::{Netlink, Owner, underlay};
use tests::bpffs::BpfDir;
use tests::netns::Netns;

pub const UNDERLAY: &str = "eth0";
pub const HOST_IP: &str = "192.0.2.1";
pub const NEIGHBOR_IP: &str = "192.0.2.2";
pub const PORT: u16 = 4789;

pub struct World {
    pub host: Netns,
    pub neighbor: Netns,
    pub bpffs: BpfDir,
}

impl World {
    pub fn new() -> Self {
        let host = Netns::new("host").unwrap();
        let neighbor = Netns::new("peer").unwrap();
        // Addresses are settled at once, so that snapshots compare.
        host.sysctl("net.ipv6.conf.default.accept_dad", "0")
            .unwrap();
        host.connect(UNDERLAY, &neighbor, UNDERLAY).unwrap();
        for (netns, ip) in [(&host, HOST_IP), (&neighbor, NEIGHBOR_IP)] {
            netns
                .ip(&["address", "add", &format!("{ip}/24"), "dev", UNDERLAY])
                .unwrap();
        }
        Self {
            host,
            neighbor,
            bpffs: BpfDir::new("attach").unwrap(),
        }
    }

    pub fn paths(&self) -> Paths {
        Paths::new(self.bpffs.path())
    }

    pub fn owner(&self) -> Owner {
        Owner::new(self.bpffs.path())
    }

    /// Runs on a thread in the host's namespace, with a runtime, as the agent does.
    pub fn on_host<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.host
            .run(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(runtime.block_on(work()))
            })
            .unwrap()
    }

    /// Opens the data path on [`UNDERLAY`].
    pub fn open(&self, xdp: XdpMode) -> Result<(), DatapathError> {
        self.open_on(UNDERLAY, xdp)
    }

    pub fn open_on(&self, device: &str, xdp: XdpMode) -> Result<(), DatapathError> {
        self.on_host(async || open(self.paths(), device, xdp).await.map(drop))
    }

    /// Everything that has to be there again after a removal.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            links: self.host.ip(&["-details", "link"]).unwrap(),
            addresses: self.host.ip(&["address"]).unwrap(),
            qdiscs: tests::command::output(std::process::Command::new("tc").args([
                "-n",
                self.host.name(),
                "qdisc",
            ]))
            .unwrap(),
            programs: self
                .host
                .run(|| {
                    Ok([UNDERLAY, "lo"].map(|device| {
                        TcAttachType::Ingress.programs(device).len()
                            + TcAttachType::Egress.programs(device).len()
                    }))
                })
                .unwrap(),
            pins: pins(self.bpffs.path()),
        }
    }

    /// A kernel setting of the host.
    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let value = self.host.run(|| Ok(fs::read_to_string(path)?)).unwrap();
        value.trim().to_owned()
    }

    /// Whether a device of the host is up.
    pub fn is_up(&self, device: &str) -> bool {
        let link = self.host.ip(&["-brief", "link", "show", device]).unwrap();
        link.contains(",UP") || link.contains("<UP")
    }

    /// Names of the programs at TCX ingress of a device of the host.
    pub fn programs(&self, device: &str) -> Vec<String> {
        self.host
            .run(|| Ok(TcAttachType::Ingress.programs(device)))
            .unwrap()
    }

    /// Kernel ids of a pinned link and of its program.
    pub fn link(&self, name: &str) -> (u32, u32) {
        let link: FdLink = PinnedLink::from_pin(self.paths().links().join(name))
            .unwrap()
            .into();
        let info = link.info().unwrap();
        (info.id(), info.program_id())
    }
}

pub async fn open(paths: Paths, device: &str, xdp: XdpMode) -> Result<Datapath, DatapathError> {
    Datapath::open(&settings(device, xdp).await, paths).await
}

pub async fn settings(device: &str, xdp: XdpMode) -> Settings {
    let netlink = Netlink::open().unwrap();
    let underlay = underlay::choose(&netlink, &[], Some(device)).await.unwrap();
    Settings {
        underlay,
        port: PORT,
        xdp,
        decap: DecapMode::default(),
        log_drops: false,
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Snapshot {
    links: String,
    addresses: String,
    qdiscs: String,
    programs: [usize; 2],
    pins: Vec<String>,
}

trait Programs {
    fn programs(self, device: &str) -> Vec<String>;
}

impl Programs for TcAttachType {
    fn programs(self, device: &str) -> Vec<String> {
        let (_, programs) = SchedClassifier::query_tcx(device, self).unwrap();
        programs
            .iter()
            .map(|program| program.name_as_str().unwrap().to_owned())
            .collect()
    }
}

/// Everything below a directory, sorted.
pub fn pins(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(pins(&path));
        }
        found.push(path.display().to_string());
    }
    found.sort();
    found
}

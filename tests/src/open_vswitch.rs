//! Open vSwitch on a machine, with its user space data path: a bridge on the underlay, a bridge
//! with a vxlan port and containers, flows that set the VNI.

use std::{net::IpAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    command::output,
    kernel_overlay::{MTU, add_address},
    lab::{Station, UNDERLAY},
    netns::Netns,
    packages,
    process::Daemon,
    workdir::WorkDir,
};

const PHYSICAL: &str = "br-phy";
const INTEGRATION: &str = "br-int";
const TUNNEL: &str = "vx0";
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A running Open vSwitch. Dropped in this order: the switch, its database, their files.
#[derive(Debug)]
pub struct OpenVswitch<'a> {
    station: &'a Station,
    _switch: Daemon,
    _database: Daemon,
    programs: Programs,
    ports: u32,
}

impl<'a> OpenVswitch<'a> {
    /// Takes over the underlay device, and its address onto the bridge: the user space data path
    /// routes tunnels through a bridge of its own. `peer` is where its one tunnel goes.
    pub fn start(station: &'a Station, peer: IpAddr) -> Result<Self> {
        let programs = Programs::get(&station.netns)?;
        let database = programs.database()?;
        let switch = programs.switch()?;
        let this = Self {
            station,
            _switch: switch,
            _database: database,
            programs,
            ports: 0,
        };
        let netdev = ["datapath_type=netdev"];
        for bridge in [PHYSICAL, INTEGRATION] {
            this.vsctl(
                &[
                    &["add-br", bridge, "--", "set", "bridge", bridge][..],
                    &netdev,
                ]
                .concat(),
            )?;
        }
        this.vsctl(&["add-port", PHYSICAL, UNDERLAY])?;
        let prefix = match peer {
            IpAddr::V4(_) => format!("{}/24", station.ip),
            IpAddr::V6(_) => format!("{}/64", station.ip6),
        };
        let netns = &station.netns;
        netns.ip(&["addr", "del", &prefix, "dev", UNDERLAY])?;
        netns.ip(&["link", "set", PHYSICAL, "up"])?;
        let to = ["addr", "add", &prefix, "dev", PHYSICAL];
        netns.ip(&match peer {
            IpAddr::V4(_) => to.to_vec(),
            IpAddr::V6(_) => [&to[..], &["nodad"]].concat(),
        })?;
        let remote = format!("options:remote_ip={peer}");
        this.vsctl(&[
            "add-port",
            INTEGRATION,
            TUNNEL,
            "--",
            "set",
            "interface",
            TUNNEL,
            "type=vxlan",
            "options:key=flow",
            "options:dst_port=4789",
            &remote,
        ])?;
        // What no flow takes is dropped.
        this.ofctl(&["del-flows", &this.management()])?;
        Ok(this)
    }

    /// The container of a VNI: what it sends goes into the tunnel with that VNI, and what comes
    /// out with that VNI goes to it.
    pub fn container(&mut self, vni: u32, ip: impl Into<IpAddr>, mac: &str) -> Result<Netns> {
        let port = format!("c{}", self.ports);
        self.ports += 1;
        let container = Netns::new(&format!("{}-{port}", self.station.label))?;
        container.connect("eth0", &self.station.netns, &port)?;
        container.ip(&["link", "set", "eth0", "address", mac, "mtu", MTU])?;
        add_address(&container, ip.into())?;
        complete_packets(&container)?;
        self.vsctl(&["add-port", INTEGRATION, &port])?;
        for flow in [
            format!("in_port={port},actions=set_tunnel:{vni},output:{TUNNEL}"),
            format!("in_port={TUNNEL},tun_id={vni},actions=output:{port}"),
        ] {
            self.ofctl(&["add-flow", &self.management(), &flow])?;
        }
        Ok(container)
    }

    /// What it knows of the other hosts on the underlay, and how it got there.
    pub fn tunnel_neighbours(&self) -> Result<String> {
        let control = self.programs.work.path().join("vs.ctl");
        let mut command = self.programs.command("usr/bin/ovs-appctl")?;
        command.arg("-t").arg(control);
        output(command.arg("tnl/neigh/show"))
    }

    /// Its flows with their counters.
    pub fn flows(&self) -> Result<String> {
        self.ofctl(&["dump-flows", &self.management()])
    }

    fn management(&self) -> String {
        let socket = format!("{INTEGRATION}.mgmt");
        self.programs.work.path().join(socket).display().to_string()
    }

    fn vsctl(&self, args: &[&str]) -> Result<String> {
        let mut command = self.programs.command("usr/bin/ovs-vsctl")?;
        let database = format!("--db={}", self.programs.socket());
        output(command.args(["--timeout=20", &database]).args(args))
    }

    fn ofctl(&self, args: &[&str]) -> Result<String> {
        output(self.programs.command("usr/bin/ovs-ofctl")?.args(args))
    }
}

/// Switches checksum and segmentation offload of `eth0` off. The data path in user space takes
/// packets as a wire would carry them; between virtual devices nobody else completes them.
pub fn complete_packets(netns: &Netns) -> Result<()> {
    let mut ethtool = netns.command("ethtool")?;
    let off = ["-K", UNDERLAY, "tx", "off", "tso", "off", "gso", "off"];
    output(ethtool.args(off))?;
    Ok(())
}

/// The unpacked programs, and the folder of this run's database and sockets.
#[derive(Debug)]
struct Programs {
    root: PathBuf,
    netns_path: PathBuf,
    work: WorkDir,
}

impl Programs {
    fn get(netns: &Netns) -> Result<Self> {
        Ok(Self {
            root: packages::open_vswitch()?,
            netns_path: netns.path(),
            work: WorkDir::new("ovs")?,
        })
    }

    fn socket(&self) -> String {
        format!("unix:{}", self.work.path().join("db.sock").display())
    }

    /// A program with every path of its own pointing into this run's folder.
    fn command(&self, program: &str) -> Result<Command> {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(&self.netns_path);
        let mut command = Command::new("nsenter");
        command
            .arg(net)
            .arg(self.root.join(program))
            .env(
                "LD_LIBRARY_PATH",
                self.root.join("usr/lib/x86_64-linux-gnu"),
            )
            .env("OVS_PKGDATADIR", self.root.join("usr/share/openvswitch"));
        for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(variable, self.work.path());
        }
        Ok(command)
    }

    fn database(&self) -> Result<Daemon> {
        let file = self.work.path().join("conf.db");
        let schema = self.root.join("usr/share/openvswitch/vswitch.ovsschema");
        let mut create = self.command("usr/bin/ovsdb-tool")?;
        output(create.arg("create").arg(&file).arg(schema))?;
        let mut command = self.command("usr/sbin/ovsdb-server")?;
        command.arg(&file).args([
            &format!("--remote=p{}", self.socket()),
            &format!("--unixctl={}", self.work.path().join("db.ctl").display()),
        ]);
        self.daemon("ovsdb-server", command, "db.sock")
    }

    fn switch(&self) -> Result<Daemon> {
        let mut command = self.command("usr/lib/openvswitch-switch/ovs-vswitchd")?;
        command.args([
            &self.socket(),
            &format!("--unixctl={}", self.work.path().join("vs.ctl").display()),
        ]);
        self.daemon("ovs-vswitchd", command, "vs.ctl")
    }

    /// Started, and waited for until it has its socket.
    fn daemon(&self, name: &str, command: Command, socket: &str) -> Result<Daemon> {
        let log = self.work.path().join(format!("{name}.log"));
        let mut daemon = Daemon::spawn(name, command, &log)?;
        let socket = self.work.path().join(socket);
        daemon.wait_ready(START_TIMEOUT, || {
            std::fs::metadata(&socket).with_context(|| format!("find {}", socket.display()))?;
            Ok(())
        })?;
        Ok(daemon)
    }
}

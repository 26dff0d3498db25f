//! Hosts on one underlay: a switch with a cable to each, or one cable between two.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    bpffs::BpfDir, kernel_overlay::add_ipv6, names::require_root, netns::Netns, process::Daemon,
    workdir::WorkDir,
};

/// Every host's underlay device.
pub const UNDERLAY: &str = "eth0";

/// Which protocol an address is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Hosts `host1`, `host2`, … with addresses 192.0.2.1, 192.0.2.2, … on [`UNDERLAY`].
#[derive(Debug)]
pub struct Lab {
    pub hosts: Vec<Host>,
    switch: Option<Netns>,
    plugged: u8,
}

impl Lab {
    /// `hosts` hosts, each with a cable to a switch (a Linux bridge in a namespace of its own).
    pub fn switched(hosts: u8) -> Result<Self> {
        let switch = Netns::new("switch")?;
        bridges_only_switch(&switch)?;
        switch.ip(&["link", "add", "br0", "type", "bridge"])?;
        switch.ip(&["link", "set", "br0", "up"])?;
        let mut lab = Self {
            hosts: Vec::new(),
            switch: Some(switch),
            plugged: 0,
        };
        for n in 1..=hosts {
            let station = lab.station(&format!("host{n}"))?;
            lab.hosts.push(Host::new(station)?);
        }
        Ok(lab)
    }

    /// Two hosts with one cable between them: nothing but the two ends costs time.
    pub fn direct() -> Result<Self> {
        let one = Station::new("host1", 1)?;
        let two = Station::new("host2", 2)?;
        one.netns.connect(UNDERLAY, &two.netns, UNDERLAY)?;
        one.address()?;
        two.address()?;
        Ok(Self {
            hosts: vec![Host::new(one)?, Host::new(two)?],
            switch: None,
            plugged: 2,
        })
    }

    /// Plugs one more machine into the switch: for a store, a generator, a stranger.
    ///
    /// # Errors
    /// Also for a [`Lab::direct`], which has no switch.
    pub fn station(&mut self, label: &str) -> Result<Station> {
        let switch = self
            .switch
            .as_ref()
            .context("a direct lab has no switch to plug into")?;
        self.plugged = self
            .plugged
            .checked_add(1)
            .context("the underlay's /24 is full")?;
        let station = Station::new(label, self.plugged)?;
        let port = format!("p{}", self.plugged);
        station.netns.connect(UNDERLAY, switch, &port)?;
        switch.ip(&["link", "set", &port, "master", "br0"])?;
        station.address()?;
        Ok(station)
    }

    /// The switch of a switched lab. Its ports are `p1`, `p2`, … in the order of plugging.
    #[must_use]
    pub fn switch(&self) -> Option<&Netns> {
        self.switch.as_ref()
    }

    /// The two hosts of a lab that has (at least) two, both mutable.
    pub fn pair(&mut self) -> Result<(&mut Host, &mut Host)> {
        match self.hosts.as_mut_slice() {
            [one, two, ..] => Ok((one, two)),
            _ => anyhow::bail!("this lab has less than two hosts"),
        }
    }
}

/// Keeps the netfilter of a namespace's bridges off: it would drop and trim frames by what their
/// IP headers say, as no switch does.
pub fn bridges_only_switch(netns: &Netns) -> Result<()> {
    if Path::new("/proc/sys/net/bridge").exists() {
        for family in ["iptables", "ip6tables"] {
            netns.sysctl(&format!("net.bridge.bridge-nf-call-{family}"), "0")?;
        }
    }
    Ok(())
}

/// A machine on the underlay.
#[derive(Debug)]
pub struct Station {
    pub label: String,
    pub netns: Netns,
    /// Its address on [`UNDERLAY`].
    pub ip: Ipv4Addr,
    /// The other one, once [`Self::add_ipv6`] gave it: `2001:db8::1`, `2001:db8::2`, …
    pub ip6: Ipv6Addr,
}

impl Station {
    fn new(label: &str, number: u8) -> Result<Self> {
        let netns = Netns::new(label)?;
        Ok(Self {
            label: label.to_owned(),
            netns,
            ip: Ipv4Addr::new(192, 0, 2, number),
            ip6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()),
        })
    }

    /// Gives it its IPv6 address besides.
    pub fn add_ipv6(&self) -> Result<()> {
        add_ipv6(&self.netns, self.ip6)
    }

    /// Its address of a family.
    #[must_use]
    pub fn address_of(&self, underlay: Family) -> IpAddr {
        match underlay {
            Family::V4 => self.ip.into(),
            Family::V6 => self.ip6.into(),
        }
    }

    fn address(&self) -> Result<()> {
        self.netns
            .ip(&["addr", "add", &format!("{}/24", self.ip), "dev", UNDERLAY])?;
        Ok(())
    }
}

/// A machine that can run an agent. What the agent needs has one owner: dropped in this order,
/// the process goes first, then its pins, then its folders, then the namespace.
#[derive(Debug)]
pub struct Host {
    pub(crate) agent: Option<Daemon>,
    /// What the agent is told to announce (`--advertise`); empty: what it finds by itself.
    pub vteps: Vec<IpAddr>,
    pins: BpfDir,
    work: WorkDir,
    pub station: Station,
}

impl Host {
    fn new(station: Station) -> Result<Self> {
        require_root()?;
        let pins = BpfDir::new(&station.label)?;
        let work = WorkDir::new(&station.label)?;
        Ok(Self {
            agent: None,
            vteps: Vec::new(),
            pins,
            work,
            station,
        })
    }

    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.station.netns
    }

    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.station.ip
    }

    /// `host1`, `host2`, …: also the agent's node name.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.station.label
    }

    /// The agent's `--bpffs-dir`.
    #[must_use]
    pub fn pins(&self) -> &Path {
        self.pins.path()
    }

    /// Holds the agent's log, `run` and `state` folders.
    #[must_use]
    pub fn work(&self) -> &WorkDir {
        &self.work
    }

    /// An empty namespace that stands for a container on this host.
    pub fn container(&self, label: &str) -> Result<Netns> {
        Netns::new(&format!("{}-{label}", self.label()))
    }
}

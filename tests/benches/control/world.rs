//! A Consul server, hosts with agents, and a machine on which all other hosts are simulated.

use std::future::Future;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use overlay_agent::datapath::Paths;
use overlay_agent::store::registry::NewNetwork;
use overlay_agent::store::schema::{FloodMode, Keys};
use overlay_agent::store::{Client, Registry, StoreConfig};
use overlay_common::net::Vni;
use serde_json::{Value, json};
use tests::consul::Consul;
use tests::lab::{Host, Lab, Station};
use tests::netns::Netns;
use tests::workdir::WorkDir;
use tokio::runtime::{Builder, Runtime};

use crate::fdb::Fdb;

pub const NETWORK: &str = "bench";
const SUBNET: &str = "10.64.0.0/14";
/// Addresses of the simulated endpoints, in their order.
const FIRST_IP: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 16);
/// Of the real ones: far behind the simulated ones.
const REAL_IPS: Ipv4Addr = Ipv4Addr::new(10, 67, 240, 0);
/// Where the simulated hosts' underlay addresses are.
const VTEPS: &str = "198.18.0.0/15";

/// Dropped in this order.
#[derive(Debug)]
pub struct World {
    pub simulated: Simulated,
    pub consul: Consul,
    pub lab: Lab,
    containers: Vec<Netns>,
    pub generator: Station,
    _store: Station,
    _work: WorkDir,
    config: StoreConfig,
    pub net: Vni,
    pub consul_pid: u32,
}

impl World {
    /// So many real hosts, whose agents do not run yet, and a network.
    pub fn new(hosts: u8) -> Result<Self> {
        Self::with_settings(hosts, json!({}))
    }

    /// The same with more settings of Consul.
    pub fn with_settings(hosts: u8, more: Value) -> Result<Self> {
        let mut lab = Lab::switched(hosts)?;
        let (store, generator) = (lab.station("store")?, lab.station("generator")?);
        let work = WorkDir::new("control")?;
        // All simulated hosts have one address; Consul takes 200 connections from each.
        let mut settings = json!({ "limits": { "http_max_conns_per_client": 2000 } });
        if let (Some(settings), Value::Object(more)) = (settings.as_object_mut(), more) {
            settings.extend(more);
        }
        let mut consul = Consul::start_with(&store.netns, store.ip.into(), work.path(), &settings)?;
        let consul_pid = consul.daemon().pid();
        // Else there was no way to them, and no tunnel.
        for host in &lab.hosts {
            let via = generator.ip.to_string();
            host.netns().ip(&["route", "add", VTEPS, "via", &via])?;
        }
        let config = StoreConfig::from_parts(Some(&consul.url()), |_| None)?;
        let simulated = Simulated::start(&generator.netns)?;
        let registry = registry(&config)?;
        let net = simulated.run(async move {
            registry.init().await?;
            Ok(registry.create_network(&network()?).await?.record.vni)
        })?;
        Ok(Self {
            simulated,
            consul,
            lab,
            containers: Vec::new(),
            generator,
            _store: store,
            _work: work,
            config,
            net,
            consul_pid,
        })
    }

    /// With connections of its own, as another host has.
    pub fn registry(&self) -> Result<Registry> {
        registry(&self.config)
    }

    /// Starts the agent of a host, and adds an endpoint there so that it follows the network.
    pub fn start_agent(&mut self, host: usize) -> Result<()> {
        self.lab.hosts[host].start_agent(&self.consul.url())?;
        let container = self.lab.hosts[host].container("here")?;
        let ip = real_ip(u32::try_from(self.containers.len())?).to_string();
        self.lab.hosts[host].add_endpoint(NETWORK, &container, &["--ip", &ip])?;
        self.containers.push(container);
        Ok(())
    }

    pub fn paths(&self, host: usize) -> Paths {
        Paths::new(self.lab.hosts[host].pins())
    }

    /// The forwarding table of a host whose agent runs.
    pub fn fdb(&self, host: usize) -> Result<Fdb> {
        Fdb::open(&self.paths(host), self.net)
    }

    pub fn host(&self, host: usize) -> &Host {
        &self.lab.hosts[host]
    }

    /// The first container that was made by [`Self::start_agent`].
    pub fn container(&self) -> Result<&Netns> {
        self.containers.first().context("no container was made")
    }

    /// The process of the agent of a host.
    pub fn agent_pid(&mut self, host: usize) -> Result<u32> {
        Ok(self.lab.hosts[host].agent()?.pid())
    }
}

/// The address of the i-th simulated endpoint.
pub fn simulated_ip(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_IP.to_bits() + i)
}

/// The address of the i-th real endpoint.
pub fn real_ip(i: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(REAL_IPS.to_bits() + i)
}

/// Where store clients of simulated hosts run: threads in the network namespace of a machine.
#[derive(Debug)]
pub struct Simulated(Runtime);

impl Simulated {
    /// One thread: the rest of the machine is the store's and the agent's.
    pub fn start(netns: &Netns) -> Result<Self> {
        // Its threads are made by one that is in the namespace, and so are they.
        let runtime = netns.run(|| {
            let mut builder = Builder::new_multi_thread();
            let built = builder.worker_threads(1).enable_all().build();
            built.context("start threads for simulated hosts")
        })?;
        Ok(Self(runtime))
    }

    /// Runs to the end. Not on the caller's thread, which is in another namespace.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = self.0.spawn(work);
        self.0.block_on(task).context("a simulated host failed")?
    }

    pub fn runtime(&self) -> &Runtime {
        &self.0
    }
}

fn registry(config: &StoreConfig) -> Result<Registry> {
    Ok(Registry::new(
        Client::new(config)?,
        Keys::new(&config.prefix),
    ))
}

fn network() -> Result<NewNetwork> {
    Ok(NewNetwork {
        name: NETWORK.to_owned(),
        vni: None,
        subnets: vec![SUBNET.parse()?],
        gateways: Vec::new(),
        mtu: None,
        flood: FloodMode::Drop,
        flood_rate: None,
        internal: false,
        vlan: false,
        ranges: Vec::new(),
        exclude: Vec::new(),
        avoid: Vec::new(),
        reserved: Vec::new(),
        reservation: None,
    })
}

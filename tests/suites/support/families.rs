//! Worlds whose underlay is of IPv6, or of both families.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tests::lab::{Family, Lab, UNDERLAY};
use tests::netns::Netns;
use tests::store::EmbeddedStore;
use tests::traffic::ping::ping;
use tests::wait::until;
use tests::workdir::WorkDir;

use super::{CONVERGE, Container, Store, World};

pub const V4: &[Family] = &[Family::V4];
pub const V6: &[Family] = &[Family::V6];
pub const BOTH: &[Family] = &[Family::V4, Family::V6];

impl World {
    /// Hosts 1, 2, … with addresses of these families and no others, an agent on each.
    pub fn over(vteps: &[&[Family]]) -> Result<Self> {
        Self::over_with(vteps, &[])
    }

    /// The same with more arguments of `run`.
    pub fn over_with(vteps: &[&[Family]], more: &[&str]) -> Result<Self> {
        let mut world = Self::over_without_agents(vteps)?;
        for n in 1..=vteps.len() {
            world.start(n, more)?;
        }
        Ok(world)
    }

    /// The same, no agent started.
    pub fn over_without_agents(vteps: &[&[Family]]) -> Result<Self> {
        let mut lab = Lab::switched(u8::try_from(vteps.len())?)?;
        let work = WorkDir::new("store")?;
        let station = lab.station("store")?;
        station.add_ipv6()?;
        let any = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let store = EmbeddedStore::start(&station.netns, any, work.path())?;
        for (host, families) in lab.hosts.iter_mut().zip(vteps) {
            host.vteps = families
                .iter()
                .map(|family| host.station.address_of(*family))
                .collect();
            if families.contains(&Family::V6) {
                host.station.add_ipv6()?;
            }
            if !families.contains(&Family::V4) {
                host.netns().ip(&["-4", "addr", "flush", "dev", UNDERLAY])?;
            }
        }
        Ok(Self {
            store: Store::Embedded(store),
            lab,
            store_station: station,
            work,
        })
    }

    /// Starts the agent of a host, which reaches the store over the family it has.
    pub fn start(&mut self, n: usize, more: &[&str]) -> Result<()> {
        let vtep = self.host(n).vteps[0];
        let store = if vtep.is_ipv4() {
            self.store_station.ip.into()
        } else {
            self.store_station.ip6.into()
        };
        let url = format!(
            "http://{}",
            SocketAddr::new(store, self.store.address().port())
        );
        self.host_mut(n).start_agent_with(&url, more)
    }
}

impl Container {
    /// Its IPv6 address on the network.
    pub fn ip6(&self) -> Result<Ipv6Addr> {
        let said = self
            .netns
            .ip(&["-o", "-6", "addr", "show", "dev", "eth0", "scope", "global"])?;
        let address = said
            .split("inet6 ")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let address = address.context("no IPv6 address on eth0")?;
        address.parse().with_context(|| format!("read {address}"))
    }

    /// Its address of a family with a port.
    pub fn address_of(&self, inside: Family, port: u16) -> Result<SocketAddr> {
        let ip = match inside {
            Family::V4 => self.ip.into(),
            Family::V6 => self.ip6()?.into(),
        };
        Ok(SocketAddr::new(ip, port))
    }
}

/// Tells two containers each other's MAC, so that IPv6 between them needs no solicitation: who
/// answers those is another question.
pub fn introduce(one: &Container, two: &Container) -> Result<()> {
    for (here, there) in [(one, two), (two, one)] {
        let (ip, mac) = (there.ip6()?.to_string(), there.mac.to_string());
        here.netns
            .ip(&["neigh", "replace", &ip, "lladdr", &mac, "dev", "eth0"])?;
    }
    Ok(())
}

/// Waits until a ping goes through, then wants ten in a row without loss.
pub fn answers(from: &Netns, to: IpAddr) -> Result<()> {
    until(CONVERGE, || {
        ensure!(ping(from, to, 1)?.lost() == 0, "no answer from {to}");
        Ok(())
    })?;
    let summary = ping(from, to, 10)?;
    ensure!(summary.sent == 10 && summary.lost() == 0, "{summary:?}");
    Ok(())
}

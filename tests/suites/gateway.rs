//! What every host answers in the name of a network's gateway: routes between its subnets, path MTU,
//! errors; and neighbours of both families.

mod neighbors;
mod path_mtu;
mod routes;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tests::netns::Netns;
use tests::traffic::ping::ping;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World};

/// Two hosts and a network of two subnets of each family.
struct Subnets {
    world: World,
}

/// The addresses of a container, and its namespace.
struct End {
    netns: Netns,
    ip4: IpAddr,
    ip6: IpAddr,
}

impl Subnets {
    fn new() -> Result<Self> {
        let world = World::new(StoreKind::Embedded)?;
        let near = ["--subnet", "10.8.0.0/24", "--subnet", "fd00:8::/64"];
        let far = ["--subnet", "10.9.0.0/24", "--subnet", "fd00:9::/64"];
        world.create_network("blue", &[near, far].concat())?;
        Ok(Self { world })
    }

    /// A container on host `n` in the first subnets (8) or the others (9).
    fn end(&self, n: usize, subnet: u8, last: u8) -> Result<End> {
        let host = self.world.host(n);
        let netns = host.container(&format!("c{subnet}{last}"))?;
        let (ip4, ip6) = (
            format!("10.{subnet}.0.{last}"),
            format!("fd00:{subnet}::{last}"),
        );
        host.add_endpoint("blue", &netns, &["--ip", &ip4, "--ip", &ip6])?;
        Ok(End {
            netns,
            ip4: ip4.parse()?,
            ip6: ip6.parse()?,
        })
    }
}

impl End {
    fn ips(&self) -> [IpAddr; 2] {
        [self.ip4, self.ip6]
    }
}

fn address(ip: IpAddr) -> SocketAddr {
    (ip, 7300).into()
}

/// Waits until an address answers, then wants five answers in a row.
fn reaches(from: &Netns, to: IpAddr) -> Result<()> {
    until(CONVERGE, || {
        ensure!(ping(from, to, 1)?.lost() == 0, "no answer from {to}");
        Ok(())
    })?;
    let summary = ping(from, to, 5)?;
    ensure!(summary.lost() == 0, "{to}: {summary:?}");
    Ok(())
}

/// What ping says of one packet, with more options of ping; whether or not it was answered.
fn says(from: &Netns, to: IpAddr, options: &[&str]) -> Result<String> {
    let mut command = from.command("ping")?;
    command.args(["-n", "-c", "1", "-W", "2"]).args(options);
    let output = tests::command::capture(command.arg(to.to_string()))?;
    String::from_utf8([output.stdout, output.stderr].concat()).context("what ping says")
}

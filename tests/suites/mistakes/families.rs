//! What does not fit the underlay's family, or its MTU.

use anyhow::{Context as _, Result, ensure};
use tests::lab::{Host, UNDERLAY};
use tests::wait::until;

use super::{Mistake, keys, refused, unchanged};
use crate::support::families::{BOTH, V4, V6};
use crate::support::traces::Traces;
use crate::support::{CONVERGE, World};

/// That the host refuses each, and that it and the store stay as they were.
fn refuses(world: &World, host: &Host, mistakes: &[Mistake]) -> Result<()> {
    let store = (world.store_station.ip, world.store.address().port()).into();
    let before = (Traces::settled(host)?, keys(&world.store_station, store)?);
    for mistake in mistakes {
        refused(host, &[], *mistake)?;
        unchanged(host, &before.0).context(mistake.0.to_owned())?;
        let now = keys(&world.store_station, store)?;
        ensure!(now == before.1, "{}: {now}", mistake.0);
    }
    Ok(())
}

#[test]
fn on_an_ipv6_underlay() -> Result<()> {
    let world = World::over(&[V6])?;
    let host = world.host(1);
    refuses(
        &world,
        host,
        &[
            (
                "network create red --flood multicast=239.1.1.1",
                1,
                &[
                    "cannot create network red",
                    "no VTEP of the family of group 239.1.1.1",
                ],
            ),
            (
                "network create red --flood multicast=ff02::9",
                1,
                &["ff02::9 does not leave a link", "ff05::1:1"],
            ),
            (
                "network create red --mtu 1431",
                1,
                &["MTU 1431", "this host's underlay", "1500", "1430 at most"],
            ),
            (
                "node add linux --vtep 192.0.2.9",
                1,
                &[
                    "cannot add node linux",
                    "192.0.2.9",
                    "without a common underlay family",
                ],
            ),
        ],
    )?;
    host.cli_ok(&["network", "create", "red", "--mtu", "1430"])?;
    Ok(())
}

/// The longer headers are those of the group.
#[test]
fn on_an_underlay_of_both_families() -> Result<()> {
    let world = World::over(&[BOTH])?;
    let group = "--flood multicast=ff05::9";
    refuses(
        &world,
        world.host(1),
        &[
            (
                &format!("network create red {group} --mtu 1431"),
                1,
                &["MTU 1431", "1430 at most"],
            ),
            (
                "network create red --mtu 1451",
                1,
                &["MTU 1451", "1450 at most"],
            ),
        ],
    )?;
    let made = format!("network create red {group}");
    world.host(1).cli_ok(&made.split(' ').collect::<Vec<_>>())?;
    let red = crate::support::network(world.host(1), "red")?;
    ensure!(red["mtu"] == 1430, "{red}");
    Ok(())
}

#[test]
fn on_an_ipv4_underlay() -> Result<()> {
    let world = World::over(&[V4, V4])?;
    let host = world.host(1);
    let said = |args: &str| host.cli(&args.split(' ').collect::<Vec<_>>());
    // Too small for any network, and for one with IPv6.
    for (mtu, options, least, most) in [
        ("600", "--subnet 10.0.0.0/24", "576", "550"),
        (
            "1300",
            "--subnet 10.0.0.0/24 --subnet fd00::/64",
            "1280",
            "1250",
        ),
    ] {
        host.netns().ip(&["link", "set", UNDERLAY, "mtu", mtu])?;
        let create = format!("network create red {options}");
        let refusal = until(CONVERGE, || {
            let said = said(&create)?;
            if said.code == 0 {
                host.cli_ok(&["network", "rm", "red"])?;
            }
            // The agent hears of the change by itself.
            ensure!(said.code == 1 && said.stderr.contains(mtu), "{said:?}");
            Ok(said)
        })?;
        super::is_refusal(
            &refusal,
            1,
            &[
                "cannot create network red",
                mtu,
                least,
                most,
                "raise the underlay's MTU",
            ],
        )?;
    }
    host.netns().ip(&["link", "set", UNDERLAY, "mtu", "1500"])?;
    refuses(
        &world,
        host,
        &[(
            "node add linux --vtep 2001:db8::9",
            1,
            &[
                "cannot add node linux",
                "2001:db8::9",
                "without a common underlay family",
            ],
        )],
    )
}

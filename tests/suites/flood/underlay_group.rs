//! Membership in the underlay's group.

use anyhow::{Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::UNDERLAY;
use tests::wait::until;

use crate::support::{CONVERGE, StoreKind, World};

const GROUP: &str = "239.7.7.7";

#[test]
fn is_joined_and_left() -> Result<()> {
    let mut world = World::new(StoreKind::Embedded)?;
    let watcher = world.lab.station("watcher")?;
    let capture = Capture::start(&watcher.netns, UNDERLAY, "igmp", world.work.path())?;
    let mode = format!("multicast={GROUP}");
    world.create_network("blue", &["--subnet", "10.42.0.0/24", "--flood", &mode])?;
    // Only hosts with an endpoint there are members.
    let addresses = |n| {
        world
            .host(n)
            .netns()
            .ip(&["address", "show", "dev", UNDERLAY])
    };
    world.container(1, "blue", "one")?;
    until(CONVERGE, || {
        ensure!(addresses(1)?.contains(GROUP), "host 1 is no member");
        Ok(())
    })?;
    ensure!(!addresses(2)?.contains(GROUP), "host 2 is a member");

    // An administrator's membership is no business of ours.
    let other = [
        "address",
        "add",
        "239.8.8.8/32",
        "dev",
        UNDERLAY,
        "autojoin",
    ];
    world.host(1).netns().ip(&other)?;
    world.host(1).cli_ok(&["endpoint", "rm", "one"])?;
    until(CONVERGE, || {
        ensure!(!addresses(1)?.contains(GROUP), "host 1 is still a member");
        Ok(())
    })?;
    ensure!(
        addresses(1)?.contains("239.8.8.8"),
        "another's membership is gone"
    );

    world.container(1, "blue", "two")?;
    until(CONVERGE, || {
        ensure!(addresses(1)?.contains(GROUP), "host 1 is no member again");
        Ok(())
    })?;
    // The membership outlives the agent; `detach --all` ends it, and only it.
    world.host_mut(1).agent()?.kill9()?;
    let addresses = |n| {
        world
            .host(n)
            .netns()
            .ip(&["address", "show", "dev", UNDERLAY])
    };
    ensure!(
        addresses(1)?.contains(GROUP),
        "the membership went with the agent"
    );
    world.host(1).cli_ok(&["detach", "--all"])?;
    let left = addresses(1)?;
    ensure!(!left.contains(GROUP), "still a member: {left}");
    ensure!(left.contains("239.8.8.8"), "another's membership is gone");

    let file = capture.stop()?;
    let reports = fields(
        &file,
        &format!("igmp.maddr == {GROUP}"),
        &["igmp.record_type"],
    )?;
    ensure!(
        !reports.is_empty(),
        "no report of the membership on the wire"
    );
    Ok(())
}

//! Membership in the underlay's group.

use anyhow::{Result, ensure};
use tests::capture::{Capture, fields};
use tests::lab::{Family, UNDERLAY};
use tests::wait::until;

use crate::support::families::{V4, V6};
use crate::support::{CONVERGE, World};

/// A group, another one that an administrator joins, and who asks for membership reports.
struct Group {
    family: &'static [Family],
    ours: &'static str,
    theirs: &'static str,
    reports: &'static str,
}

#[test]
fn is_joined_and_left() -> Result<()> {
    joined_and_left(&Group {
        family: V4,
        ours: "239.7.7.7",
        theirs: "239.8.8.8",
        reports: "igmp.maddr",
    })
}

#[test]
fn of_ipv6_is_joined_and_left() -> Result<()> {
    joined_and_left(&Group {
        family: V6,
        ours: "ff05::7:7",
        theirs: "ff05::8:8",
        reports: "icmpv6.mldr.mar.multicast_address",
    })
}

fn joined_and_left(group: &Group) -> Result<()> {
    let (ours, theirs) = (group.ours, group.theirs);
    let mut world = World::over(&[group.family; 2])?;
    let watcher = world.lab.station("watcher")?;
    let capture = Capture::start(&watcher.netns, UNDERLAY, "igmp or ip6", world.work.path())?;
    let mode = format!("multicast={ours}");
    world.create_network("blue", &["--subnet", "10.42.0.0/24", "--flood", &mode])?;
    // Only hosts with an endpoint there are members.
    let addresses = |n| memberships(&world, n);
    world.container(1, "blue", "one")?;
    until(CONVERGE, || {
        ensure!(addresses(1)?.contains(ours), "host 1 is no member");
        Ok(())
    })?;
    ensure!(!addresses(2)?.contains(ours), "host 2 is a member");

    // An administrator's membership is no business of ours.
    let other = ["address", "add", theirs, "dev", UNDERLAY, "autojoin"];
    world.host(1).netns().ip(&other)?;
    world.host(1).cli_ok(&["endpoint", "rm", "one"])?;
    until(CONVERGE, || {
        ensure!(!addresses(1)?.contains(ours), "host 1 is still a member");
        Ok(())
    })?;
    ensure!(
        addresses(1)?.contains(theirs),
        "another's membership is gone"
    );

    world.container(1, "blue", "two")?;
    until(CONVERGE, || {
        ensure!(addresses(1)?.contains(ours), "host 1 is no member again");
        Ok(())
    })?;
    // The membership outlives the agent; `detach --all` ends it, and only it.
    world.host_mut(1).agent()?.kill9()?;
    let addresses = |n| memberships(&world, n);
    ensure!(
        addresses(1)?.contains(ours),
        "the membership went with the agent"
    );
    world.host(1).cli_ok(&["detach", "--all"])?;
    let left = addresses(1)?;
    ensure!(!left.contains(ours), "still a member: {left}");
    ensure!(left.contains(theirs), "another's membership is gone");

    let file = capture.stop()?;
    let reports = fields(
        &file,
        &format!("{} == {ours}", group.reports),
        &["frame.number"],
    )?;
    ensure!(
        !reports.is_empty(),
        "no report of the membership on the wire"
    );
    Ok(())
}

/// The groups that the kernel of a host is a member of on the underlay.
fn memberships(world: &World, n: usize) -> Result<String> {
    let netns = world.host(n).netns();
    netns.ip(&["maddress", "show", "dev", UNDERLAY])
}

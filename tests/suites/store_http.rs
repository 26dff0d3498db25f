//! The store's HTTP interface: the same checks on the embedded store and on a Consul server.

mod blocking;
pub(crate) mod embedded;
mod exchange;
mod restart;
mod transcript;
mod unix;

use std::net::Ipv4Addr;

use anyhow::Result;
use tests::consul::Consul;
use tests::netns::Netns;
use tests::workdir::WorkDir;

use self::embedded::Running;

/// A check's name, and what it does to the server at a base address.
pub(crate) type Check = (&'static str, fn(&str));

/// What holds for every server, one after the other: each needs the server for itself.
pub(crate) const CHECKS: &[Check] = &[
    ("answers", transcript::check),
    (
        "a change wakes its watchers",
        blocking::a_change_wakes_its_watchers,
    ),
    ("nothing else wakes them", blocking::nothing_else_wakes_them),
    (
        "what is absent wakes on any change",
        blocking::what_is_absent_wakes_on_any_change,
    ),
    ("sessions are watched", blocking::sessions_are_watched),
    ("a wait ends in time", blocking::a_wait_ends_in_time),
    (
        "a session ends unless renewed",
        blocking::a_session_ends_unless_renewed,
    ),
];

fn run_all(base: &str) {
    for (name, check) in CHECKS {
        eprintln!("{base}: {name}");
        check(base);
    }
}

#[test]
fn the_embedded_store_answers_as_consul() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(&dir.path().join("store"));
    run_all(&server.base());
    server.stop().unwrap();
}

/// What the embedded store is held to is what a real Consul says.
#[test]
fn consul_answers_as_recorded() -> Result<()> {
    let netns = Netns::new("consul")?;
    let work = WorkDir::new("consul")?;
    let consul = Consul::start(&netns, Ipv4Addr::LOCALHOST.into(), work.path())?;
    netns.run(|| {
        run_all(&consul.url());
        Ok(())
    })
}

//! A network with a container on each host.

use anyhow::Result;
use tests::docker::Options;

use super::world::{Dockers, reaches, start_agent};
use crate::support::snapshot::Snapshot;

pub(super) struct Pair {
    pub(super) all: Dockers,
    /// The containers' addresses.
    pub(super) one: String,
    pub(super) two: String,
    before: Snapshot,
}

impl Pair {
    pub(super) fn new(live_restore: bool) -> Result<Self> {
        let all = Dockers::with(&Options {
            live_restore,
            ..Options::default()
        })?;
        all.create(1, "blue", &["--subnet", "10.70.0.0/16"])?;
        all.everywhere("blue")?;
        let before = Snapshot::of(&all.world)?;
        let one = all.run(1, "blue", "one", &[])?;
        let two = all.run(2, "blue", "two", &[])?;
        Ok(Self {
            all,
            one,
            two,
            before,
        })
    }

    pub(super) fn reachable(&self) -> Result<()> {
        reaches(self.all.docker(1), "one", &self.two)?;
        reaches(self.all.docker(2), "two", &self.one)
    }

    /// By the other host's daemon alone.
    pub(super) fn reachable_while_dead(&self) -> Result<()> {
        reaches(self.all.docker(2), "two", &self.one)
    }

    pub(super) fn kill_agent(&mut self) -> Result<()> {
        self.all.world.host_mut(1).agent()?.kill9()
    }

    pub(super) fn start_agent(&mut self) -> Result<()> {
        let Dockers { dockers, world, .. } = &mut self.all;
        start_agent(world, 1, &dockers[0])
    }

    /// Removes both, after which nothing of any container may be left.
    pub(super) fn remove_all(&self) -> Result<()> {
        for (n, name) in [(1, "one"), (2, "two")] {
            self.all.docker(n).cli_ok(&["rm", "-f", name])?;
        }
        self.nothing_left()
    }

    /// When both are removed.
    pub(super) fn nothing_left(&self) -> Result<()> {
        self.before.comes_back(&self.all.world)
    }
}

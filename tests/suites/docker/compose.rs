//! Compose projects, as the documentation says that they are written.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tests::agent::CliOutput;

use super::world::{Dockers, address, networks, reaches};
use crate::support::snapshot::Snapshot;

/// A service that sleeps.
const SERVICE: &str = "{image: busybox, pull_policy: never, init: true, command: sleep 1000}";

/// A project's file for both hosts.
struct Project<'a> {
    all: &'a Dockers,
    file: PathBuf,
}

impl<'a> Project<'a> {
    /// With services `one` and `two` on the network that is so described.
    fn new(all: &'a Dockers, network: &str) -> Result<Self> {
        let folder = all.world.work.folder("project")?;
        let file = folder.join("compose.yaml");
        let text = format!(
            "services:\n  one: {SERVICE}\n  two: {SERVICE}\nnetworks:\n  default: {network}\n"
        );
        fs::write(&file, text).context("write the compose file")?;
        Ok(Self { all, file })
    }

    fn compose(&self, n: usize, args: &[&str]) -> Result<CliOutput> {
        let file = self.file.to_str().context("a path")?;
        let args = [&["-f", file], args].concat();
        self.all.docker(n).compose(&args)
    }

    fn compose_ok(&self, n: usize, args: &[&str]) -> Result<()> {
        let said = self.compose(n, args)?;
        ensure!(said.code == 0, "host{n}, {args:?}: {said:?}");
        Ok(())
    }
}

/// One file, and on each host one of its services.
#[test]
fn on_an_external_network() -> Result<()> {
    let all = Dockers::new()?;
    all.create(1, "blue", &[])?;
    all.everywhere("blue")?;
    let before = Snapshot::of(&all.world)?;
    let project = Project::new(&all, "{external: true, name: blue}")?;
    project.compose_ok(1, &["up", "-d", "one"])?;
    project.compose_ok(2, &["up", "-d", "two"])?;
    let one = address(all.docker(1), "blue", "project-one-1")?;
    let two = address(all.docker(2), "blue", "project-two-1")?;
    reaches(all.docker(1), "project-one-1", &two)?;
    reaches(all.docker(2), "project-two-1", &one)?;
    for n in [1, 2] {
        project.compose_ok(n, &["down", "-t", "1"])?;
    }
    all.everywhere("blue")?;
    before.comes_back(&all.world)
}

/// The first host that runs the project makes its network. Compose on another host does not take it for its
/// own; the containers of others use it as any.
#[test]
fn makes_its_network() -> Result<()> {
    let all = Dockers::new()?;
    let before = Snapshot::of(&all.world)?;
    let network = "{driver: overlay-ebpf, ipam: {driver: overlay-ebpf}}";
    let project = Project::new(&all, network)?;
    project.compose_ok(1, &["up", "-d"])?;
    all.everywhere("project_default")?;
    let one = address(all.docker(1), "project_default", "project-one-1")?;
    let two = address(all.docker(1), "project_default", "project-two-1")?;
    reaches(all.docker(1), "project-one-1", &two)?;
    let said = project.compose(2, &["up", "-d", "one"])?;
    ensure!(
        said.code != 0 && said.stderr.contains("external"),
        "{said:?}"
    );
    let other = all.run(2, "project_default", "other", &[])?;
    reaches(all.docker(2), "other", &one)?;
    reaches(all.docker(1), "project-two-1", &other)?;
    all.docker(2).cli_ok(&["rm", "-f", "other"])?;
    project.compose_ok(1, &["down", "-t", "1"])?;
    all.nowhere("project_default")?;
    ensure!(networks(all.docker(1))?.is_empty());
    before.comes_back(&all.world)
}

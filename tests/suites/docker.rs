//! Real Docker daemons, one on each host.

mod away;
mod compose;
mod containers;
mod crowd;
mod daemon;
mod faults;
mod kills;
mod names;
mod networks;
mod pair;
mod relay;
mod startup;
mod traces;
mod tutorial;
mod world;

use anyhow::Result;
use tests::docker::{Docker, IMAGE, Options};
use tests::lab::Lab;

/// The Docker of a host (0, 1, …), with its image.
fn started(lab: &Lab, host: usize, options: Options) -> Result<Docker> {
    let docker = Docker::start(&lab.hosts[host], options)?;
    docker.load_image()?;
    Ok(docker)
}

/// Runs a script in a new container that stays; its id.
fn run(docker: &Docker, options: &[&str], script: &str) -> Result<String> {
    docker.cli_ok(&[&["run", "-d"], options, &[IMAGE, "sh", "-c", script]].concat())
}

/// Runs a command in a new container; what it said.
fn say(docker: &Docker, options: &[&str], command: &[&str]) -> Result<String> {
    docker.cli_ok(&[&["run", "--rm"], options, &[IMAGE], command].concat())
}

/// What Docker knows of a container, as in `State.Pid`.
fn inspect(docker: &Docker, name: &str, field: &str) -> Result<String> {
    docker.cli_ok(&["inspect", "-f", &format!("{{{{.{field}}}}}"), name])
}

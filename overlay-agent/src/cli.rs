//! The command line: one subcommand, one file.

mod attach;
mod detach;
mod doctor;
mod dump;
mod endpoint;
mod ipam;
mod network;
mod node;
mod output;
mod plan;
mod run;
mod status;
mod store;
mod usage;
mod values;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::api::client::Client;
use crate::config::{Config, ConfigError, Locations, Settings};

/// VXLAN overlay networks between hosts, with an eBPF data path.
#[derive(Debug, Parser)]
#[command(name = "overlay-agent", version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    locations: Locations,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent of this host
    Run(Settings),
    /// Load, pin and attach the data path, then exit
    Attach(Settings),
    /// Remove the programs from the devices; with --all every trace of the agent
    Detach(detach::Arguments),
    /// Networks of all hosts
    Network(network::Arguments),
    /// Endpoints: who is on which network
    Endpoint(endpoint::Arguments),
    /// Addresses: who has which, and what nobody uses
    Ipam(ipam::Arguments),
    /// Hosts
    Node(node::Arguments),
    /// How the agent of this host is doing
    Status(output::Format),
    /// Whether this host has what it takes, with or without an agent: run it with the options of `run`
    Doctor(doctor::Arguments),
    /// What the agent would change in the data path now
    Plan(output::Format),
    /// What the data path of this host holds, with or without an agent
    Dump(dump::Arguments),
    /// Run the embedded store by itself, for several agents
    Store(store::Arguments),
}

/// Parses the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error),
    };
    log_to_stderr();
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", one_line(&format!("{error:#}")));
            match error.downcast_ref() {
                Some(ConfigError::DecapWithoutXdp(_)) => ExitCode::from(usage::EXIT),
                Some(ConfigError::Read { .. } | ConfigError::Content { .. }) | None => {
                    ExitCode::FAILURE
                }
            }
        }
    }
}

fn execute(cli: Cli) -> Result<()> {
    let Cli { locations, command } = cli;
    // One thread: the agent waits most of its time, and every thread costs memory.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Run(settings) => run::exec(data_path(locations, settings)?).await,
            Command::Attach(settings) => attach::exec(data_path(locations, settings)?).await,
            Command::Detach(arguments) => detach::exec(arguments, &config(locations)?).await,
            Command::Network(arguments) => network::exec(arguments, &client(locations)?).await,
            Command::Endpoint(arguments) => endpoint::exec(arguments, &client(locations)?).await,
            Command::Ipam(arguments) => ipam::exec(arguments, &client(locations)?).await,
            Command::Node(arguments) => node::exec(arguments, &client(locations)?).await,
            Command::Status(format) => status::exec(format, &client(locations)?).await,
            Command::Doctor(doctor::Arguments { settings, format }) => {
                doctor::exec(data_path(locations, settings)?, format).await
            }
            Command::Plan(format) => plan::exec(format, &client(locations)?).await,
            Command::Dump(arguments) => dump::exec(arguments, &config(locations)?).await,
            Command::Store(arguments) => store::exec(arguments, &config(locations)?).await,
        }
    })
}

fn data_path(locations: Locations, settings: Settings) -> Result<Config> {
    Ok(Config::load(locations, settings)?.consistent()?)
}

fn config(locations: Locations) -> Result<Config> {
    Ok(Config::load(locations, Settings::default())?)
}

fn client(locations: Locations) -> Result<Client> {
    Ok(Client::new(&config(locations)?.agent_socket())?)
}

/// `OVERLAY_LOG` chooses what is logged, as `RUST_LOG` does elsewhere.
fn log_to_stderr() {
    // The name server's library tells of each question.
    let default = "info,hickory_server=error,hickory_resolver=error,hickory_net=error";
    let chosen = std::env::var("OVERLAY_LOG").unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .parse_lossy(format!("{default},{chosen}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Some sources of errors speak in several lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    /// `--help` leaves nothing unexplained.
    #[test]
    fn everything_has_help() {
        fn check(command: &clap::Command) {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name} {argument}");
            }
            command.get_subcommands().for_each(check);
        }
        check(&<Cli as clap::CommandFactory>::command());
    }

    /// Usage errors are clap's, with exit code 2.
    #[test]
    fn bad_values_are_usage_errors() {
        for (arguments, said) in [
            ("network create x --vni 0", "from 1 to 16777215"),
            ("network create x --vni 16777216", "from 1 to 16777215"),
            ("network create x --subnet 10.0.0.0", "10.0.0.0/16"),
            ("network create x --subnet 10.0.0.1/8", "10.0.0.0/8"),
            ("network create x --subnet 10.0.0.0/33", "10.0.0.0/16"),
            ("network create x --gateway 10.0.0", "10.0.0"),
            ("network create x --mtu 100", "100"),
            ("network create x --flood never", "replicate"),
            (
                "network create x --flood multicast=10.0.0.1",
                "10.0.0.1 is not a multicast group",
            ),
            ("network create x --flood-rate 0", "--flood drop"),
            (
                "endpoint add --network x --netns /a --allow-ip 10.0.0",
                "prefix",
            ),
            (
                "endpoint add --network x --node n --ip 10.0.0.1 --mac 02:00:00:00:00:01 --forwarding",
                "--forwarding",
            ),
            ("network create ../x", "../x"),
            ("endpoint rm ", "ENDPOINT"),
            ("endpoint inspect ", "ENDPOINT"),
            ("ipam ls ../x", "../x"),
            ("ipam reclaim --all", "--all"),
            ("network create x --exclude 10.0.0", "prefix"),
            ("endpoint add --network x", "--netns"),
            ("endpoint add --network x --netns /a --pid 1", "--pid"),
            (
                "endpoint add --network x --netns /a --mac 01:00:5e:00:00:01",
                "group",
            ),
            (
                "endpoint add --network x --netns /a --mac 00:00:00:00:00:00",
                "zero",
            ),
            (
                "endpoint add --network x --netns /a --mac 02:00",
                "six hex bytes",
            ),
            (
                "endpoint add --network x --netns /a --ifname 0123456789abcdef",
                "15",
            ),
            ("endpoint add --network x --node n --ip 10.0.0.1", "--mac"),
            (
                "endpoint add --network x --node n --mac 02:00:00:00:00:01",
                "--ip",
            ),
            ("node add n --vtep 0.0.0.0", "0.0.0.0"),
            ("node add n --vtep 224.0.0.1", "224.0.0.1"),
            ("run --port 0", "0"),
            ("run --xdp often", "often"),
            ("run --decap often", "auto, tc, xdp"),
        ] {
            let line = format!("overlay-agent {arguments}");
            let error = Cli::try_parse_from(line.split(' ')).expect_err(arguments);
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(said), "{arguments}: {error}");
        }
    }
}

//! The agent's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    overlay_agent::cli::main()
}

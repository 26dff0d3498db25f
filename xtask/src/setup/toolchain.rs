//! The parts of the pinned Rust toolchain.

use std::{fs, process::Command};

use ::tests::{command::output, paths};
use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::shell::stream;

#[derive(Debug, Deserialize)]
struct File {
    toolchain: Toolchain,
}

#[derive(Debug, Deserialize)]
struct Toolchain {
    channel: String,
    components: Vec<String>,
}

/// Adds the components of `rust-toolchain.toml` that are missing. rustup adds them by itself
/// only where `RUSTUP_AUTO_INSTALL` is not 0.
pub(super) fn components() -> Result<()> {
    let path = paths::workspace().join("rust-toolchain.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let File { toolchain } =
        toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;

    let list = [
        "component",
        "list",
        "--installed",
        "--toolchain",
        &toolchain.channel,
    ];
    let installed = output(Command::new("rustup").args(list))
        .context("list the parts of the Rust toolchain (needs rustup)")?;
    let missing = missing(&toolchain.components, &installed);
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!(
        "adding to Rust {}: {}",
        toolchain.channel,
        missing.join(" ")
    );
    stream(
        Command::new("rustup")
            .args(["component", "add", "--toolchain", &toolchain.channel])
            .args(missing),
    )
}

/// rustup lists host components with the host's name behind: `clippy-x86_64-unknown-linux-gnu`.
fn missing<'a>(wanted: &'a [String], installed: &str) -> Vec<&'a str> {
    let has = |component: &str| {
        installed.lines().any(|line| {
            line.strip_prefix(component)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    };
    wanted
        .iter()
        .map(String::as_str)
        .filter(|component| !has(component))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn missing_components_are_named() {
        let wanted = ["clippy", "rust-src", "rustfmt"].map(str::to_owned);
        let installed = "clippy-x86_64-unknown-linux-gnu\nrust-std-x86_64-unknown-linux-gnu\n\
                         rustfmt-x86_64-unknown-linux-gnu\n";
        assert_eq!(missing(&wanted, installed), ["rust-src"]);
        assert_eq!(missing(&wanted, &format!("{installed}rust-src\n")), [""; 0]);
    }
}

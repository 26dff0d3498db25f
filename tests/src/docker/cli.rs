//! Docker's command line.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};

use super::{Docker, image};
use crate::{agent::CliOutput, command::capture, packages};

/// What [`Docker::load_image`] names the image.
pub const IMAGE: &str = "busybox";

/// dockerd waits for a plugin as long as that takes; a test does not.
const TIMEOUT: Duration = Duration::from_secs(120);

impl Docker {
    /// Runs a command of `docker` and tells how it ended.
    pub fn cli(&self, args: &[&str]) -> Result<CliOutput> {
        self.ask(&self.programs.path("usr/bin/docker"), args)
    }

    /// Runs a command of `docker compose`, as in `["-f", "compose.yaml", "up", "-d"]`.
    pub fn compose(&self, args: &[&str]) -> Result<CliOutput> {
        self.ask(&packages::compose()?, args)
    }

    fn ask(&self, program: &Path, args: &[&str]) -> Result<CliOutput> {
        let mut command = Command::new("timeout");
        self.programs.environment(&mut command);
        // Foreground: Ctrl-C reaches it.
        command
            .args(["--foreground", &TIMEOUT.as_secs().to_string()])
            .arg(program)
            .args(args)
            .env("DOCKER_HOST", self.url()?)
            .env("DOCKER_CONFIG", self.work.path().join("cli"));
        let output = capture(&mut command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(CliOutput {
            code: output.status.code().context("the command was killed")?,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Runs a command that must succeed; its standard output, without the last line's end.
    pub fn cli_ok(&self, args: &[&str]) -> Result<String> {
        let said = self.cli(args)?;
        if said.code != 0 {
            bail!(
                "`docker {}` on {} ended with {}: {}{}",
                args.join(" "),
                self.label,
                said.code,
                said.stderr,
                said.stdout
            );
        }
        Ok(said.stdout.trim_end().to_owned())
    }

    /// Imports [`IMAGE`]: busybox with all its applets in /bin, and iperf3 if this machine has it.
    pub fn load_image(&self) -> Result<()> {
        let tar = image::tar(&self.programs.path("bin/busybox"), &self.work)?;
        let tar = tar.to_str().context("a path that is not UTF-8")?;
        self.cli_ok(&["import", "--change", "CMD [\"sh\"]", tar, IMAGE])
            .map(drop)
    }
}

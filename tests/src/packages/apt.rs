//! apt, used without touching its configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command::output;

/// Signs every release of Debian; there on every Debian machine.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Downloads from the suites this machine is configured for.
pub(super) fn download_own(package: &str, into: &Path) -> Result<PathBuf> {
    let download = || output(apt_get().current_dir(into).args(["download", package]));
    if download().is_err() {
        // No lists yet, or lists that name a version which the mirror has replaced.
        output(apt_get().arg("update"))?;
        download()?;
    }
    archive_in(into)
}

/// Downloads from another suite of the same mirror, with the lists kept in `cache`.
pub(super) fn download_from(
    suite: &str,
    package: &str,
    into: &Path,
    cache: &Path,
) -> Result<PathBuf> {
    let state = cache.join(format!("apt-{suite}"));
    let lists = state.join("lists");
    fs::create_dir_all(lists.join("partial"))
        .with_context(|| format!("create folder {}", lists.display()))?;
    let sources = state.join("sources.list");
    fs::write(&sources, source_line(&mirror()?, suite))
        .with_context(|| format!("write {}", sources.display()))?;

    let apt = || {
        let mut command = apt_get();
        command
            .current_dir(into)
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={}", sources.display()))
            .args(["-o", "Dir::Etc::sourceparts=/dev/null"])
            .arg("-o")
            .arg(format!("Dir::State::lists={}", lists.display()))
            .arg("-o")
            .arg(format!("Dir::Cache={}", state.join("cache").display()))
            .args(["-o", "Acquire::Languages=none"]);
        command
    };
    output(apt().arg("update")).with_context(|| format!("read the package list of {suite}"))?;
    output(apt().args(["download", package]))?;
    archive_in(into)
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // The cache belongs to whoever builds; apt's own user could not write there.
    command.args(["-q", "-o", "APT::Sandbox::User=root"]);
    command
}

/// Where this machine gets Debian from.
fn mirror() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no VERSION_CODENAME: this needs Debian")?
        .trim_matches('"');
    if let Some(mirror) = mirror_of(codename)? {
        return Ok(mirror);
    }
    // apt tells of targets only once it has downloaded them.
    output(apt_get().arg("update"))?;
    match mirror_of(codename)? {
        Some(mirror) => Ok(mirror),
        None => bail!("apt has no source for {codename}: add one to /etc/apt"),
    }
}

fn mirror_of(codename: &str) -> Result<Option<String>> {
    let targets = output(apt_get().args(["indextargets", "--format", "$(REPO_URI) $(CODENAME)"]))?;
    // Not the -updates and -security archives, which carry their own code names.
    Ok(targets
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(_, name)| *name == codename)
        .map(|(uri, _)| uri.to_owned()))
}

fn source_line(mirror: &str, suite: &str) -> String {
    let signed_by = if Path::new(KEYRING).exists() {
        format!(" signed-by={KEYRING}")
    } else {
        String::new()
    };
    format!("deb [target=Packages{signed_by}] {mirror} {suite} main\n")
}

fn archive_in(folder: &Path) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download left no package in {}", folder.display()))
}

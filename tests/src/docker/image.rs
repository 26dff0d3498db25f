//! What containers are made of: busybox, and iperf3 with its libraries.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    command::{on_path, output},
    workdir::WorkDir,
};

/// Makes a tar for `docker import`: `busybox` is the path of a static one.
pub(super) fn tar(busybox: &Path, work: &WorkDir) -> Result<PathBuf> {
    let root = work.folder("image")?;
    for folder in ["bin", "etc", "root", "tmp", "var/www"] {
        create(&root.join(folder))?;
    }
    copy(busybox, &root.join("bin/busybox"))?;
    for applet in output(Command::new(busybox).arg("--list"))?.lines() {
        let link = root.join("bin").join(applet);
        if !link.exists() {
            symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    let users = root.join("etc/passwd");
    fs::write(&users, "root:x:0:0:root:/root:/bin/sh\n")
        .with_context(|| format!("write {}", users.display()))?;
    if let Some(iperf3) = on_path("iperf3") {
        copy(&iperf3, &root.join("bin/iperf3"))?;
        for library in libraries(&iperf3)? {
            let inside = library.strip_prefix("/").unwrap_or(&library);
            copy(&library, &root.join(inside))?;
        }
    }
    let file = work.path().join("image.tar");
    output(
        Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&file)
            .arg("."),
    )?;
    fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    Ok(file)
}

/// The shared libraries that a program loads, and the loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    // `name => /path (0x…)`, or `/path (0x…)` for the loader.
    let said = output(Command::new("ldd").arg(program))?;
    let words = said.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create folder {}", folder.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        create(folder)?;
    }
    fs::copy(from, to)
        .map(drop)
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

//! The socket that Docker finds the drivers by.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use listenfd::ListenFd;
use tokio::net::UnixListener;

use super::DRIVER;

/// The file of a socket, removed with it; none when the service manager holds it.
#[derive(Debug)]
pub struct SocketFile(Option<PathBuf>);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Where Docker looks for the drivers.
pub fn plugin_socket(plugins: &Path) -> PathBuf {
    plugins.join(format!("{DRIVER}.sock"))
}

/// The socket that the service manager has handed over (`LISTEN_FDS`), else a new one in Docker's folder of
/// plugins, in the place of one that a dead agent has left.
pub fn listen(plugins: &Path) -> Result<(UnixListener, SocketFile)> {
    let handed = ListenFd::from_env().take_unix_listener(0);
    if let Some(listener) = handed.context("take over the socket for Docker (LISTEN_FDS)")? {
        return Ok((ready(listener)?, SocketFile(None)));
    }
    let path = plugin_socket(plugins);
    let context = || format!("listen for Docker on {}", path.display());
    fs::create_dir_all(plugins).with_context(context)?;
    if UnixStream::connect(&path).is_ok() {
        bail!("{}: another agent serves Docker there", context());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(context);
        }
        _ => {}
    }
    let listener = StdListener::bind(&path).with_context(context)?;
    let file = SocketFile(Some(path.clone()));
    Ok((ready(listener).with_context(context)?, file))
}

fn ready(listener: StdListener) -> Result<UnixListener> {
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}

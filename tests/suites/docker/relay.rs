//! A relay between a Docker and an agent's drivers: sees the calls, and kills one of the two at any of them.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::agent::START_TIMEOUT;
use tests::docker::Docker;

use super::world::{DRIVER, Dockers, spawn_agent_between};
use crate::support::World;

/// Where the agent has its socket: in Docker's folder of plugins there is the relay's.
const BEHIND: &str = "behind";

const TICK: Duration = Duration::from_millis(5);

/// When, in the course of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// The agent never hears of it.
    Asked,
    /// The agent has done it, and Docker does not hear of that.
    Done,
}

/// Who is killed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Victim {
    Agent,
    Daemon,
}

/// What is to be done at a call.
#[derive(Clone, Debug)]
pub(super) struct Kill {
    /// As in `NetworkDriver.Join`.
    pub(super) call: &'static str,
    pub(super) moment: Moment,
    pub(super) victim: Victim,
    pub(super) pid: u32,
}

/// Serves until it is dropped.
pub(super) struct Relay(Arc<Shared>);

struct Shared {
    /// The socket that Docker knows.
    front: PathBuf,
    /// The agent's own.
    behind: PathBuf,
    /// None while the agent is dead: then connections are refused, as by the socket that it would have left.
    listener: Mutex<Option<UnixListener>>,
    state: Mutex<State>,
    ended: AtomicBool,
}

#[derive(Default)]
struct State {
    calls: Vec<(String, Duration)>,
    kill: Option<Kill>,
    struck: bool,
}

impl Relay {
    /// Comes between host 1's Docker and its agent, which is started anew.
    pub(super) fn between(all: &mut Dockers) -> Result<Self> {
        let Dockers { dockers, world, .. } = all;
        world.host_mut(1).agent()?.kill9()?;
        let behind = world.host(1).work().folder(BEHIND)?;
        let relay = Self::start(dockers[0].plugins(), &behind);
        start_behind(world, &dockers[0])?;
        Ok(relay)
    }

    /// Between Docker's folder of plugins and the one that the agent has taken for that.
    fn start(plugins: &Path, behind: &Path) -> Self {
        let socket = |folder: &Path| folder.join(format!("{DRIVER}.sock"));
        let shared = Arc::new(Shared {
            front: socket(plugins),
            behind: socket(behind),
            listener: Mutex::default(),
            state: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let relay = Self(Arc::clone(&shared));
        thread::spawn(move || {
            while !shared.ended.load(Ordering::SeqCst) {
                match shared.accept() {
                    Some(docker) => {
                        let shared = Arc::clone(&shared);
                        // What fails is broken off, and Docker sees that.
                        thread::spawn(move || shared.pass(docker));
                    }
                    None => thread::sleep(TICK),
                }
            }
        });
        relay
    }

    /// The calls that were answered since this was asked last, and how long each took.
    pub(super) fn take_calls(&self) -> Vec<(String, Duration)> {
        std::mem::take(&mut lock(&self.0.state).calls)
    }

    /// Kills at the next such call.
    pub(super) fn arm(&self, kill: Kill) {
        let mut state = lock(&self.0.state);
        state.kill = Some(kill);
        state.struck = false;
    }

    /// Whether it has killed.
    pub(super) fn has_struck(&self) -> bool {
        lock(&self.0.state).struck
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn accept(&self) -> Option<UnixStream> {
        let mut listener = lock(&self.listener);
        if listener.is_none() && UnixStream::connect(&self.behind).is_ok() {
            *listener = self.listen().ok();
        }
        let (docker, _) = listener.as_ref()?.accept().ok()?;
        docker.set_nonblocking(false).ok()?;
        Some(docker)
    }

    fn listen(&self) -> Result<UnixListener> {
        match fs::remove_file(&self.front) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = UnixListener::bind(&self.front)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// One call. Connections are not kept: Docker would write to one whose agent is dead.
    fn pass(&self, mut docker: UnixStream) -> Result<()> {
        let (call, request) = read_request(&mut docker)?;
        let since = Instant::now();
        // Once only: afterwards the number may be another process's.
        let kill = lock(&self.state).kill.take_if(|kill| kill.call == call);
        if let Some(kill) = kill
            .as_ref()
            .filter(|kill| matches!(kill.moment, Moment::Asked))
        {
            return self.strike(kill);
        }
        let mut agent = UnixStream::connect(&self.behind)?;
        agent.write_all(&request)?;
        let mut answer = Vec::new();
        agent.read_to_end(&mut answer)?;
        match kill {
            Some(kill) => self.strike(&kill),
            None => {
                lock(&self.state).calls.push((call, since.elapsed()));
                Ok(docker.write_all(&answer)?)
            }
        }
    }

    fn strike(&self, by: &Kill) -> Result<()> {
        let pid = Pid::from_raw(by.pid.try_into()?);
        match by.victim {
            Victim::Daemon => kill(pid, Signal::SIGKILL)?,
            Victim::Agent => {
                // Held until nobody is behind any more, or it would listen again.
                let mut listener = lock(&self.listener);
                *listener = None;
                kill(pid, Signal::SIGKILL)?;
                while UnixStream::connect(&self.behind).is_ok() {
                    thread::sleep(TICK);
                }
            }
        }
        lock(&self.state).struck = true;
        Ok(())
    }
}

/// Starts host 1's agent behind the relay.
pub(super) fn start_behind(world: &mut World, docker: &Docker) -> Result<()> {
    let behind = world.host(1).work().folder(BEHIND)?;
    let store = world.store.url();
    spawn_agent_between(world, 1, docker, &behind, &store)?;
    world.host_mut(1).wait_agent_ready(START_TIMEOUT)
}

/// A call's name, and the whole of it with the wish that the connection be closed after the answer.
fn read_request(from: &mut UnixStream) -> Result<(String, Vec<u8>)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    while !head.ends_with(END) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = str::from_utf8(&head)?;
    let call = text.split_whitespace().nth(1).context("no path")?;
    let call = call.trim_start_matches('/').to_owned();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let named = name.eq_ignore_ascii_case("content-length");
        named.then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    head.truncate(head.len() - END.len());
    let request = [&head, &b"\r\nConnection: close"[..], END, &body].concat();
    Ok((call, request))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

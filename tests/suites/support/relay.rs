//! A relay between an agent and its store: sees what is asked, and can cut the two apart, answer instead of the
//! store, and kill the agent at a request.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::netns::Netns;

use super::reads::{Answers, Reads};

const TICK: Duration = Duration::from_millis(10);

/// Ends its connections when dropped.
pub struct Relay {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Whether connections are taken; without, they are refused as by a machine without a store.
    open: AtomicBool,
    ended: AtomicBool,
    connections: AtomicU64,
}

#[derive(Default)]
struct State {
    /// First lines of all requests.
    requests: Vec<String>,
    /// Those that have no answer yet, by connection.
    waiting: BTreeMap<u64, String>,
    /// A request with this text is passed on, its answer is not, and the store is gone then.
    cut_at: Option<String>,
    trouble: Option<Trouble>,
    strike: Option<Strike>,
    reads: Reads,
}

/// What a store in trouble does to every request.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// Answers status 500 at once.
    Error,
    /// Holds each answer back for so long.
    Slow(Duration),
}

/// When the agent is killed: before a request is passed on, or in place of its answer.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    Asked,
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Strike {
    /// Requests until then.
    left: usize,
    moment: Moment,
    pid: u32,
}

/// What becomes of what a client has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Pass,
    Refuse,
    Answer(Vec<u8>),
    Swallow,
}

/// As Consul words it.
const REFUSAL: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\
    Content-Length: 17\r\n\r\nNo cluster leader";

impl Relay {
    /// Listens in `netns`, on loopback.
    pub fn start(netns: &Netns, store: SocketAddr) -> Result<Self> {
        let bind = move |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = netns.run(|| bind(0).context("bind"))?;
        let address = listener.local_addr().context("address of the relay")?;
        let shared = Arc::new(Shared::default());
        shared.open.store(true, Ordering::SeqCst);
        let namespace = File::open(netns.path()).context("open the namespace")?;
        let relay = Self {
            address,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            // Sockets are made by this thread, in the host's namespace.
            if setns(&namespace, CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let mut listener = Some(listener);
            while !shared.ended.load(Ordering::SeqCst) {
                if !shared.open.load(Ordering::SeqCst) {
                    listener = None;
                } else if listener.is_none() {
                    listener = bind(address.port()).ok();
                }
                match &listener {
                    Some(listener) => accept(listener, store, &shared),
                    None => thread::sleep(TICK),
                }
            }
        });
        Ok(relay)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first lines of the requests since this was asked last.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().requests)
    }

    /// The first lines of the requests that wait for their answer.
    pub fn waiting(&self) -> Vec<String> {
        self.shared.state().waiting.values().cloned().collect()
    }

    /// Passes the next request with this text on, and then plays dead until [`Self::mend`].
    pub fn cut_at(&self, text: &str) {
        self.shared.state().cut_at = Some(text.to_owned());
    }

    /// Whether it plays dead.
    pub fn is_cut(&self) -> bool {
        !self.shared.open.load(Ordering::SeqCst)
    }

    pub fn mend(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }

    /// From now on, until it is `None`.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        self.shared.state().trouble = trouble;
    }

    /// What was answered last to all that was read, and has this text in its request.
    pub fn answers(&self, text: &str) -> Answers {
        self.shared.state().reads.answers(text)
    }

    /// From now on the store says this again, once each, as one that is behind.
    pub fn set_back(&self, answers: Answers) {
        self.shared.state().reads.set_back(answers);
    }

    /// How many of these answers were given; no more are.
    pub fn catch_up(&self) -> usize {
        self.shared.state().reads.catch_up()
    }

    /// Kills a process at its `number`th request (from 1) that a command may be waiting for.
    pub fn strike_at(&self, number: usize, moment: Moment, pid: u32) {
        let left = number;
        self.shared.state().strike = Some(Strike { left, moment, pid });
    }

    /// Whether the process was killed; if not, it is not killed any more.
    pub fn has_struck(&self) -> bool {
        self.shared.state().strike.take().is_none()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.open.store(false, Ordering::SeqCst);
        self.shared.ended.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, store: SocketAddr, shared: &Arc<Shared>) {
    let _ = listener.set_nonblocking(true);
    let Ok((client, _)) = listener.accept() else {
        thread::sleep(TICK);
        return;
    };
    let _ = client.set_nonblocking(false);
    if let Ok(upstream) = TcpStream::connect(store) {
        let _ = pass(&client, &upstream, shared);
    }
}

/// Passes both directions on in threads of their own.
fn pass(client: &TcpStream, store: &TcpStream, shared: &Arc<Shared>) -> Result<()> {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst);
    let cut = Arc::new(AtomicBool::new(false));
    let victim = Arc::new(AtomicU32::new(0));
    for is_request in [true, false] {
        let (mut from, mut to) = if is_request {
            (client.try_clone()?, store.try_clone()?)
        } else {
            (store.try_clone()?, client.try_clone()?)
        };
        // To see when the two are to be cut apart.
        from.set_read_timeout(Some(TICK))?;
        let (shared, cut) = (Arc::clone(shared), Arc::clone(&cut));
        let victim = Arc::clone(&victim);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while shared.open.load(Ordering::SeqCst) {
                let length = match from.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(_) => break,
                };
                if is_request {
                    match note_request(&buffer[..length], number, &shared, &cut, &victim) {
                        Fate::Pass => {}
                        Fate::Refuse => {
                            let _ = from.write_all(REFUSAL);
                            break;
                        }
                        Fate::Answer(answer) => {
                            let _ = from.write_all(&answer);
                            continue;
                        }
                        Fate::Swallow => break,
                    }
                } else if cut.load(Ordering::SeqCst) {
                    shared.open.store(false, Ordering::SeqCst);
                    break;
                } else if strike(victim.load(Ordering::SeqCst)) {
                    break;
                } else {
                    let trouble = shared.state().trouble;
                    if let Some(Trouble::Slow(time)) = trouble {
                        thread::sleep(time);
                    }
                    let mut state = shared.state();
                    state.waiting.remove(&number);
                    state.reads.answered(number, &buffer[..length]);
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            shared.state().waiting.remove(&number);
            for end in [&from, &to] {
                let _ = end.shutdown(Shutdown::Both);
            }
        });
    }
    Ok(())
}

/// A request's head is one write of the client, and so one read here on loopback.
fn note_request(
    bytes: &[u8],
    number: u64,
    shared: &Shared,
    cut: &AtomicBool,
    victim: &AtomicU32,
) -> Fate {
    let text = String::from_utf8_lossy(bytes);
    let mut state = shared.state();
    let line = text
        .lines()
        .next()
        .filter(|line| line.contains(" HTTP/1.1"));
    if let Some(line) = line {
        state.requests.push(line.to_owned());
        state.waiting.insert(number, line.to_owned());
    }
    if state
        .cut_at
        .take_if(|at| text.contains(at.as_str()))
        .is_some()
    {
        cut.store(true, Ordering::SeqCst);
    }
    // What goes on without a command.
    let idle = ["index=", "/v1/session/", "/v1/agent/"];
    let counts = line.is_some_and(|line| !idle.iter().any(|part| line.contains(part)));
    if let Some(armed) = state.strike.as_mut().filter(|_| counts) {
        armed.left -= 1;
    }
    if let Some(Strike { moment, pid, .. }) = state.strike.take_if(|armed| armed.left == 0) {
        match moment {
            Moment::Asked => {
                strike(pid);
                return Fate::Swallow;
            }
            Moment::Done => victim.store(pid, Ordering::SeqCst),
        }
    }
    let stale = state.reads.asked(number, &text);
    if let Some(answer) = stale {
        state.waiting.remove(&number);
        return Fate::Answer(answer);
    }
    match state.trouble {
        Some(Trouble::Error) => Fate::Refuse,
        Some(Trouble::Slow(_)) | None => Fate::Pass,
    }
}

/// `false` for 0, which is nobody.
fn strike(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().filter(|pid| *pid > 0) else {
        return false;
    };
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    true
}

//! A relay between an agent and its store: sees what is asked, and can cut the two apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};
use tests::netns::Netns;

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
}

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
    for is_request in [true, false] {
        let (mut from, mut to) = if is_request {
            (client.try_clone()?, store.try_clone()?)
        } else {
            (store.try_clone()?, client.try_clone()?)
        };
        // To see when the two are to be cut apart.
        from.set_read_timeout(Some(TICK))?;
        let (shared, cut) = (Arc::clone(shared), Arc::clone(&cut));
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
                    note_request(&buffer[..length], number, &shared, &cut);
                } else if cut.load(Ordering::SeqCst) {
                    shared.open.store(false, Ordering::SeqCst);
                    break;
                } else {
                    shared.state().waiting.remove(&number);
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
fn note_request(bytes: &[u8], number: u64, shared: &Shared, cut: &AtomicBool) {
    let text = String::from_utf8_lossy(bytes);
    let mut state = shared.state();
    if let Some(line) = text.lines().next()
        && line.contains(" HTTP/1.1")
    {
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
}

//! Addresses that endpoints of this host had: those that cool down, and by name those to have again. Kept in a
//! file, so that a restart of the agent changes nothing.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use overlay_common::net::Vni;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::agent::Agent;
use super::json_file::JsonFile;
use crate::ipam::{Cooling, Family, Former};
use crate::store::backoff::Backoff;
use crate::store::schema::{COOL_DOWN, unix_now};

/// How many addresses are remembered for the sake of a name.
const REMEMBERED: usize = 1024;

/// What has cooled down is deleted with what has some seconds later.
const TOGETHER: Duration = Duration::from_secs(5);

/// Steps between attempts to delete.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    cooling: Cooling,
    /// That its user gave the endpoint.
    name: Option<String>,
    /// Its record is gone, or somebody else's.
    deleted: bool,
    /// When it has cooled down, for this run: the clock may be set meanwhile.
    #[serde(skip, default = "Instant::now")]
    cooled: Instant,
}

#[derive(Debug)]
pub(super) struct Released {
    file: JsonFile,
    /// The latest at the end.
    entries: Mutex<Vec<Entry>>,
    added: Notify,
}

impl Released {
    /// What an earlier run has left; nothing where that cannot be read: it is used when the network has no
    /// other address left.
    pub(super) fn load(file: PathBuf) -> Self {
        let file = JsonFile::new(file);
        let mut entries: Vec<Entry> = file.load();
        for entry in &mut entries {
            entry.cooled = cooled(&entry.cooling);
        }
        Self {
            file,
            entries: Mutex::new(entries),
            added: Notify::new(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A panic ends the process; until then what is inside is as good as it was.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, cooling: Cooling, name: Option<&str>) {
        let mut entries = self.entries();
        entries.retain(|entry| (entry.cooling.net, entry.cooling.ip) != (cooling.net, cooling.ip));
        let family = Family::of(cooling.ip);
        for entry in entries.iter_mut() {
            if name.is_some() && entry.is_of(cooling.net, name, family) {
                // It has another one now.
                entry.name = None;
            }
        }
        entries.push(Entry {
            cooled: cooled(&cooling),
            cooling,
            name: name.map(str::to_owned),
            deleted: false,
        });
        self.tidy(entries);
        self.added.notify_one();
    }

    /// What an endpoint of this name had last.
    pub(super) fn former(&self, net: Vni, name: &str, family: Family) -> Option<Former> {
        let entries = self.entries();
        let found = entries
            .iter()
            .rfind(|entry| entry.is_of(net, Some(name), family))?;
        let Cooling { ip, index, .. } = found.cooling;
        // Later it may be another's record in a store that was set back.
        let fresh = !found.deleted && !found.remaining().is_zero();
        Some(Former {
            ip,
            name: name.to_owned(),
            index: if fresh { index } else { 0 },
        })
    }

    /// What has cooled down; if nothing has, how long until something will have.
    fn due(&self) -> (Vec<Cooling>, Option<Duration>) {
        let entries = self.entries();
        let kept = entries.iter().filter(|entry| !entry.deleted);
        let next = kept.clone().map(Entry::remaining).min();
        let due = kept.filter(|entry| entry.remaining().is_zero());
        (due.map(|entry| entry.cooling.clone()).collect(), next)
    }

    fn deleted(&self, gone: &[Cooling]) {
        let mut entries = self.entries();
        for entry in entries.iter_mut() {
            entry.deleted |= gone.contains(&entry.cooling);
        }
        self.tidy(entries);
    }

    /// Forgets what is of no use any more, and keeps the rest.
    fn tidy(&self, mut entries: MutexGuard<'_, Vec<Entry>>) {
        let spare = entries.len().saturating_sub(REMEMBERED);
        let mut dropped = 0;
        entries.retain(|entry| {
            let spared = entry.deleted && (entry.name.is_none() || dropped < spare);
            dropped += usize::from(spared);
            !spared
        });
        self.file.keep(&*entries);
    }
}

impl Entry {
    fn is_of(&self, net: Vni, name: Option<&str>, family: Family) -> bool {
        self.cooling.net == net
            && self.name.as_deref() == name
            && Family::of(self.cooling.ip) == family
    }

    /// How long it still cools down.
    fn remaining(&self) -> Duration {
        self.cooled.saturating_duration_since(Instant::now())
    }
}

/// When an address has cooled down, by what the clock says now and said then. One that was set back does not make it
/// longer than ever.
fn cooled(cooling: &Cooling) -> Instant {
    let age = Duration::from_secs(unix_now().saturating_sub(cooling.released));
    Instant::now() + COOL_DOWN.saturating_sub(age)
}

/// Deletes the records of what has cooled down, for as long as the agent runs. Nothing is asked of the store before.
pub(super) async fn run(agent: &Agent) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let (due, next) = agent.released.due();
        if due.is_empty() {
            let wait = async {
                match next {
                    Some(wait) => tokio::time::sleep(wait + TOGETHER).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = agent.released.added.notified() => {}
                () = wait => {}
            }
            continue;
        }
        match agent.ipam.reap(&due).await {
            Ok(()) => {
                backoff.reset();
                agent.released.deleted(&due);
            }
            Err(error) => {
                tracing::debug!("addresses that have cooled down are still there: {error}");
                backoff.wait().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::Nonce;

    fn cooling(ip: &str, released: u64) -> Cooling {
        Cooling {
            net: Vni::new(7).unwrap(),
            ip: ip.parse().unwrap(),
            nonce: Nonce::random(),
            released,
            index: 9,
        }
    }

    #[test]
    fn names_and_what_cools_down_survive_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Released::load(folder.path().join("addresses.json"));
        let released = load();
        let net = Vni::new(7).unwrap();
        let (old, new) = (cooling("10.0.0.1", 100), cooling("fd00::1", unix_now()));
        released.add(old.clone(), Some("web"));
        released.add(new.clone(), Some("web"));
        released.add(cooling("10.0.0.9", unix_now()), None);
        let released = load();
        let former = |released: &Released, family| {
            let former = released.former(net, "web", family)?;
            Some((former.ip, former.index))
        };
        assert_eq!(former(&released, Family::V4), Some((old.ip, 0)), "too old");
        assert_eq!(former(&released, Family::V6), Some((new.ip, 9)));
        assert_eq!(released.former(net, "db", Family::V4), None);
        let (due, next) = released.due();
        assert_eq!(due, std::slice::from_ref(&old));
        assert_eq!(next, Some(Duration::ZERO));
        released.deleted(&due);
        let released = load();
        let (due, next) = released.due();
        assert!(due.is_empty() && next.is_some_and(|next| next > Duration::from_secs(50)));
        assert_eq!(former(&released, Family::V4), Some((old.ip, 0)));
        // Another's since, or another of the same name.
        released.add(cooling("10.0.0.1", unix_now()), Some("db"));
        assert_eq!(former(&released, Family::V4), None);
        released.add(cooling("10.0.0.2", unix_now()), Some("web"));
        released.add(cooling("10.0.0.3", unix_now()), Some("web"));
        let ip = "10.0.0.3".parse().unwrap();
        assert_eq!(former(&released, Family::V4), Some((ip, 9)));
    }

    /// As after a clock was ahead, or this one is behind.
    #[test]
    fn what_was_released_in_the_future_cools_down_from_now_on() {
        let folder = tempfile::tempdir().unwrap();
        let load = || Released::load(folder.path().join("addresses.json"));
        load().add(cooling("10.0.0.1", unix_now() + 18_000), None);
        let released = load();
        let (due, next) = released.due();
        assert!(due.is_empty() && next.is_some_and(|next| next <= COOL_DOWN));
        std::thread::sleep(Duration::from_millis(5));
        assert!(released.due().1 < next, "time does not pass");
    }

    #[test]
    fn memory_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let released = Released::load(folder.path().join("addresses.json"));
        let all: Vec<_> = (0..REMEMBERED as u32 + 5)
            .map(|n| cooling(&std::net::Ipv4Addr::from(n).to_string(), 100))
            .collect();
        for (n, one) in all.iter().enumerate() {
            released.add(one.clone(), Some(&format!("n{n}")));
        }
        assert_eq!(released.due().0.len(), all.len(), "all are to be deleted");
        released.deleted(&all);
        assert_eq!(released.entries().len(), REMEMBERED);
        let net = all[0].net;
        assert_eq!(released.former(net, "n0", Family::V4), None);
        assert!(released.former(net, "n5", Family::V4).is_some());
    }
}

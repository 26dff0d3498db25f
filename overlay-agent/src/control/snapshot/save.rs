//! Writing to the file what has changed, some at a time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::Kept;
use super::file::Writing;
use crate::control::agent::Agent;
use crate::control::view::Part;
use crate::store::schema::Keys;

/// Changes that come within this time are written together; those of this host's endpoints sooner.
const SETTLE: Duration = Duration::from_secs(1);
const SETTLE_OWN: Duration = Duration::from_millis(20);

/// How often the time of the last contact is written when nothing changes.
const CONTACT: Duration = Duration::from_secs(60);

/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// How many endpoints are looked at while everybody else waits.
const PIECE: usize = 1000;

/// Runs for as long as the agent.
pub(in crate::control) async fn run(agent: Arc<Agent>, kept: Arc<Kept>) {
    // Half of what is there would take the place of a whole snapshot.
    if agent.synced().wait_for(|count| *count > 0).await.is_err() {
        return;
    }
    loop {
        let wake = tokio::time::timeout(CONTACT, kept.wake.notified()).await;
        let own = agent.state().view.has_unsaved_of(agent.node);
        if wake.is_ok() {
            tokio::time::sleep(if own { SETTLE_OWN } else { SETTLE }).await;
        }
        if !agent.save(&kept).await {
            tokio::time::sleep(RETRY).await;
            kept.tell();
        }
    }
}

impl Agent {
    /// What has changed is to be written soon.
    pub(in crate::control) fn keep(&self) {
        if let Some(kept) = &self.kept
            && self.state().view.has_unsaved()
        {
            kept.tell();
        }
    }

    /// Writes what is not written yet. `false` when that is to be tried again.
    pub(in crate::control) async fn save(self: &Arc<Self>, kept: &Arc<Kept>) -> bool {
        let Some(contact) = self.registry.client().health().view().last_contact else {
            return true;
        };
        let (agent, file) = (Arc::clone(self), Arc::clone(kept));
        let saved = tokio::task::spawn_blocking(move || agent.save_now(&file, contact.at())).await;
        let result = match saved {
            Ok(result) => result,
            Err(error) => Err(error.to_string()),
        };
        let done = result.is_ok();
        kept.note(result.err());
        done
    }

    fn save_now(&self, kept: &Kept, contact: SystemTime) -> Result<(), String> {
        let mut file = kept.file();
        let parts = self.state().view.take_unsaved();
        let written = file.write(contact, |writing| {
            for part in smallest(&parts) {
                self.write_part(part, writing)?;
            }
            Ok(())
        });
        written.map_err(|error| {
            let mut state = self.state();
            // The next file may be another one.
            state.view.unsave_all();
            error.to_string()
        })
    }

    fn write_part(&self, part: Part, writing: &mut Writing<'_>) -> Result<(), redb::Error> {
        let keys = self.registry.keys();
        match part {
            Part::Whole => writing.whole(&self.state().view.whole(self.node, keys)),
            Part::Networks => {
                let entries = self.state().view.network_entries(keys);
                level(writing, &keys.networks(), &entries)
            }
            Part::Nodes => {
                let entries = self.state().view.node_entries(keys);
                level(writing, &keys.nodes(), &entries)
            }
            Part::Members(node, net) => {
                let entries = self.state().view.member_entries(node, net, keys);
                level(writing, &keys.endpoints_on(node, net), &entries)
            }
            Part::Endpoints => self.write_endpoints(keys, writing),
        }
    }

    fn write_endpoints(&self, keys: &Keys, writing: &mut Writing<'_>) -> Result<(), redb::Error> {
        let folder = keys.endpoints();
        let (mut from, mut last) = (folder.clone(), None);
        loop {
            let after = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let (entries, end) = self.state().view.endpoint_entries(after, PIECE, keys);
            let Some(end) = end else {
                return writing.level(&from, &past(&folder), &entries);
            };
            let to = past(&keys.endpoint(&end));
            writing.level(&from, &to, &entries)?;
            from = keys.endpoint(&end);
            last = Some(end);
        }
    }
}

/// Without what is part of another.
fn smallest(parts: &BTreeSet<Part>) -> impl Iterator<Item = Part> {
    let all = parts.contains(&Part::Endpoints);
    let parts = parts.iter().copied();
    parts.filter(move |part| !(all && matches!(part, Part::Members(..))))
}

fn level(
    writing: &mut Writing<'_>,
    folder: &str,
    entries: &[(String, Vec<u8>)],
) -> Result<(), redb::Error> {
    writing.level(folder, &past(folder), entries)
}

/// After every key that begins with this one, as far as keys are ASCII.
fn past(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

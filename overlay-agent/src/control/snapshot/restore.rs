//! Going on with what was read before the store went away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Kept;
use crate::control::agent::Agent;
use crate::control::view::View;
use crate::store::schema;
use crate::store::{KvPair, Moment};

/// What came of trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Restored {
    Yes,
    /// There is nothing to go on with, and there will not be.
    No,
    /// The store answers.
    NotNeeded,
}

impl Agent {
    /// Fills the view from the file if the store does not.
    pub(in crate::control) async fn restore(self: &Arc<Self>) -> Restored {
        let Some(kept) = self.kept.clone() else {
            return Restored::No;
        };
        if self.registry.client().health().view().up {
            return Restored::NotNeeded;
        }
        let agent = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || agent.load(&kept)).await;
        let Ok(Some((view, contact))) = read else {
            return Restored::No;
        };
        tracing::warn!(
            age = contact.age().as_secs(),
            "the store is away: working from a snapshot of it"
        );
        self.registry.client().health().remember(contact);
        let mut state = self.state();
        state.snapshot = Some(contact);
        state.view.go_on_with(view, self.node);
        Restored::Yes
    }

    fn load(&self, kept: &Kept) -> Option<(View, Moment)> {
        let keys = self.registry.keys();
        let (mut networks, mut nodes) = (Vec::new(), Vec::new());
        let mut endpoints = BTreeMap::new();
        let loaded = kept.file().load(|pairs: Vec<KvPair>| {
            let listing = schema::endpoints(keys, &of(&pairs, &keys.endpoints()));
            let items = listing.items.into_iter();
            endpoints.extend(items.map(|item| (item.path, item.record)));
            networks.extend(of(&pairs, &keys.networks()));
            nodes.extend(of(&pairs, &keys.nodes()));
        });
        let loaded = match loaded {
            Ok(loaded) => loaded?,
            Err(error) => {
                kept.note(Some(error.to_string()));
                return None;
            }
        };
        let whole: BTreeSet<&str> = loaded.whole.iter().map(String::as_str).collect();
        let own = keys.endpoints_of(self.node);
        let folders = [&keys.networks(), &keys.nodes(), &own];
        if !folders.iter().all(|folder| whole.contains(folder.as_str())) {
            return None;
        }
        let mut view = View::default();
        view.set_networks(keys, &networks);
        view.set_nodes(keys, &nodes);
        let is_known = |net: &_| whole.contains(keys.index_of(*net).as_str());
        let also = self.state().queued_networks().collect();
        view.restore_endpoints(endpoints, self.node, &also, is_known);
        Some((view, Moment::earlier(loaded.contact)))
    }
}

/// Those below a folder.
fn of(pairs: &[KvPair], folder: &str) -> Vec<KvPair> {
    let pairs = pairs.iter().filter(|pair| pair.key.starts_with(folder));
    pairs.cloned().collect()
}

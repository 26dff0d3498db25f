//! What has changed of this host's endpoints while the store was away, and is to be told it.
//!
//! An entry is on the disk before a command is done, and goes when the store has it. Each step can be repeated, so
//! a kill at any moment loses nothing and makes nothing twice.

mod claim;
mod publish;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use overlay_common::net::Vni;
use serde::{Deserialize, Serialize};

use super::agent::{Agent, State};
use super::error::AgentError;
use super::problem::Problem;
use super::snapshot::Kept;
use crate::ipam::{Lease, Unasked};
use crate::store::schema::{EndpointId, EndpointRecord, Owner};
pub(super) use publish::run;

/// How long the store is given to show that it is there, and for how long it then counts as being there.
const ASK: Duration = Duration::from_secs(2);
const FRESH: Duration = Duration::from_secs(2);

/// What is to become of an endpoint of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::control) struct Queued {
    pub(super) net: Vni,
    pub(super) record: EndpointRecord,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::control) enum What {
    /// It is to be published, with these claims.
    Add(Vec<Unasked>),
    /// It is to be withdrawn.
    Remove,
    /// Another has its address: it stays out of the data path until somebody removes it.
    Lost {
        ip: IpAddr,
        by: String,
        /// Whether it may be in the store.
        published: bool,
    },
}

impl Queued {
    pub(super) fn add(net: Vni, record: EndpointRecord, owner: &Owner, leases: &[Lease]) -> Self {
        let claims = leases.iter().map(|lease| Unasked::new(lease, owner));
        let what = What::Add(claims.collect());
        Self { net, record, what }
    }

    pub(super) fn remove(net: Vni, record: EndpointRecord) -> Self {
        let what = What::Remove;
        Self { net, record, what }
    }

    pub(super) fn is_removal(&self) -> bool {
        self.what == What::Remove
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(self.what, What::Lost { .. })
    }

    fn problem(&self, id: &EndpointId) -> Problem {
        let endpoint = id.clone();
        match &self.what {
            What::Add(_) => Problem::Unpublished(endpoint),
            What::Remove => Problem::Unwithdrawn(endpoint),
            What::Lost { ip, by, .. } => Problem::AddressLost {
                endpoint,
                ip: *ip,
                by: by.clone(),
            },
        }
    }
}

impl State {
    /// Whether an endpoint of this host was removed, of which the store does not know yet.
    pub(super) fn is_removed(&self, id: &EndpointId) -> bool {
        self.queue.get(id).is_some_and(Queued::is_removal)
    }

    /// The networks of endpoints that were added, and that the store does not know yet.
    pub(super) fn queued_networks(&self) -> impl Iterator<Item = Vni> {
        let added = self.queue.values();
        let added = added.filter(|queued| matches!(queued.what, What::Add(_)));
        added.map(|queued| queued.net)
    }

    pub(super) fn queue_problems(&self) -> impl Iterator<Item = Problem> {
        let trouble = self.queue_trouble.clone().map(Problem::NotPublished);
        let entries = self.queue.iter().map(|(id, queued)| queued.problem(id));
        trouble.into_iter().chain(entries)
    }
}

impl Agent {
    /// Whether the store is away, so that what changes here has to be told to it later. Asks once more: what is
    /// known of it may be old.
    pub(super) async fn is_cut_off(&self) -> bool {
        let client = self.registry.client();
        let health = client.health().view();
        let heard = health.last_contact;
        let fresh = !health.away && heard.is_some_and(|heard| heard.age() < FRESH);
        if self.kept.is_none() || fresh {
            return false;
        }
        let schema = self.registry.keys().schema();
        match tokio::time::timeout(ASK, client.get(&schema)).await {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => error.is_outage(),
            Err(_) => {
                client.health().unanswered();
                true
            }
        }
    }

    /// Takes over what an earlier run has not told the store.
    pub(super) async fn load_queue(self: &Arc<Self>) {
        let Some(kept) = self.kept.clone() else {
            return;
        };
        let file = Arc::clone(&kept);
        let read = tokio::task::spawn_blocking(move || file.read_queue()).await;
        match read {
            Ok(Ok(entries)) => {
                let parsed = entries.into_iter().filter_map(|(id, json)| {
                    Some((id.parse().ok()?, serde_json::from_slice(&json).ok()?))
                });
                self.state().queue = parsed.collect();
            }
            Ok(Err(error)) => kept.note(Some(error)),
            Err(error) => kept.note(Some(error.to_string())),
        }
    }

    /// Returns when the entry is on the disk.
    pub(super) async fn enqueue(&self, id: &EndpointId, queued: Queued) -> Result<(), AgentError> {
        self.write_queue(id, Some(&queued)).await?;
        self.state().queue.insert(id.clone(), queued);
        if let Some(kept) = &self.kept {
            kept.queued.notify_one();
        }
        Ok(())
    }

    pub(super) async fn dequeue(&self, id: &EndpointId) -> Result<(), AgentError> {
        if self.state().queue.contains_key(id) {
            self.write_queue(id, None).await?;
            self.state().queue.remove(id);
        }
        Ok(())
    }

    async fn write_queue(
        &self,
        id: &EndpointId,
        queued: Option<&Queued>,
    ) -> Result<(), AgentError> {
        let Some(kept) = self.kept.clone() else {
            return Ok(());
        };
        let json = queued.map(crate::store::schema::encode);
        let id = id.to_string();
        let written = tokio::task::spawn_blocking(move || kept.write_queue(&id, json.as_deref()));
        let written = written.await.unwrap_or_else(|error| Err(error.to_string()));
        written.map_err(AgentError::NotKept)
    }
}

impl Kept {
    fn read_queue(&self) -> Result<Vec<(String, Vec<u8>)>, String> {
        self.file().queue().map_err(|error| error.to_string())
    }

    fn write_queue(&self, id: &str, json: Option<&[u8]>) -> Result<(), String> {
        let written = self.file().put(id, json);
        written.map_err(|error| error.to_string())
    }
}

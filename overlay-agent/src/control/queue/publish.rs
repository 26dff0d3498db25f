//! Telling the store what has changed without it, and finding out who has lost an address by that.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::claim::lost;
use super::{Queued, What};
use overlay_common::net::Vni;

use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::control::problem::Problem;
use crate::control::sync::Trust;
use crate::host::endpoint;
use crate::ipam::{Settled, Unasked};
use crate::store::RegistryError;
use crate::store::backoff::Backoff;
use crate::store::error::in_full;
use crate::store::schema::{AddressRecord, EndpointId, EndpointRecord, Owner};

/// Runs for as long as the agent.
pub(in crate::control) async fn run(agent: Arc<Agent>) {
    let Some(kept) = agent.kept.clone() else {
        return;
    };
    let (mut synced, mut registered) = (agent.synced(), agent.registered.subscribe());
    if synced.wait_for(|count| *count > 0).await.is_err() {
        return;
    }
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(4));
    // Of these it is known that they hold their addresses.
    let mut cleared = BTreeSet::new();
    loop {
        if registered.wait_for(|is| *is).await.is_err() {
            return;
        }
        synced.mark_unchanged();
        let told = match agent.publish_queue().await {
            Ok(told) => agent.settle_contested(&mut cleared).await.map(|()| told),
            error => error,
        };
        let why = told.as_ref().err().filter(|error| !error.is_outage());
        agent.note_queue(why.map(|error| in_full(error)));
        if matches!(told, Ok(true)) {
            backoff.reset();
            tokio::select! {
                () = kept.queued.notified() => {}
                _ = synced.changed() => {}
                _ = registered.changed() => {}
            }
        } else {
            backoff.wait().await;
        }
    }
}

impl Agent {
    /// Those that were removed first: others may have their addresses by now. `false` when the store is still away.
    async fn publish_queue(&self) -> Result<bool, AgentError> {
        let mut waiting: Vec<EndpointId> = {
            let state = self.state();
            let due = |queued: &Queued| {
                !matches!(
                    queued.what,
                    What::Lost {
                        published: false,
                        ..
                    }
                )
            };
            let entries = state.queue.iter().filter(|(_, queued)| due(queued));
            let mut entries: Vec<_> = entries.collect();
            entries.sort_by_key(|(_, queued)| !queued.is_removal());
            entries.into_iter().map(|(id, _)| id.clone()).collect()
        };
        if waiting.is_empty() {
            return Ok(true);
        }
        if self.is_cut_off().await {
            return Ok(false);
        }
        let mut failed = None;
        for id in waiting.drain(..) {
            let _one_at_a_time = self.operations.lock().await;
            let Some(queued) = self.state().queue.get(&id).cloned() else {
                continue;
            };
            let is_removal = queued.is_removal();
            match self.publish(&id, queued).await {
                Ok(()) => {}
                // What is still claimed for it is nobody else's yet.
                Err(error) if is_removal || error.is_outage() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    async fn publish(&self, id: &EndpointId, queued: Queued) -> Result<(), AgentError> {
        let path = self.own_path(queued.net, id);
        match &queued.what {
            What::Add(claims) => {
                if let Some((ip, by)) = self.claim_all(id, &queued, claims).await? {
                    return self.lose(id, queued.net, queued.record, ip, by).await;
                }
                match self.registry.publish_endpoint(&path, &queued.record).await {
                    Ok(()) | Err(RegistryError::EndpointExists(_)) => {}
                    Err(error) => return Err(error.into()),
                }
                self.witness.published(path);
                self.dequeue(id).await?;
                tracing::info!(endpoint = %id, "published: it was added while the store was away");
            }
            What::Remove => {
                self.witness.withdrawn(&path);
                self.registry.withdraw_endpoint(&path).await?;
                self.release_all(&path, &queued.record).await?;
                // Else it would be taken for one that an earlier run has left.
                self.echo(|view| !view.endpoints.contains_key(&path)).await;
                self.dequeue(id).await?;
                tracing::info!(endpoint = %id, "withdrawn: it was removed while the store was away");
            }
            What::Lost { ip, by, .. } => {
                self.witness.withdrawn(&path);
                self.registry.withdraw_endpoint(&path).await?;
                let what = What::Lost {
                    ip: *ip,
                    by: by.clone(),
                    published: false,
                };
                self.enqueue(id, Queued { what, ..queued }).await?;
            }
        }
        Ok(())
    }

    /// Claims all of an endpoint's addresses; the first that it cannot have, and why.
    async fn claim_all(
        &self,
        id: &EndpointId,
        queued: &Queued,
        claims: &[Unasked],
    ) -> Result<Option<(IpAddr, String)>, AgentError> {
        let owner = self.owner_of(id);
        for claim in claims {
            match self.ipam.settle(queued.net, claim, &owner).await? {
                Settled::Held => {}
                Settled::Lost(by) => return Ok(Some((claim.ip, self.holder_name(by)))),
                Settled::NoNetwork => {
                    let by = "nobody: its network was removed".to_owned();
                    return Ok(Some((claim.ip, by)));
                }
            }
        }
        Ok(None)
    }

    fn owner_of(&self, id: &EndpointId) -> Owner {
        Owner {
            node: self.node,
            endpoint: id.clone(),
        }
    }

    fn holder_name(&self, by: Option<AddressRecord>) -> String {
        let Some(by) = by else {
            return "a claim that cannot be read".to_owned();
        };
        let state = self.state();
        let node = state.view.nodes.get(&by.node);
        let node = node.map_or_else(|| by.node.to_string(), |node| node.name.clone());
        format!("endpoint {} on {node}", by.endpoint.escape_debug())
    }

    /// Takes an endpoint out of the data path that does not have its address: two that send in the name of one
    /// would harm both. It is there until somebody removes it, so that it is seen.
    async fn lose(
        &self,
        id: &EndpointId,
        net: Vni,
        record: EndpointRecord,
        ip: IpAddr,
        by: String,
    ) -> Result<(), AgentError> {
        let what = What::Lost {
            ip,
            by,
            published: true,
        };
        let queued = Queued { net, record, what };
        tracing::error!("{}", queued.problem(id));
        self.enqueue(id, queued).await?;
        let device = {
            let mut state = self.state();
            let local = state.locals.get_mut(id);
            local.map(|local| {
                local.leaving = true;
                local.device.clone()
            })
        };
        if let Some(device) = device {
            {
                // A sync that still counts it in may be about to bring it up.
                let _datapath = self.datapath.lock().await;
                endpoint::close(&self.netlink, &self.owner, &device).await?;
            }
            self.sync(Trust::Memory).await?;
        }
        Ok(())
    }

    /// Endpoints of this host whose address or MAC another one has, too: what the store says of the address holds.
    async fn settle_contested(&self, cleared: &mut BTreeSet<EndpointId>) -> Result<(), AgentError> {
        let contested: BTreeSet<EndpointId> = {
            let state = self.state();
            let ids = state.contested.iter().flat_map(|problem| match problem {
                Problem::DuplicateMac { kept, dropped, .. }
                | Problem::DuplicateIp { kept, dropped, .. } => vec![kept, dropped],
                _ => Vec::new(),
            });
            let here = |id: &&EndpointId| {
                let published = !state.queue.contains_key(*id);
                let local = state.locals.get(*id);
                published && local.is_some_and(|local| !local.leaving)
            };
            ids.filter(here).cloned().collect()
        };
        cleared.retain(|id| contested.contains(id));
        for id in contested {
            if cleared.contains(&id) {
                continue;
            }
            let _one_at_a_time = self.operations.lock().await;
            let Some((net, record)) = self.local_endpoint(&id) else {
                continue;
            };
            let ips = record.addresses().collect();
            let taken = lost(&self.registry, net, ips, &self.owner_of(&id)).await?;
            match taken {
                Some((ip, by)) => {
                    let by = self.holder_name(Some(by));
                    self.lose(&id, net, record, ip, by).await?;
                }
                None => {
                    cleared.insert(id);
                }
            }
        }
        Ok(())
    }

    fn note_queue(&self, why: Option<String>) {
        let mut state = self.state();
        if let Some(why) = why
            .as_ref()
            .filter(|why| state.queue_trouble.as_ref() != Some(*why))
        {
            tracing::warn!("{}", Problem::NotPublished(why.clone()));
        }
        state.queue_trouble = why;
    }
}

//! Taking out of the store what an endpoint that did not come to be may have left there.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{not_ours, owner};
use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::ipam::Lease;
use crate::store::backoff::Backoff;
use crate::store::schema::EndpointPath;

impl Agent {
    /// Clears now, or, when the store does not let us, as soon as it does. Status tells of it
    /// until then.
    pub(super) async fn clear(self: &Arc<Self>, path: EndpointPath, leases: Vec<Lease>) {
        if leases.is_empty() {
            self.finished(&path);
            return;
        }
        // What has just failed for want of the store is not tried at once again.
        if self.registry.client().health().view().up && self.try_clear(&path, &leases).await.is_ok()
        {
            self.finished(&path);
            return;
        }
        let ips: Vec<IpAddr> = leases.iter().map(|lease| lease.ip).collect();
        let text = ips.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        let text = text.join(" and ");
        tracing::warn!("not free until the store lets it go: {text}");
        self.state().uncleared.insert(path.id.clone(), ips);
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
            loop {
                backoff.wait().await;
                match agent.try_clear(&path, &leases).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!("not free yet: {text}: {error}"),
                }
            }
            tracing::info!("free again: {text}");
            agent.state().uncleared.remove(&path.id);
            agent.finished(&path);
        });
    }

    /// The addresses go last: while the endpoint may be published, nobody else may have them.
    async fn try_clear(&self, path: &EndpointPath, leases: &[Lease]) -> Result<(), AgentError> {
        self.registry.withdraw_endpoint(path).await?;
        for lease in leases {
            let (owner, nonce) = (owner(path), Some(lease.nonce));
            not_ours(self.ipam.free(path.net, lease.ip, &owner, nonce).await)?;
        }
        Ok(())
    }
}

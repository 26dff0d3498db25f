//! Taking out of the store what an endpoint that did not come to be may have left there.

use std::sync::Arc;
use std::time::Duration;

use super::{owner, released};
use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::ipam::{self, Lease};
use crate::store::backoff::Backoff;
use crate::store::schema::EndpointPath;

impl Agent {
    /// Clears now, or, when the store does not let us, as soon as it does. Status tells of it
    /// until then.
    pub(super) async fn clear(self: &Arc<Self>, path: EndpointPath, lease: Lease) {
        // What has just failed for want of the store is not tried at once again.
        if self.registry.client().health().view().up && self.try_clear(&path, &lease).await.is_ok()
        {
            return;
        }
        tracing::warn!("{} stays taken until the store lets it go", lease.ip);
        self.state().uncleared.insert(path.id.clone(), lease.ip);
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
            loop {
                backoff.wait().await;
                match agent.try_clear(&path, &lease).await {
                    Ok(()) => break,
                    Err(error) => tracing::debug!("{} stays taken: {error}", lease.ip),
                }
            }
            tracing::info!("{} is free again", lease.ip);
            agent.state().uncleared.remove(&path.id);
        });
    }

    /// The address goes last: while the endpoint may be published, nobody else may have it.
    async fn try_clear(&self, path: &EndpointPath, lease: &Lease) -> Result<(), AgentError> {
        self.registry.withdraw_endpoint(path).await?;
        let (owner, nonce) = (owner(path), Some(lease.nonce));
        released(ipam::release(&self.registry, path.net, lease.ip, &owner, nonce).await)
    }
}

//! Other names of containers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::engine::{Engine, SeenEndpoint};
use super::{Docker, lock};
use crate::store::schema::EndpointId;

/// Which endpoints have been asked about, with their containers' names: a new name brings new aliases.
pub(super) type Asked = Arc<Mutex<BTreeSet<(EndpointId, String)>>>;

impl Docker {
    /// Learns an endpoint's aliases, once. Not to be waited for: Docker tells of a container when it has started.
    pub(super) fn learn_aliases(&self, engine: &Engine, id: &EndpointId, seen: &SeenEndpoint) {
        let Some(container) = seen.container.clone() else {
            return;
        };
        let question = (id.clone(), seen.name.clone());
        if !lock(&self.asked).insert(question.clone()) {
            return;
        }
        let (engine, agent, asked) = (
            engine.clone(),
            Arc::clone(&self.agent),
            Arc::clone(&self.asked),
        );
        tokio::spawn(async move {
            let (id, name) = &question;
            let learnt = match engine.aliases(&container, &id.to_string()).await {
                Ok(aliases) => agent.describe_aliases(id, name, aliases).await,
                Err(_) => Ok(false),
            };
            if !learnt.is_ok_and(|learnt| learnt) {
                // The next comparison asks again.
                lock(&asked).remove(&question);
            }
        });
    }

    /// Forgets endpoints that are gone.
    pub(super) fn forget_asked(&self) {
        lock(&self.asked).retain(|(id, _)| self.agent.local_endpoint(id).is_some());
    }
}

//! Endpoints of hosts without an agent: store only.

use crate::control::agent::Agent;
use crate::control::error::AgentError;
use crate::store::schema::{EndpointPath, EndpointRecord, NodeId};

impl Agent {
    /// Id of a host without an agent.
    pub(super) async fn agentless(&self, name: &str) -> Result<NodeId, AgentError> {
        let node = self.registry.find_node(name).await?;
        if node.record.agent {
            return Err(AgentError::HasAgent(node.record.name));
        }
        Ok(node.id)
    }

    pub(super) async fn add_remote(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<(), AgentError> {
        Ok(self.registry.publish_endpoint(path, record).await?)
    }

    pub(super) async fn remove_remote(
        &self,
        path: &EndpointPath,
        record: &EndpointRecord,
    ) -> Result<(), AgentError> {
        let node = self.state().view.nodes.get(&path.node).cloned();
        if let Some(node) = node.filter(|node| node.agent) {
            return Err(AgentError::OtherHost {
                endpoint: path.id.to_string(),
                node: node.name,
            });
        }
        self.registry.withdraw_endpoint(path).await?;
        self.release_all(path, record).await
    }
}

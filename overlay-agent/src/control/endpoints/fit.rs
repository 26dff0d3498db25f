//! Endpoints' interfaces have the MTU of their network on this host, also when it changes.

use crate::control::agent::Agent;
use crate::control::problem::Problem;
use crate::control::sync::Trust;
use crate::datapath::rows::Rows;
use crate::host::mtu;

impl Agent {
    /// Gives the veths the MTU that their rows have. What is refused is tried again the next time.
    pub(in crate::control) async fn fit_endpoints(
        &self,
        rows: &Rows,
        trust: Trust,
    ) -> Vec<Problem> {
        let unfit: Vec<_> = {
            let state = self.state();
            let locals = state.locals.iter().filter(|(_, local)| !local.leaving);
            locals
                .filter_map(|(id, local)| {
                    let mtu = rows.endpoints.get(&local.ifindex?)?.mtu;
                    let known = trust == Trust::Memory && local.mtu == mtu;
                    (!known).then(|| (id.clone(), local.device.clone(), mtu))
                })
                .collect()
        };
        let mut refused = Vec::new();
        for (endpoint, device, mtu) in unfit {
            let known = match mtu::set(&self.netlink, &self.owner, &device, mtu).await {
                Ok(changed) => {
                    if changed {
                        tracing::info!(device, mtu, "the endpoint has another MTU");
                    }
                    mtu
                }
                Err(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    refused.push(Problem::EndpointMtu {
                        endpoint: endpoint.clone(),
                        mtu,
                        why,
                    });
                    0
                }
            };
            if let Some(local) = self.state().locals.get_mut(&endpoint) {
                local.mtu = known;
            }
        }
        refused
    }
}

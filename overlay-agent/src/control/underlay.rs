//! This host's end of the tunnels, followed while the agent runs.

use super::agent::Agent;
use super::error::AgentError;
use super::problem::Problem;
use crate::host::underlay::UnderlayNow;

impl Agent {
    /// Takes over what the underlay has become: the programs' own addresses, the next hops'
    /// source, this host's record in the store. The next sync writes what follows from it.
    pub(super) async fn take_over_underlay(&self, now: UnderlayNow) -> Result<(), AgentError> {
        let gone = match now.link {
            Some(_) => None,
            None => Some(Problem::UnderlayGone(self.underlay.clone())),
        };
        let missing = now.missing.iter().map(|&ip| Problem::AddressGone {
            device: self.underlay.clone(),
            ip,
        });
        // Without the device, that its addresses are gone is no news.
        let problems: Vec<_> = match gone {
            Some(gone) => vec![gone],
            None => missing.collect(),
        };
        let is_cut_off = now.link.as_ref().is_none_or(|link| !link.carrier);
        let is_back = {
            let mut state = self.state();
            for problem in problems.iter().filter(|p| !state.underlay.contains(p)) {
                tracing::warn!("{problem}");
            }
            state.underlay = problems;
            if let Some(link) = &now.link {
                let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
                // The next sync knows whether a route allows less.
                if state.path_mtu == state.underlay_mtu || state.path_mtu > mtu {
                    state.path_mtu = mtu;
                }
                state.underlay_mtu = mtu;
            }
            std::mem::replace(&mut state.cut_off, is_cut_off) && !is_cut_off
        };
        let mut datapath = self.datapath.lock().await;
        datapath.set_addresses(now.vteps, now.link.as_ref().and_then(|link| link.mac))?;
        self.hops.set_vteps(now.vteps);
        let before = *self.vteps.borrow();
        // Connections from an address that is gone would hang; those that the link has come back to, until TCP
        // tries again, for as long as it was gone.
        if (before != now.vteps || is_back)
            && let Err(error) = self.registry.client().reconnect()
        {
            let error = format!("{:#}", anyhow::Error::from(error));
            tracing::warn!(error, "the connections to the store stay");
        }
        if before != now.vteps {
            tracing::info!(%before, now = %now.vteps, "this host's address has changed");
            self.vteps.send_replace(now.vteps);
        }
        match &now.link {
            Some(link) => {
                if datapath.follow_underlay(link)? {
                    // The memberships went with the device.
                    self.state().groups = None;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }
}

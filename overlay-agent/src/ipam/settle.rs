//! Claiming in the store an address that is in use already: it was chosen while the store was away.

use std::net::IpAddr;

use overlay_common::net::Vni;
use serde::{Deserialize, Serialize};

use super::claim::OP_NETWORK;
use super::{AddressStore, Allocator, IpamError, Lease};
use crate::store::backoff::Attempts;
use crate::store::schema::{AddressRecord, Nonce, Owner};

/// An address that was chosen without the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unasked {
    pub ip: IpAddr,
    nonce: Nonce,
    /// Unix time in seconds.
    since: u64,
}

/// What became of its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    Held,
    /// Another has the address; `None` if what is there cannot be read.
    Lost(Option<AddressRecord>),
    /// The network has been removed.
    NoNetwork,
}

impl Unasked {
    /// Chosen now.
    pub fn new(lease: &Lease, owner: &Owner) -> Self {
        Self {
            ip: lease.ip,
            nonce: lease.nonce,
            since: AddressRecord::claim(owner).since,
        }
    }

    fn record(&self, owner: &Owner) -> AddressRecord {
        AddressRecord {
            nonce: self.nonce,
            since: self.since,
            offline: true,
            ..AddressRecord::claim(owner)
        }
    }
}

impl<S: AddressStore> Allocator<S> {
    /// Claims it, also of one who has claimed it without the store and later. To do so again changes nothing.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn settle(
        &self,
        net: Vni,
        claim: &Unasked,
        owner: &Owner,
    ) -> Result<Settled, IpamError> {
        let (ip, record) = (claim.ip, claim.record(owner));
        let action = format!("claim {ip}");
        let mut attempts = Attempts::new();
        loop {
            let error = match self.read(net, ip).await {
                Ok(found) => {
                    let index = found.as_ref().map_or(0, |(_, index)| *index);
                    // Of its last holder there is nothing left.
                    let holder = found.map(|(holder, _)| holder);
                    match holder.filter(|holder| holder.released.is_none()) {
                        Some(holder) if holder.is_held_by(owner) => return Ok(Settled::Held),
                        Some(holder) if !beats(&record, &holder) => {
                            return Ok(Settled::Lost(Some(holder)));
                        }
                        Some(_) | None => {}
                    }
                    match self
                        .store
                        .txn(&action, &self.claims(net, ip, &record, index))
                        .await
                    {
                        Ok(_) => return Ok(Settled::Held),
                        Err(error) if error.op_failed(OP_NETWORK) => return Ok(Settled::NoNetwork),
                        Err(error) => error,
                    }
                }
                Err(IpamError::Corrupt(_)) => return Ok(Settled::Lost(None)),
                Err(IpamError::Store(error)) => error,
                Err(other) => return Err(other),
            };
            attempts.after(error).await?;
        }
    }
}

/// Whether a claim that was made without the store goes before another one: never before one that was made with
/// it; else the earlier, and of two of one second that of the lower node id.
fn beats(ours: &AddressRecord, theirs: &AddressRecord) -> bool {
    theirs.offline && (ours.since, ours.node) < (theirs.since, theirs.node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{EndpointId, NodeId, encode};

    fn claim(node: u64, since: u64, offline: bool) -> AddressRecord {
        let owner = Owner {
            node: NodeId::new(node),
            endpoint: EndpointId::random(),
        };
        AddressRecord {
            since,
            offline,
            ..AddressRecord::claim(&owner)
        }
    }

    #[test]
    fn of_two_claims_one_wins_wherever_it_is_asked() {
        let with_store = claim(1, 50, false);
        let (early, late) = (claim(9, 10, true), claim(1, 20, true));
        assert!(!beats(&early, &with_store), "the store was asked");
        assert!(beats(&early, &late) && !beats(&late, &early));
        let (low, high) = (claim(1, 10, true), claim(2, 10, true));
        assert!(beats(&low, &high) && !beats(&high, &low));
    }

    #[test]
    fn how_a_claim_was_made_is_written_only_where_it_matters() {
        let json = |record: &AddressRecord| String::from_utf8(encode(record)).unwrap();
        assert!(!json(&claim(1, 1, false)).contains("offline"));
        let text = json(&claim(1, 1, true));
        assert!(text.contains(r#""offline":true"#), "{text}");
        let read: AddressRecord = serde_json::from_str(&text).unwrap();
        assert!(read.offline);
    }
}

//! Claiming in the store an address that is in use already.

use std::net::IpAddr;

use overlay_common::net::Vni;

use super::Claim;
use crate::store::backoff::Attempts;
use crate::store::client::TxnOp;
use crate::store::schema::{self, AddressRecord, Owner, encode};
use crate::store::{Registry, StoreError};

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Held,
    /// Another has the address; `None` if what is there cannot be read.
    Lost(Option<AddressRecord>),
    /// The network has been removed.
    NoNetwork,
}

const OP_NETWORK: usize = 0;

impl Claim {
    fn record(&self, owner: &Owner) -> AddressRecord {
        AddressRecord {
            nonce: self.nonce,
            since: self.since,
            offline: true,
            ..AddressRecord::claim(owner)
        }
    }
}

/// Claims an address, also of one who has claimed it without the store and later. To do so again changes nothing.
pub(super) async fn settle(
    registry: &Registry,
    net: Vni,
    claim: &Claim,
    owner: &Owner,
) -> Result<Settled, StoreError> {
    let keys = registry.keys();
    let (key, record) = (keys.address(net, claim.ip), claim.record(owner));
    let action = format!("claim {}", claim.ip);
    let mut attempts = Attempts::new();
    loop {
        let error = match registry.client().get(&key).await {
            Ok(answer) => {
                let found = answer.value.as_ref();
                let holder = found.map(|pair| schema::decode::<AddressRecord>(pair).ok());
                match holder {
                    // Of its last holder there is nothing left.
                    Some(Some(holder)) if holder.released.is_some() => {}
                    Some(Some(holder)) if holder.is_held_by(owner) => return Ok(Settled::Held),
                    Some(holder) if !holder.as_ref().is_some_and(|h| beats(&record, h)) => {
                        return Ok(Settled::Lost(holder));
                    }
                    Some(_) | None => {}
                }
                let index = found.map_or(0, |pair| pair.modify_index);
                let ops = [
                    TxnOp::get(keys.vni(net)),
                    TxnOp::cas(&key, &encode(&record), index),
                ];
                match registry.client().txn(&action, &ops).await {
                    Ok(_) => return Ok(Settled::Held),
                    Err(error) if error.op_failed(OP_NETWORK) => return Ok(Settled::NoNetwork),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        attempts.after(error).await?;
    }
}

/// Whether a claim that was made without the store goes before another one: never before one that was made with
/// it; else the earlier, and of two of one second that of the lower node id.
fn beats(ours: &AddressRecord, theirs: &AddressRecord) -> bool {
    theirs.offline && (ours.since, ours.node) < (theirs.since, theirs.node)
}

/// The address that another has, if one of these is.
pub(super) async fn lost(
    registry: &Registry,
    net: Vni,
    ips: Vec<IpAddr>,
    owner: &Owner,
) -> Result<Option<(IpAddr, AddressRecord)>, StoreError> {
    for ip in ips {
        let key = registry.keys().address(net, ip);
        let Some(pair) = registry.client().get(&key).await?.value else {
            continue;
        };
        if let Ok(holder) = schema::decode::<AddressRecord>(&pair)
            && !holder.is_held_by(owner)
        {
            return Ok(Some((ip, holder)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::{EndpointId, NodeId};

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

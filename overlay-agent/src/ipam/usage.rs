//! Who uses an address. No I/O.

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlay_common::net::Vni;
use serde::{Deserialize, Serialize};

use crate::store::registry::{Address, Survey};
use crate::store::schema::{EndpointId, GATEWAY_HOLDER};

/// How old a claim is before it counts as leaked: an endpoint that is being added claims its addresses first, and so
/// does Docker, under an id that no endpoint has.
const GRACE: u64 = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Usage {
    /// The network's gateway has it.
    Gateway,
    /// The network keeps it from its endpoints.
    Reserved,
    /// An endpoint in the store has it.
    Used,
    /// No endpoint has it yet.
    Claimed,
    /// No endpoint has it, and none is being added.
    Leaked,
    /// It was let go.
    Released,
    /// Its record cannot be read.
    Unreadable,
}

impl Usage {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Reserved => "reserved",
            Self::Used => "used",
            Self::Claimed => "claimed",
            Self::Leaked => "leaked",
            Self::Released => "released",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Tells how addresses of a survey are used.
#[derive(Debug)]
pub struct Users<'a> {
    survey: &'a Survey,
    /// What endpoints have, by their records.
    had: BTreeSet<(Vni, IpAddr)>,
    /// Endpoints of this host, in the store or not.
    here: &'a BTreeSet<EndpointId>,
    /// Unix time in seconds.
    now: u64,
}

impl<'a> Users<'a> {
    pub fn of(survey: &'a Survey, here: &'a BTreeSet<EndpointId>, now: u64) -> Self {
        let endpoints = survey.endpoints.iter();
        let had =
            endpoints.flat_map(|(path, record)| record.addresses().map(move |ip| (path.net, ip)));
        Self {
            survey,
            had: had.collect(),
            here,
            now,
        }
    }

    pub fn usage(&self, address: &Address) -> Usage {
        let Some(record) = &address.record else {
            return Usage::Unreadable;
        };
        let holder = address.holder();
        let published = holder
            .as_ref()
            .is_some_and(|path| self.survey.paths.contains(path));
        // First of all: whatever else is said of it, somebody has it.
        if published || self.had.contains(&(address.net, address.ip)) {
            return Usage::Used;
        }
        if record.is_nobodys() {
            return if record.endpoint == GATEWAY_HOLDER {
                Usage::Gateway
            } else {
                Usage::Reserved
            };
        }
        if record.released.is_some() {
            return Usage::Released;
        }
        let is_here = holder.is_some_and(|path| self.here.contains(&path.id));
        let is_young = record.since.saturating_add(GRACE) > self.now;
        if is_here || is_young || !self.survey.has_all_of(record.node, address.net) {
            return Usage::Claimed;
        }
        Usage::Leaked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KvPair;
    use crate::store::schema::{Keys, NodeId, bucket};

    const NOW: u64 = 1_700_000_000;
    const NODE: NodeId = NodeId::new(7);

    fn pair(key: &str, value: &serde_json::Value) -> KvPair {
        let json = serde_json::json!({"Key": key, "CreateIndex": 1, "ModifyIndex": 5, "LockIndex": 0, "Flags": 0});
        KvPair {
            value: serde_json::to_vec(value).unwrap(),
            ..serde_json::from_value(json).unwrap()
        }
    }

    /// What an address is when its record is this, of an endpoint `aa…` on a node that counts so many endpoints.
    fn usage(record: &serde_json::Value, counted: u64, here: bool) -> Usage {
        let (keys, net) = (Keys::new("t/"), Vni::new(1).unwrap());
        let id = "aaaaaaaaaaaaaaaa";
        let published = "bbbbbbbbbbbbbbbb";
        let path = crate::store::schema::EndpointPath {
            node: NODE,
            net,
            id: published.parse().unwrap(),
        };
        let ip = "10.0.0.5".parse().unwrap();
        let endpoint = serde_json::json!({"ip4": "10.0.0.6", "mac": "02:00:00:00:00:01"});
        let revision = serde_json::json!({"rev": 3, "endpoints": counted});
        assert!(
            keys.revision(net, NODE)
                .contains(&format!("/{:02x}/", bucket(NODE)))
        );
        let survey = Survey::of(
            &keys,
            &[
                pair(&keys.address(net, ip), record),
                pair(&keys.endpoint(&path), &endpoint),
                pair(&keys.revision(net, NODE), &revision),
            ],
        );
        let here: BTreeSet<EndpointId> = here.then(|| id.parse().unwrap()).into_iter().collect();
        Users::of(&survey, &here, NOW).usage(&survey.addresses[0])
    }

    #[test]
    fn only_what_nobody_has_is_leaked() {
        let claim = |endpoint: &str, age: u64| {
            serde_json::json!({
                "endpoint": endpoint, "node": NODE, "nonce": "0000000000000001", "since": NOW - age,
            })
        };
        let nobody = "aaaaaaaaaaaaaaaa";
        let released = {
            let mut record = claim(nobody, 9000);
            record["released"] = (NOW - 8000).into();
            record
        };
        let ahead = {
            let mut record = claim(nobody, 0);
            record["since"] = (NOW + 9000).into();
            record
        };
        for (what, record, counted, here, wanted) in [
            ("old", claim(nobody, 601), 1, false, Usage::Leaked),
            ("young", claim(nobody, 599), 1, false, Usage::Claimed),
            ("from the future", ahead, 1, false, Usage::Claimed),
            (
                "not all read",
                claim(nobody, 9000),
                2,
                false,
                Usage::Claimed,
            ),
            ("of this host", claim(nobody, 9000), 1, true, Usage::Claimed),
            (
                "published",
                claim("bbbbbbbbbbbbbbbb", 9000),
                1,
                false,
                Usage::Used,
            ),
            ("no id", claim("somebody", 9000), 1, false, Usage::Leaked),
            ("gateway", claim("gateway", 9000), 1, false, Usage::Gateway),
            (
                "reserved",
                claim("reserved", 9000),
                1,
                false,
                Usage::Reserved,
            ),
            ("released", released, 1, false, Usage::Released),
            (
                "corrupt",
                serde_json::json!({}),
                1,
                false,
                Usage::Unreadable,
            ),
        ] {
            assert_eq!(usage(&record, counted, here), wanted, "{what}");
        }
    }
}

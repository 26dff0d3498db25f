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

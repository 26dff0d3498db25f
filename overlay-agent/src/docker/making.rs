//! Networks between Docker's first word of them and their record in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::store::schema::subnets::overlap;

/// After this time nobody is making it any more: Docker makes a network in less than a second.
const FORGOTTEN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Making {
    /// Subnets that were asked for, of networks without an id.
    asked: Vec<(IpNet, Instant)>,
    /// By Docker's ids: networks whose VNI is reserved, with their subnets.
    reserved: BTreeMap<String, (Vec<IpNet>, Instant)>,
    /// Names of networks in the store that the agent makes in Docker.
    pub(super) twins: BTreeSet<String>,
}

impl Making {
    pub(super) fn ask(&mut self, subnet: IpNet) {
        self.asked.push((subnet, Instant::now()));
    }

    pub(super) fn is_asked(&mut self, subnet: IpNet) -> bool {
        self.asked.retain(|(_, since)| since.elapsed() < FORGOTTEN);
        self.asked.iter().any(|(asked, _)| *asked == subnet)
    }

    /// One that has come to be, or was given up. The same subnet may have been asked for twice.
    pub(super) fn answered(&mut self, subnet: IpNet) {
        if let Some(at) = self.asked.iter().position(|(asked, _)| *asked == subnet) {
            self.asked.swap_remove(at);
        }
    }

    /// `false` when a subnet overlaps one of another network that is being made.
    pub(super) fn reserve(&mut self, id: &str, subnets: &[IpNet]) -> bool {
        let mut others = self.reserved.iter().filter(|(other, _)| *other != id);
        let taken = others.any(|(_, (taken, _))| {
            let mut pairs = taken
                .iter()
                .flat_map(|one| subnets.iter().map(move |two| (one, two)));
            pairs.any(|(one, two)| overlap(one, two))
        });
        if !taken {
            self.reserved
                .insert(id.to_owned(), (subnets.to_vec(), Instant::now()));
        }
        !taken
    }

    /// Bound, or given up.
    pub(super) fn settle(&mut self, id: &str) {
        self.reserved.remove(id);
    }

    /// Whether Docker may have it without listing it yet.
    pub(super) fn is_reserving(&mut self, id: &str) -> bool {
        self.reserved
            .retain(|_, (_, since)| since.elapsed() < FORGOTTEN);
        self.reserved.contains_key(id)
    }

    /// Subnets that are nobody's in the store, and taken all the same.
    pub(super) fn subnets(&self) -> Vec<IpNet> {
        let asked = self.asked.iter().map(|(subnet, _)| *subnet);
        let reserved = self.reserved.values();
        let reserved = reserved.flat_map(|(subnets, _)| subnets.iter().copied());
        asked.chain(reserved).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_taken_until_it_is_settled() {
        let (one, two): (IpNet, IpNet) = (
            "10.64.0.0/16".parse().unwrap(),
            "10.65.0.0/16".parse().unwrap(),
        );
        let mut making = Making::default();
        making.ask(one);
        making.ask(one);
        assert!(making.is_asked(one) && !making.is_asked(two));
        making.answered(one);
        assert!(making.is_asked(one), "asked for twice");
        making.answered(one);
        assert!(!making.is_asked(one));
        assert!(making.reserve("a", &[two]) && making.reserve("a", &[two]));
        assert!(!making.reserve("b", &["10.65.3.0/24".parse().unwrap()]));
        assert!(making.is_reserving("a") && !making.is_reserving("b"));
        assert_eq!(making.subnets(), [two]);
        making.settle("a");
        assert!(making.subnets().is_empty() && !making.is_reserving("a"));
    }
}

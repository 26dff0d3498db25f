//! What has to happen that Docker has the networks of the store, and the store those that were made in
//! Docker. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::DRIVER;
use super::engine::Seen;
use super::options::{NETWORK, VNI};
use super::table::Entry;
use crate::store::schema::NetworkRecord;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A Docker network is in the store.
    Note { id: String, entry: Entry },
    /// A Docker network was made here: the store learns its name.
    Bind(Seen),
    /// A Docker network stands for nothing in the store.
    Remove { id: String, name: String },
    /// A network of the store is missing in Docker.
    Create { name: String },
    /// Its name is taken there.
    Taken { name: String, driver: String },
}

/// `pending` are the ids of networks for which a VNI is reserved: made in Docker, not yet in the store.
pub(super) fn plan(
    store: &BTreeMap<String, NetworkRecord>,
    docker: &[Seen],
    pending: &BTreeSet<String>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut there = BTreeSet::new();
    for seen in docker.iter().filter(|seen| seen.driver == DRIVER) {
        let step = match is_in(store, seen) {
            // Docker 20.10 takes a name twice.
            Some(entry) if there.insert(entry.name.clone()) => Step::Note {
                id: seen.id.clone(),
                entry,
            },
            None if pending.contains(&seen.id) && !store.contains_key(&seen.name) => {
                Step::Bind(seen.clone())
            }
            Some(_) | None => Step::Remove {
                id: seen.id.clone(),
                name: seen.name.clone(),
            },
        };
        steps.push(step);
    }
    let bound: BTreeSet<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Bind(seen) => Some(seen.name.clone()),
            _ => None,
        })
        .collect();
    for name in store.keys().filter(|name| !there.contains(*name)) {
        let other = docker
            .iter()
            .find(|seen| seen.name == *name && seen.driver != DRIVER);
        steps.push(match other {
            Some(other) => Step::Taken {
                name: name.clone(),
                driver: other.driver.clone(),
            },
            None if bound.contains(name) => continue,
            None => Step::Create { name: name.clone() },
        });
    }
    steps
}

/// What a network of Docker's is in the store, if it is there.
pub(super) fn is_in(store: &BTreeMap<String, NetworkRecord>, seen: &Seen) -> Option<Entry> {
    let record = store.get(&seen.name)?;
    let twin = seen.options.contains_key(NETWORK);
    let is = if twin {
        seen.options.get(NETWORK) == Some(&seen.name)
            && seen.options.get(VNI) == Some(&record.vni.to_string())
    } else {
        record.options.docker.as_ref() == Some(&seen.id)
    };
    is.then(|| Entry::of(&seen.name, record, twin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(vni: u32, docker: Option<&str>) -> NetworkRecord {
        let json = serde_json::json!({
            "vni": vni, "subnets": ["10.64.0.0/16"], "options": {"docker": docker},
        });
        serde_json::from_value(json).unwrap()
    }

    fn store(networks: &[(&str, u32, Option<&str>)]) -> BTreeMap<String, NetworkRecord> {
        let networks = networks.iter();
        networks
            .map(|(name, vni, docker)| ((*name).to_owned(), record(*vni, *docker)))
            .collect()
    }

    fn made(id: &str, name: &str) -> Seen {
        Seen {
            id: id.into(),
            name: name.into(),
            driver: DRIVER.into(),
            ..Seen::default()
        }
    }

    fn twin(id: &str, name: &str, vni: &str) -> Seen {
        let options = [(NETWORK, name), (VNI, vni)];
        Seen {
            options: options.map(|(k, v)| (k.into(), v.into())).into(),
            ..made(id, name)
        }
    }

    fn steps(
        networks: &[(&str, u32, Option<&str>)],
        docker: &[Seen],
        pending: &[&str],
    ) -> Vec<String> {
        let pending = pending.iter().map(|id| (*id).to_owned()).collect();
        let text = |step: &Step| match step {
            Step::Note { id, entry } => format!("note {id} {} {}", entry.vni, entry.twin),
            Step::Bind(seen) => format!("bind {}", seen.id),
            Step::Remove { id, .. } => format!("remove {id}"),
            Step::Create { name } => format!("create {name}"),
            Step::Taken { name, driver } => format!("taken {name} {driver}"),
        };
        let steps = plan(&store(networks), docker, &pending);
        steps.iter().map(text).collect()
    }

    #[test]
    fn each_host_has_each_network_once() {
        let blue = &[("blue", 1, None)][..];
        assert_eq!(steps(blue, &[], &[]), ["create blue"]);
        assert_eq!(
            steps(blue, &[twin("a", "blue", "1")], &[]),
            ["note a 1 true"]
        );
        let here = &[("blue", 1, Some("a"))][..];
        assert_eq!(steps(here, &[made("a", "blue")], &[]), ["note a 1 false"]);
        let twice = [twin("a", "blue", "1"), twin("b", "blue", "1")];
        assert_eq!(steps(blue, &twice, &[]), ["note a 1 true", "remove b"]);
    }

    #[test]
    fn what_was_made_here_is_bound_once() {
        assert_eq!(steps(&[], &[made("a", "blue")], &["a"]), ["bind a"]);
        // Somebody else was faster, here or elsewhere.
        let lost = ["remove a", "create blue"];
        let elsewhere = &[("blue", 1, Some("x"))][..];
        assert_eq!(steps(elsewhere, &[made("a", "blue")], &["a"]), lost);
        assert_eq!(
            steps(&[("blue", 1, None)], &[made("a", "blue")], &["a"]),
            lost
        );
    }

    #[test]
    fn what_the_store_has_lost_goes() {
        assert_eq!(steps(&[], &[made("a", "blue")], &[]), ["remove a"]);
        assert_eq!(steps(&[], &[twin("a", "blue", "1")], &[]), ["remove a"]);
        // Removed and made again meanwhile.
        let again = &[("blue", 2, None)][..];
        assert_eq!(
            steps(again, &[twin("a", "blue", "1")], &[]),
            ["remove a", "create blue"]
        );
    }

    #[test]
    fn other_drivers_networks_are_left_alone() {
        let bridge = Seen {
            driver: "bridge".into(),
            ..made("a", "blue")
        };
        assert_eq!(steps(&[], std::slice::from_ref(&bridge), &[]), [""; 0]);
        assert_eq!(
            steps(&[("blue", 1, None)], &[bridge], &[]),
            ["taken blue bridge"]
        );
    }
}

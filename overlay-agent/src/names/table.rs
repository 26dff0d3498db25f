//! What a name means, and to whom.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use overlay_common::net::Vni;

use crate::control::names::Asker;
use crate::store::schema::{EndpointPath, EndpointRecord, NetworkRecord};

/// Docker tells whose an endpoint is when its container has started.
const YOUNG: Duration = Duration::from_secs(2);

/// Names of the networks that this host's endpoints are on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    networks: HashMap<Vni, Network>,
    /// Who asks, by the host side of its veth.
    askers: HashMap<u32, Known>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// Its own first.
    nets: Vec<Vni>,
    made: Option<Instant>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Network {
    name: String,
    subnets: Vec<IpNet>,
    internal: bool,
    addresses: HashMap<String, Vec<IpAddr>>,
    /// The name that an endpoint was given.
    names: HashMap<IpAddr, String>,
}

/// What there is to be said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer<T> {
    Known(T),
    /// Not a name of an endpoint's, perhaps of somebody out there.
    Unknown,
    /// And who asks is not to be told of those.
    Refused,
}

impl<T> Answer<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Answer<U> {
        match self {
            Self::Known(what) => Answer::Known(change(what)),
            Self::Unknown => Answer::Unknown,
            Self::Refused => Answer::Refused,
        }
    }
}

impl Names {
    /// The names of all that `askers` can reach.
    pub fn of<'a>(
        askers: &[Asker],
        networks: &BTreeMap<String, NetworkRecord>,
        endpoints: impl Iterator<Item = (&'a EndpointPath, &'a EndpointRecord)>,
    ) -> Self {
        let mut names = Self::default();
        for (name, record) in networks {
            if askers.iter().any(|asker| asker.net == record.vni) {
                let network = Network {
                    name: name.to_lowercase(),
                    subnets: record.subnets.clone(),
                    internal: record.options.internal,
                    ..Network::default()
                };
                names.networks.insert(record.vni, network);
            }
        }
        for (path, record) in endpoints {
            if let Some(network) = names.networks.get_mut(&path.net) {
                network.add(record);
            }
        }
        let mut together: HashMap<&str, Vec<Vni>> = HashMap::new();
        for asker in askers {
            if let Some(container) = &asker.container {
                together.entry(container).or_default().push(asker.net);
            }
        }
        for asker in askers {
            let container = asker.container.as_deref();
            let all = container.and_then(|container| together.get(container));
            let others = all.into_iter().flatten().copied();
            let mut nets: Vec<Vni> = others.filter(|net| *net != asker.net).collect();
            nets.sort_by_key(|net| names.networks.get(net).map(|network| &network.name));
            nets.insert(0, asker.net);
            names.askers.insert(
                asker.ifindex,
                Known {
                    nets,
                    made: asker.made,
                },
            );
        }
        names
    }

    /// Whether an interface is an endpoint's.
    pub(super) fn knows(&self, ifindex: u32) -> bool {
        self.askers.contains_key(&ifindex)
    }

    /// Whether more may be known of an endpoint in a moment: whose container it is, and where else that is.
    pub(super) fn is_young(&self, ifindex: u32) -> bool {
        self.askers
            .get(&ifindex)
            .is_none_or(|known| known.made.is_some_and(|made| made.elapsed() < YOUNG))
    }

    /// Addresses of who has a name, in lower case and without a dot at its end. The first network that
    /// knows it has it: names of two networks never mix.
    pub(super) fn addresses(&self, ifindex: u32, name: &str) -> Answer<&[IpAddr]> {
        let found = self.networks_of(ifindex).find_map(|network| {
            let short = name.strip_suffix(&network.name);
            let short = short.and_then(|short| short.strip_suffix('.'));
            let found = network.addresses.get(name);
            found.or_else(|| network.addresses.get(short?))
        });
        match found {
            Some(found) => Answer::Known(found),
            None => self.unknown(ifindex),
        }
    }

    /// Name and network of who has an address. `Known(None)` is nobody: the address is of a network that
    /// others know nothing of.
    pub(super) fn name(&self, ifindex: u32, ip: IpAddr) -> Answer<Option<(&str, &str)>> {
        let mut networks = self.networks_of(ifindex);
        let Some(network) = networks.find(|network| network.has(ip)) else {
            return self.unknown(ifindex);
        };
        let name = network.names.get(&ip);
        Answer::Known(name.map(|name| (name.as_str(), network.name.as_str())))
    }

    fn networks_of(&self, ifindex: u32) -> impl Iterator<Item = &Network> {
        let known = self.askers.get(&ifindex).into_iter();
        let nets = known.flat_map(|known| &known.nets);
        nets.filter_map(|net| self.networks.get(net))
    }

    /// Names out there are a way out, which who is on internal networks only has not.
    fn unknown<T>(&self, ifindex: u32) -> Answer<T> {
        if self.networks_of(ifindex).all(|network| network.internal) {
            Answer::Refused
        } else {
            Answer::Unknown
        }
    }
}

impl Network {
    fn add(&mut self, record: &EndpointRecord) {
        for ip in record.addresses() {
            for name in record.aliases.iter().chain([&record.name]) {
                if !name.is_empty() {
                    let known = self.addresses.entry(name.to_lowercase()).or_default();
                    if !known.contains(&ip) {
                        known.push(ip);
                    }
                }
            }
            if !record.name.is_empty() {
                self.names.insert(ip, record.name.to_lowercase());
            }
        }
    }

    fn has(&self, ip: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| subnet.contains(&ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema::NodeId;

    const BLUE: u32 = 1;
    const RED: u32 = 2;
    const INNER: u32 = 3;

    fn net(vni: u32) -> Vni {
        Vni::new(vni).unwrap()
    }

    fn network(vni: u32, subnet: &str, internal: bool) -> NetworkRecord {
        let options = serde_json::json!({ "internal": internal });
        let record = serde_json::json!({"vni": vni, "subnets": [subnet], "options": options});
        serde_json::from_value(record).unwrap()
    }

    fn endpoint(
        vni: u32,
        ip: &str,
        name: &str,
        aliases: &[&str],
    ) -> (EndpointPath, EndpointRecord) {
        let id = format!("{:0>16}", ip.replace('.', ""));
        let path = EndpointPath {
            node: NodeId::new(1),
            net: net(vni),
            id: id.parse().unwrap(),
        };
        let record = serde_json::json!({
            "ip4": ip, "mac": "02:42:00:00:00:01", "name": name, "aliases": aliases,
        });
        (path, serde_json::from_value(record).unwrap())
    }

    fn asker(ifindex: u32, vni: u32, container: Option<&str>) -> Asker {
        Asker {
            ifindex,
            net: net(vni),
            container: container.map(str::to_owned),
            made: None,
        }
    }

    /// 10 and 11 are one container on red and blue; 12 is on blue, 13 on an internal network, 14 on that and on
    /// blue.
    fn names() -> Names {
        let networks = [
            ("Blue".to_owned(), network(BLUE, "10.1.0.0/16", false)),
            ("red".to_owned(), network(RED, "10.2.0.0/16", false)),
            ("inner".to_owned(), network(INNER, "10.3.0.0/16", true)),
            ("other".to_owned(), network(9, "10.9.0.0/16", false)),
        ];
        let endpoints = [
            endpoint(BLUE, "10.1.0.2", "Web", &["www", "web"]),
            endpoint(BLUE, "10.1.0.3", "web2", &["www"]),
            endpoint(RED, "10.2.0.2", "web", &[]),
            endpoint(RED, "10.2.0.3", "db", &[]),
            endpoint(INNER, "10.3.0.2", "secret", &[]),
            endpoint(9, "10.9.0.2", "elsewhere", &[]),
            endpoint(BLUE, "10.1.0.9", "", &[]),
        ];
        let askers = [
            asker(10, RED, Some("c")),
            asker(11, BLUE, Some("c")),
            asker(12, BLUE, None),
            asker(13, INNER, None),
            asker(14, INNER, Some("d")),
            asker(15, BLUE, Some("d")),
        ];
        Names::of(
            &askers,
            &networks.into_iter().collect(),
            endpoints.iter().map(|(path, record)| (path, record)),
        )
    }

    fn known(names: &Names, ifindex: u32, name: &str) -> Option<Vec<String>> {
        match names.addresses(ifindex, name) {
            Answer::Known(ips) => Some(ips.iter().map(ToString::to_string).collect()),
            Answer::Unknown | Answer::Refused => None,
        }
    }

    fn some(ips: &[&str]) -> Option<Vec<String>> {
        Some(ips.iter().map(|ip| (*ip).to_owned()).collect())
    }

    #[test]
    fn a_name_means_what_it_does_on_the_asking_network() {
        let names = names();
        for ifindex in [11, 12] {
            assert_eq!(known(&names, ifindex, "web"), some(&["10.1.0.2"]));
        }
        assert_eq!(known(&names, 10, "web"), some(&["10.2.0.2"]));
        assert_eq!(known(&names, 12, "www"), some(&["10.1.0.2", "10.1.0.3"]));
        assert_eq!(known(&names, 12, "web.blue"), some(&["10.1.0.2"]));
        for unknown in ["db", "web.red", "elsewhere", "blue", ".blue", "", "secret"] {
            assert_eq!(names.addresses(12, unknown), Answer::Unknown, "{unknown}");
        }
    }

    #[test]
    fn a_container_on_two_networks_knows_both() {
        let names = names();
        assert_eq!(known(&names, 11, "db"), some(&["10.2.0.3"]));
        assert_eq!(known(&names, 10, "web2"), some(&["10.1.0.3"]));
        assert_eq!(known(&names, 10, "web.blue"), some(&["10.1.0.2"]));
    }

    #[test]
    fn an_internal_network_has_no_way_out() {
        let names = names();
        assert_eq!(known(&names, 13, "secret"), some(&["10.3.0.2"]));
        assert_eq!(names.addresses(13, "example.com"), Answer::Refused);
        assert_eq!(names.addresses(14, "example.com"), Answer::Unknown);
        // An endpoint that is gone.
        assert_eq!(names.addresses(99, "web"), Answer::Refused);
    }

    #[test]
    fn addresses_have_names() {
        let names = names();
        let name = |ifindex, ip: &str| names.name(ifindex, ip.parse().unwrap());
        assert_eq!(name(12, "10.1.0.2"), Answer::Known(Some(("web", "blue"))));
        assert_eq!(name(11, "10.2.0.3"), Answer::Known(Some(("db", "red"))));
        assert_eq!(name(12, "10.1.0.9"), Answer::Known(None));
        assert_eq!(name(12, "10.1.7.7"), Answer::Known(None));
        assert_eq!(name(12, "10.2.0.3"), Answer::Unknown);
        assert_eq!(name(13, "192.0.2.1"), Answer::Refused);
    }
}

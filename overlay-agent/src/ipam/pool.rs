//! Which addresses a network has. No I/O.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use overlay_common::net::Vni;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::error::IpamError;
use crate::store::schema::NetworkRecord;
use crate::store::schema::subnets::{self, Edge};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    V4,
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// As a metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The addresses of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    net: Vni,
    subnets: Vec<IpNet>,
    /// Where in the subnets addresses that nobody named are taken from: without what whole blocks are excluded.
    ranges: Vec<IpNet>,
    /// What no endpoint gets.
    excluded: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    /// What endpoints may send from besides their own addresses.
    allowed: BTreeSet<IpAddr>,
}

/// Bits of an address within its block.
const BLOCK_BITS: u8 = 8;

/// 256 neighbouring addresses: what shares all but the last two hex digits of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    family: Family,
    /// The addresses' bits without the last eight.
    high: u128,
}

impl Block {
    /// How the addresses' keys begin.
    pub(super) fn hex(self) -> String {
        match self.family {
            Family::V4 => format!("{:06x}", self.high),
            Family::V6 => format!("{:030x}", self.high),
        }
    }

    fn addresses(self) -> impl Iterator<Item = IpAddr> {
        (0..=0xff).map(move |low| {
            let bits = self.high << 8 | low;
            match self.family {
                // A block of IPv4 has 24 bits, so nothing is cut off.
                Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
                Family::V6 => Ipv6Addr::from_bits(bits).into(),
            }
        })
    }
}

/// All blocks of one family, numbered from 0.
#[derive(Debug)]
pub(super) struct Blocks {
    family: Family,
    /// First block and count of each subnet.
    spans: Vec<(u128, u128)>,
}

impl Blocks {
    pub(super) fn len(&self) -> u128 {
        self.spans.iter().map(|(_, count)| count).sum()
    }

    /// Block number `number`, modulo their count.
    pub(super) fn nth(&self, number: u128) -> Block {
        let mut rest = number % self.len().max(1);
        let mut high = 0;
        for (first, count) in &self.spans {
            if rest < *count {
                high = first + rest;
                break;
            }
            rest -= count;
        }
        Block {
            family: self.family,
            high,
        }
    }
}

impl Pool {
    pub fn of(network: &NetworkRecord) -> Self {
        Self {
            net: network.vni,
            subnets: network.subnets.clone(),
            ranges: ranges(network),
            excluded: network.options.exclude.clone(),
            gateways: network.gateways().collect(),
            allowed: BTreeSet::new(),
        }
    }

    /// The same without addresses that endpoints share by `--allow-ip`: nobody holds them, and
    /// nobody may get them.
    #[must_use]
    pub fn without(mut self, allowed: impl IntoIterator<Item = IpAddr>) -> Self {
        self.allowed.extend(allowed);
        self
    }

    /// Of one subnet alone.
    #[must_use]
    pub fn within(mut self, subnet: IpNet) -> Self {
        self.subnets.retain(|own| *own == subnet);
        self.ranges.retain(|range| subnet.contains(range));
        self
    }

    pub fn net(&self) -> Vni {
        self.net
    }

    /// Whether a host may have `ip` on this network.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check(&self, ip: IpAddr) -> Result<(), IpamError> {
        let Some(subnet) = self.subnets.iter().find(|subnet| subnet.contains(&ip)) else {
            return Err(IpamError::Outside {
                ip,
                subnets: self.subnets.clone(),
            });
        };
        let subnet = *subnet;
        match subnets::edge(&subnet, ip) {
            Some(Edge::First) => return Err(IpamError::NetworkAddress { ip, subnet }),
            Some(Edge::Broadcast) => return Err(IpamError::BroadcastAddress { ip, subnet }),
            None => {}
        }
        if self.gateways.contains(&ip) {
            return Err(IpamError::Gateway(ip));
        }
        if self.allowed.contains(&ip) {
            return Err(IpamError::Allowed(ip));
        }
        if self.excluded.iter().any(|part| part.contains(&ip)) {
            return Err(IpamError::Reserved(ip));
        }
        Ok(())
    }

    /// Any address that is not known to be taken.
    pub fn any_free(&self, family: Family, taken: &BTreeSet<IpAddr>) -> Result<IpAddr, IpamError> {
        const TRIES: u128 = 4096;
        let blocks = self.blocks(family);
        let start = match blocks.len() {
            0 => return Err(IpamError::NoSubnet { family }),
            len => rand::rng().random_range(0..len),
        };
        let tries = (0..blocks.len().min(TRIES)).map(|n| (start + n) % blocks.len());
        let mut free = tries.map(|number| self.free_in(blocks.nth(number), taken));
        let free = free.find_map(|free| free.choose(&mut rand::rng()).copied());
        free.ok_or_else(|| IpamError::Exhausted {
            family,
            subnets: self.subnets_of(family),
        })
    }

    /// Whether `ip` is given to endpoints that name none.
    pub fn gives(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(&ip)) && self.check(ip).is_ok()
    }

    /// How many addresses of a family endpoints that name none may get, when these are taken.
    pub fn left(&self, family: Family, taken: &[IpAddr]) -> u128 {
        let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
        let ranges = self.ranges.iter().filter(of_family);
        let parts: Vec<_> = ranges
            .flat_map(|range| subnets::without(*range, &self.excluded))
            .collect();
        let all: u128 = parts.iter().map(subnets::size).sum();
        let edges = self.subnets.iter().flat_map(|subnet| {
            let both = [subnet.network(), subnet.broadcast()];
            both.into_iter()
                .filter(|ip| subnets::edge(subnet, *ip).is_some())
        });
        let never = edges.chain(self.gateways.iter().chain(&self.allowed).copied());
        let never: BTreeSet<_> = never.collect();
        let within = |ip: &&IpAddr| parts.iter().any(|part| part.contains(*ip));
        let never = never.iter().filter(within).count();
        let taken = taken.iter().filter(|ip| Family::of(**ip) == family);
        let taken = taken.filter(|ip| self.gives(**ip)).count();
        all.saturating_sub((never + taken) as u128)
    }

    pub(crate) fn subnets_of(&self, family: Family) -> Vec<IpNet> {
        let of_family = |subnet: &&IpNet| Family::of(subnet.addr()) == family;
        self.subnets.iter().filter(of_family).copied().collect()
    }

    pub(super) fn blocks(&self, family: Family) -> Blocks {
        let span = |range: &IpNet| {
            let (first, last) = (high(range.network()), high(range.broadcast()));
            (first, last - first + 1)
        };
        let of_family = |range: &&IpNet| Family::of(range.addr()) == family;
        Blocks {
            family,
            spans: self.ranges.iter().filter(of_family).map(span).collect(),
        }
    }

    /// The addresses of a block that a host may have without naming them and nobody has.
    pub(super) fn free_in(&self, block: Block, taken: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
        block
            .addresses()
            .filter(|ip| !taken.contains(ip) && self.gives(*ip))
            .collect()
    }
}

/// What a network gives out, without what is excluded of it in whole blocks: these are not even looked at. Smaller
/// exclusions are, like gateways.
fn ranges(network: &NetworkRecord) -> Vec<IpNet> {
    let excluded = network.options.exclude.iter().copied();
    let blocks: Vec<_> = excluded
        .filter(|part| part.max_prefix_len() - part.prefix_len() >= BLOCK_BITS)
        .collect();
    let subnets = network.subnets.iter();
    subnets
        .flat_map(|subnet| subnets::without(network.range_of(*subnet), &blocks))
        .collect()
}

fn high(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => ip.to_bits() >> 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(subnets: &[&str], gateway: Option<&str>) -> Pool {
        let subnets: Vec<IpNet> = subnets.iter().map(|s| s.parse().unwrap()).collect();
        Pool {
            net: Vni::new(1).unwrap(),
            ranges: subnets.clone(),
            excluded: Vec::new(),
            subnets,
            gateways: gateway.iter().map(|ip| ip.parse().unwrap()).collect(),
            allowed: BTreeSet::new(),
        }
    }

    fn all_free(pool: &Pool, family: Family) -> Vec<IpAddr> {
        let blocks = pool.blocks(family);
        (0..blocks.len())
            .flat_map(|n| pool.free_in(blocks.nth(n), &BTreeSet::new()))
            .collect()
    }

    #[test]
    fn refusals() {
        let pool = pool(&["10.0.0.0/24", "fd00::/120"], Some("10.0.0.1"));
        let check = |ip: &str| pool.check(ip.parse().unwrap());
        assert!(matches!(check("10.0.1.1"), Err(IpamError::Outside { .. })));
        assert!(matches!(
            check("10.0.0.0"),
            Err(IpamError::NetworkAddress { .. })
        ));
        assert!(matches!(
            check("10.0.0.255"),
            Err(IpamError::BroadcastAddress { .. })
        ));
        assert!(matches!(check("10.0.0.1"), Err(IpamError::Gateway(_))));
        assert!(matches!(
            check("fd00::"),
            Err(IpamError::NetworkAddress { .. })
        ));
        check("10.0.0.2").unwrap();
        check("fd00::ff").unwrap();
    }

    #[test]
    fn what_is_allowed_to_an_endpoint_is_given_to_nobody() {
        let pool = pool(&["10.0.0.0/30"], None).without(["10.0.0.1".parse().unwrap()]);
        let refused = pool.check("10.0.0.1".parse().unwrap());
        assert!(matches!(refused, Err(IpamError::Allowed(_))));
        assert_eq!(
            all_free(&pool, Family::V4),
            ["10.0.0.2".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn a_subnet_smaller_than_a_block() {
        let pool = pool(&["10.0.0.128/29"], Some("10.0.0.129"));
        let texts: Vec<_> = all_free(&pool, Family::V4)
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "10.0.0.130",
                "10.0.0.131",
                "10.0.0.132",
                "10.0.0.133",
                "10.0.0.134"
            ]
        );
        assert_eq!(pool.blocks(Family::V6).len(), 0);
    }

    #[test]
    fn a_range_bounds_what_nobody_named() {
        let json = serde_json::json!({
            "vni": 1, "subnets": ["10.0.0.0/16", "10.1.0.0/30"], "gateway": "10.0.3.1",
            "options": {"ranges": ["10.0.3.0/30"]},
        });
        let pool = Pool::of(&serde_json::from_value(json).unwrap());
        let texts: Vec<_> = all_free(&pool, Family::V4)
            .iter()
            .map(IpAddr::to_string)
            .collect();
        // Within its subnet, a range's first and last address are hosts' like the others.
        let wanted = ["10.0.3.0", "10.0.3.2", "10.0.3.3", "10.1.0.1", "10.1.0.2"];
        assert_eq!(texts, wanted);
        pool.check("10.0.7.7".parse().unwrap()).unwrap();
    }

    #[test]
    fn excluded_ones_are_nobodys() {
        let json = serde_json::json!({
            "vni": 1, "subnets": ["10.0.0.0/22", "fd00::/64"],
            "options": {"exclude": ["10.0.0.0/23", "10.0.3.0/25", "10.0.2.9/32", "fd00::/65"]},
        });
        let pool = Pool::of(&serde_json::from_value(json).unwrap());
        let refused = |ip: &str| pool.check(ip.parse().unwrap());
        for ip in ["10.0.1.1", "10.0.2.9", "10.0.3.5", "fd00::5"] {
            assert!(matches!(refused(ip), Err(IpamError::Reserved(_))), "{ip}");
        }
        assert_eq!(pool.blocks(Family::V4).len(), 2, "of four");
        let free = all_free(&pool, Family::V4);
        assert_eq!(free.len(), 256 - 1 + 127, "and the broadcast address");
        assert_eq!(pool.blocks(Family::V6).len(), 1 << 55);
        let taken = ["10.0.2.1", "10.0.0.1"].map(|ip| ip.parse().unwrap());
        assert_eq!(pool.left(Family::V4, &taken), 256 - 1 + 127 - 1);
        assert_eq!(pool.left(Family::V6, &taken), 1 << 63);
    }

    #[test]
    fn taken_ones_are_left_out() {
        let pool = pool(&["10.0.0.0/30"], None);
        let taken = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        let free = pool.free_in(pool.blocks(Family::V4).nth(0), &taken);
        assert_eq!(free, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn keys_of_a_block_begin_alike() {
        let pool = pool(&["10.0.0.0/16", "fd00::/64"], None);
        assert_eq!(pool.blocks(Family::V4).nth(7).hex(), "0a0007");
        assert_eq!(
            pool.blocks(Family::V6).nth(1).hex(),
            "fd0000000000000000000000000001"
        );
    }

    proptest! {
        /// The blocks of a subnet hold each of its hosts once and nothing else.
        #[test]
        fn blocks_cover_the_subnet(bits in 0x0100_0000u32..0xdfff_ffff, length in 20u8..=30) {
            let subnet = IpNet::new(IpAddr::V4(bits.into()), length).unwrap().trunc();
            let pool = pool(&[&subnet.to_string()], None);
            let wanted: Vec<_> = subnet.hosts().collect();
            prop_assert_eq!(pool.left(Family::V4, &[]), wanted.len() as u128);
            prop_assert_eq!(all_free(&pool, Family::V4), wanted);
        }

        /// What is counted as free is what is given out.
        #[test]
        fn excluded_parts_are_not_counted(parts in proptest::collection::vec((0u32..1024, 22u8..=32), 0..6), gateway in 1u32..1023) {
            let exclude: Vec<IpNet> = parts
                .iter()
                .map(|(at, length)| IpNet::new(Ipv4Addr::from_bits(0x0a00_0000 + at).into(), *length).unwrap().trunc())
                .collect();
            let json = serde_json::json!({
                "vni": 1, "subnets": ["10.0.0.0/22"], "options": {"exclude": exclude},
                "gateway": Ipv4Addr::from_bits(0x0a00_0000 + gateway),
            });
            let pool = Pool::of(&serde_json::from_value(json).unwrap());
            let free = all_free(&pool, Family::V4);
            prop_assert_eq!(pool.left(Family::V4, &[]), free.len() as u128);
            prop_assert!(free.iter().all(|ip| pool.gives(*ip)));
        }
    }
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Where in the subnets addresses that nobody named are taken from.
    ranges: Vec<IpNet>,
    gateways: Vec<IpAddr>,
    /// What endpoints may send from besides their own addresses.
    allowed: BTreeSet<IpAddr>,
}

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

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
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
            ranges: network
                .subnets
                .iter()
                .map(|subnet| network.range_of(*subnet))
                .collect(),
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

    pub(super) fn subnets_of(&self, family: Family) -> Vec<IpNet> {
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
            .filter(|ip| self.ranges.iter().any(|range| range.contains(ip)))
            .filter(|ip| !taken.contains(ip) && self.check(*ip).is_ok())
            .collect()
    }
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
        assert!(pool.blocks(Family::V6).is_empty());
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
            prop_assert_eq!(all_free(&pool, Family::V4), wanted);
        }
    }
}

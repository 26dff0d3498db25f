//! Arithmetic of subnets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Networks that were made without a subnet get a /16 of this.
const DEFAULT_POOL: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// How many /16 the default pool, a /10, has.
const DEFAULT_SUBNETS: u32 = 64;

/// An address of a subnet that no host may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The subnet's own address; for IPv6 the subnet-router anycast (RFC 4291, section 2.6.1).
    First,
    /// IPv4's directed broadcast.
    Broadcast,
}

/// Whether two subnets share an address. Subnets either nest or are apart.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// What is left of `whole` without these, in order.
pub fn without(whole: IpNet, excluded: &[IpNet]) -> Vec<IpNet> {
    if excluded.iter().any(|part| part.contains(&whole)) {
        return Vec::new();
    }
    if !excluded.iter().any(|part| whole.contains(part)) {
        return vec![whole];
    }
    // Some part is smaller, so there are two halves.
    let halves = whole.subnets(whole.prefix_len() + 1);
    let halves = halves.into_iter().flatten();
    halves.flat_map(|half| without(half, excluded)).collect()
}

/// How many addresses a subnet has.
pub fn size(subnet: &IpNet) -> u128 {
    let bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

pub fn edge(subnet: &IpNet, ip: IpAddr) -> Option<Edge> {
    if ip == subnet.network() {
        return Some(Edge::First);
    }
    if ip.is_ipv4() && ip == subnet.broadcast() {
        return Some(Edge::Broadcast);
    }
    None
}

/// The gateway of a subnet for which none was named: its first address that a host may have.
pub fn default_gateway(subnet: &IpNet) -> IpAddr {
    match subnet.network() {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() | 1).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() | 1).into(),
    }
}

/// The first /16 of 10.64.0.0/10 that overlaps none of `taken`.
pub fn first_free(taken: &[IpNet]) -> Option<IpNet> {
    free_among(0..DEFAULT_SUBNETS, taken)
}

/// Another one for each of `hosts` that choose at the same moment, if this is host number `place` and they
/// agree on that; from the /16 number `start` on, round about. One of another host's share when that is all
/// there is.
pub fn free_for(place: usize, hosts: usize, start: u32, taken: &[IpNet]) -> Option<IpNet> {
    let numbers = (0..DEFAULT_SUBNETS).map(|offset| start.wrapping_add(offset) % DEFAULT_SUBNETS);
    let own = |number: &u32| *number as usize % hosts.max(1) == place;
    free_among(numbers.clone().filter(own), taken).or_else(|| free_among(numbers, taken))
}

fn free_among(mut numbers: impl Iterator<Item = u32>, taken: &[IpNet]) -> Option<IpNet> {
    numbers.find_map(|number| {
        let address = Ipv4Addr::from_bits(DEFAULT_POOL.to_bits() + (number << 16));
        let candidate = IpNet::V4(Ipv4Net::new(address, 16).ok()?);
        let free = taken.iter().all(|other| !overlap(other, &candidate));
        free.then_some(candidate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(whole: &str, excluded: &[&str]) -> Vec<String> {
        let excluded: Vec<IpNet> = excluded.iter().map(|net| net.parse().unwrap()).collect();
        let left = without(whole.parse().unwrap(), &excluded);
        left.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn hosts_that_choose_at_once_choose_differently() {
        for start in [0, 1, 63, u32::MAX] {
            let of = |place| free_for(place, 3, start, &[]).unwrap();
            assert!(
                of(0) != of(1) && of(1) != of(2) && of(0) != of(2),
                "{start}"
            );
        }
        let all_but_one: Vec<IpNet> = (1..DEFAULT_SUBNETS)
            .map(|number| format!("10.{}.0.0/16", 64 + number).parse().unwrap())
            .collect();
        let left = Some("10.64.0.0/16".parse().unwrap());
        assert_eq!(
            free_for(1, 2, 9, &all_but_one),
            left,
            "of the other's share"
        );
        // More hosts than subnets.
        assert!(free_for(99, 100, 0, &[]).is_some());
    }

    #[test]
    fn what_is_left_of_a_subnet() {
        assert_eq!(left("10.0.0.0/16", &[]), ["10.0.0.0/16"]);
        assert_eq!(left("10.0.0.0/16", &["10.1.0.0/16"]), ["10.0.0.0/16"]);
        assert!(left("10.0.0.0/16", &["10.0.0.0/8"]).is_empty());
        assert_eq!(
            left("10.0.0.0/30", &["10.0.0.1/32"]),
            ["10.0.0.0/32", "10.0.0.2/31"]
        );
        assert_eq!(left("fd00::/64", &["fd00::/65"]), ["fd00::8000:0:0:0/65"]);
        assert!(left("10.0.0.0/31", &["10.0.0.0/32", "10.0.0.1/32"]).is_empty());
    }

    #[test]
    fn sizes() {
        assert_eq!(size(&"10.0.0.0/24".parse().unwrap()), 256);
        assert_eq!(size(&"10.0.0.1/32".parse().unwrap()), 1);
        assert_eq!(size(&"fd00::/32".parse().unwrap()), 1 << 96);
        assert_eq!(size(&"::/0".parse().unwrap()), u128::MAX);
    }
}

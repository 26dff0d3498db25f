//! The addresses of this host that peers send to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// This host's VTEP addresses, at most one of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vteps {
    pub ip4: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
}

impl Vteps {
    /// IPv4 first: hosts of either family can be named by the first address they have.
    pub fn addresses(self) -> Vec<IpAddr> {
        let ip4 = self.ip4.map(IpAddr::V4);
        ip4.into_iter().chain(self.ip6.map(IpAddr::V6)).collect()
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    pub fn contains(self, ip: IpAddr) -> bool {
        self.towards(ip) == Some(ip)
    }

    /// The address that packets to `peer` are sent from: the one of its family.
    pub fn towards(self, peer: IpAddr) -> Option<IpAddr> {
        match peer {
            IpAddr::V4(_) => self.ip4.map(IpAddr::V4),
            IpAddr::V6(_) => self.ip6.map(IpAddr::V6),
        }
    }

    pub fn has_family_of(self, ip: IpAddr) -> bool {
        self.towards(ip).is_some()
    }

    /// Puts an address in the place of the one of its family.
    #[must_use]
    pub fn with(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self {
                ip4: Some(ip),
                ..self
            },
            IpAddr::V6(ip) => Self {
                ip6: Some(ip),
                ..self
            },
        }
    }
}

impl From<IpAddr> for Vteps {
    fn from(ip: IpAddr) -> Self {
        Self::default().with(ip)
    }
}

/// As a list with commas.
impl fmt::Display for Vteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ip) in self.addresses().iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{ip}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_family() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let both = Vteps::from(ip("192.0.2.1")).with(ip("fd00::1"));
        assert_eq!(both.to_string(), "192.0.2.1, fd00::1");
        assert_eq!(both.towards(ip("198.51.100.7")), Some(ip("192.0.2.1")));
        assert_eq!(both.towards(ip("fd00::7")), Some(ip("fd00::1")));
        assert!(both.contains(ip("fd00::1")) && !both.contains(ip("fd00::7")));
        let six = Vteps::from(ip("fd00::1"));
        assert!(!six.has_family_of(ip("192.0.2.1")) && !six.is_empty());
        assert_eq!(six.addresses(), [ip("fd00::1")]);
    }
}

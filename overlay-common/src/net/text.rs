//! Reading and printing addresses. Host only.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize, de};
use thiserror::Error;

use super::{IpKey, MacAddr, Vni};

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a MAC address: six hex bytes are wanted, as in 02:42:0a:00:00:02")]
pub struct ParseMacError(String);

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a VNI: a number from 1 to 16777215 is wanted")]
pub struct ParseVniError(String);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseMacError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or_else(refused)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(refused());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl FromStr for Vni {
    type Err = ParseVniError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .ok()
            .and_then(Self::new)
            .ok_or_else(|| ParseVniError(text.to_owned()))
    }
}

impl Serialize for Vni {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

impl<'de> Deserialize<'de> for Vni {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = u32::deserialize(deserializer)?;
        Self::new(value).ok_or_else(|| de::Error::custom(ParseVniError(value.to_string())))
    }
}

impl From<IpAddr> for IpKey {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(ip.octets()),
            IpAddr::V6(ip) => Self::v6(ip.octets()),
        }
    }
}

impl From<IpKey> for IpAddr {
    fn from(key: IpKey) -> Self {
        Self::from(key.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_round_trip() {
        let mac: MacAddr = "02:42:0A:00:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:0a:00:00:ff");
        assert!(!mac.is_multicast());
        assert!(MacAddr::BROADCAST.is_multicast());
    }

    #[test]
    fn mac_refuses() {
        for text in [
            "",
            "02:42:0a:00:00",
            "02:42:0a:00:00:02:03",
            "2:42:0a:00:00:02",
            "02-42-0a-00-00-02",
            "+2:42:0a:00:00:02",
            "0g:42:0a:00:00:02",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn vni_bounds() {
        for text in ["0", "16777216", "-1", "", "x"] {
            assert!(text.parse::<Vni>().is_err(), "{text}");
        }
        assert_eq!("16777215".parse::<Vni>().unwrap().get(), Vni::MAX);
        assert_eq!("1".parse::<Vni>().unwrap().get(), 1);
    }

    #[test]
    fn ip_key_is_canonical() {
        for text in ["10.1.2.3", "fd00::1"] {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(IpKey::from(ip)), ip);
        }
        assert_eq!(
            IpKey::from("10.1.2.3".parse::<IpAddr>().unwrap()),
            IpKey::v4([10, 1, 2, 3])
        );
    }
}

//! Settings of the outer headers that are lists or words.

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// What the outer DSCP is (RFC 2474): 6 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// The inner packet's, whatever that is.
    Inherit,
    /// The same for every packet: 0 to 63.
    Fixed(u8),
}

impl Default for Dscp {
    /// Containers do not choose how the underlay treats them.
    fn default() -> Self {
        Self::Fixed(0)
    }
}

impl FromStr for Dscp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "inherit" {
            return Ok(Self::Inherit);
        }
        match text.parse() {
            Ok(value) if value < 64 => Ok(Self::Fixed(value)),
            Ok(_) | Err(_) => Err("a DSCP is `inherit` or a number from 0 to 63"),
        }
    }
}

/// A number or a word.
impl<'de> Deserialize<'de> for Dscp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a DSCP is `inherit` or a number from 0 to 63")]
        enum Written {
            Number(i64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

/// Addresses in a configuration file: one, several with commas between them, or an array.
pub(super) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<IpAddr>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "an IP address or a list of them")]
    enum Written {
        Text(String),
        List(Vec<IpAddr>),
    }
    let parse = |ip: &str| {
        let parsed = ip.trim().parse();
        parsed.map_err(|_| de::Error::custom(format!("`{ip}` is not an IP address")))
    };
    match Written::deserialize(deserializer)? {
        Written::Text(text) => text
            .split(',')
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Some),
        Written::List(list) => Ok(Some(list)),
    }
}

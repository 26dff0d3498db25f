//! Identifiers of fixed length: Consul matches prefixes, so no id may be the beginning of another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, de};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{}` is not {wanted}", given.escape_debug())]
pub struct ParseIdError {
    given: String,
    wanted: &'static str,
}

/// Whether `text` is `length` lower-case hex digits. Upper case is refused, so that every id has
/// one spelling.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! hex64 {
    ($(#[$doc:meta])* $name:ident, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            pub fn random() -> Self {
                Self(rand::random())
            }

            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let refused = || ParseIdError { given: text.to_owned(), wanted: $wanted };
                if !is_hex(text, 16) {
                    return Err(refused());
                }
                u64::from_str_radix(text, 16).map(Self).map_err(|_| refused())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

hex64!(
    /// A host, for as long as its state directory lives: 16 hex digits.
    NodeId,
    "a node id (16 hex digits)"
);

hex64!(
    /// Tells one attempt to claim an address from another by the same owner: 16 hex digits.
    Nonce,
    "a nonce (16 hex digits)"
);

impl NodeId {
    /// The id of a node without an agent, which has nowhere to keep a random one: the first 16
    /// hex digits of the name's SHA-256.
    pub fn of_name(name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        Self(
            digest
                .iter()
                .take(8)
                .fold(0, |id, byte| id << 8 | u64::from(*byte)),
        )
    }
}

/// An endpoint: 16 hex digits, or Docker's 64. In the order of their text; not as text, because there may be very many.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId {
    /// Only the first of 16 digits.
    digits: [u64; 4],
    of_docker: bool,
}

impl EndpointId {
    pub fn random() -> Self {
        Self {
            digits: [rand::random(), 0, 0, 0],
            of_docker: false,
        }
    }

    /// One that looks like Docker's.
    pub fn random_of_docker() -> Self {
        Self {
            digits: rand::random(),
            of_docker: true,
        }
    }

    /// Before all others.
    pub(super) const fn least() -> Self {
        Self {
            digits: [0; 4],
            of_docker: false,
        }
    }

    /// Whether it is of Docker, or stands for one.
    pub fn is_of_docker(&self) -> bool {
        self.of_docker
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = if self.of_docker { 4 } else { 1 };
        let mut parts = self.digits.iter().take(parts);
        parts.try_for_each(|part| write!(f, "{part:016x}"))
    }
}

impl FromStr for EndpointId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = || ParseIdError {
            given: text.to_owned(),
            wanted: "an endpoint id (16 or 64 hex digits)",
        };
        let of_docker = is_hex(text, 64);
        if !of_docker && !is_hex(text, 16) {
            return Err(refused());
        }
        let mut digits = [0; 4];
        for (part, at) in digits.iter_mut().zip((0..text.len()).step_by(16)) {
            *part = u64::from_str_radix(&text[at..at + 16], 16).map_err(|_| refused())?;
        }
        Ok(Self { digits, of_docker })
    }
}

impl Serialize for EndpointId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EndpointId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?
            .parse()
            .map_err(de::Error::custom)
    }
}

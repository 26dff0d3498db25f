//! Session ids: UUIDs, read as leniently as Consul reads them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// The id of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in super::super) struct SessionId([u8; 16]);

/// Why a text is not a session id; the texts are Consul's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in super::super) enum UuidError {
    #[error("UUID must be 36 characters")]
    Length,
    #[error("UUID should have maximum of 4 \"-\"; got {0}")]
    Hyphens(usize),
    #[error("Invalid UUID: {0:?} is not hexadecimal")]
    Digits(String),
}

impl SessionId {
    /// An id out of 16 random bytes.
    pub(in super::super) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(in super::super) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for SessionId {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        if text.len() != 36 {
            return Err(UuidError::Length);
        }
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut bytes = [0; 16];
        if digits.len() < 32 {
            return Err(UuidError::Hyphens(36 - digits.len()));
        }
        if digits.len() > 32 {
            return Err(UuidError::Digits(text.to_owned()));
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                .ok_or_else(|| UuidError::Digits(text.to_owned()))?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8 * 17));
        let text = id.to_string();
        assert_eq!(text, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse(), Ok(id));
    }

    #[test]
    fn what_is_no_uuid_is_refused() {
        let parse = |text: &str| text.parse::<SessionId>().map_err(|err| err.to_string());
        assert_eq!(parse("x"), Err("UUID must be 36 characters".to_owned()));
        assert_eq!(
            parse("c0ffee00-0000-4000-8000-0000-000000a"),
            Err("UUID should have maximum of 4 \"-\"; got 5".to_owned())
        );
        for bad in [
            "c0ffee00-0000-4000-8000-00000000000g",
            "c0ffee00_0000_4000_8000_000000000000",
            "c0ffee00-0000-4000-8000-0000000000é",
            "c0ffee00-0000-4000-8000-0000000000+1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

//! What `docker network create -o` may say.

use std::collections::BTreeMap;
use std::str::FromStr;

use overlay_common::net::Vni;
use serde_json::{Map, Value};

use super::error::DockerError;
use crate::store::schema::FloodMode;

/// Of a twin: the network in the store that it stands for.
pub(super) const NETWORK: &str = "network";
pub(super) const VNI: &str = "vni";
const MTU: &str = "mtu";
const FLOOD: &str = "flood";
const FLOOD_RATE: &str = "flood-rate";
const VLAN: &str = "vlan";
/// Docker's own spellings, of its bridge and overlay drivers.
const DOCKER_MTU: &str = "com.docker.network.driver.mtu";
const DOCKER_VNI: &str = "com.docker.network.driver.overlay.vxlanid_list";

const KNOWN: [&str; 7] = [VNI, MTU, FLOOD, FLOOD_RATE, VLAN, DOCKER_MTU, DOCKER_VNI];

/// Where libnetwork puts what the user said with `-o`.
const GENERIC: &str = "com.docker.network.generic";
const INTERNAL: &str = "com.docker.network.internal";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) network: Option<String>,
    pub(super) vni: Option<Vni>,
    pub(super) mtu: Option<u16>,
    pub(super) flood: FloodMode,
    pub(super) flood_rate: Option<u32>,
    pub(super) vlan: bool,
}

impl Options {
    pub(super) fn parse(said: &BTreeMap<String, String>) -> Result<Self, DockerError> {
        let mut options = Self::default();
        for (name, value) in said {
            match name.as_str() {
                NETWORK => options.network = Some(value.clone()),
                VNI | DOCKER_VNI => options.vni = Some(number(name, value)?),
                MTU | DOCKER_MTU => options.mtu = Some(number(name, value)?),
                FLOOD => options.flood = number(name, value)?,
                FLOOD_RATE => options.flood_rate = Some(number(name, value)?),
                VLAN => options.vlan = number(name, value)?,
                _ => {
                    return Err(DockerError::UnknownOption {
                        name: name.clone(),
                        known: KNOWN.join(", "),
                    });
                }
            }
        }
        Ok(options)
    }
}

fn number<T: FromStr<Err: ToString>>(name: &str, value: &str) -> Result<T, DockerError> {
    value.parse().map_err(|error: T::Err| DockerError::Option {
        name: name.to_owned(),
        value: value.to_owned(),
        why: error.to_string(),
    })
}

/// The user's options in a request to make a network. A value that is no text is left to the error
/// about its text.
pub(super) fn generic(options: &Map<String, Value>) -> BTreeMap<String, String> {
    let generic = options.get(GENERIC).and_then(Value::as_object);
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    generic
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.clone(), text(value)))
        .collect()
}

/// Whether a network is made with `--internal`.
pub(super) fn is_internal(options: &Map<String, Value>) -> bool {
    match options.get(INTERNAL) {
        Some(Value::Bool(is)) => *is,
        Some(Value::String(is)) => is == "true",
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(said: &[(&str, &str)]) -> Result<Options, String> {
        let said = said.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Options::parse(&said.collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn known_ones() {
        let options = parse(&[
            ("vni", "42"),
            ("com.docker.network.driver.mtu", "1400"),
            ("flood", "multicast=239.1.1.1"),
            ("flood-rate", "5"),
            ("vlan", "true"),
        ]);
        let options = options.unwrap();
        assert_eq!(options.vni.map(Vni::get), Some(42));
        assert_eq!(options.mtu, Some(1400));
        assert_eq!(options.flood.to_string(), "multicast=239.1.1.1");
        assert_eq!((options.flood_rate, options.vlan), (Some(5), true));
        assert_eq!(parse(&[]), Ok(Options::default()));
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value, wanted) in [
            ("vnid", "42", "no driver option `vnid`: there are vni, mtu"),
            ("vni", "0", "driver option vni=0: "),
            ("vni", "blue", "driver option vni=blue: "),
            ("mtu", "70000", "driver option mtu=70000: "),
            ("flood", "all", "driver option flood=all: "),
        ] {
            let error = parse(&[(name, value)]).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }
}

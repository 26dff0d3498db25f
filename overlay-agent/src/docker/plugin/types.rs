//! What Docker's daemon and a driver say to each other: libnetwork's remote drivers of networks and of
//! addresses, as Docker 20.10 to 28 speak it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Addresses, sent as text; empty for none.
pub(in crate::docker) type Text = String;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(in crate::docker) struct PoolRequest {
    /// A subnet, or empty for one of the driver's choice.
    pub(in crate::docker) pool: Text,
    /// The part of it to give out.
    pub(in crate::docker) sub_pool: Text,
    pub(in crate::docker) options: Option<BTreeMap<String, String>>,
    pub(in crate::docker) v6: bool,
}

#[derive(Debug, Serialize)]
pub(in crate::docker) struct PoolAnswer {
    #[serde(rename = "PoolID")]
    pub(in crate::docker) id: String,
    #[serde(rename = "Pool")]
    pub(in crate::docker) pool: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct PoolRelease {
    #[serde(rename = "PoolID")]
    pub(in crate::docker) id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct AddressRequest {
    #[serde(rename = "PoolID")]
    pub(in crate::docker) pool: String,
    #[serde(rename = "Address")]
    pub(in crate::docker) address: Text,
    #[serde(rename = "Options")]
    pub(in crate::docker) options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Serialize)]
pub(in crate::docker) struct AddressAnswer {
    /// With the prefix length of its subnet.
    #[serde(rename = "Address")]
    pub(in crate::docker) address: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct NetworkRequest {
    #[serde(rename = "NetworkID")]
    pub(in crate::docker) id: String,
    #[serde(rename = "Options")]
    pub(in crate::docker) options: Option<Map<String, Value>>,
    #[serde(rename = "IPv4Data")]
    pub(in crate::docker) ipv4: Option<Vec<IpamData>>,
    #[serde(rename = "IPv6Data")]
    pub(in crate::docker) ipv6: Option<Vec<IpamData>>,
}

/// A subnet of a network that is made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::docker) struct IpamData {
    /// Whose pool it is.
    pub(in crate::docker) address_space: String,
    /// By the users' names for them.
    pub(in crate::docker) aux_addresses: Option<Map<String, Value>>,
    pub(in crate::docker) pool: Text,
    /// With a prefix length.
    pub(in crate::docker) gateway: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct EndpointRequest {
    #[serde(rename = "NetworkID")]
    pub(in crate::docker) network: String,
    #[serde(rename = "EndpointID")]
    pub(in crate::docker) endpoint: String,
    #[serde(rename = "Interface")]
    pub(in crate::docker) interface: Option<Interface>,
    /// Path of the container's namespace.
    #[serde(rename = "SandboxKey")]
    pub(in crate::docker) sandbox: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::docker) struct Interface {
    /// With a prefix length.
    #[serde(rename = "Address")]
    pub(in crate::docker) address: Text,
    #[serde(rename = "AddressIPv6")]
    pub(in crate::docker) address6: Text,
    #[serde(rename = "MacAddress")]
    pub(in crate::docker) mac: Text,
}

#[derive(Debug, Serialize)]
pub(in crate::docker) struct EndpointAnswer {
    #[serde(rename = "Interface")]
    pub(in crate::docker) interface: Given,
}

/// What the driver has chosen; to say again what was asked for is an error.
#[derive(Debug, Serialize)]
pub(in crate::docker) struct Given {
    #[serde(rename = "MacAddress", skip_serializing_if = "Option::is_none")]
    pub(in crate::docker) mac: Option<Text>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::docker) struct JoinAnswer {
    pub(in crate::docker) interface_name: InterfaceName,
    pub(in crate::docker) static_routes: Vec<StaticRoute>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::docker) struct InterfaceName {
    /// As it is on this host.
    pub(in crate::docker) src_name: String,
    /// What it will be called in the container, less its number.
    pub(in crate::docker) dst_prefix: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::docker) struct StaticRoute {
    pub(in crate::docker) destination: Text,
    pub(in crate::docker) route_type: u8,
    pub(in crate::docker) next_hop: Text,
}

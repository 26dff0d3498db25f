//! Whose an address is that two have.

use std::net::IpAddr;

use overlay_common::net::Vni;

use crate::store::schema::{self, AddressRecord, Owner};
use crate::store::{Registry, StoreError};

/// The address that another has, if one of these is.
pub(super) async fn lost(
    registry: &Registry,
    net: Vni,
    ips: Vec<IpAddr>,
    owner: &Owner,
) -> Result<Option<(IpAddr, AddressRecord)>, StoreError> {
    for ip in ips {
        let key = registry.keys().address(net, ip);
        let Some(pair) = registry.client().get(&key).await?.value else {
            continue;
        };
        if let Ok(holder) = schema::decode::<AddressRecord>(&pair)
            && !holder.is_held_by(owner)
        {
            return Ok(Some((ip, holder)));
        }
    }
    Ok(None)
}

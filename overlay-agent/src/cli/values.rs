//! Values of flags that clap has no parser for.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_common::net::MacAddr;

use crate::store::schema::rules;

/// A name that is one segment of a key in the store.
pub(super) fn name(text: &str) -> Result<String, String> {
    match rules::check_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn subnet(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| "an address and a prefix length are wanted, as in 10.0.0.0/16".to_owned())?;
    if net.addr() != net.network() {
        return Err(format!(
            "bits are set beyond the prefix: {} is meant",
            net.trunc()
        ));
    }
    Ok(net)
}

pub(super) fn unicast_mac(text: &str) -> Result<MacAddr, String> {
    let mac: MacAddr = text.parse().map_err(|error| format!("{error}"))?;
    if mac.is_multicast() {
        return Err(
            "a group address cannot be an endpoint's: the first byte has to be even".into(),
        );
    }
    if mac.is_zero() {
        return Err("all zero is no endpoint's address".into());
    }
    Ok(mac)
}

pub(super) fn vtep(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text
        .parse()
        .map_err(|_| "an IP address is wanted, as in 192.0.2.1 or 2001:db8::1".to_owned())?;
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if ip.is_unspecified() || ip.is_multicast() || broadcast || ip.is_loopback() || link_local {
        return Err("no host can be reached by it".into());
    }
    Ok(ip)
}

pub(super) fn ifname(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':');
    if matches!(text, "" | "." | "..") || text.len() > 15 || !text.bytes().all(plain) {
        return Err("1 to 15 characters without `/`, `:` and spaces are wanted".into());
    }
    Ok(text.to_owned())
}

/// An address, or a prefix of them.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    single.or_else(|_| text.parse()).map_err(|_| {
        "an address or a prefix is wanted, as in 10.0.0.100 or 192.168.0.0/16".to_owned()
    })
}

pub(super) fn flood_rate(text: &str) -> Result<u32, String> {
    let rate: u32 = text
        .parse()
        .map_err(|_| "a whole number of packets per second is wanted".to_owned())?;
    if rate == 0 {
        return Err("nothing would be flooded: `--flood drop` says so".into());
    }
    Ok(rate)
}

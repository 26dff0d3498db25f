//! Links: what they are, and the changes that more than one module makes to them.

use std::fs;
use std::io;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use overlay_common::net::MacAddr;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVxlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

use super::netlink::{Attempt as _, Netlink, NetlinkError, errno, is_absent};

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpHook {
    Native,
    Generic,
    /// In the device itself, or in several places.
    Other,
}

impl XdpHook {
    /// As it is shown to people; `None` is no hook.
    pub fn label(hook: Option<Self>) -> &'static str {
        match hook {
            Some(Self::Native) => "native",
            Some(Self::Generic) => "generic",
            Some(Self::Other) => "other",
            None => "off",
        }
    }
}

/// The XDP program on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpAttachment {
    pub hook: XdpHook,
    /// Kernel id of the program; 0 when there are several.
    pub program: u32,
}

/// What the kernel says of a network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    /// `None` for devices without an Ethernet address.
    pub mac: Option<MacAddr>,
    /// Largest IP packet in bytes.
    pub mtu: u32,
    /// Index of the bridge or bond it belongs to.
    pub controller: Option<u32>,
    pub alias: Option<String>,
    /// `veth`, `vxlan`, `bridge` …: what made it, `None` for hardware.
    pub kind: Option<String>,
    /// Bus of the hardware behind it: `pci`, `virtio` …
    pub bus: Option<String>,
    pub up: bool,
    /// Whether there is something at the other end.
    pub carrier: bool,
    pub xdp: Option<XdpAttachment>,
    pub vxlan: Option<VxlanLink>,
    /// The other end of a veth in another namespace.
    pub far_end: Option<FarEnd>,
}

/// The other end of a device, in a namespace that has a number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FarEnd {
    /// Its index there.
    pub ifindex: u32,
    /// What this namespace calls that one (`RTM_GETNSID`).
    pub netnsid: i32,
}

/// What matters of a vxlan device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VxlanLink {
    pub port: u16,
    /// Whether the tunnel comes with each packet (`external`).
    pub external: bool,
    /// Whether UDP checksum zero is accepted over IPv6 (`udp6zerocsumrx`).
    pub zero_checksum6: bool,
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            ifindex: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            ..Self::default()
        };
        let (mut other, mut netnsid) = (None, None);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Link(ifindex) => other = Some(ifindex),
                LinkAttribute::LinkNetNsId(id) => netnsid = Some(id),
                LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::ParentDevBusName(bus) => link.bus = Some(bus),
                LinkAttribute::Xdp(attributes) => link.xdp = xdp(&attributes),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(kind) => link.kind = Some(kind.to_string()),
                            LinkInfo::Data(InfoData::Vxlan(data)) => {
                                link.vxlan = Some(vxlan(&data));
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        link.far_end = other
            .zip(netnsid)
            .map(|(ifindex, netnsid)| FarEnd { ifindex, netnsid });
        link
    }
}

/// An Ethernet address out of a netlink attribute.
pub(super) fn mac(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}

fn xdp(attributes: &[LinkXdp]) -> Option<XdpAttachment> {
    let mut hook = None;
    let mut program = 0;
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(attached) => {
                hook = match attached {
                    XdpAttached::None => None,
                    XdpAttached::Driver => Some(XdpHook::Native),
                    XdpAttached::SocketBuffer => Some(XdpHook::Generic),
                    _ => Some(XdpHook::Other),
                }
            }
            LinkXdp::ProgId(id) => program = *id,
            _ => {}
        }
    }
    hook.map(|hook| XdpAttachment { hook, program })
}

fn vxlan(data: &[InfoVxlan]) -> VxlanLink {
    let mut link = VxlanLink::default();
    for info in data {
        match info {
            InfoVxlan::Port(port) => link.port = *port,
            InfoVxlan::CollectMetadata(external) => link.external = *external,
            InfoVxlan::UDPZeroCsumRX(accepted) => link.zero_checksum6 = *accepted,
            _ => {}
        }
    }
    link
}

impl Netlink {
    /// The link of that name; `None` when there is none.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let request = self.handle.link().get().match_name(name).execute();
        match request.try_collect::<Vec<_>>().await {
            Ok(mut found) => Ok(found.pop().map(Link::from)),
            Err(error) if is_absent(&error) => Ok(None),
            // No device can have such a name.
            Err(error) if matches!(errno(&error), Some(libc::EINVAL | libc::ERANGE)) => Ok(None),
            Err(error) => Err(error).attempt(|| format!("look device {name} up")),
        }
    }

    /// Every link of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let found: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .attempt(|| "list the devices".to_owned())?;
        Ok(found.into_iter().map(Link::from).collect())
    }

    /// Index of the link that carries a global address; `None` when none does.
    pub async fn carrier(&self, address: IpAddr) -> Result<Option<u32>, NetlinkError> {
        let found: Vec<_> = self
            .handle
            .address()
            .get()
            .execute()
            .try_collect()
            .await
            .attempt(|| format!("look for the device that carries {address}"))?;
        Ok(found
            .iter()
            .find(|message| global_address(message) == Some(address))
            .map(|message| message.header.index))
    }

    /// Removes a link.
    ///
    /// Returns whether it was there.
    pub async fn delete_link(&self, ifindex: u32) -> Result<bool, NetlinkError> {
        match self.handle.link().del(ifindex).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).attempt(|| format!("remove device {ifindex}")),
        }
    }

    pub(super) async fn set_link(
        &self,
        message: LinkMessage,
        action: impl FnOnce() -> String,
    ) -> Result<(), NetlinkError> {
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .attempt(action)
    }

    pub(crate) async fn set_up(&self, ifindex: u32, name: &str) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).up().build();
        self.set_link(message, || format!("bring device {name} up"))
            .await
    }

    /// `mtu` is the largest IP packet in bytes.
    pub(super) async fn set_mtu(
        &self,
        ifindex: u32,
        name: &str,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).mtu(mtu).build();
        self.set_link(message, || format!("give device {name} the MTU {mtu}"))
            .await
    }

    /// Returns whether the device was there.
    pub(crate) async fn set_down(&self, ifindex: u32, name: &str) -> Result<bool, NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).down().build();
        match self.handle.link().set(message).execute().await {
            Ok(()) => Ok(true),
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error).attempt(|| format!("take device {name} down")),
        }
    }

    /// Marks a fresh device as ours and keeps IPv6 off it: the host would send router
    /// solicitations, neighbour discovery and group reports into the overlay. Before the device
    /// is up, or the address is already there.
    pub(super) async fn mark(
        &self,
        ifindex: u32,
        name: &str,
        alias: &str,
    ) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(ifindex).alias(alias).build();
        self.set_link(message, || format!("mark device {name} as ours"))
            .await?;
        let message = LinkUnspec::new_with_index(ifindex)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]))
            .build();
        let quiet = self
            .set_link(message, || {
                format!("turn IPv6 address generation off on device {name}")
            })
            .await;
        match quiet {
            // Without IPv6 there is nothing to turn off.
            Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => Ok(()),
            Ok(()) => no_ipv6(name),
            other => other,
        }
    }
}

/// Keeps this host's IPv6 off a device altogether: on a router it would tell the other end of its
/// multicast groups even without an address. Netlink cannot say it.
fn no_ipv6(device: &str) -> Result<(), NetlinkError> {
    let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    match fs::write(&path, "1") {
        Ok(()) => Ok(()),
        // Settings that may not be changed, as in many containers: the chatter is harmless.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        Err(source) => Err(NetlinkError::Setting { path, source }),
    }
}

/// The address of a message, if it is one that other hosts can reach.
pub(super) fn global_address(message: &AddressMessage) -> Option<IpAddr> {
    if message.header.scope != AddressScope::Universe {
        return None;
    }
    let mut local = None;
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    // On a point-to-point device ADDRESS is the other end's; IPv6 has no LOCAL elsewhere.
    // A membership that joins by itself looks like an address.
    local.or(address).filter(|ip| !ip.is_multicast())
}

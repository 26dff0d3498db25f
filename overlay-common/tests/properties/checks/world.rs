//! The tables that the checks ask: this host, two peers, one network, whose kind the input chooses.

use overlay_common::decide::Tables;
use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, FloodMode, NeighborKey, NeighborValue, PeerIndex,
    PeerValue, TunnelValue, VniValue, Vtep, endpoint_flags, fdb_flags, neighbor_flags,
    tunnel_flags, vni_flags,
};
use overlay_common::net::{IpKey, MacAddr};
use overlay_common::packet::encap::Template;

use super::input::Knobs;

pub const PORT: u16 = 4789;
pub const VNI: u32 = 0x01_02_03;
pub const US: [u8; 4] = [192, 0, 2, 1];
pub const US6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const PEER: [u8; 4] = [192, 0, 2, 2];
pub const PEER6: [u8; 16] = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// Another peer, at which no endpoint of the network is but [`FAR`].
pub const PEER2: [u8; 4] = [192, 0, 2, 3];
pub const GROUP: [u8; 4] = [239, 0, 0, 1];

/// Endpoints: two here, one at either peer.
pub const LOCAL: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const NEXT_DOOR: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
pub const REMOTE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const FAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);
pub const GATEWAY: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
/// Its entry has become another network's.
pub const STALE: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xff]);
pub const LOCAL_IP: [u8; 4] = [10, 0, 0, 1];
pub const LOCAL_IP6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const REMOTE_IP: [u8; 4] = [10, 0, 0, 2];
pub const REMOTE_IP6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const GATEWAY_IP: [u8; 4] = [10, 0, 0, 254];
pub const GATEWAY_IP6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfe];
/// First octets of what [`LOCAL`] may send from besides.
pub const ALLOWED: [u8; 2] = [10, 9];

/// The ifindexes of [`LOCAL`] and [`NEXT_DOOR`].
pub const IFINDEX: u32 = 5;
pub const NEXT_DOOR_IFINDEX: u32 = 6;

pub struct World(pub Knobs);

impl World {
    pub fn vtep() -> Vtep {
        Vtep {
            ip4: IpKey::v4(US),
            ip6: IpKey::v6(US6),
            port: u32::from(PORT),
            ..Vtep::default()
        }
    }

    pub fn network(&self) -> VniValue {
        VniValue {
            flood: if self.0.floods {
                FloodMode::Multicast as u32
            } else {
                FloodMode::Drop as u32
            },
            flags: if self.0.vlan { vni_flags::VLAN } else { 0 },
            group: IpKey::v4(GROUP),
            ..VniValue::default()
        }
    }

    /// The sender of what an endpoint sends.
    pub fn endpoint(&self) -> EndpointValue {
        let flag = |set, flag| if set { flag } else { 0 };
        EndpointValue {
            vni: VNI,
            mtu: 1450,
            mac: LOCAL,
            ip4: LOCAL_IP,
            ip6: LOCAL_IP6,
            gateway4: GATEWAY_IP,
            gateway6: GATEWAY_IP6,
            flags: flag(self.0.floods, endpoint_flags::FLOODS)
                | flag(self.0.vlan, endpoint_flags::VLAN)
                | flag(self.0.allowed, endpoint_flags::ALLOWED),
            ..EndpointValue::default()
        }
    }

    /// The tunnel to a peer; a frame that leaves by it arrives at [`World::vtep`].
    pub fn tunnel(&self) -> TunnelValue {
        let template = Template {
            source_mac: MacAddr([2, 1, 0, 0, 0, 2]),
            next_hop: MacAddr([2, 1, 0, 0, 0, 1]),
            source: if self.0.over_ipv6 {
                PEER6.into()
            } else {
                PEER.into()
            },
            destination: if self.0.over_ipv6 {
                US6.into()
            } else {
                US.into()
            },
            port: PORT,
            ttl: 64,
            tos: 0xb8,
        };
        let copy = if self.0.copy_dscp {
            tunnel_flags::COPY_DSCP
        } else {
            0
        };
        TunnelValue {
            header: template.to_bytes(),
            header_len: template.header_len(),
            ifindex: 9,
            flags: template.flags() | copy,
            mtu: if self.0.jumbo { u32::MAX } else { 200 },
        }
    }
}

impl Tables for World {
    fn peer(&self, source: &IpKey) -> Option<PeerValue> {
        let index = if [IpKey::v4(PEER), IpKey::v6(PEER6)].contains(source) {
            1
        } else if *source == IpKey::v4(PEER2) {
            2
        } else {
            return None;
        };
        Some(PeerValue { index })
    }

    fn fdb(&self, key: &FdbKey) -> Option<FdbValue> {
        let (ifindex, peer, vni, flags) = match key.mac() {
            LOCAL => (
                IFINDEX,
                0,
                VNI,
                if self.0.forwards {
                    fdb_flags::FORWARDS
                } else {
                    0
                },
            ),
            NEXT_DOOR => (NEXT_DOOR_IFINDEX, 0, VNI, 0),
            REMOTE => (0, 1, VNI, 0),
            FAR => (0, 2, VNI, 0),
            GATEWAY => (0, 0, VNI, fdb_flags::GATEWAY),
            STALE => (IFINDEX, 0, VNI + 1, 0),
            _ => return None,
        };
        (key.vni == VNI).then_some(FdbValue {
            ifindex,
            peer,
            stats: 1,
            generation: 1,
            vni,
            flags,
        })
    }

    fn neighbor(&self, key: &NeighborKey) -> Option<NeighborValue> {
        let (mac, flags) = if [IpKey::v4(LOCAL_IP), IpKey::v6(LOCAL_IP6)].contains(&key.ip) {
            (LOCAL, 0)
        } else if [IpKey::v4(REMOTE_IP), IpKey::v6(REMOTE_IP6)].contains(&key.ip) {
            (REMOTE, 0)
        } else if [IpKey::v4(GATEWAY_IP), IpKey::v6(GATEWAY_IP6)].contains(&key.ip) {
            (GATEWAY, neighbor_flags::ROUTER)
        } else {
            return None;
        };
        (key.vni == VNI).then_some(NeighborValue { mac, flags })
    }

    fn vni(&self, vni: u32) -> Option<VniValue> {
        (vni == VNI).then(|| self.network())
    }

    fn ends_at(&self, peer: PeerIndex, address: &IpKey) -> bool {
        let end = match peer {
            1 if self.0.over_ipv6 => IpKey::v6(PEER6),
            1 => IpKey::v4(PEER),
            2 => IpKey::v4(PEER2),
            _ => return false,
        };
        end == *address
    }

    fn allowed(&self, key: &AllowedKey) -> bool {
        let [head @ .., _, _] = IpKey::v4([ALLOWED[0], ALLOWED[1], 0, 0]).octets();
        self.0.allowed && key.ifindex == IFINDEX && key.ip.octets().starts_with(&head)
    }
}

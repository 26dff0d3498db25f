//! Tables of two sizes, with entries that are found by their number.

use overlay_common::layout::{
    AllowedKey, EndpointValue, FdbKey, FdbValue, NeighborKey, NeighborValue, PeerValue, VniValue,
    Vtep, endpoint_flags,
};
use overlay_common::maps::MAX_ALLOWED;
use overlay_common::net::{IpKey, MacAddr};

use crate::fixture::{A, A_IP, A_IP6, LOOPBACK, NEXT_HOP, PORT, VNI, VTEP_IP, tunnel, v6};
use crate::world::World;

/// Remote endpoints of the larger tables.
pub const MANY: u32 = 100_000;

/// Remote endpoints of the tables in between.
pub const THOUSAND: u32 = 1000;

/// How much there is of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    remotes: u32,
    locals: u32,
    peers: u32,
    vnis: u32,
    allowed: u32,
}

impl Size {
    pub const ONE: Self = Self {
        remotes: 1,
        locals: 1,
        peers: 1,
        vnis: 1,
        allowed: 1,
    };
    /// That many of everything.
    pub const THOUSAND: Self = Self {
        remotes: THOUSAND,
        locals: THOUSAND,
        peers: THOUSAND,
        vnis: THOUSAND,
        allowed: THOUSAND,
    };
    pub const MANY: Self = Self {
        remotes: MANY,
        locals: LOCALS,
        peers: PEERS,
        vnis: 1000,
        allowed: MAX_ALLOWED,
    };
}

const LOCALS: u32 = 1000;
const PEERS: u32 = 1000;
const SLOTS: u32 = 16_000;

/// The i-th remote endpoint.
pub fn mac(i: u32) -> MacAddr {
    let [a, b, c, d] = i.to_be_bytes();
    MacAddr([2, 0x10, a, b, c, d])
}

/// Its address.
pub fn ip(i: u32) -> [u8; 4] {
    let [_, b, c, d] = i.to_be_bytes();
    [10, 64 | b, c, d]
}

/// The endpoint of this host that goes with it.
pub fn local(i: u32) -> MacAddr {
    let [a, b, c, d] = (i % LOCALS).to_be_bytes();
    MacAddr([2, 0x20, a, b, c, d])
}

/// An address that the sender may use, too.
pub fn allowed(i: u32) -> [u8; 4] {
    let [_, _, c, d] = (i % MAX_ALLOWED).to_be_bytes();
    [172, 16, c, d]
}

/// The peer at which the i-th remote endpoint is.
pub fn peer(i: u32) -> [u8; 4] {
    let [_, _, c, d] = (i % PEERS).to_be_bytes();
    [198, 18, c, d]
}

/// Nobody's address.
pub fn stranger(i: u32) -> [u8; 4] {
    let [_, b, c, d] = i.to_be_bytes();
    [100, 64 | b, c, d]
}

pub fn world(size: Size) -> World {
    let mut world = World {
        vtep: Vtep {
            ip4: IpKey::v4(VTEP_IP),
            ip6: IpKey::v6(v6(VTEP_IP)),
            port: u32::from(PORT),
            fallback_ifindex: LOOPBACK,
            ..Vtep::default()
        },
        ..World::default()
    };
    let endpoint = EndpointValue {
        vni: VNI,
        mtu: 1450,
        mac: A,
        ip4: A_IP,
        ip6: A_IP6,
        flags: endpoint_flags::ALLOWED,
        ..EndpointValue::default()
    };
    world.endpoints.insert(LOOPBACK, endpoint);
    let entry = |ifindex, peer, stats| FdbValue {
        ifindex,
        peer,
        stats,
        generation: 1,
        vni: VNI,
        flags: 0,
    };
    world.fdb.insert(FdbKey::new(VNI, A), entry(LOOPBACK, 0, 1));
    for i in 0..size.locals {
        world
            .fdb
            .insert(FdbKey::new(VNI, local(i)), entry(1000 + i, 0, 1));
        world.endpoints.insert(
            1000 + i,
            EndpointValue {
                mac: local(i),
                ..endpoint
            },
        );
    }
    for i in 0..size.peers {
        let value = PeerValue { index: 1 + i };
        world.peers.insert(IpKey::v4(peer(i)), value);
        world.peers.insert(IpKey::v6(v6(peer(i))), value);
        world.tunnels.insert(1 + i, tunnel(peer(i), NEXT_HOP));
    }
    for i in 0..size.remotes {
        let value = entry(0, 1 + i % PEERS, 2 + i % SLOTS);
        world.fdb.insert(FdbKey::new(VNI, mac(i)), value);
        let key = NeighborKey {
            vni: VNI,
            ip: IpKey::v4(ip(i)),
        };
        world.neighbors.insert(
            key,
            NeighborValue {
                mac: mac(i),
                flags: 0,
            },
        );
    }
    for i in 0..size.vnis {
        let value = VniValue {
            mtu: 1450,
            ..VniValue::default()
        };
        world.vnis.insert(VNI + i, value);
    }
    for i in 0..size.allowed {
        let key = AllowedKey {
            ifindex: LOOPBACK,
            ip: IpKey::v4(allowed(i)),
        };
        world.allowed.insert((128, key), 1);
    }
    world
}

//! Where frames are decapsulated, as the programs are told.

use overlay_agent::datapath::{
    Datapath, DatapathError, Decap, DecapMode, Settings, XdpMode, detach_all,
};
use overlay_common::layout::{Vtep, vtep_flags};

use super::world::{self, UNDERLAY, World};
use crate::support::mac_of;

fn open(world: &World, xdp: XdpMode, decap: DecapMode) -> Result<Decap, DatapathError> {
    world.on_host(async || {
        let settings = Settings {
            decap,
            ..world::settings(UNDERLAY, xdp).await
        };
        let datapath = Datapath::open(&settings, world.paths()).await?;
        Ok(datapath.decap)
    })
}

fn vtep(world: &World) -> Vtep {
    Datapath::maps_only(&world.paths()).unwrap().vtep().unwrap()
}

#[test]
fn programs_are_told() {
    let world = World::new();
    let mut cookies = Vec::new();
    for (xdp, decap, wanted) in [
        (XdpMode::Native, DecapMode::Xdp, Decap::Xdp),
        (XdpMode::Native, DecapMode::Tc, Decap::Tc),
        (XdpMode::Native, DecapMode::Xdp, Decap::Xdp),
        (XdpMode::Generic, DecapMode::Tc, Decap::Tc),
        // A veth is not what it is for.
        (XdpMode::Native, DecapMode::Auto, Decap::Tc),
        (XdpMode::Auto, DecapMode::Auto, Decap::Tc),
    ] {
        let found = open(&world, xdp, decap).unwrap();
        assert_eq!(found, wanted, "{xdp} {decap:?}");
        let vtep = vtep(&world);
        let told = vtep.flags & vtep_flags::XDP_DECAP != 0;
        assert_eq!(told, wanted == Decap::Xdp, "{xdp} {decap:?}");
        assert_eq!(vtep.mac, mac_of(&world.host).unwrap());
        cookies.push(vtep.cookie);
    }
    // What is on its way at the change is known by it.
    assert!(cookies[0] != 0 && cookies.iter().all(|cookie| *cookie == cookies[0]));
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::new();
    let before = world.snapshot();
    for mode in [XdpMode::Auto, XdpMode::Generic, XdpMode::Off] {
        let error = open(&world, mode, DecapMode::Xdp).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "device eth0 cannot decapsulate in XDP, which --xdp {mode} does not run in its \
                 driver: choose --xdp native, or --decap tc"
            )
        );
        assert_eq!(world.snapshot(), before);
    }
}

/// Who hands frames over goes before whoever takes them.
#[test]
fn xdp_is_detached_first() {
    let world = World::new();
    open(&world, XdpMode::Native, DecapMode::Xdp).unwrap();
    let detached = world.on_host(async || detach_all(&world.paths()).await);
    let first = detached
        .removed
        .iter()
        .find(|line| line.starts_with("program "));
    assert_eq!(first.unwrap(), "program underlay_xdp");
}

//! `underlay_filter` on the underlay.

use aya::EbpfLoader;
use aya::programs::{Xdp, xdp};
use overlay_agent::datapath::object::OBJECT;
use overlay_agent::datapath::{DatapathError, XdpMode, detach_all};
use tests::bpffs::BpfDir;

use super::world::{UNDERLAY, World};

fn hook(world: &World) -> Option<&'static str> {
    let link = world.host.ip(&["link", "show", UNDERLAY]).unwrap();
    // `xdp` alone is native.
    ["xdpgeneric", "xdp"]
        .into_iter()
        .find(|hook| link.split_whitespace().any(|word| word.starts_with(hook)))
}

#[test]
fn modes_follow_the_settings() {
    let world = World::new();
    for (mode, wanted) in [
        (XdpMode::Auto, None),
        (XdpMode::Generic, Some("xdpgeneric")),
        (XdpMode::Native, Some("xdp")),
        (XdpMode::Generic, Some("xdpgeneric")),
        (XdpMode::Off, None),
    ] {
        world.open(mode).unwrap();
        assert_eq!(hook(&world), wanted, "{mode}");
        let pinned = world.paths().links().join("underlay_xdp").exists();
        assert_eq!(pinned, wanted.is_some(), "{mode}");
    }
}

#[test]
fn a_foreign_program_is_left_alone() {
    let world = World::new();
    let pins = BpfDir::new("foreign").unwrap();
    let mut foreign = EbpfLoader::new()
        .default_map_pin_directory(pins.path())
        .load(OBJECT)
        .unwrap();
    let program: &mut Xdp = foreign
        .program_mut("underlay_filter")
        .unwrap()
        .try_into()
        .unwrap();
    program.load().unwrap();
    world
        .host
        .run(|| Ok(program.attach(UNDERLAY, xdp::XdpMode::Skb)?))
        .unwrap();
    let before = world.snapshot();
    for mode in [XdpMode::Generic, XdpMode::Native] {
        let error = world.open(mode).unwrap_err();
        let DatapathError::ForeignXdp { device, program } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(device, UNDERLAY);
        assert!(program.starts_with("`underlay_filte"), "{program}");
        assert_eq!(world.snapshot(), before);
    }
    world.open(XdpMode::Auto).unwrap();
    world.open(XdpMode::Off).unwrap();
    let detached = world.on_host(async || detach_all(&world.paths()).await);
    assert!(detached.errors.is_empty(), "{:?}", detached.errors);
    assert_eq!(hook(&world), Some("xdpgeneric"));
}

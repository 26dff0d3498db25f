//! Refused, with one clear line, and nothing left behind.

use std::fs;
use std::net::UdpSocket;

use aya::maps::{HashMap, MapData};
use overlay_agent::datapath::{DatapathError, Paths, XdpMode};
use overlay_agent::host::checks::CheckError;
use overlay_agent::host::fallback::FallbackError;
use overlay_common::layout::{FdbKey, FdbValue};
use overlay_common::maps;

use super::world::{self, PORT, UNDERLAY, World};

#[test]
fn pinned_map_of_another_shape() {
    let world = World::new();
    fs::create_dir_all(world.paths().maps()).unwrap();
    let pin = world.paths().map(maps::FDB);
    let map = HashMap::<MapData, FdbKey, FdbValue>::create(maps::MAX_FDB, 0).unwrap();
    map.pin(&pin).unwrap();
    let before = world.snapshot();
    let error = world.open(XdpMode::Off).unwrap_err();
    assert!(matches!(error, DatapathError::Shape { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&pin.display().to_string()), "{text}");
    assert!(text.contains("flags 0x0, wanted"), "{text}");
    assert!(text.contains("overlay-agent detach --all"), "{text}");
    assert_eq!(world.snapshot(), before);
}

#[test]
fn foreign_fallback_device() {
    let world = World::new();
    world
        .host
        .ip(&[
            "link", "add", "ovx0", "type", "vxlan", "external", "dstport", "4790",
        ])
        .unwrap();
    let before = world.snapshot();
    let error = world.open(XdpMode::Off).unwrap_err();
    assert!(
        matches!(
            error,
            DatapathError::Fallback(FallbackError::Foreign { alias: None })
        ),
        "{error:?}"
    );
    assert_eq!(world.snapshot(), before);
}

#[test]
fn port_of_a_socket() {
    let world = World::new();
    let _socket = world
        .host
        .run(|| Ok(UdpSocket::bind(("0.0.0.0", PORT))?))
        .unwrap();
    let before = world.snapshot();
    let error = world.open(XdpMode::Off).unwrap_err();
    assert!(
        matches!(
            error,
            DatapathError::Fallback(FallbackError::PortInUse { port: PORT })
        ),
        "{error:?}"
    );
    assert_eq!(world.snapshot(), before);
}

#[test]
fn port_of_another_vxlan_device() {
    let world = World::new();
    for kind in [["external", "nolearning"], ["id", "5"]] {
        let args = ["link", "add", "vx", "type", "vxlan", "dstport", "4789"];
        world.host.ip(&[args.as_slice(), &kind].concat()).unwrap();
        world.host.ip(&["link", "set", "vx", "up"]).unwrap();
        let before = world.snapshot();
        let error = world.open(XdpMode::Off).unwrap_err();
        assert_eq!(
            error.to_string(),
            "UDP port 4789 is in use by vxlan device vx: remove it or take another --port"
        );
        assert_eq!(world.snapshot(), before);
        world.host.ip(&["link", "delete", "vx"]).unwrap();
    }
}

#[test]
fn no_bpf_filesystem() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::new(folder.path().join("overlay"));
    let error = world.on_host(async || {
        world::open(paths, UNDERLAY, XdpMode::Off)
            .await
            .map(drop)
            .unwrap_err()
    });
    assert!(
        matches!(error, DatapathError::Check(CheckError::Bpffs { .. })),
        "{error:?}"
    );
    assert_eq!(world::pins(folder.path()), [""; 0]);
}

#[test]
fn a_late_refusal_is_rolled_back() {
    let world = World::new();
    world
        .host
        .ip(&["address", "add", "198.51.100.1/32", "dev", "lo"])
        .unwrap();
    let before = world.snapshot();
    // The loopback device has no native XDP, and XDP comes last.
    let error = world.open_on("lo", XdpMode::Native).unwrap_err();
    assert!(
        matches!(error, DatapathError::XdpUnsupported { .. }),
        "{error:?}"
    );
    assert_eq!(world.snapshot(), before);
}

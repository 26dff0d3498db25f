//! Builds the eBPF object that the agent embeds.

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    // aya-build names overlay-ebpf only, but the object is made of these, too: a new layout in the
    // agent and the old one in the object would meet in the maps.
    for path in ["overlay-common", "Cargo.toml", "Cargo.lock"] {
        println!(
            "cargo:rerun-if-changed={}/../{path}",
            env!("CARGO_MANIFEST_DIR")
        );
    }
    // `-Z build-std=core` needs unstable features. They are switched on for this nested build
    // only: crates of the workspace probe the variable and would choose other code paths.
    // Without QUIET each "Compiling" line of the nested build would come out as a warning, anew
    // with every later build.
    for (name, value) in [("RUSTC_BOOTSTRAP", "1"), ("CARGO_TERM_QUIET", "true")] {
        // SAFETY: a build script has one thread.
        unsafe { std::env::set_var(name, value) };
    }
    aya_build::build_ebpf(
        [Package {
            name: "overlay-ebpf",
            root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../overlay-ebpf"),
            ..Default::default()
        }],
        Toolchain::Custom("1.95.0"),
    )
    .context("build the eBPF object: is bpf-linker installed? `cargo xtask setup` does it")
}

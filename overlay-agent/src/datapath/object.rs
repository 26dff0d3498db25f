//! The eBPF object, built by the build script and embedded.

/// ELF bytes, aligned as the loader wants them.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/overlay-ebpf"));

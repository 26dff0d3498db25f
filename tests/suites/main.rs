//! Every suite that needs the kernel: `cargo xtask test SUITE…` runs them by module.

mod datapath;

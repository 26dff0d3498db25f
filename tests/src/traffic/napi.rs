//! On which CPU a device's frames are taken in.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{command::output, netns::Netns};

/// Takes the frames of a device in on one CPU, whoever sends them from whichever: by the device's own
/// kernel thread, which comes before everything else there, as a NIC's interrupts do. A veth has one as long as
/// GRO or XDP is on.
pub fn pin(netns: &Netns, device: &str, cpu: usize) -> Result<()> {
    let before = threads(device)?;
    // `ip netns exec` shows the namespace's own /sys.
    let setting = format!("echo 1 > /sys/class/net/{device}/threaded");
    output(Command::new("ip").args(["netns", "exec", netns.name(), "sh", "-c", &setting]))?;
    let after = threads(device)?;
    let new: Vec<&i32> = after.difference(&before).collect();
    ensure!(
        new.len() == 1,
        "{} kernel threads came up for {device} in {} where one was to",
        new.len(),
        netns.name()
    );
    let thread = *new[0];
    let mut cpus = CpuSet::new();
    cpus.set(cpu).with_context(|| format!("CPU {cpu}"))?;
    sched_setaffinity(Pid::from_raw(thread), &cpus)
        .with_context(|| format!("pin the kernel thread of {device} to CPU {cpu}"))?;
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a valid value.
    let result = unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const first) };
    Errno::result(result)
        .with_context(|| format!("have the kernel thread of {device} come first"))?;
    Ok(())
}

/// Kernel threads of all devices of this name, on whichever host.
fn threads(device: &str) -> Result<BTreeSet<i32>> {
    let wanted = format!("napi/{device}-");
    let processes = fs::read_dir("/proc").context("read /proc")?.flatten();
    Ok(processes
        .filter(|process| {
            fs::read_to_string(process.path().join("comm"))
                .is_ok_and(|name| name.starts_with(&wanted))
        })
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .collect())
}

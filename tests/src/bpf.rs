//! The calls of bpf(2) that small programs made by hand need: no compiler, no loader.

pub mod redirect;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

// Of linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const LINK_CREATE: libc::c_long = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const TCX_INGRESS: u32 = 46;
const TEST_XDP_LIVE_FRAMES: u32 = 2;
const LICENSE: &CStr = c"GPL";

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
pub enum Hook {
    /// `BPF_PROG_TYPE_SCHED_CLS`
    Tc = 3,
    /// `BPF_PROG_TYPE_XDP`
    Xdp = 6,
}

/// A loaded program.
#[derive(Debug)]
pub struct Program(OwnedFd);

impl Program {
    /// Instructions as `struct bpf_insn` has them.
    pub fn load(hook: Hook, instructions: &[[u8; 8]]) -> Result<Self> {
        let load = ProgLoad {
            kind: hook as u32,
            count: u32::try_from(instructions.len()).context("number of instructions")?,
            instructions: instructions.as_ptr() as u64,
            license: LICENSE.as_ptr() as u64,
        };
        let program = descriptor(bpf(PROG_LOAD, &load)).context("load an eBPF program")?;
        Ok(Self(program))
    }

    /// Attaches it at TC to what comes in by a device of the calling thread's network namespace, for as
    /// long as the returned link lives.
    pub fn attach(&self, ifindex: u32) -> Result<OwnedFd> {
        let create = LinkCreate {
            program: number(&self.0),
            target: ifindex,
            kind: TCX_INGRESS,
            flags: 0,
            relative: [0; 2],
            revision: 0,
        };
        descriptor(bpf(LINK_CREATE, &create))
            .context("attach an eBPF program at TC (needs Linux 6.6 or newer)")
    }

    /// Runs it for XDP on `count` copies of a frame, which then really go where it says, by devices of the
    /// calling thread's network namespace.
    ///
    /// # Errors
    /// Also when a signal ends it: `EINTR`.
    pub fn run_live(&self, frame: &[u8], count: u32) -> io::Result<()> {
        let run = TestRun {
            program: number(&self.0),
            length: u32::try_from(frame.len()).map_err(io::Error::other)?,
            data: frame.as_ptr() as u64,
            repeat: count,
            flags: TEST_XDP_LIVE_FRAMES,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &run).map(drop)
    }
}

/// Two numbers that a program shares with us: an array of one element.
#[derive(Debug)]
pub struct Shared(OwnedFd);

impl Shared {
    pub fn new(mut numbers: [u64; 2]) -> Result<Self> {
        let create = MapCreate {
            kind: MAP_TYPE_ARRAY,
            key: size_of::<u32>() as u32,
            value: size_of_val(&numbers) as u32,
            entries: 1,
        };
        let map = descriptor(bpf(MAP_CREATE, &create)).context("create an eBPF map")?;
        element(MAP_UPDATE_ELEM, &map, &mut numbers).context("fill an eBPF map")?;
        Ok(Self(map))
    }

    pub fn read(&self) -> Result<[u64; 2]> {
        let mut numbers = [0; 2];
        element(MAP_LOOKUP_ELEM, &self.0, &mut numbers).context("read an eBPF map")?;
        Ok(numbers)
    }

    /// As a program's instruction names it.
    fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

fn element(command: libc::c_long, map: &OwnedFd, numbers: &mut [u64; 2]) -> io::Result<()> {
    let key = 0_u32;
    let element = MapElement {
        map: number(map),
        padding: 0,
        key: (&raw const key) as u64,
        value: numbers.as_mut_ptr() as u64,
        flags: 0,
    };
    bpf(command, &element).map(drop)
}

/// The first fields of `union bpf_attr` for a command; the kernel takes the rest as zero.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgLoad {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    kind: u32,
    flags: u32,
    relative: [u32; 2],
    revision: u64,
}

#[derive(Default)]
#[repr(C)]
struct TestRun {
    program: u32,
    result: u32,
    length: u32,
    length_out: u32,
    data: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_lengths: [u32; 2],
    contexts: [u64; 2],
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

fn number(descriptor: &OwnedFd) -> u32 {
    // Descriptors are not negative.
    descriptor.as_raw_fd().unsigned_abs()
}

fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<libc::c_long> {
    // SAFETY: the attribute is a C struct of this size, and what it points to outlives the call.
    let returned = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            &raw const *attribute,
            size_of::<T>(),
        )
    };
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(returned)
}

fn descriptor(returned: io::Result<libc::c_long>) -> Result<OwnedFd> {
    let number = i32::try_from(returned?).context("number of a descriptor")?;
    // SAFETY: the kernel has just opened it, and it is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

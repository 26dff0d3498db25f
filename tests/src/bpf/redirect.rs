//! Programs that send frames to one device.

use anyhow::{Context as _, Result};

use super::{Hook, Program, Shared};

/// Where a redirected frame goes.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub enum Way {
    /// Out of the device: `bpf_redirect`
    Out = 23,
    /// In at the other end of the device, a veth: `bpf_redirect_peer`, for [`Hook::Tc`] only
    Peer = 155,
}

// Other helpers' numbers.
const MAP_LOOKUP_ELEM: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const XDP_DROP: i32 = 1;

/// Frames come in bursts, all that are due every 131 µs: as from a NIC that moderates its interrupts.
/// A power of two.
const MODERATION_NS: i32 = 1 << 17;

/// Registers: the helpers' answer, and their arguments; then what they leave alone; the stack.
const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R6: u8 = 6;
const R10: u8 = 10;

/// Every frame: `return redirect(ifindex, 0)`.
pub fn always(hook: Hook, way: Way, ifindex: u32) -> Result<Program> {
    Program::load(hook, &jump_to_device(way, ifindex)?)
}

/// For XDP: as many frames as are due, one every `interval_ns`; the others are dropped. With 0, all of
/// them. The first shared number is when the next one is due, in the kernel's monotonic time; the second
/// counts those that were sent.
pub fn paced(ifindex: u32, interval_ns: u32, shared: &Shared) -> Result<Program> {
    let interval = i32::try_from(interval_ns).context("interval of frames")?;
    let due = [
        call(KTIME_GET_NS),
        instruction(MOVE, R6, R0, 0, 0),
        number(AND_NUMBER, R6, -MODERATION_NS),
        // The key is 0, on the stack.
        instruction(STORE_NUMBER_U32, R10, 0, -4, 0),
        instruction(MOVE, R2, R10, 0, 0),
        number(ADD_NUMBER, R2, -4),
        // The map's number makes two instructions.
        instruction(LOAD_MAP, R1, 1, 0, shared.number()),
        [0; 8],
        call(MAP_LOOKUP_ELEM),
        // To the drop: there is no element, or the next frame is not due.
        instruction(JUMP_IF_NUMBER, R0, 0, 11, 0),
        instruction(LOAD_U64, R1, R0, 0, 0),
        instruction(JUMP_IF_GREATER, R1, R6, 9, 0),
        number(ADD_NUMBER, R1, interval),
        instruction(STORE_U64, R0, R1, 0, 0),
        instruction(LOAD_U64, R1, R0, 8, 0),
        number(ADD_NUMBER, R1, 1),
        instruction(STORE_U64, R0, R1, 8, 0),
        // Here follow the four that send the frame, and then the drop.
    ];
    let drop = [number(MOVE_NUMBER, R0, XDP_DROP), EXIT];
    let send = jump_to_device(Way::Out, ifindex)?;
    Program::load(Hook::Xdp, &[&due[..], &send, &drop].concat())
}

fn jump_to_device(way: Way, ifindex: u32) -> Result<[[u8; 8]; 4]> {
    let ifindex = i32::try_from(ifindex).context("interface index out of range")?;
    Ok([
        number(MOVE_NUMBER, R1, ifindex),
        number(MOVE_NUMBER, R2, 0),
        call(way as i32),
        EXIT,
    ])
}

// Operation codes.
const ADD_NUMBER: u8 = 0x07;
const JUMP_IF_NUMBER: u8 = 0x15;
const AND_NUMBER: u8 = 0x57;
const LOAD_MAP: u8 = 0x18;
const JUMP_IF_GREATER: u8 = 0x2d;
const STORE_NUMBER_U32: u8 = 0x62;
const LOAD_U64: u8 = 0x79;
const STORE_U64: u8 = 0x7b;
const CALL: u8 = 0x85;
const MOVE_NUMBER: u8 = 0xb7;
const MOVE: u8 = 0xbf;
const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

fn number(code: u8, destination: u8, number: i32) -> [u8; 8] {
    instruction(code, destination, 0, 0, number)
}

fn call(helper: i32) -> [u8; 8] {
    instruction(CALL, 0, 0, 0, helper)
}

/// `struct bpf_insn` of a little-endian machine.
fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> [u8; 8] {
    let [o0, o1] = offset.to_le_bytes();
    let [i0, i1, i2, i3] = immediate.to_le_bytes();
    [code, source << 4 | destination, o0, o1, i0, i1, i2, i3]
}

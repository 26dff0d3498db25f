//! Packets and map values by words, at any address.
//!
//! To the compiler no BPF machine takes unaligned accesses: it moves a header byte by byte. The verifier takes
//! them where the machine does (`CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS`: x86-64, arm64), but for those
//! to the stack, which stay the compiler's.

use core::mem::MaybeUninit;

use overlay_common::packet::Header;

/// # Safety
///
/// The value's bytes are in a packet, its metadata or a map, and readable.
#[inline(always)]
pub unsafe fn load<T: Header>(from: *const u8) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: readable by the caller; all bytes are written, and `Header` makes any of them a value.
    unsafe {
        transfer::<Packet, Stack>(size_of::<T>(), from, value.as_mut_ptr().cast());
        value.assume_init()
    }
}

/// # Safety
///
/// The value's bytes are in a packet or its metadata, and writable.
#[inline(always)]
pub unsafe fn store<T: Header>(to: *mut u8, value: T) {
    // SAFETY: writable by the caller.
    unsafe { transfer::<Stack, Packet>(size_of::<T>(), (&raw const value).cast(), to) };
}

/// # Safety
///
/// `LEN` bytes at `from` are in a packet or in a map, and readable; at `to` in a packet, and writable.
#[inline(always)]
pub unsafe fn copy<const LEN: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: by the caller.
    unsafe { transfer::<Packet, Packet>(LEN, from, to) };
}

/// In words as large as they can be: a constant length leaves no loop.
#[inline(always)]
unsafe fn transfer<From: Memory, To: Memory>(len: usize, from: *const u8, to: *mut u8) {
    let mut at = 0;
    // SAFETY: by the callers above.
    unsafe {
        while at + 8 <= len {
            To::store_u64(to.add(at), From::load_u64(from.add(at)));
            at += 8;
        }
        if at + 4 <= len {
            To::store_u32(to.add(at), From::load_u32(from.add(at)));
            at += 4;
        }
        if at + 2 <= len {
            To::store_u16(to.add(at), From::load_u16(from.add(at)));
            at += 2;
        }
        if at < len {
            to.add(at).write(from.add(at).read());
        }
    }
}

/// Where a word is.
trait Memory {
    unsafe fn load_u64(from: *const u8) -> u64;
    unsafe fn load_u32(from: *const u8) -> u32;
    unsafe fn load_u16(from: *const u8) -> u16;
    unsafe fn store_u64(to: *mut u8, word: u64);
    unsafe fn store_u32(to: *mut u8, word: u32);
    unsafe fn store_u16(to: *mut u8, word: u16);
}

/// The program's own.
struct Stack;

macro_rules! by_the_compiler {
    ($($load:ident $store:ident $word:ident)+) => { $(
        #[inline(always)]
        unsafe fn $load(from: *const u8) -> $word {
            // SAFETY: by the caller.
            unsafe { from.cast::<$word>().read_unaligned() }
        }

        #[inline(always)]
        unsafe fn $store(to: *mut u8, word: $word) {
            // SAFETY: by the caller.
            unsafe { to.cast::<$word>().write_unaligned(word) };
        }
    )+ };
}

impl Memory for Stack {
    by_the_compiler!(load_u64 store_u64 u64 load_u32 store_u32 u32 load_u16 store_u16 u16);
}

/// A packet's, or a map's.
struct Packet;

#[cfg(target_arch = "bpf")]
macro_rules! by_one_instruction {
    ($($load:ident $from:literal $store:ident $to:literal $word:ident)+) => { $(
        #[inline(always)]
        unsafe fn $load(from: *const u8) -> $word {
            let word: u64;
            // SAFETY: by the caller.
            unsafe {
                core::arch::asm!($from, out(reg) word, in(reg) from, options(pure, readonly, nostack));
            }
            word as $word
        }

        #[inline(always)]
        unsafe fn $store(to: *mut u8, word: $word) {
            // SAFETY: by the caller.
            unsafe { core::arch::asm!($to, in(reg) to, in(reg) u64::from(word), options(nostack)) };
        }
    )+ };
}

#[cfg(target_arch = "bpf")]
impl Memory for Packet {
    by_one_instruction! {
        load_u64 "{0} = *(u64 *)({1} + 0)" store_u64 "*(u64 *)({0} + 0) = {1}" u64
        load_u32 "{0} = *(u32 *)({1} + 0)" store_u32 "*(u32 *)({0} + 0) = {1}" u32
        load_u16 "{0} = *(u16 *)({1} + 0)" store_u16 "*(u16 *)({0} + 0) = {1}" u16
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Memory for Packet {
    by_the_compiler!(load_u64 store_u64 u64 load_u32 store_u32 u32 load_u16 store_u16 u16);
}

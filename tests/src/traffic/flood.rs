//! A flood of copies of one frame, made in the kernel by one long run of `BPF_PROG_TEST_RUN` with live
//! frames. It needs no system call for each, and passes no hook of the sending host.

use std::{
    io::ErrorKind,
    os::unix::thread::JoinHandleExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

use super::udp::pin;
use crate::{
    bpf::{Program, Shared, redirect},
    netns::Netns,
};

/// Ends the run; nothing else here uses it.
const WAKE: Signal = Signal::SIGUSR1;

/// A flood, until it is stopped or dropped.
#[derive(Debug)]
pub struct Flood {
    shared: Shared,
    started: Instant,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flood {
    /// Out of a device of a host, from the CPU `cpu`: `rate` frames a second, or as many as it can. At the
    /// other end of a veth they are taken in like a driver's frames, for which GRO or XDP has to be on.
    pub fn start(
        netns: &Netns,
        device: &str,
        frame: Vec<u8>,
        rate: Option<u32>,
        cpu: usize,
    ) -> Result<Self> {
        let shared = Shared::new([monotonic_ns()?, 0])?;
        let interval = rate.map_or(0, |rate| 1_000_000_000 / rate.max(1));
        let program = netns.run(|| {
            let ifindex = if_nametoindex(device).with_context(|| format!("find {device}"))?;
            redirect::paced(ifindex, interval, &shared)
        })?;
        catch_wake()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let started = Instant::now();
        let thread = netns.spawn(move || {
            pin(Some(cpu))?;
            run(&program, &frame, &stopped)
        })?;
        Ok(Self {
            shared,
            started,
            stop,
            thread: Some(thread),
        })
    }

    /// Stops; frames per second.
    pub fn stop(mut self) -> Result<f64> {
        let elapsed = self.started.elapsed();
        let [_, sent] = self.shared.read()?;
        let running = self
            .thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        self.end()?;
        ensure!(running, "the flood ended by itself");
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52 frames")]
        let rate = sent as f64 / elapsed.as_secs_f64();
        Ok(rate)
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // Again and again: a signal that comes right before the run does not end it.
        while !thread.is_finished() {
            // SAFETY: the thread was not joined yet.
            let error = unsafe { libc::pthread_kill(thread.as_pthread_t(), WAKE as libc::c_int) };
            ensure!(error == 0, "end a flood: {}", Errno::from_raw(error));
            thread::sleep(Duration::from_millis(1));
        }
        thread.join().map_err(|_| anyhow!("the flood panicked"))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("flood: {error:#}");
        }
    }
}

fn run(program: &Program, frame: &[u8], stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        match program.run_live(frame, u32::MAX) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            ended => ended.context("send frames by BPF_PROG_TEST_RUN")?,
        }
    }
    Ok(())
}

/// What eBPF programs take for the time.
fn monotonic_ns() -> Result<u64> {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a valid value.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Errno::result(result).context("read the clock")?;
    Ok(u64::try_from(now.tv_sec)? * 1_000_000_000 + u64::try_from(now.tv_nsec)?)
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Else the signal would end the process.
fn catch_wake() -> Result<()> {
    let action = SigAction::new(
        SigHandler::Handler(nothing),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(WAKE, &action) }.with_context(|| format!("catch {WAKE}"))?;
    Ok(())
}

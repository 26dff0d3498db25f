//! Waiting for a condition, instead of sleeping.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::interrupt;

const PAUSE: Duration = Duration::from_millis(20);

/// Tries until it works; after `timeout`, the last error.
pub fn until<T>(timeout: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        interrupt::check()?;
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("not within {timeout:?}"));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Tries until it works, for tests.
///
/// # Panics
/// After `timeout`, with the last error.
#[track_caller]
pub fn eventually<T>(timeout: Duration, attempt: impl FnMut() -> Result<T>) -> T {
    match until(timeout, attempt) {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}

//! Simulated hosts that follow a network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_agent::store::{MembersWatch, Witness};
use tests::wait::until;
use tokio::sync::Semaphore;

use crate::world::{Simulated, World};

/// Reading a whole network at the start: so many at a time.
const AT_ONCE: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(300);

/// Watches that each have connections of their own. Dropping it stops them.
#[derive(Debug)]
pub struct Interested {
    count: usize,
    told: Arc<AtomicU64>,
    _simulated: Simulated,
}

impl Interested {
    /// Waits until all know the network.
    pub fn start(world: &World, count: usize) -> Result<Self> {
        let simulated = Simulated::start(&world.generator.netns)?;
        let (told, ready) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        for _ in 0..count {
            let registry = world.registry()?;
            let (client, keys) = (registry.client().clone(), registry.keys());
            let mut watch =
                MembersWatch::new(client, keys, Arc::new(Witness::default()), world.net);
            let (told, ready, permits) = (told.clone(), ready.clone(), permits.clone());
            simulated.runtime().spawn(async move {
                let permit = permits.acquire().await;
                watch.next().await;
                drop(permit);
                ready.fetch_add(1, Ordering::Relaxed);
                loop {
                    let changes = watch.next().await;
                    told.fetch_add(changes.len() as u64, Ordering::Relaxed);
                }
            });
        }
        until(TIMEOUT, || {
            let ready = ready.load(Ordering::Relaxed);
            ensure!(ready == count as u64, "{ready} of {count} know the network");
            Ok(())
        })?;
        Ok(Self {
            count,
            told,
            _simulated: simulated,
        })
    }

    /// Makes sure that each has been told of so many changes: else they were no load.
    pub fn require_told(&self, changes: usize) -> Result<()> {
        until(Duration::from_secs(10), || {
            let told = self.told.load(Ordering::Relaxed);
            let wanted = (changes * self.count) as u64;
            ensure!(told >= wanted, "{told} changes were told, not {wanted}");
            Ok(())
        })
    }
}

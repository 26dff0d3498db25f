//! Which addresses were free when somebody last looked. A guess: the claim decides.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use overlay_common::net::Vni;
use rand::seq::SliceRandom as _;

use super::{Family, Pool};

type Lists = BTreeMap<(Vni, Family), Vec<IpAddr>>;

/// By network and family; each as long as what is read at once.
#[derive(Debug, Default)]
pub(super) struct FreeLists(Mutex<Lists>);

impl FreeLists {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        // Each change leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody has looked before.
    pub(super) fn has_looked(&self, net: Vni, family: Family) -> bool {
        self.lock().contains_key(&(net, family))
    }

    /// In the place of what was known, in random order.
    pub(super) fn put(&self, net: Vni, family: Family, mut free: Vec<IpAddr>) {
        free.shuffle(&mut rand::rng());
        self.lock().insert((net, family), free);
    }

    /// Takes one that the pool gives out: each goes to one asker only.
    pub(super) fn take(&self, pool: &Pool, family: Family) -> Option<IpAddr> {
        let mut lists = self.lock();
        let list = lists.get_mut(&(pool.net(), family))?;
        let at = list.iter().rposition(|ip| pool.gives(*ip))?;
        Some(list.swap_remove(at))
    }
}

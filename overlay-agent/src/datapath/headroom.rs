//! Whether endpoints reserve room for outer headers. Without it they work, only slower, so that what fails here is told
//! and stops nothing.

use tracing::warn;

use crate::host::headroom::{HEADROOM_DEVICE, ensure, give};
use crate::host::link::Link;
use crate::host::{Netlink, Owner};

/// The bridge that makes devices reserve room, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headroom(Option<u32>);

impl Headroom {
    /// Has the fallback device say how much, which has to be there.
    pub(super) async fn open(netlink: &Netlink, owner: &Owner) -> Self {
        match ensure(netlink, owner).await {
            Ok(Some(bridge)) => return Self(Some(bridge)),
            Ok(None) => warn!(
                "a device named {HEADROOM_DEVICE} is somebody else's: small packets cost more without ours"
            ),
            Err(error) => warn!("small packets cost more: {:#}", anyhow::Error::from(error)),
        }
        Self(None)
    }

    pub(super) async fn reserve(self, netlink: &Netlink, link: &Link) {
        if let Self(Some(bridge)) = self
            && let Err(error) = give(netlink, bridge, link).await
        {
            let error = anyhow::Error::from(error);
            warn!("small packets of {} cost more: {error:#}", link.name);
        }
    }
}

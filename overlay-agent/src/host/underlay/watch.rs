//! The underlay device and its addresses, followed by what the kernel announces.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::warn;

use super::super::link::Link;
use super::super::netlink::{Netlink, NetlinkError};
use super::{Underlay, Vteps, addresses};

/// An address is replaced in two steps: one look at the end.
const COALESCE: Duration = Duration::from_millis(20);

/// Pause after the kernel refused a question.
const RETRY: Duration = Duration::from_secs(1);

const GROUPS: [MulticastGroup; 3] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
];

/// What has become of the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayNow {
    /// The device of that name; `None` while there is none.
    pub link: Option<Link>,
    /// The addresses to use.
    pub vteps: Vteps,
    /// Those of them that the device has not.
    pub missing: Vec<IpAddr>,
}

/// Follows the underlay. Ends when dropped.
#[derive(Debug)]
pub struct UnderlayWatcher {
    now: watch::Receiver<UnderlayNow>,
    task: JoinHandle<()>,
}

impl UnderlayWatcher {
    /// Starts following, in the calling thread's network namespace. Addresses that are `fixed` are
    /// waited for when they are gone; others give way to another address of the device. Has to be
    /// called on a tokio runtime.
    pub fn spawn(underlay: &Underlay, fixed: bool) -> Result<Self, NetlinkError> {
        let (connection, _handle, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let (sender, now) = watch::channel(UnderlayNow {
            link: Some(underlay.link.clone()),
            vteps: underlay.vteps,
            missing: Vec::new(),
        });
        let task = Task {
            device: underlay.link.name.clone(),
            fixed,
            netlink: Netlink::open()?,
            messages: messages.map(|(message, _)| message.payload).boxed(),
            now: sender,
        };
        Ok(Self {
            now,
            task: tokio::spawn(task.run()),
        })
    }

    /// What is in use; changes with the host.
    pub fn subscribe(&self) -> watch::Receiver<UnderlayNow> {
        self.now.clone()
    }
}

impl Drop for UnderlayWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    device: String,
    fixed: bool,
    netlink: Netlink,
    messages: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    now: watch::Sender<UnderlayNow>,
}

impl Task {
    /// The first look is for what has changed between the choice and the subscription.
    async fn run(mut self) {
        loop {
            if let Err(error) = self.look().await {
                let error = format!("{:#}", anyhow::Error::from(error));
                warn!(error, "underlay not read, trying again");
                sleep(RETRY).await;
                continue;
            }
            if !self.wait().await {
                warn!("the kernel's announcements ended: the underlay is no longer followed");
                return;
            }
            sleep(COALESCE).await;
            while let Some(Some(_)) = self.messages.next().now_or_never() {}
        }
    }

    /// Waits for something that matters. False when the kernel is not to be heard any more.
    async fn wait(&mut self) -> bool {
        while let Some(message) = self.messages.next().await {
            if self.concerns_us(&message) {
                return true;
            }
        }
        false
    }

    async fn look(&mut self) -> Result<(), NetlinkError> {
        let link = self.netlink.link(&self.device).await?;
        let found = match &link {
            Some(link) => addresses::of_device(&self.netlink, link.ifindex).await?,
            None => Vec::new(),
        };
        let in_use = self.now.borrow().vteps;
        let selected = addresses::select(in_use, &found);
        // Without any address there is nothing better than the last.
        let vteps = if self.fixed || selected.is_empty() {
            in_use
        } else {
            selected
        };
        let is_missing = |ip: &IpAddr| found.iter().all(|found| found.ip != *ip);
        let now = UnderlayNow {
            link,
            vteps,
            missing: vteps.addresses().into_iter().filter(is_missing).collect(),
        };
        self.now.send_if_modified(|current| {
            let changed = *current != now;
            *current = now;
            changed
        });
        Ok(())
    }

    fn concerns_us(&self, message: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let now = self.now.borrow();
        let is_ours = |index: u32| now.link.as_ref().is_none_or(|link| link.ifindex == index);
        match message {
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(message) | RouteNetlinkMessage::DelAddress(message),
            ) => is_ours(message.header.index),
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message),
            ) => is_ours(message.header.index),
            // The kernel had more to say than the socket could hold.
            NetlinkPayload::Overrun(_) => true,
            _ => false,
        }
    }
}

//! The task that keeps the next hops up to date.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::super::link::Link;
use super::super::netlink::{Netlink, NetlinkError};
use super::super::underlay::Vteps;
use super::mirror::Mirror;
use super::{NextHops, managed, query};

/// Announcements come in bursts (a route, its addresses, its neighbours): one look at the end.
const COALESCE: Duration = Duration::from_millis(20);

/// Pause after the kernel refused a question.
const RETRY: Duration = Duration::from_secs(1);

const GROUPS: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
];

/// Whose ways are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Where packets are sent from.
    vteps: Vteps,
    /// `None` until somebody has said.
    peers: Option<BTreeSet<IpAddr>>,
}

/// Follows the ways to a set of peers. Ends when dropped; the neighbour entries stay, because
/// the data path stays.
#[derive(Debug)]
pub struct NextHopWatcher {
    wanted: watch::Sender<Wanted>,
    hops: watch::Receiver<NextHops>,
    task: JoinHandle<()>,
}

impl NextHopWatcher {
    /// Starts following, in the calling thread's network namespace, for packets sent from
    /// `vteps`. Has to be called on a tokio runtime. What an earlier run has the kernel keep is
    /// left alone until the peers are [set](Self::set_peers).
    pub fn spawn(vteps: Vteps) -> Result<Self, NetlinkError> {
        let (connection, _handle, messages) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let (wanted, wanted_seen) = watch::channel(Wanted { vteps, peers: None });
        let (hops_sender, hops) = watch::channel(NextHops::new());
        let task = Task {
            netlink: Netlink::open()?,
            messages: messages.map(|(message, _)| message.payload).boxed(),
            wanted: wanted_seen,
            hops: hops_sender,
            mirror: Mirror::default(),
            stale: Stale::All,
            peers_set: false,
        };
        Ok(Self {
            wanted,
            hops,
            task: tokio::spawn(task.run()),
        })
    }

    /// Sets whom to follow.
    pub fn set_peers(&self, peers: BTreeSet<IpAddr>) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.peers.as_ref() != Some(&peers);
            wanted.peers = Some(peers);
            changed
        });
    }

    /// Sets where packets are sent from.
    pub fn set_vteps(&self, vteps: Vteps) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.vteps != vteps;
            wanted.vteps = vteps;
            changed
        });
    }

    /// The ways to the peers; changes when one of them does.
    pub fn subscribe(&self) -> watch::Receiver<NextHops> {
        self.hops.clone()
    }
}

impl Drop for NextHopWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What has to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stale {
    Nothing,
    Routes,
    All,
}

struct Task {
    netlink: Netlink,
    messages: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    wanted: watch::Receiver<Wanted>,
    hops: watch::Sender<NextHops>,
    mirror: Mirror,
    stale: Stale,
    /// Whether the routes are those of peers that somebody has set.
    peers_set: bool,
}

impl Task {
    async fn run(mut self) {
        loop {
            if let Err(error) = self.refresh().await {
                warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "next hops not read, trying again"
                );
                self.stale = Stale::All;
                sleep(RETRY).await;
                continue;
            }
            self.publish();
            if !self.wait().await {
                return;
            }
            sleep(COALESCE).await;
            self.drain();
        }
    }

    async fn refresh(&mut self) -> Result<(), NetlinkError> {
        if self.stale == Stale::All {
            let links = self.netlink.links().await?;
            self.mirror.links = links.into_iter().map(|link| (link.ifindex, link)).collect();
            self.mirror.neighbors = query::neighbors(&self.netlink).await?;
        }
        if self.stale >= Stale::Routes {
            let Wanted { vteps, peers } = self.wanted.borrow_and_update().clone();
            self.peers_set = peers.is_some();
            let peers = peers.unwrap_or_default();
            self.mirror.routes.retain(|peer, _| peers.contains(peer));
            for peer in peers {
                let route = match vteps.towards(peer) {
                    Some(vtep) => query::route(&self.netlink, vtep, peer).await?,
                    None => None,
                };
                match route {
                    Some(route) => self.mirror.routes.insert(peer, route),
                    None => self.mirror.routes.remove(&peer),
                };
            }
        }
        self.stale = Stale::Nothing;
        self.mark().await;
        Ok(())
    }

    /// Keeps the entries in use resolved. The kernel announces what it does about it. One that it
    /// refuses is asked for again with the next change; until then the kernel resolves as for any
    /// other traffic.
    async fn mark(&mut self) {
        let (missing, stale) = self.mirror.marks();
        for key in missing {
            if let Err(error) = managed::mark(&self.netlink, key).await {
                warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "neighbour not kept"
                );
            }
        }
        // Before the peers are set, an entry that nobody wants is an earlier run's, and the data
        // path still sends by it.
        if !self.peers_set {
            return;
        }
        for key in stale {
            if let Err(error) = managed::release(&self.netlink, key).await {
                warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "neighbour not released"
                );
            }
        }
    }

    fn publish(&self) {
        let hops = self.mirror.next_hops();
        self.hops.send_if_modified(|current| {
            let changed = *current != hops;
            if changed {
                debug!(?hops, "next hops changed");
                *current = hops;
            }
            changed
        });
    }

    /// Waits for something that matters. False when nobody is left to tell.
    async fn wait(&mut self) -> bool {
        loop {
            tokio::select! {
                changed = self.wanted.changed() => {
                    self.stale = self.stale.max(Stale::Routes);
                    return changed.is_ok();
                }
                message = self.messages.next() => match message {
                    Some(message) => {
                        if self.take_in(message) {
                            return true;
                        }
                    }
                    None => {
                        warn!("the kernel's announcements ended: next hops are no longer followed");
                        return false;
                    }
                }
            }
        }
    }

    /// Takes in what has already arrived.
    fn drain(&mut self) {
        while let Some(Some(message)) = self.messages.next().now_or_never() {
            self.take_in(message);
        }
    }

    /// Takes an announcement in. Returns whether it may matter.
    fn take_in(&mut self, message: NetlinkPayload<RouteNetlinkMessage>) -> bool {
        let stale = match message {
            NetlinkPayload::InnerMessage(message) => match message {
                RouteNetlinkMessage::NewNeighbour(message) => {
                    self.mirror.neighbor_changed(&message);
                    Stale::Nothing
                }
                RouteNetlinkMessage::DelNeighbour(message) => {
                    self.mirror.neighbor_removed(&message);
                    Stale::Nothing
                }
                RouteNetlinkMessage::NewLink(message) => {
                    if !self.mirror.link_changed(Link::from(message)) {
                        return false;
                    }
                    Stale::Routes
                }
                RouteNetlinkMessage::DelLink(message) => {
                    if !self.mirror.link_removed(message.header.index) {
                        return false;
                    }
                    Stale::Routes
                }
                // Devices come and go with IPv6 routes and addresses, which are none of ours on
                // an IPv4 underlay.
                RouteNetlinkMessage::NewRoute(message) | RouteNetlinkMessage::DelRoute(message)
                    if !self.sends_by(message.header.address_family) =>
                {
                    return false;
                }
                RouteNetlinkMessage::NewAddress(message)
                | RouteNetlinkMessage::DelAddress(message)
                    if !self.sends_by(message.header.family) =>
                {
                    return false;
                }
                // Routes, addresses, rules and next hop objects.
                _ => Stale::Routes,
            },
            // The kernel had more to say than the socket could hold.
            NetlinkPayload::Overrun(_) => Stale::All,
            _ => return false,
        };
        self.stale = self.stale.max(stale);
        true
    }

    fn sends_by(&self, family: AddressFamily) -> bool {
        let Wanted { vteps, .. } = &*self.wanted.borrow();
        match family {
            AddressFamily::Inet => vteps.ip4.is_some(),
            AddressFamily::Inet6 => vteps.ip6.is_some(),
            _ => true,
        }
    }
}

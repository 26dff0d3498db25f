//! Bringing the data path in line.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use nix::net::if_::if_nametoindex;
use overlay_common::layout::{PathStats, StatsKey};

use super::agent::{Agent, State};
use super::desired::{
    Changed, Desired, Local, Outer, Settled, World, alone, desired, groups, tunnel_address,
};
use super::error::AgentError;
use super::plan::{apply, plan};
use super::problem::Problem;
use crate::datapath::rows::{Change, Rows};
use crate::datapath::{Datapath, Difference, Tables, difference};
use crate::host::nexthop::NextHops;
use crate::host::{endpoint, group};
use crate::store::schema::EndpointId;

/// How much is taken for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The maps hold what was written last.
    Memory,
    /// Somebody may have changed them: they are read.
    Nothing,
}

impl Agent {
    /// Makes the maps what the store, this host's endpoints and the next hops call for. What
    /// cannot be written is reported, and tried again the next time.
    pub(super) async fn sync(&self, trust: Trust) -> Result<(), AgentError> {
        let mut datapath = self.datapath.lock().await;
        let started = Instant::now();
        let hops = self.hops.subscribe().borrow().clone();
        let known = self.state().actual.take();
        let mut rows = self.rows(&datapath.tables, known, trust)?;
        let mut desired = self.desired(&rows, &hops);
        let changes = plan(&desired.rows, &rows);
        let retired = retiring(&datapath.tables, &changes)?;
        // Nothing arrives for a group before the host is a member, and nothing goes there before.
        let groups = groups(&desired.rows);
        // The changes have all that is new in them: of very many rows there are not to be three copies.
        desired.rows = Rows::default();
        let mut refused = self.join_groups(&groups, trust).await;
        refused.extend(write(&mut datapath, &changes, &mut rows));
        refused.extend(self.open_endpoints(&rows).await);
        drop(datapath);
        refused.extend(self.fit_endpoints(&rows, trust).await);

        let peers = desired.peers.values().map(|peer| peer.address);
        self.hops.set_peers(peers.chain(groups).collect());
        let mut state = self.state();
        state.retire(retired, &rows);
        state.note(desired, refused);
        state.actual = Some(rows);
        drop(state);
        self.synced.send_modify(|count| *count += 1);
        self.metrics
            .duration
            .observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Brings the rows of endpoints of other hosts in line whose changes concern no others. `false` when that is
    /// not enough: then a whole [`Self::sync`] is due.
    pub(super) async fn sync_alone(&self, changed: &[Changed]) -> bool {
        let mut datapath = self.datapath.lock().await;
        let Some(mut rows) = self.state().actual.take() else {
            return false;
        };
        let enough = changed.iter().all(|changed| {
            let changes = {
                let state = self.state();
                let settled = Settled {
                    rows: &rows,
                    nodes: &state.node_peers,
                    dead: state.liveness.dead(),
                    problems: &state.contested,
                };
                alone(settled, changed)
            };
            changes.is_some_and(|changes| write(&mut datapath, &changes, &mut rows).is_empty())
        });
        self.state().actual = Some(rows);
        drop(datapath);
        if enough {
            self.synced.send_modify(|count| *count += 1);
        }
        enough
    }

    /// What is in the maps and should not be, and the other way round: what the next audit will repair.
    pub async fn differences(&self) -> Result<Vec<Difference>, AgentError> {
        self.require_synced()?;
        let read = self.datapath.lock().await.tables.read_rows()?;
        let hops = self.hops.subscribe().borrow().clone();
        let desired = self.desired(&read, &hops);
        let changes = plan(&desired.rows, &read);
        Ok(changes
            .iter()
            .map(|change| difference(change, &read))
            .collect())
    }

    /// What the maps hold. Where that is read, what differs from memory is counted as repaired.
    fn rows(&self, tables: &Tables, known: Option<Rows>, trust: Trust) -> Result<Rows, AgentError> {
        let known = match (known, trust) {
            (Some(rows), Trust::Memory) => return Ok(rows),
            (known, _) => known,
        };
        let read = tables.read_rows()?;
        if let Some(known) = known {
            let mut drift: BTreeMap<&str, u64> = BTreeMap::new();
            for change in plan(&known, &read) {
                *drift.entry(change.map()).or_default() += 1;
            }
            for (map, entries) in drift {
                tracing::warn!(map, entries, "somebody changed the data path: repairing");
                self.metrics
                    .repairs
                    .with_label_values(&[map])
                    .inc_by(entries);
            }
        }
        Ok(read)
    }

    fn desired(&self, rows: &Rows, hops: &NextHops) -> Desired {
        let mut state = self.state();
        let mut gone = Vec::new();
        let State { locals, view, .. } = &mut *state;
        for (id, local) in locals {
            let path = self.own_path(local.vni, id);
            let published = view.endpoints.contains_key(&path);
            if local.seen && !published && !local.leaving {
                gone.push(Problem::NotInStore(id.clone()));
            }
            local.seen |= published;
            local.ifindex = if_nametoindex(local.device.as_str()).ok();
            if local.ifindex.is_none() && !local.leaving {
                gone.push(Problem::InterfaceGone {
                    endpoint: id.clone(),
                    device: local.device.clone(),
                });
            }
        }
        let local: BTreeMap<EndpointId, Local> = state
            .locals
            .iter()
            .filter(|(_, local)| !local.leaving)
            .filter_map(|(id, local)| {
                let local = Local {
                    vni: local.vni,
                    ifindex: local.ifindex?,
                    mac: local.record.mac,
                    ip4: local.record.ip4,
                    ip6: local.record.ip6,
                    allow_ips: local.record.allow_ips.clone(),
                    forwards: local.record.forwards(),
                };
                Some((id.clone(), local))
            })
            .collect();
        let world = World {
            node: self.node,
            name: &self.name,
            vteps: *self.vteps.borrow(),
            port: self.config.port,
            outer: Outer {
                ttl: self.config.outer_ttl,
                dscp: self.config.dscp,
                udp_checksum: self.config.udp_checksum,
            },
            underlay_mtu: state.underlay_mtu,
            networks: &state.view.networks,
            nodes: &state.view.nodes,
            dead: state.liveness.dead(),
            endpoints: &state.view.endpoints,
            local: &local,
            next_hops: hops,
        };
        let mut desired = desired(&world, rows);
        desired.problems.append(&mut gone);
        desired
    }

    /// Brings the devices up whose rows are in place. What is refused is tried again the next
    /// time.
    async fn open_endpoints(&self, rows: &Rows) -> Vec<Problem> {
        let waiting: Vec<_> = {
            let state = self.state();
            let waiting = state
                .locals
                .iter()
                .filter(|(_, local)| !local.open && !local.leaving);
            waiting
                .filter_map(|(id, local)| Some((id.clone(), local.ifindex?, local.device.clone())))
                .filter(|(_, ifindex, _)| rows.endpoints.contains_key(ifindex))
                .collect()
        };
        let mut refused = Vec::new();
        for (id, ifindex, device) in waiting {
            match endpoint::open(&self.netlink, ifindex, &device).await {
                Ok(()) => {
                    if let Some(local) = self.state().locals.get_mut(&id) {
                        local.open = true;
                    }
                }
                Err(error) => refused.push(Problem::NotApplied(format!(
                    "{:#}",
                    anyhow::Error::from(error)
                ))),
            }
        }
        refused
    }

    /// Makes the host a member of the groups that its networks flood to, and of no others.
    async fn join_groups(&self, groups: &BTreeSet<IpAddr>, trust: Trust) -> Vec<Problem> {
        // Without the device there is nothing to be a member by.
        let underlay = self.underlay_watcher.subscribe().borrow().clone();
        let Some(device) = underlay.link else {
            return Vec::new();
        };
        let wanted = (device.ifindex, groups.clone());
        if trust == Trust::Memory && self.state().groups.as_ref() == Some(&wanted) {
            return Vec::new();
        }
        let joined = group::set(&self.netlink, device.ifindex, groups).await;
        self.state().groups = joined.is_ok().then_some(wanted);
        joined.err().map_or_else(Vec::new, |error| {
            let error = anyhow::Error::from(error);
            vec![Problem::NotApplied(format!("{error:#}"))]
        })
    }

    /// The peers' addresses as the store has them, to ask for the ways to them beforehand.
    pub(super) fn peer_addresses(&self) -> BTreeSet<IpAddr> {
        let state = self.state();
        let vteps = *self.vteps.borrow();
        let others = state.view.nodes.iter().filter(|(id, _)| **id != self.node);
        others
            .filter_map(|(_, node)| tunnel_address(vteps, node))
            .collect()
    }
}

impl State {
    /// A counter must not fall when a peer goes.
    fn retire(&mut self, stats: Vec<(StatsKey, PathStats)>, rows: &Rows) {
        for (key, stats) in stats {
            let sum = self.retired.entry(key.vni).or_default();
            sum.tx_packets += stats.tx_packets;
            sum.tx_bytes += stats.tx_bytes;
            sum.rx_packets += stats.rx_packets;
            sum.rx_bytes += stats.rx_bytes;
        }
        self.retired.retain(|vni, _| rows.vnis.contains_key(vni));
    }

    fn note(&mut self, desired: Desired, refused: Vec<Problem>) {
        self.contested = desired.problems.clone();
        let mut problems = desired.problems;
        problems.extend(refused);
        for problem in problems.iter().filter(|p| !self.problems.contains(p)) {
            tracing::warn!("{problem}");
        }
        self.problems = problems;
        self.peers = desired.peers;
        self.node_peers = desired.nodes;
        self.path_mtu = desired.path_mtu;
        self.overhead = desired.overhead;
    }
}

/// What the slots hold that are about to be given up.
fn retiring(tables: &Tables, changes: &[Change]) -> Result<Vec<(StatsKey, PathStats)>, AgentError> {
    let given_up: Vec<StatsKey> = changes
        .iter()
        .filter_map(|change| match change {
            Change::StatsIndex(key, None) if key.peer != 0 => Some(*key),
            _ => None,
        })
        .collect();
    if given_up.is_empty() {
        return Ok(Vec::new());
    }
    let mut stats = tables.stats()?;
    stats.retain(|key, _| given_up.contains(key));
    Ok(stats.into_iter().collect())
}

/// Makes the changes, in `rows` as well. What is refused stays to be done.
fn write(datapath: &mut Datapath, changes: &[Change], rows: &mut Rows) -> Vec<Problem> {
    let mut refused: BTreeMap<&str, Problem> = BTreeMap::new();
    for change in changes {
        match datapath.tables.apply(change) {
            Ok(()) => apply(rows, change),
            Err(error) => {
                // One line for a map that is full, not one for each entry.
                refused.entry(change.map()).or_insert_with(|| {
                    Problem::NotApplied(format!("{:#}", anyhow::Error::from(error)))
                });
            }
        }
    }
    refused.into_values().collect()
}

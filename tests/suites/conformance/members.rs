//! Following one network by its index.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::client::TxnOp;
use overlay_agent::store::schema::{EndpointPath, EndpointRecord, NodeId, bucket};
use overlay_agent::store::{Change, MembersWatch, Witness};

use super::Place;
use super::networks::blank;
use super::publish::Net;

super::cases![
    first_everything_is_compared,
    of_a_snapshot_what_is_gone_is_told,
    one_change_is_one_endpoint,
    several_changes_of_a_node_bring_it_whole,
    other_networks_wake_nobody,
    changes_of_many_nodes_at_once,
    a_vanished_store_is_not_an_empty_network,
    what_is_hidden_is_not_gone,
    a_missing_key_of_the_index_is_not_believed,
    what_is_corrupt_is_reported_alone,
    what_was_missed_is_found,
    one_came_and_one_went,
    a_node_without_an_entry_is_gone,
    hidden_entries_are_not_gone,
];

/// Longest for a change that must come, with a back-off on the way.
const SOON: Duration = Duration::from_secs(10);
/// How long to look for one that must not.
const QUIET: Duration = Duration::from_millis(700);

/// A network, what a watch of it has told, and how.
struct Followed {
    watch: MembersWatch,
    members: BTreeMap<EndpointPath, EndpointRecord>,
}

impl Followed {
    fn new(at: &Place, net: &Net<'_>) -> Self {
        let witness = Arc::new(Witness::default());
        Self {
            watch: MembersWatch::new(at.client.clone(), &at.keys, witness, net.vni),
            members: BTreeMap::new(),
        }
    }

    /// The next changes, which are taken over.
    async fn next(&mut self) -> Result<Vec<Change>> {
        let changes = tokio::time::timeout(SOON, self.watch.next()).await;
        let changes = changes.context("no change came")?;
        for change in changes.clone() {
            match change {
                Change::One(path, Some(record)) => drop(self.members.insert(path, record)),
                Change::One(path, None) => drop(self.members.remove(&path)),
                Change::Node(node) => {
                    if node.complete {
                        self.members.retain(|path, _| path.node != node.node);
                    }
                    let new = node.endpoints.into_iter();
                    self.members.extend(new.map(|one| (one.path, one.record)));
                }
            }
        }
        Ok(changes)
    }

    async fn quiet(&mut self) -> Result<()> {
        match tokio::time::timeout(QUIET, self.watch.next()).await {
            Err(_) => Ok(()),
            Ok(changes) => anyhow::bail!("came: {changes:?}"),
        }
    }

    fn knows(&self, wanted: &[&(EndpointPath, EndpointRecord)]) -> Result<()> {
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .map(|(path, record)| (path.clone(), record.clone()))
            .collect();
        ensure!(
            self.members == wanted,
            "{:#?}, not {wanted:#?}",
            self.members
        );
        Ok(())
    }
}

fn whole(change: &Change) -> Option<NodeId> {
    match change {
        Change::Node(node) => Some(node.node),
        Change::One(..) => None,
    }
}

async fn first_everything_is_compared(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let mut followed = Followed::new(at, &net);
    ensure!(followed.next().await?.is_empty(), "an empty network");
    let mut all = Vec::new();
    // More than are read at once, and than one transaction takes.
    for name in 0..40 {
        let node = net.node(&format!("n{name}")).await?;
        all.push(net.publish(node).await?);
    }
    let mut followed = Followed::new(at, &net);
    ensure!(followed.next().await?.len() == 40);
    followed.knows(&all.iter().collect::<Vec<_>>())?;
    followed.quiet().await
}

/// A node that is known from before and has nothing there any more, not even a revision.
async fn of_a_snapshot_what_is_gone_is_told(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let one = net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    let gone = NodeId::new(7);
    followed.watch = followed.watch.with_known([node, gone].into());
    let changes = followed.next().await?;
    let nodes: Vec<_> = changes.iter().filter_map(whole).collect();
    ensure!(nodes.len() == 2 && nodes.contains(&gone), "{changes:?}");
    followed.knows(&[&one])
}

async fn one_change_is_one_endpoint(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let first = net.publish(node).await?;
    ensure!(followed.next().await? == [Change::One(first.0.clone(), Some(first.1.clone()))]);
    let mut second = net.publish(node).await?;
    ensure!(followed.next().await? == [Change::One(second.0.clone(), Some(second.1.clone()))]);
    "other".clone_into(&mut second.1.name);
    ensure!(at.registry.describe_endpoint(&second.0, &second.1).await?);
    ensure!(followed.next().await? == [Change::One(second.0.clone(), Some(second.1.clone()))]);
    ensure!(at.registry.withdraw_endpoint(&first.0).await?);
    ensure!(followed.next().await? == [Change::One(first.0.clone(), None)]);
    followed.knows(&[&second])
}

async fn several_changes_of_a_node_bring_it_whole(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (node, other) = (net.node("n").await?, net.node("m").await?);
    let there = net.publish(other).await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let first = net.publish(node).await?;
    let second = net.publish(node).await?;
    ensure!(at.registry.withdraw_endpoint(&first.0).await?);
    let third = net.publish(node).await?;
    let changes = followed.next().await?;
    ensure!(changes.iter().filter_map(whole).eq([node]), "{changes:?}");
    followed.knows(&[&there, &second, &third])?;
    followed.quiet().await
}

async fn other_networks_wake_nobody(at: &Place) -> Result<()> {
    let (blue, red) = (Net::new(at, "blue").await?, {
        let new = overlay_agent::store::registry::NewNetwork {
            subnets: vec!["10.2.0.0/16".parse()?],
            ..blank("red")
        };
        at.registry.create_network(&new).await?.record.vni
    });
    let node = blue.node("n").await?;
    let mut followed = Followed::new(at, &blue);
    followed.next().await?;
    let key = at.keys.hint(red, 0);
    at.client.put(&key, b"\"\"".to_vec()).await?;
    at.client.put(&key, b"\"x\"".to_vec()).await?;
    followed.quiet().await?;
    let there = blue.publish(node).await?;
    followed.next().await?;
    followed.knows(&[&there])
}

async fn changes_of_many_nodes_at_once(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let mut nodes = Vec::new();
    for name in 0..40 {
        nodes.push(net.node(&format!("n{name}")).await?);
    }
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let mut all = Vec::new();
    for node in nodes {
        all.push(net.publish(node).await?);
    }
    while followed.members.len() < all.len() {
        followed.next().await?;
    }
    followed.knows(&all.iter().collect::<Vec<_>>())?;
    followed.quiet().await
}

async fn a_vanished_store_is_not_an_empty_network(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let there = net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let trouble = followed.watch.trouble();
    let all = TxnOp::delete_tree(&*at.config.prefix);
    at.client.txn("test", &[all]).await?;
    followed.quiet().await?;
    ensure!(trouble.borrow().is_some(), "nobody is told");
    followed.knows(&[&there])
}

/// A token that may read the index and not all endpoints.
async fn what_is_hidden_is_not_gone(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let (first, second) = (net.publish(node).await?, net.publish(node).await?);
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    at.client.delete(&at.keys.endpoint(&first.0)).await?;
    followed.quiet().await?;
    let third = net.publish(node).await?;
    followed.next().await?;
    followed.knows(&[&first, &second, &third])?;
    // Also when the node is read whole.
    let fourth = net.publish(node).await?;
    let fifth = net.publish(node).await?;
    let changes = followed.next().await?;
    ensure!(
        matches!(&changes[..], [Change::Node(node)] if !node.complete),
        "{changes:?}"
    );
    followed.knows(&[&first, &second, &third, &fourth, &fifth])
}

async fn a_missing_key_of_the_index_is_not_believed(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let there = net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let index = at.keys.index_of(net.vni);
    at.client.txn("test", &[TxnOp::delete_tree(index)]).await?;
    followed.quiet().await?;
    followed.knows(&[&there])
}

async fn what_is_corrupt_is_reported_alone(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let first = net.publish(node).await?;
    let key = at.keys.endpoint(&first.0);
    at.client.put(&key, b"{".to_vec()).await?;
    let second = net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    let changes = followed.next().await?;
    let [Change::Node(read)] = &changes[..] else {
        anyhow::bail!("{changes:?}");
    };
    ensure!(
        read.complete && read.bad.len() == 1 && read.bad[0].key == key,
        "{read:?}"
    );
    followed.knows(&[&second])
}

/// While the store is away, for one.
async fn what_was_missed_is_found(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (one, two) = (net.node("n").await?, net.node("m").await?);
    let (first, second) = (net.publish(one).await?, net.publish(two).await?);
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    // The wake-up keys as they were before anything happened, which the index tells as a change; what they
    // hint at is nothing.
    ensure!(at.registry.withdraw_endpoint(&first.0).await?);
    for bucket in 0..32 {
        let key = at.keys.hint(net.vni, bucket);
        at.client.put(&key, b"\"\"".to_vec()).await?;
    }
    while followed.members.len() > 1 {
        followed.next().await?;
    }
    followed.knows(&[&second])
}

/// As many as before, and the hint names one only.
async fn one_came_and_one_went(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let (stays, goes) = (net.publish(node).await?, net.publish(node).await?);
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    ensure!(at.registry.withdraw_endpoint(&goes.0).await?);
    let comes = net.publish(node).await?;
    followed.next().await?;
    followed.knows(&[&stays, &comes])
}

/// Deletes what is said of a node in the index of a network, and wakes who follows it.
async fn without_entry(at: &Place, net: &Net<'_>, node: NodeId, more: TxnOp) -> Result<()> {
    let entry = at.keys.revision(net.vni, node);
    at.client
        .txn("test", &[TxnOp::delete_tree(entry), more])
        .await?;
    let hint = at.keys.hint(net.vni, bucket(node));
    at.client.put(&hint, b"\"gone\"".to_vec()).await?;
    Ok(())
}

async fn a_node_without_an_entry_is_gone(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (node, other) = (net.node("n").await?, net.node("m").await?);
    let there = net.publish(other).await?;
    net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let endpoints = TxnOp::delete_tree(at.keys.endpoints_of(node));
    without_entry(at, &net, node, endpoints).await?;
    followed.next().await?;
    followed.knows(&[&there])
}

/// To a token that lost its rights.
async fn hidden_entries_are_not_gone(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let there = net.publish(node).await?;
    let mut followed = Followed::new(at, &net);
    followed.next().await?;
    let trouble = followed.watch.trouble();
    let sentinel = TxnOp::delete_tree(at.keys.schema());
    without_entry(at, &net, node, sentinel).await?;
    // Longer than the pause after which everything is compared.
    ensure!(
        tokio::time::timeout(3 * QUIET, followed.next())
            .await
            .is_err(),
        "something came"
    );
    ensure!(trouble.borrow().is_some(), "nobody is told");
    followed.knows(&[&there])
}

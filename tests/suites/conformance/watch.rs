use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::client::TxnOp;
use overlay_agent::store::{ErrorKind, PrefixWatch, Snapshot, Witness};

use super::Place;
use super::networks::blank;
use super::publish::Net;

super::cases![
    nothing_before_the_store_is_ready,
    each_change_comes_once,
    what_is_not_a_change_does_not_come,
    a_vanished_store_is_not_an_empty_one,
    a_deleted_folder_comes_back,
    a_store_without_this_host_is_not_believed,
    a_store_without_its_endpoints_is_not_believed,
    a_task_keeps_the_latest,
];

/// Longest for a snapshot that must come, with a back-off on the way.
const SOON: Duration = Duration::from_secs(10);
/// How long to look for one that must not.
const QUIET: Duration = Duration::from_millis(700);

fn watch(at: &Place) -> PrefixWatch {
    PrefixWatch::new(at.client.clone(), &at.keys, at.keys.networks())
}

async fn comes(watch: &mut PrefixWatch) -> Result<Arc<Snapshot>> {
    tokio::time::timeout(SOON, watch.next())
        .await
        .context("no snapshot came")
}

async fn quiet(watch: &mut PrefixWatch) -> Result<()> {
    match tokio::time::timeout(QUIET, watch.next()).await {
        Err(_) => Ok(()),
        Ok(snapshot) => anyhow::bail!("came: {snapshot:?}"),
    }
}

/// The keys below the folder.
fn names(at: &Place, snapshot: &Snapshot) -> Vec<String> {
    let folder = at.keys.networks();
    let below = snapshot
        .entries
        .iter()
        .map(|pair| pair.key[folder.len()..].to_owned());
    below.collect()
}

async fn nothing_before_the_store_is_ready(at: &Place) -> Result<()> {
    let mut watch = watch(at);
    quiet(&mut watch).await?;
    let count = |kind| {
        let view = at.client.health().view();
        view.errors().find(|(k, _)| *k == kind).map(|(_, n)| n)
    };
    ensure!(count(ErrorKind::Incomplete) >= Some(1));
    at.registry.init().await?;
    ensure!(names(at, &*comes(&mut watch).await?) == [""]);
    Ok(())
}

async fn each_change_comes_once(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let mut watch = watch(at);
    comes(&mut watch).await?;
    at.registry.create_network(&blank("a")).await?;
    ensure!(names(at, &*comes(&mut watch).await?) == ["", "a"]);
    quiet(&mut watch).await?;
    at.client.put(&at.keys.network("a"), b"{}".to_vec()).await?;
    let snapshot = comes(&mut watch).await?;
    ensure!(
        snapshot
            .entries
            .last()
            .is_some_and(|pair| pair.value == b"{}")
    );
    at.client.delete(&at.keys.network("a")).await?;
    ensure!(names(at, &*comes(&mut watch).await?) == [""]);
    quiet(&mut watch).await
}

async fn what_is_not_a_change_does_not_come(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("a")).await?;
    let mut watch = watch(at);
    let snapshot = comes(&mut watch).await?;
    let same = snapshot.entries.last().context("empty")?.value.clone();
    at.client.put(&at.keys.network("a"), same.clone()).await?;
    at.registry
        .add_node("n", "192.0.2.1".parse()?, 4789)
        .await?;
    quiet(&mut watch).await?;
    // There and back before anybody looks: other indexes, so a change.
    at.client.delete(&at.keys.network("a")).await?;
    at.client.put(&at.keys.network("a"), same).await?;
    comes(&mut watch).await?;
    Ok(())
}

/// What a token that lost its rights sees, or a wrong prefix.
async fn a_vanished_store_is_not_an_empty_one(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("a")).await?;
    let mut watch = watch(at);
    comes(&mut watch).await?;
    at.client
        .txn("test", &[TxnOp::delete_tree(&*at.config.prefix)])
        .await?;
    quiet(&mut watch).await?;
    at.registry.init().await?;
    ensure!(names(at, &*comes(&mut watch).await?) == [""]);
    Ok(())
}

/// It keeps the prefix from being empty. Only who may write it can tell that it is not hidden.
async fn a_deleted_folder_comes_back(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("a")).await?;
    let mut watch = watch(at);
    comes(&mut watch).await?;
    for key in [at.keys.network("a"), at.keys.networks()] {
        at.client.delete(&key).await?;
    }
    while names(at, &*comes(&mut watch).await?) != [""] {}
    Ok(())
}

/// The store was emptied, and prepared again by an agent that has just started.
async fn emptied(at: &Place) -> Result<()> {
    let all = TxnOp::delete_tree(&*at.config.prefix);
    at.client.txn("test", &[all]).await?;
    at.registry.init().await?;
    Ok(())
}

async fn a_store_without_this_host_is_not_believed(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("a")).await?;
    let node = at.registry.add_node("n", "192.0.2.1".parse()?, 4789);
    let node = node.await?.id;
    let witness = Arc::new(Witness::default());
    witness.registered(node);
    let mut watch = watch(at).with_witness(Arc::clone(&witness));
    comes(&mut watch).await?;
    emptied(at).await?;
    quiet(&mut watch).await?;
    let lost = tokio::time::timeout(SOON, witness.node_lost());
    lost.await.context("nobody was told of the lost node")?;
    at.registry
        .add_node("n", "192.0.2.1".parse()?, 4789)
        .await?;
    ensure!(names(at, &*comes(&mut watch).await?) == [""]);
    Ok(())
}

async fn a_store_without_its_endpoints_is_not_believed(at: &Place) -> Result<()> {
    let net = Net::new(at, "a").await?;
    let node = net.node("n").await?;
    let witness = Arc::new(Witness::default());
    witness.registered(node);
    let (first, _) = net.publish(node).await?;
    let (second, _) = net.publish(node).await?;
    for path in [&first, &second] {
        witness.published(path.clone());
    }
    let folder = at.keys.endpoints();
    let mut watch =
        PrefixWatch::new(at.client.clone(), &at.keys, folder).with_witness(Arc::clone(&witness));
    comes(&mut watch).await?;
    // One by one they may go.
    at.client.delete(&at.keys.endpoint(&first)).await?;
    comes(&mut watch).await?;
    emptied(at).await?;
    let key = at.keys.node(node);
    ensure!(at.client.cas(&key, b"{}".to_vec(), 0).await?);
    quiet(&mut watch).await?;
    witness.withdrawn(&first);
    quiet(&mut watch).await?;
    witness.withdrawn(&second);
    ensure!(comes(&mut watch).await?.entries.len() == 1);
    Ok(())
}

async fn a_task_keeps_the_latest(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let handle = watch(at).spawn();
    let mut latest = handle.latest();
    ensure!(latest.borrow().is_none());
    at.registry.create_network(&blank("a")).await?;
    let seen = latest.wait_for(|s| s.as_ref().is_some_and(|s| s.entries.len() == 2));
    tokio::time::timeout(SOON, seen).await??;
    drop(handle);
    let ended = latest.wait_for(|_| false);
    ensure!(
        tokio::time::timeout(SOON, ended).await?.is_err(),
        "the task outlived its handle"
    );
    Ok(())
}

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::store::schema::{NodeId, Owner, Schema};
use overlay_agent::store::{PrefixWatch, StoreError};
use serde_json::{Map, Value, json};

use super::nodes::record;
use super::publish::{Net, owner};
use super::{Place, Refused as _};

super::cases![
    an_earlier_layout_is_read,
    a_later_layout_is_not_followed,
    a_node_keeps_unknown_fields,
    an_endpoint_keeps_unknown_fields,
    an_address_keeps_unknown_fields,
];

const TTL: Duration = Duration::from_secs(10);

/// Adds a field to a record, as a later version would.
async fn extend(at: &Place, key: &str) -> Result<()> {
    let pair = at.client.get(key).await?.value.context("no such key")?;
    let mut fields: Map<String, Value> = serde_json::from_slice(&pair.value)?;
    fields.insert("later".to_owned(), json!({"more": [1, 2]}));
    // The lock stays: a plain write of it is taken.
    at.client.put(key, serde_json::to_vec(&fields)?).await?;
    Ok(())
}

/// What a record is now, which still has what was added.
async fn extended(at: &Place, key: &str) -> Result<Value> {
    let pair = at.client.get(key).await?.value.context("no such key")?;
    let value: Value = serde_json::from_slice(&pair.value)?;
    ensure!(value["later"] == json!({"more": [1, 2]}), "{key}: {value}");
    Ok(value)
}

async fn an_earlier_layout_is_read(at: &Place) -> Result<()> {
    let earlier = br#"{"version":0,"note":"kept"}"#;
    at.client.put(&at.keys.schema(), earlier.to_vec()).await?;
    let net = Net::new(at, "blue").await?;
    net.publish(net.node("n").await?).await?;
    let pair = at.client.get(&at.keys.schema()).await?.value;
    ensure!(pair.is_some_and(|pair| pair.value == earlier));
    Ok(())
}

/// By one who has followed the store as it was before.
async fn a_later_layout_is_not_followed(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let mut watch = PrefixWatch::new(at.client.clone(), &at.keys, at.keys.networks());
    let first = watch.next().await;
    let later = serde_json::to_vec(&json!({"version": Schema::CURRENT.version + 1}))?;
    at.client.put(&at.keys.schema(), later).await?;
    at.client.delete(&at.keys.network("blue")).await?;
    let next = tokio::time::timeout(Duration::from_secs(2), watch.next()).await;
    ensure!(next.is_err(), "{next:?} after {first:?}");
    let mut fresh = PrefixWatch::new(at.client.clone(), &at.keys, at.keys.nodes());
    let next = tokio::time::timeout(Duration::from_secs(1), fresh.next()).await;
    ensure!(next.is_err(), "{next:?}");
    let error = at.registry.init().await.refused()?;
    ensure!(error.to_string().contains("later version"), "{error}");
    ensure!(!matches!(
        error,
        overlay_agent::store::RegistryError::Store(StoreError::Incomplete { .. })
    ));
    drop(net);
    Ok(())
}

async fn a_node_keeps_unknown_fields(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let (id, key) = {
        let id = NodeId::random();
        (id, at.keys.node(id))
    };
    let session = at.client.session_create("test", TTL).await?;
    let mut node = record("n", "192.0.2.1");
    at.registry.register_node(id, &node, &session).await?;
    extend(at, &key).await?;
    // The address has changed, the agent is stopped, and started again with a new session.
    node.vteps = vec!["192.0.2.2".parse()?];
    at.registry.register_node(id, &node, &session).await?;
    ensure!(extended(at, &key).await?["vteps"] == json!(["192.0.2.2"]));
    node.stopped = Some(1_700_000_000);
    at.registry.register_node(id, &node, &session).await?;
    at.client.session_destroy(&session).await?;
    ensure!(extended(at, &key).await?["stopped"] == 1_700_000_000);
    node.stopped = None;
    let session = at.client.session_create("test", TTL).await?;
    at.registry.register_node(id, &node, &session).await?;
    let now = extended(at, &key).await?;
    ensure!(now["stopped"].is_null() && now["schema"] == 1, "{now}");
    // A reader of this version does not stumble over it.
    let nodes = at.registry.nodes().await?;
    ensure!(nodes.items.len() == 1 && nodes.bad.is_empty(), "{nodes:?}");
    at.client.session_destroy(&session).await?;
    Ok(())
}

async fn an_endpoint_keeps_unknown_fields(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let (path, mut record) = net.publish(node).await?;
    let (key, revision) = (at.keys.endpoint(&path), at.keys.revision(net.vni, node));
    extend(at, &key).await?;
    extend(at, &revision).await?;
    record.name = "renamed".to_owned();
    ensure!(at.registry.describe_endpoint(&path, &record).await?);
    ensure!(extended(at, &key).await?["name"] == "renamed");
    ensure!(extended(at, &revision).await?["rev"] == 2);
    // Another one beside it, and its end, count on.
    net.publish(node).await?;
    at.registry.withdraw_endpoint(&path).await?;
    let now = extended(at, &revision).await?;
    ensure!(now["rev"] == 4 && now["endpoints"] == 1, "{now}");
    Ok(())
}

async fn an_address_keeps_unknown_fields(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let lease = at
        .ipam
        .allocate(&net.pool, &net.any(), &owner(node))
        .await?;
    let key = at.keys.address(net.vni, lease.ip);
    extend(at, &key).await?;
    let to: Owner = owner(node);
    at.ipam.hand_over(net.vni, lease.ip, &to).await?;
    ensure!(extended(at, &key).await?["endpoint"] == to.endpoint.to_string());
    Ok(())
}

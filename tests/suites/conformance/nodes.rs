use std::time::Duration;

use anyhow::{Result, ensure};
use overlay_agent::store::RegistryError;
use overlay_agent::store::registry::EndpointFilter;
use overlay_agent::store::schema::{Extra, NodeId, NodeRecord};

use super::publish::{Net, owner};
use super::{Place, Refused as _};

super::cases![
    registration_is_idempotent_and_can_change,
    a_node_id_has_one_agent,
    a_lost_session_is_told,
    nodes_without_agent,
    a_running_node_is_not_removed,
    a_removed_node_takes_its_endpoints_along,
    several_nodes_of_one_name,
];

const TTL: Duration = Duration::from_secs(10);

pub(super) fn record(name: &str, vtep: &str) -> NodeRecord {
    NodeRecord {
        name: name.to_owned(),
        vteps: vec![vtep.parse().unwrap()],
        port: 4789,
        version: "1".to_owned(),
        schema: 1,
        agent: true,
        stopped: None,
        extra: Extra::new(),
    }
}

async fn registration_is_idempotent_and_can_change(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let id = NodeId::random();
    let session = at.client.session_create("test", TTL).await?;
    let first = record("n", "192.0.2.1");
    at.registry.register_node(id, &first, &session).await?;
    let before = at.client.get(&at.keys.node(id)).await?.value;
    at.registry.register_node(id, &first, &session).await?;
    ensure!(at.client.get(&at.keys.node(id)).await?.value == before);
    let moved = record("n", "192.0.2.2");
    at.registry.register_node(id, &moved, &session).await?;
    let nodes = at.registry.nodes().await?.items;
    ensure!(
        nodes.len() == 1 && nodes[0].record == moved && nodes[0].id == id,
        "{nodes:?}"
    );
    ensure!(nodes[0].session.as_ref() == Some(&session));
    at.client.session_destroy(&session).await?;
    let nodes = at.registry.nodes().await?.items;
    ensure!(
        nodes.len() == 1 && nodes[0].session.is_none(),
        "the record went with the session"
    );
    Ok(())
}

async fn a_node_id_has_one_agent(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let id = NodeId::random();
    let first = at.client.session_create("first", TTL).await?;
    let second = at.client.session_create("second", TTL).await?;
    let (one, two) = (record("one", "192.0.2.1"), record("two", "192.0.2.2"));
    at.registry.register_node(id, &one, &first).await?;
    let error = at
        .registry
        .register_node(id, &two, &second)
        .await
        .refused()?;
    ensure!(
        matches!(&error, RegistryError::NodeLocked { by, .. } if *by == first),
        "{error:?}"
    );
    ensure!(at.registry.nodes().await?.items[0].record == one);
    at.client.session_destroy(&first).await?;
    at.registry.register_node(id, &two, &second).await?;
    at.client.session_destroy(&second).await?;
    Ok(())
}

async fn a_lost_session_is_told(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let session = at.client.session_create("test", TTL).await?;
    at.client.session_destroy(&session).await?;
    let node = record("n", "192.0.2.1");
    let error = at
        .registry
        .register_node(NodeId::random(), &node, &session)
        .await
        .refused()?;
    ensure!(matches!(error, RegistryError::SessionLost(_)), "{error:?}");
    Ok(())
}

async fn nodes_without_agent(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let add = |name, vtep: &str| {
        let vtep = vtep.parse().unwrap();
        at.registry.add_node(name, vtep, 4789)
    };
    let node = add("tor-1", "192.0.2.1").await?;
    ensure!(node.id == NodeId::of_name("tor-1") && !node.record.agent);
    ensure!(at.registry.nodes().await?.items == std::slice::from_ref(&node));
    ensure!(at.registry.find_node("tor-1").await? == node);
    ensure!(at.registry.find_node(&node.id.to_string()).await? == node);
    let error = add("tor-1", "192.0.2.2").await.refused()?;
    ensure!(
        matches!(error, RegistryError::NodeExists { .. }),
        "{error:?}"
    );
    let error = add("tor-2", "192.0.2.1").await.refused()?;
    ensure!(
        matches!(error, RegistryError::VtepTaken { .. }),
        "{error:?}"
    );
    let error = add("tor-2", "224.0.0.1").await.refused()?;
    ensure!(matches!(error, RegistryError::Rule(_)), "{error:?}");
    at.registry.remove_node("tor-1").await?;
    let error = at.registry.remove_node("tor-1").await.refused()?;
    ensure!(matches!(error, RegistryError::NoSuchNode(_)), "{error:?}");
    Ok(())
}

async fn a_running_node_is_not_removed(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let id = NodeId::random();
    let session = at.client.session_create("test", TTL).await?;
    at.registry
        .register_node(id, &record("n", "192.0.2.1"), &session)
        .await?;
    net.publish(id).await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    let error = at.registry.remove_node("n").await.refused()?;
    ensure!(
        matches!(error, RegistryError::NodeAlive { .. }),
        "{error:?}"
    );
    ensure!(at.client.list(&at.config.prefix).await?.value == before);
    at.client.session_destroy(&session).await?;
    at.registry.remove_node("n").await?;
    ensure!(at.registry.nodes().await?.items.is_empty());
    Ok(())
}

async fn a_removed_node_takes_its_endpoints_along(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (gone, stays) = (net.node("gone").await?, net.node("stays").await?);
    for node in [gone, stays] {
        for _ in 0..3 {
            net.publish(node).await?;
        }
        // A claim whose endpoint was never published.
        at.ipam
            .allocate(&net.pool, &net.any(), &owner(node))
            .await?;
    }
    at.registry.remove_node("gone").await?;
    let left = at
        .registry
        .endpoints(EndpointFilter::default())
        .await?
        .items;
    ensure!(
        left.len() == 3 && left.iter().all(|e| e.path.node == stays),
        "{left:?}"
    );
    // And the gateway's.
    ensure!(
        at.client
            .keys(&at.keys.addresses_of(net.vni))
            .await?
            .value
            .len()
            == 5
    );
    ensure!(net.revision(gone).await?.endpoints == 0 && net.revision(stays).await?.endpoints == 3);
    let nodes = at.registry.nodes().await?.items;
    ensure!(nodes.len() == 1 && nodes[0].id == stays);
    let error = net.publish(gone).await.refused()?;
    ensure!(format!("{error:#}").contains("no node"), "{error:#}");
    Ok(())
}

async fn several_nodes_of_one_name(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let mut sessions = Vec::new();
    for vtep in ["192.0.2.1", "192.0.2.2"] {
        let session = at.client.session_create("test", TTL).await?;
        let twin = record("twin", vtep);
        at.registry
            .register_node(NodeId::random(), &twin, &session)
            .await?;
        sessions.push(session);
    }
    let error = at.registry.find_node("twin").await.refused()?;
    ensure!(matches!(&error, RegistryError::AmbiguousNode { ids, .. } if ids.len() == 2));
    for session in &sessions {
        at.client.session_destroy(session).await?;
    }
    Ok(())
}

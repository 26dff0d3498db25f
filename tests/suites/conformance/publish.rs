use anyhow::{Context as _, Result, ensure};
use overlay_agent::ipam::{Family, Pool, Want};
use overlay_agent::store::RegistryError;
use overlay_agent::store::registry::{EndpointFilter, NewNetwork};
use overlay_agent::store::schema::gateway_mac;
use overlay_agent::store::schema::{
    EndpointId, EndpointPath, EndpointRecord, Extra, Hint, NodeId, Owner, Revision, bucket, decode,
};
use overlay_common::net::Vni;

use super::networks::{blank, join_all};
use super::{Place, Refused as _};

super::cases![
    an_endpoint_is_counted_and_announced,
    publishing_again_changes_nothing,
    revisions_never_repeat,
    another_record_is_refused,
    an_endpoint_needs_its_addresses,
    an_endpoint_needs_its_network,
    filters,
    many_at_once_are_all_counted,
    a_network_in_use_is_not_removed,
    removal_and_publication_exclude_each_other,
];

/// A network to publish on.
pub(super) struct Net<'a> {
    at: &'a Place,
    pub(super) vni: Vni,
    pub(super) pool: Pool,
}

pub(super) fn owner(node: NodeId) -> Owner {
    Owner {
        node,
        endpoint: EndpointId::random(),
    }
}

impl<'a> Net<'a> {
    pub(super) async fn new(at: &'a Place, name: &str) -> Result<Self> {
        at.registry.init().await?;
        let new = NewNetwork {
            subnets: vec!["10.1.0.0/16".parse()?],
            ..blank(name)
        };
        let made = at.registry.create_network(&new).await?.record;
        Ok(Self {
            at,
            vni: made.vni,
            pool: Pool::of(&made),
        })
    }

    pub(super) fn any(&self) -> Want {
        Want::Any(Family::V4)
    }

    pub(super) async fn node(&self, name: &str) -> Result<NodeId> {
        let vtep = std::net::Ipv4Addr::from(0xc000_0200 | (rand::random::<u32>() & 0xff_ffff));
        Ok(self.at.registry.add_node(name, vtep.into(), 4789).await?.id)
    }

    /// An endpoint with a claimed address.
    pub(super) async fn claimed(&self, node: NodeId) -> Result<(EndpointPath, EndpointRecord)> {
        let owner = owner(node);
        let lease = self
            .at
            .ipam
            .allocate(&self.pool, &self.any(), &owner)
            .await?;
        let std::net::IpAddr::V4(ip4) = lease.ip else {
            anyhow::bail!("{} is not IPv4", lease.ip);
        };
        let path = EndpointPath {
            node,
            net: self.vni,
            id: owner.endpoint,
        };
        let record = EndpointRecord {
            ip4: Some(ip4),
            ip6: None,
            mac: "02:42:0a:01:00:02".parse()?,
            name: "web".to_owned(),
            container: None,
            aliases: Vec::new(),
            allow_ips: Vec::new(),
            forwarding: false,
            extra: Extra::new(),
        };
        Ok((path, record))
    }

    pub(super) async fn publish(&self, node: NodeId) -> Result<(EndpointPath, EndpointRecord)> {
        let (path, record) = self.claimed(node).await?;
        self.at.registry.publish_endpoint(&path, &record).await?;
        Ok((path, record))
    }

    pub(super) async fn revision(&self, node: NodeId) -> Result<Revision> {
        let key = self.at.keys.revision(self.vni, node);
        let pair = self
            .at
            .client
            .get(&key)
            .await?
            .value
            .context("no revision")?;
        decode(&pair).map_err(|bad| anyhow::anyhow!("{bad}"))
    }

    async fn hint(&self, node: NodeId) -> Result<Option<Hint>> {
        let key = self.at.keys.hint(self.vni, bucket(node));
        let pair = self.at.client.get(&key).await?.value.context("no hint")?;
        Ok(Hint::decode(&pair.value))
    }
}

async fn an_endpoint_is_counted_and_announced(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    ensure!(net.hint(node).await?.is_none());
    let (path, record) = net.publish(node).await?;
    let listed = at.registry.endpoints(EndpointFilter::default()).await?;
    ensure!(listed.bad.is_empty() && listed.items.len() == 1);
    ensure!(listed.items[0].path == path && listed.items[0].record == record);
    let (rev, endpoints) = (1, 1);
    ensure!(net.revision(node).await? == Revision { rev, endpoints });
    let hint = Hint {
        node,
        endpoint: path.id.clone(),
        rev,
    };
    ensure!(net.hint(node).await? == Some(hint.clone()));
    ensure!(at.registry.withdraw_endpoint(&path).await?);
    ensure!(
        net.revision(node).await?
            == Revision {
                rev: 2,
                endpoints: 0
            }
    );
    ensure!(net.hint(node).await? == Some(Hint { rev: 2, ..hint }));
    ensure!(
        !at.registry.withdraw_endpoint(&path).await?,
        "withdrawn twice"
    );
    ensure!(net.revision(node).await?.rev == 2);
    Ok(())
}

async fn publishing_again_changes_nothing(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (path, record) = net.publish(net.node("n").await?).await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    at.registry.publish_endpoint(&path, &record).await?;
    ensure!(at.client.list(&at.config.prefix).await?.value == before);
    Ok(())
}

async fn revisions_never_repeat(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let (path, record) = net.publish(node).await?;
    let mut last = net.revision(node).await?.rev;
    for _ in 0..3 {
        at.registry.withdraw_endpoint(&path).await?;
        at.registry.publish_endpoint(&path, &record).await?;
        let rev = net.revision(node).await?.rev;
        ensure!(rev == last + 2, "{rev} after {last}");
        last = rev;
    }
    Ok(())
}

async fn another_record_is_refused(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (path, record) = net.publish(net.node("n").await?).await?;
    let other = EndpointRecord {
        name: "other".to_owned(),
        ..record
    };
    let error = at
        .registry
        .publish_endpoint(&path, &other)
        .await
        .refused()?;
    ensure!(
        matches!(error, RegistryError::EndpointExists(_)),
        "{error:?}"
    );
    Ok(())
}

async fn an_endpoint_needs_its_addresses(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let (path, record) = net.claimed(node).await?;
    let stranger = EndpointPath {
        id: EndpointId::random(),
        ..path.clone()
    };
    for (path, ip) in [
        (&path, "10.1.200.200".parse()?),
        (&stranger, record.ip4.unwrap()),
    ] {
        let record = EndpointRecord {
            ip4: Some(ip),
            ..record.clone()
        };
        let error = at
            .registry
            .publish_endpoint(path, &record)
            .await
            .refused()?;
        ensure!(
            matches!(error, RegistryError::AddressNotHeld { .. }),
            "{error:?}"
        );
    }
    for mac in ["03:00:00:00:00:01".parse()?, gateway_mac(path.net)] {
        let bad = EndpointRecord {
            mac,
            ..record.clone()
        };
        let error = at.registry.publish_endpoint(&path, &bad).await.refused()?;
        ensure!(matches!(error, RegistryError::Rule(_)), "{error:?}");
    }
    ensure!(
        at.registry
            .endpoints(EndpointFilter::default())
            .await?
            .items
            .is_empty()
    );
    at.registry.publish_endpoint(&path, &record).await?;
    Ok(())
}

async fn an_endpoint_needs_its_network(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (path, record) = net.claimed(net.node("n").await?).await?;
    at.registry.delete_network("blue").await?;
    let error = at
        .registry
        .publish_endpoint(&path, &record)
        .await
        .refused()?;
    ensure!(matches!(error, RegistryError::NoSuchVni(_)), "{error:?}");
    // Another network of the same VNI: the claim went with the old one.
    Net::new(at, "red").await?;
    let error = at
        .registry
        .publish_endpoint(&path, &record)
        .await
        .refused()?;
    ensure!(
        matches!(error, RegistryError::AddressNotHeld { .. }),
        "{error:?}"
    );
    Ok(())
}

async fn filters(at: &Place) -> Result<()> {
    let (blue, red) = (Net::new(at, "blue").await?, Net::new(at, "red").await?);
    let (a, b) = (blue.node("a").await?, blue.node("b").await?);
    for (net, node) in [(&blue, a), (&blue, b), (&red, b)] {
        net.publish(node).await?;
    }
    for (node, net, count) in [
        (None, None, 3),
        (Some(b), None, 2),
        (None, Some(blue.vni), 2),
        (Some(b), Some(red.vni), 1),
        (Some(a), Some(red.vni), 0),
    ] {
        let filter = EndpointFilter { node, net };
        let found = at.registry.endpoints(filter).await?.items;
        ensure!(found.len() == count, "{filter:?}: {found:?}");
        ensure!(found.iter().all(|e| node.is_none_or(|n| n == e.path.node)));
        ensure!(found.iter().all(|e| net.is_none_or(|n| n == e.path.net)));
    }
    Ok(())
}

async fn many_at_once_are_all_counted(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    for result in join_all((0..6).map(|_| net.publish(node))).await {
        result?;
    }
    ensure!(
        net.revision(node).await?
            == Revision {
                rev: 6,
                endpoints: 6
            }
    );
    Ok(())
}

async fn a_network_in_use_is_not_removed(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let (path, _) = net.publish(net.node("n").await?).await?;
    let error = at.registry.delete_network("blue").await.refused()?;
    ensure!(
        matches!(error, RegistryError::NetworkInUse { count: 1, .. }),
        "{error:?}"
    );
    let text = error.to_string();
    ensure!(
        text.contains("web") && text.contains(&path.id.to_string()),
        "{text}"
    );
    ensure!(at.registry.networks().await?.items.len() == 1);
    at.registry.withdraw_endpoint(&path).await?;
    at.registry.delete_network("blue").await?;
    Ok(())
}

async fn removal_and_publication_exclude_each_other(at: &Place) -> Result<()> {
    for round in 0..12 {
        let net = Net::new(at, "blue").await?;
        let node = net.node(&format!("n-{round}")).await?;
        let (path, mut record) = net.claimed(node).await?;
        // The claims go with the network and so would save the day; an endpoint may have none.
        if round % 2 == 1 {
            record.ip4 = None;
        }
        // The offset moves the two against each other.
        let publish = async {
            tokio::time::sleep(std::time::Duration::from_micros(round * 400)).await;
            at.registry.publish_endpoint(&path, &record).await
        };
        let delete = at.registry.delete_network("blue");
        let (published, deleted) = tokio::join!(publish, delete);
        ensure!(
            published.is_ok() != deleted.is_ok(),
            "published {published:?}, deleted {deleted:?}"
        );
        let left = at
            .registry
            .endpoints(EndpointFilter::default())
            .await?
            .items;
        ensure!(left.len() == usize::from(published.is_ok()));
        if published.is_ok() {
            at.registry.withdraw_endpoint(&path).await?;
            at.registry.delete_network("blue").await?;
        }
    }
    Ok(())
}

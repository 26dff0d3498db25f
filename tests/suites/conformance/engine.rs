use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::ipam::{self, IpamError};
use overlay_agent::store::RegistryError;
use overlay_agent::store::registry::{NewNetwork, Reservation};
use overlay_agent::store::schema::NodeId;
use overlay_common::net::Vni;

use super::networks::blank;
use super::publish::{Net, owner};
use super::{Place, Refused as _};

super::cases![
    a_reserved_vni_gets_its_name_later,
    a_reservation_is_given_up,
    a_name_that_is_taken_leaves_the_reservation,
    reserved_addresses_are_nobodys,
    an_address_is_handed_over_on_its_host,
    an_endpoint_is_described_anew,
];

fn reservation(docker: &str) -> Reservation {
    Reservation {
        node: NodeId::new(7),
        docker: docker.to_owned(),
    }
}

/// What stands in a VNI's key.
async fn text(at: &Place, vni: Vni) -> Result<Option<String>> {
    let pair = at.client.get(&at.keys.vni(vni)).await?.value;
    Ok(pair
        .map(|pair| serde_json::from_slice(&pair.value))
        .transpose()?)
}

async fn a_reserved_vni_gets_its_name_later(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let (one, two) = (reservation("aa"), reservation("bb"));
    let vni = at.registry.reserve_vni(None, &one).await?;
    ensure!(at.registry.reserve_vni(None, &one).await? == vni, "twice");
    ensure!(text(at, vni).await?.as_deref() == Some("pending 0000000000000007 aa"));
    let error = at.registry.reserve_vni(Some(vni), &two).await.refused()?;
    ensure!(matches!(error, RegistryError::VniTaken { .. }), "{error}");
    ensure!(
        error.to_string().contains("that Docker is making"),
        "{error}"
    );
    ensure!(at.registry.reserve_vni(None, &two).await? != vni);
    // One that is no network is listed as none, and its VNI is nobody else's.
    ensure!(at.registry.networks().await?.items.is_empty());
    let other = at.registry.create_network(&blank("other")).await?;
    ensure!(other.record.vni != vni);

    let new = NewNetwork {
        reservation: Some(one.clone()),
        ..blank("blue")
    };
    let made = at.registry.create_network(&new).await?;
    ensure!(made.record.vni == vni && made.record.options.docker.as_deref() == Some("aa"));
    ensure!(text(at, vni).await?.as_deref() == Some("blue"));
    // Whoever does not know that it is done may do it again.
    ensure!(at.registry.create_network(&new).await? == made);
    ensure!(at.registry.reservations(NodeId::new(7)).await? == [two]);
    at.registry.unreserve(&one).await?;
    ensure!(text(at, vni).await?.as_deref() == Some("blue"), "freed");
    Ok(())
}

async fn a_reservation_is_given_up(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let one = reservation("aa");
    let vni = at.registry.reserve_vni(Vni::new(42), &one).await?;
    ensure!(vni.get() == 42);
    at.registry.unreserve(&one).await?;
    at.registry.unreserve(&one).await?;
    ensure!(text(at, vni).await?.is_none());
    let new = NewNetwork {
        reservation: Some(one),
        ..blank("blue")
    };
    let error = at.registry.create_network(&new).await.refused()?;
    ensure!(matches!(error, RegistryError::NotReserved(_)), "{error}");
    ensure!(at.registry.networks().await?.items.is_empty());
    Ok(())
}

async fn a_name_that_is_taken_leaves_the_reservation(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("blue")).await?;
    let one = reservation("aa");
    at.registry.reserve_vni(None, &one).await?;
    let new = NewNetwork {
        reservation: Some(one.clone()),
        ..blank("blue")
    };
    let error = at.registry.create_network(&new).await.refused()?;
    ensure!(matches!(error, RegistryError::NetworkExists(_)), "{error}");
    ensure!(at.registry.reservations(NodeId::new(7)).await? == [one]);
    Ok(())
}

async fn reserved_addresses_are_nobodys(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let kept: IpAddr = "10.1.0.2".parse()?;
    let new = NewNetwork {
        subnets: vec!["10.1.0.0/30".parse()?],
        reserved: vec![kept, "10.1.0.1".parse()?],
        ..blank("blue")
    };
    let record = at.registry.create_network(&new).await?.record;
    let pool = ipam::Pool::of(&record);
    for want in [ipam::Want::Address(kept), ipam::Want::Any(ipam::Family::V4)] {
        let owner = owner(NodeId::new(7));
        let given = at.ipam.allocate(&pool, &want, &owner).await;
        ensure!(given.is_err(), "{want:?}: {given:?}");
    }
    // The gateway is the gateway's, also if it was to be kept.
    let holder = at.ipam.holder(record.vni, "10.1.0.1".parse()?).await?;
    ensure!(holder.context("no gateway")?.endpoint == "gateway");
    Ok(())
}

async fn an_address_is_handed_over_on_its_host(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let here = NodeId::random();
    let (lent, endpoint) = (owner(here), owner(here));
    let lease = at.ipam.allocate(&net.pool, &net.any(), &lent).await?;
    let hand = |to| at.ipam.hand_over(net.vni, lease.ip, to);
    let elsewhere = owner(NodeId::random());
    let error = hand(&elsewhere).await.refused()?;
    ensure!(matches!(error, IpamError::Taken { .. }), "{error}");
    let handed = hand(&endpoint).await?;
    ensure!(handed.ip == lease.ip && handed.nonce != lease.nonce);
    ensure!(hand(&endpoint).await? == handed, "twice");
    let held = at.ipam.held(net.vni, here).await?;
    ensure!(
        held.len() == 1 && held[0].1.is_held_by(&endpoint),
        "{held:?}"
    );
    // By the claim of before it cannot be released any more.
    let nonce = Some(lease.nonce);
    let late = at.ipam.release(net.vni, lease.ip, &lent, nonce, None).await;
    ensure!(late.is_err(), "{late:?}");
    let free: IpAddr = "10.1.200.200".parse()?;
    let error = at.ipam.hand_over(net.vni, free, &endpoint).await;
    ensure!(matches!(error.refused()?, IpamError::NotHeld(_)));
    Ok(())
}

async fn an_endpoint_is_described_anew(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("one").await?;
    let (path, mut record) = net.claimed(node).await?;
    ensure!(
        !at.registry.describe_endpoint(&path, &record).await?,
        "it is not there"
    );
    at.registry.publish_endpoint(&path, &record).await?;
    let revision = || async {
        let key = at.keys.revision(path.net, path.node);
        let pair = at.client.get(&key).await?.value.context("no revision")?;
        let value: serde_json::Value = serde_json::from_slice(&pair.value)?;
        anyhow::Ok((value["rev"].as_u64(), value["endpoints"].as_u64()))
    };
    let before = revision().await?;
    ensure!(at.registry.describe_endpoint(&path, &record).await?);
    ensure!(revision().await? == before, "nothing has changed");
    record.name = "renamed".to_owned();
    record.container = Some("abc".to_owned());
    ensure!(at.registry.describe_endpoint(&path, &record).await?);
    let after = revision().await?;
    ensure!(
        after.0 > before.0 && after.1 == before.1,
        "{before:?}, {after:?}"
    );
    let listed = at.registry.endpoints(Default::default()).await?.items;
    ensure!(
        listed.len() == 1 && listed[0].record == record,
        "{listed:?}"
    );
    record.ip4 = Some("10.1.9.9".parse()?);
    let error = at.registry.describe_endpoint(&path, &record).await;
    ensure!(matches!(error.refused()?, RegistryError::EndpointExists(_)));
    Ok(())
}

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use overlay_agent::ipam::{Family, IpamError, Pool, Want, allocate, release};
use overlay_agent::store::registry::NewNetwork;
use overlay_agent::store::schema::{NodeId, Nonce};

use super::networks::{blank, join_all};
use super::publish::owner;
use super::{Place, Refused as _};

super::cases![
    a_wanted_address,
    addresses_no_host_may_have,
    both_families,
    no_address_twice_until_none_is_left,
    a_nearly_full_network,
    release_is_for_the_owner,
    no_claim_without_network,
];

async fn pool(at: &Place, subnets: &[&str], gateway: Option<&str>) -> Result<Pool> {
    at.registry.init().await?;
    let new = NewNetwork {
        subnets: subnets.iter().map(|s| s.parse().unwrap()).collect(),
        gateways: gateway.iter().map(|ip| ip.parse().unwrap()).collect(),
        ..blank("blue")
    };
    Ok(Pool::of(&at.registry.create_network(&new).await?.record))
}

async fn a_wanted_address(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    let want = Want::Address("10.1.0.7".parse()?);
    let (first, second) = (owner(NodeId::random()), owner(NodeId::random()));
    let lease = allocate(&at.registry, &pool, want, &first).await?;
    ensure!(lease.ip == "10.1.0.7".parse::<IpAddr>()?);
    ensure!(allocate(&at.registry, &pool, want, &first).await? == lease);
    let error = allocate(&at.registry, &pool, want, &second)
        .await
        .refused()?;
    ensure!(matches!(&error, IpamError::Taken { by: Some(by), .. } if by.is_held_by(&first)));
    ensure!(
        error.to_string().contains(first.endpoint.as_str()),
        "{error}"
    );
    Ok(())
}

async fn addresses_no_host_may_have(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], Some("10.1.0.1")).await?;
    let owner = owner(NodeId::random());
    for ip in ["10.1.0.0", "10.1.0.1", "10.1.0.255", "10.1.1.1", "fd00::1"] {
        let want = Want::Address(ip.parse()?);
        ensure!(
            allocate(&at.registry, &pool, want, &owner).await.is_err(),
            "{ip}"
        );
    }
    let error = allocate(&at.registry, &pool, Want::Any(Family::V6), &owner)
        .await
        .refused()?;
    ensure!(matches!(error, IpamError::NoSubnet { .. }), "{error:?}");
    Ok(())
}

async fn both_families(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/16", "fd00:1::/64"], None).await?;
    let owner = owner(NodeId::random());
    for family in [Family::V4, Family::V6] {
        let lease = allocate(&at.registry, &pool, Want::Any(family), &owner).await?;
        pool.check(lease.ip)?;
        ensure!(Family::of(lease.ip) == family);
        ensure!(
            release(
                &at.registry,
                pool.net(),
                lease.ip,
                &owner,
                Some(lease.nonce)
            )
            .await?
        );
    }
    // Those of the two gateways.
    let left = at.client.keys(&at.keys.addresses_of(pool.net())).await?;
    ensure!(left.value.len() == 2, "{left:?}");
    Ok(())
}

/// Eight hosts at once ask for more than there is: 28 of 30 hosts, the gateway's and another less.
async fn no_address_twice_until_none_is_left(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/27"], Some("10.1.0.1")).await?;
    let first = owner(NodeId::random());
    allocate(
        &at.registry,
        &pool,
        Want::Address("10.1.0.9".parse()?),
        &first,
    )
    .await?;
    let host = async || {
        let node = NodeId::random();
        let mut given = Vec::new();
        loop {
            match allocate(&at.registry, &pool, Want::Any(Family::V4), &owner(node)).await {
                Ok(lease) => given.push(lease.ip),
                Err(IpamError::Exhausted { .. }) => return Ok(given),
                Err(error) => return Err(error),
            }
        }
    };
    let mut all = Vec::new();
    for given in join_all((0..8).map(|_| host())).await {
        all.extend(given?);
    }
    let unique: BTreeSet<_> = all.iter().collect();
    ensure!(
        all.len() == 28 && unique.len() == 28,
        "{} given, {} unique",
        all.len(),
        unique.len()
    );
    Ok(())
}

/// The one address that is left in four blocks is found.
async fn a_nearly_full_network(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/22"], None).await?;
    let left: IpAddr = "10.1.2.77".parse()?;
    let owner = owner(NodeId::random());
    let mut ops = Vec::new();
    for low in 0..1024u32 {
        let ip = IpAddr::from(std::net::Ipv4Addr::from(0x0a01_0000 + low));
        if pool.check(ip).is_ok() && ip != left {
            let key = at.keys.address(pool.net(), ip);
            ops.push(overlay_agent::store::client::TxnOp::set(key, b"{}"));
        }
    }
    for batch in ops.chunks(64) {
        at.client.txn("fill", batch).await?;
    }
    let lease = allocate(&at.registry, &pool, Want::Any(Family::V4), &owner).await?;
    ensure!(lease.ip == left, "{}", lease.ip);
    Ok(())
}

async fn release_is_for_the_owner(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    let node = NodeId::random();
    let (ours, other) = (owner(node), owner(node));
    let lease = allocate(&at.registry, &pool, Want::Any(Family::V4), &ours).await?;
    let free = async |who, nonce| release(&at.registry, pool.net(), lease.ip, who, nonce).await;
    for (who, nonce) in [(&other, None), (&ours, Some(Nonce::random()))] {
        let error = free(who, nonce).await.refused()?;
        ensure!(matches!(error, IpamError::NotOurs { .. }), "{error:?}");
    }
    ensure!(free(&ours, Some(lease.nonce)).await?);
    ensure!(!free(&ours, None).await?, "released twice");
    Ok(())
}

async fn no_claim_without_network(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    at.registry.delete_network("blue").await?;
    let owner = owner(NodeId::random());
    for want in [Want::Any(Family::V4), Want::Address("10.1.0.7".parse()?)] {
        let error = allocate(&at.registry, &pool, want, &owner)
            .await
            .refused()?;
        ensure!(matches!(error, IpamError::NoSuchNetwork(_)), "{error:?}");
    }
    ensure!(
        at.client
            .keys(&at.keys.addresses_of(pool.net()))
            .await?
            .value
            .is_empty()
    );
    Ok(())
}

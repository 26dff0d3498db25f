use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use overlay_agent::ipam::{Allocator, Family, Former, IpamError, Pool, Want};
use overlay_agent::store::registry::NewNetwork;
use overlay_agent::store::schema::{NodeId, Nonce, Owner};

use super::networks::{blank, join_all};
use super::publish::{Net, owner};
use super::{Place, Refused as _};

super::cases![
    a_wanted_address,
    addresses_no_host_may_have,
    both_families,
    no_address_twice_until_none_is_left,
    a_nearly_full_network,
    release_is_for_the_owner,
    a_released_address_cools_down,
    the_longest_released_is_taken_when_nothing_else_is_left,
    a_name_has_its_address_again,
    what_came_into_use_is_not_reclaimed,
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
    let lease = at.ipam.allocate(&pool, &want, &first).await?;
    ensure!(lease.ip == "10.1.0.7".parse::<IpAddr>()?);
    ensure!(at.ipam.allocate(&pool, &want, &first).await? == lease);
    let error = at.ipam.allocate(&pool, &want, &second).await.refused()?;
    ensure!(matches!(&error, IpamError::Taken { by: Some(by), .. } if by.is_held_by(&first)));
    ensure!(
        error.to_string().contains(&first.endpoint.to_string()),
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
            at.ipam.allocate(&pool, &want, &owner).await.is_err(),
            "{ip}"
        );
    }
    let error = at
        .ipam
        .allocate(&pool, &Want::Any(Family::V6), &owner)
        .await
        .refused()?;
    ensure!(matches!(error, IpamError::NoSubnet { .. }), "{error:?}");
    Ok(())
}

async fn both_families(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/16", "fd00:1::/64"], None).await?;
    let owner = owner(NodeId::random());
    for family in [Family::V4, Family::V6] {
        let lease = at.ipam.allocate(&pool, &Want::Any(family), &owner).await?;
        pool.check(lease.ip)?;
        ensure!(Family::of(lease.ip) == family);
        ensure!(
            at.ipam
                .free(pool.net(), lease.ip, &owner, Some(lease.nonce))
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
    let wanted = Want::Address("10.1.0.9".parse()?);
    at.ipam.allocate(&pool, &wanted, &first).await?;
    let host = async || {
        let (node, ipam) = (NodeId::random(), Allocator::new(&at.registry));
        let mut given = Vec::new();
        loop {
            match ipam
                .allocate(&pool, &Want::Any(Family::V4), &owner(node))
                .await
            {
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
    let lease = at
        .ipam
        .allocate(&pool, &Want::Any(Family::V4), &owner)
        .await?;
    ensure!(lease.ip == left, "{}", lease.ip);
    Ok(())
}

async fn release_is_for_the_owner(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    let node = NodeId::random();
    let (ours, other) = (owner(node), owner(node));
    let lease = at
        .ipam
        .allocate(&pool, &Want::Any(Family::V4), &ours)
        .await?;
    let free = async |who, nonce| at.ipam.free(pool.net(), lease.ip, who, nonce).await;
    for (who, nonce) in [(&other, None), (&ours, Some(Nonce::random()))] {
        let error = free(who, nonce).await.refused()?;
        ensure!(matches!(error, IpamError::NotOurs { .. }), "{error:?}");
    }
    ensure!(free(&ours, Some(lease.nonce)).await?);
    ensure!(!free(&ours, None).await?, "released twice");
    Ok(())
}

async fn a_released_address_cools_down(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/29"], None).await?;
    let (net, node) = (pool.net(), NodeId::random());
    let any = Want::Any(Family::V4);
    let first = owner(node);
    let lease = at.ipam.allocate(&pool, &any, &first).await?;
    let release = async || {
        at.ipam
            .release(net, lease.ip, &first, Some(lease.nonce), Some("web"))
            .await
    };
    let cooling = release().await?.context("it was not held")?;
    ensure!(
        cooling.ip == lease.ip && release().await?.is_none(),
        "twice"
    );
    ensure!(at.ipam.holder(net, lease.ip).await?.is_none());
    ensure!(at.ipam.held(net, node).await?.is_empty());
    let handed = at.ipam.hand_over(net, lease.ip, &first).await.refused()?;
    ensure!(matches!(handed, IpamError::NotHeld(_)), "{handed}");
    // The others of the subnet first.
    for _ in 0..4 {
        let other = at.ipam.allocate(&pool, &any, &owner(node)).await?;
        ensure!(other.ip != lease.ip, "given to somebody else at once");
    }
    // Who asks for just this one may have it, and then it is not deleted.
    let second = owner(NodeId::random());
    let named = at
        .ipam
        .allocate(&pool, &Want::Address(lease.ip), &second)
        .await?;
    at.ipam.reap(std::slice::from_ref(&cooling)).await?;
    let held = at.ipam.holder(net, lease.ip).await?;
    ensure!(held.is_some_and(|held| held.is_held_by(&second)));
    let again = at
        .ipam
        .release(net, named.ip, &second, Some(named.nonce), None);
    let again = again.await?.context("it was not held")?;
    // Nor does it cool down for a shorter time because somebody had it before.
    let left = async || at.client.get(&at.keys.address(net, lease.ip)).await;
    at.ipam.reap(&[cooling]).await?;
    ensure!(left().await?.value.is_some(), "deleted for another's sake");
    at.ipam.reap(std::slice::from_ref(&again)).await?;
    at.ipam.reap(&[again]).await?;
    let left = left().await?.value;
    ensure!(left.is_none(), "{left:?}");
    Ok(())
}

async fn the_longest_released_is_taken_when_nothing_else_is_left(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/29"], None).await?;
    let (net, any) = (pool.net(), Want::Any(Family::V4));
    let mut leases = Vec::new();
    for _ in 0..5 {
        let owner = owner(NodeId::random());
        leases.push((at.ipam.allocate(&pool, &any, &owner).await?, owner));
    }
    let none = at
        .ipam
        .allocate(&pool, &any, &owner(NodeId::random()))
        .await;
    ensure!(matches!(none.refused()?, IpamError::Exhausted { .. }));
    for (lease, owner) in &leases[1..3] {
        at.ipam.release(net, lease.ip, owner, None, None).await?;
    }
    // The second one seems to have been free for an hour.
    let key = at.keys.address(net, leases[2].0.ip);
    let pair = at.client.get(&key).await?.value.context("no record")?;
    let mut record: serde_json::Value = serde_json::from_slice(&pair.value)?;
    let released = record["released"].as_u64().context("not released")?;
    record["released"] = (released - 3600).into();
    at.client.put(&key, serde_json::to_vec(&record)?).await?;
    for expected in [2, 1] {
        let lease = at
            .ipam
            .allocate(&pool, &any, &owner(NodeId::random()))
            .await?;
        ensure!(lease.ip == leases[expected].0.ip, "{lease:?}, {leases:?}");
    }
    Ok(())
}

async fn a_name_has_its_address_again(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    let (net, node) = (pool.net(), NodeId::random());
    let any = Want::Any(Family::V4);
    let again = |ip, name: &str, index| {
        Want::Again(Former {
            ip,
            name: name.to_owned(),
            index,
        })
    };
    let web = owner(node);
    let lease = at.ipam.allocate(&pool, &any, &web).await?;
    let release = async |owner: Owner, name| {
        let released = at.ipam.release(net, lease.ip, &owner, None, name).await?;
        released.context("it was not held")
    };
    let index = release(web, Some("web")).await?.index;
    // While it cools down it is for the one of that name only, also with what is not true any more.
    let other = owner(node);
    let given = at
        .ipam
        .allocate(&pool, &again(lease.ip, "db", 0), &other)
        .await?;
    ensure!(given.ip != lease.ip, "given to another");
    for index in [index, index, 0] {
        let web = owner(node);
        let given = at
            .ipam
            .allocate(&pool, &again(lease.ip, "web", index), &web)
            .await?;
        ensure!(given.ip == lease.ip, "{given:?}");
        let db = owner(node);
        let other = at
            .ipam
            .allocate(&pool, &again(lease.ip, "web", index), &db)
            .await?;
        ensure!(other.ip != lease.ip, "held by another of that name");
        release(web, Some("web")).await?;
    }
    // Deleted meanwhile.
    at.client.delete(&at.keys.address(net, lease.ip)).await?;
    let web = owner(node);
    let given = at
        .ipam
        .allocate(&pool, &again(lease.ip, "web", index), &web)
        .await?;
    ensure!(given.ip == lease.ip, "{given:?}");
    Ok(())
}

/// What was nobody's when it was looked at may be somebody's by the time that it is freed.
async fn what_came_into_use_is_not_reclaimed(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let mut claimed = Vec::new();
    for _ in 0..3 {
        let (path, record) = net.claimed(node).await?;
        let ip = record.addresses().next().context("no address")?;
        claimed.push((path, record, ip));
    }
    let [leaked, published, handed] = &claimed[..] else {
        anyhow::bail!("not three");
    };
    let survey = at.registry.survey(Some(net.vni), node).await?;
    let mut unused = survey.addresses;
    unused.retain(|address| claimed.iter().any(|(_, _, ip)| *ip == address.ip));
    ensure!(unused.len() == 3, "{unused:?}");
    at.registry
        .publish_endpoint(&published.0, &published.1)
        .await?;
    at.ipam.hand_over(net.vni, handed.2, &owner(node)).await?;
    let freed = at.registry.reclaim(&unused).await?;
    ensure!(freed.len() == 1 && freed[0].ip == leaked.2, "{freed:?}");
    for (_, _, ip) in [published, handed] {
        let holder = at.ipam.holder(net.vni, *ip).await?;
        ensure!(holder.is_some(), "{ip} is free");
    }
    let holder = at.ipam.holder(net.vni, leaked.2).await?;
    ensure!(holder.is_none(), "{holder:?}");
    Ok(())
}

async fn no_claim_without_network(at: &Place) -> Result<()> {
    let pool = pool(at, &["10.1.0.0/24"], None).await?;
    at.registry.delete_network("blue").await?;
    let owner = owner(NodeId::random());
    for want in [Want::Any(Family::V4), Want::Address("10.1.0.7".parse()?)] {
        let error = at.ipam.allocate(&pool, &want, &owner).await.refused()?;
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

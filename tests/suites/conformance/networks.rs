use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use overlay_agent::store::RegistryError;
use overlay_agent::store::registry::NewNetwork;
use overlay_agent::store::schema::{BUCKETS, FloodMode, RuleError, subnets};
use overlay_common::net::Vni;

use super::{Place, Refused as _};

super::cases![
    init_can_be_repeated,
    another_layout_is_refused,
    a_network_is_made_whole,
    values_left_open_are_chosen,
    names_and_vnis_are_taken_once,
    nonsense_is_refused_and_leaves_nothing,
    one_subnet_in_two_networks,
    many_at_once_get_values_of_their_own,
    a_corrupt_network_is_reported_alone,
    a_removed_network_leaves_nothing,
];

pub(super) fn blank(name: &str) -> NewNetwork {
    NewNetwork {
        name: name.to_owned(),
        vni: None,
        subnets: Vec::new(),
        gateways: Vec::new(),
        mtu: None,
        flood: FloodMode::Drop,
        flood_rate: None,
        internal: false,
        vlan: false,
        ranges: Vec::new(),
        exclude: Vec::new(),
        avoid: Vec::new(),
        reserved: Vec::new(),
        reservation: None,
    }
}

async fn init_can_be_repeated(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    at.registry.init().await?;
    ensure!(at.client.list(&at.config.prefix).await?.value == before);
    let keys: Vec<_> = before.iter().map(|pair| pair.key.as_str()).collect();
    let wanted = [
        at.keys.endpoints(),
        at.keys.networks(),
        at.keys.nodes(),
        at.keys.schema(),
    ];
    ensure!(keys == wanted, "{keys:?}");
    Ok(())
}

async fn another_layout_is_refused(at: &Place) -> Result<()> {
    at.client
        .put(&at.keys.schema(), br#"{"version":2}"#.to_vec())
        .await?;
    let error = at.registry.init().await.refused()?;
    ensure!(
        matches!(error, RegistryError::SchemaVersion { found: 2, .. }),
        "{error:?}"
    );
    Ok(())
}

async fn a_network_is_made_whole(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let new = NewNetwork {
        vni: Vni::new(42),
        subnets: vec!["10.1.0.0/24".parse()?, "fd00::/64".parse()?],
        gateways: vec!["10.1.0.1".parse()?],
        mtu: Some(1400),
        flood: FloodMode::Replicate,
        internal: true,
        ..blank("blue")
    };
    let made = at.registry.create_network(&new).await?;
    let listed = at.registry.networks().await?;
    ensure!(
        listed.items == [made.clone()] && listed.bad.is_empty(),
        "{listed:?}"
    );
    ensure!(at.registry.network("blue").await? == made);
    let record = made.record;
    ensure!(record.vni.get() == 42 && record.subnets == new.subnets && record.options.internal);
    ensure!(record.mtu == Some(1400) && record.flood == FloodMode::Replicate);
    let pair = at.client.get(&at.keys.vni(record.vni)).await?.value;
    ensure!(pair.is_some_and(|pair| pair.value == br#""blue""#));
    // The second subnet's is the first address that a host may have.
    let gateways = ["10.1.0.1", "fd00::1"].map(|ip| ip.parse().unwrap());
    ensure!(record.gateway == Some(gateways[0]) && record.options.gateways == [gateways[1]]);
    let claimed = at.client.keys(&at.keys.addresses_of(record.vni)).await?;
    let wanted = gateways.map(|ip| at.keys.address(record.vni, ip));
    ensure!(claimed.value == wanted, "{claimed:?}");
    let index = at.client.list(&at.keys.index_of(record.vni)).await?.value;
    ensure!(index.len() as u64 == BUCKETS && index.iter().all(|pair| pair.value == br#""""#));
    Ok(())
}

async fn values_left_open_are_chosen(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let taken = NewNetwork {
        vni: Vni::new(2),
        subnets: vec!["10.64.9.0/24".parse()?],
        ..blank("a")
    };
    at.registry.create_network(&taken).await?;
    for (name, vni, subnet) in [("b", 1, "10.65.0.0/16"), ("c", 3, "10.66.0.0/16")] {
        let record = at.registry.create_network(&blank(name)).await?.record;
        ensure!(
            record.vni.get() == vni && record.subnets == [subnet.parse()?],
            "{record:?}"
        );
    }
    Ok(())
}

async fn names_and_vnis_are_taken_once(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let blue = NewNetwork {
        vni: Vni::new(7),
        ..blank("blue")
    };
    at.registry.create_network(&blue).await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    let error = at.registry.create_network(&blue).await.refused()?;
    ensure!(
        matches!(&error, RegistryError::NetworkExists(name) if name == "blue"),
        "{error:?}"
    );
    let red = NewNetwork {
        name: "red".to_owned(),
        ..blue
    };
    let error = at.registry.create_network(&red).await.refused()?;
    ensure!(
        matches!(&error, RegistryError::VniTaken { by, .. } if by == "`blue`"),
        "{error:?}"
    );
    ensure!(
        at.client.list(&at.config.prefix).await?.value == before,
        "something was left"
    );
    Ok(())
}

async fn nonsense_is_refused_and_leaves_nothing(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    let subnets = |text: &str| NewNetwork {
        subnets: text.split(' ').map(|s| s.parse().unwrap()).collect(),
        ..blank("a")
    };
    let with_gateway = NewNetwork {
        gateways: vec!["10.2.0.1".parse()?],
        ..subnets("10.1.0.0/24")
    };
    for new in [
        blank("a/b"),
        blank(""),
        subnets("10.1.0.1/24"),
        subnets("10.0.0.0/8 10.1.0.0/16"),
        with_gateway,
        NewNetwork {
            mtu: Some(100),
            ..blank("a")
        },
    ] {
        let error = at.registry.create_network(&new).await.refused()?;
        ensure!(
            matches!(error, RegistryError::Rule(_)),
            "{new:?}: {error:?}"
        );
    }
    let error = at.registry.delete_network("../x").await.refused()?;
    ensure!(
        matches!(error, RegistryError::Rule(RuleError::Name(_))),
        "{error:?}"
    );
    let error = at.registry.delete_network("a").await.refused()?;
    ensure!(
        matches!(error, RegistryError::NoSuchNetwork(_)),
        "{error:?}"
    );
    ensure!(at.client.list(&at.config.prefix).await?.value == before);
    Ok(())
}

async fn one_subnet_in_two_networks(at: &Place) -> Result<()> {
    at.registry.init().await?;
    for name in ["a", "b"] {
        let new = NewNetwork {
            subnets: vec!["10.1.0.0/24".parse()?],
            ..blank(name)
        };
        at.registry.create_network(&new).await?;
    }
    Ok(())
}

async fn many_at_once_get_values_of_their_own(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let names: Vec<_> = (0..8).map(|n| blank(&format!("net-{n}"))).collect();
    let made = names.iter().map(|new| at.registry.create_network(new));
    let mut tasks = Vec::new();
    for one in made {
        tasks.push(one);
    }
    for result in join_all(tasks).await {
        result?;
    }
    let networks = at.registry.networks().await?.items;
    let vnis: BTreeSet<_> = networks.iter().map(|n| n.record.vni).collect();
    ensure!(vnis.len() == 8, "{networks:?}");
    let all: Vec<_> = networks.iter().flat_map(|n| &n.record.subnets).collect();
    for (n, a) in all.iter().enumerate() {
        ensure!(all[..n].iter().all(|b| !subnets::overlap(a, b)), "{all:?}");
    }
    Ok(())
}

/// Runs futures side by side.
pub(super) async fn join_all<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let mut pinned: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = pinned.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in pinned.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *slot = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn a_corrupt_network_is_reported_alone(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("good")).await?;
    at.client
        .put(&at.keys.network("bad"), b"{".to_vec())
        .await?;
    let listed = at.registry.networks().await?;
    ensure!(listed.items.len() == 1 && listed.items[0].name == "good");
    ensure!(listed.bad.len() == 1 && listed.bad[0].key == at.keys.network("bad"));
    let error = at.registry.network("bad").await.refused()?;
    ensure!(matches!(error, RegistryError::Corrupt(_)), "{error:?}");
    Ok(())
}

async fn a_removed_network_leaves_nothing(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("other")).await?;
    let before = at.client.list(&at.config.prefix).await?.value;
    let new = NewNetwork {
        subnets: vec!["10.1.0.0/24".parse()?],
        gateways: vec!["10.1.0.1".parse()?],
        ..blank("blue")
    };
    at.registry.create_network(&new).await?;
    at.registry.delete_network("blue").await?;
    ensure!(at.client.list(&at.config.prefix).await?.value == before);
    at.registry.create_network(&new).await?;
    Ok(())
}

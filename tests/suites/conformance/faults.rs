//! Writes whose answer is lost: applied, and the client cannot know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use overlay_agent::ipam::{Family, Want};
use overlay_agent::store::schema::{NodeId, Revision};
use overlay_agent::store::{ErrorKind, StoreConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::networks::blank;
use super::publish::{Net, owner};
use super::{Place, Refused as _};

super::cases![
    a_lost_answer_is_an_unknown_outcome,
    a_cut_off_read_is_sent_again,
    a_network_is_made_once,
    a_network_is_removed_once,
    an_address_is_claimed_once,
    an_endpoint_is_counted_once,
    a_node_is_added_once,
];

/// A store behind a relay that can swallow answers.
struct Lossy {
    place: Place,
    /// How many answers to writes are still to be swallowed.
    swallow: Arc<AtomicUsize>,
    reads_too: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Lossy {
    /// Shares the prefix of `at`.
    async fn new(at: &Place) -> Result<Self> {
        let address = StoreConfig::from_parts(Some(&at.url), |_| None)?
            .address
            .to_string();
        let upstream = address
            .strip_prefix("http://")
            .context("a plain TCP store is needed")?;
        let upstream = tokio::net::lookup_host(upstream)
            .await?
            .next()
            .context("no address")?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let swallow = Arc::new(AtomicUsize::new(0));
        let reads_too = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&swallow), Arc::clone(&reads_too));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, upstream, shared.clone()));
            }
        });
        Ok(Self {
            place: Place::at(&url, &at.config.prefix)?,
            swallow,
            reads_too,
            task,
        })
    }

    /// Swallows the answers to the next `count` writes.
    fn lose(&self, count: usize) {
        self.swallow.store(count, Ordering::SeqCst);
    }

    fn all_lost(&self) -> bool {
        self.swallow.load(Ordering::SeqCst) == 0
    }
}

/// Passes bytes on; ends the connection in place of an answer that is to be lost. Requests and
/// answers of these tests fit one read each.
async fn relay(
    mut client: TcpStream,
    upstream: SocketAddr,
    (swallow, reads_too): (Arc<AtomicUsize>, Arc<AtomicBool>),
) -> Result<()> {
    let mut store = TcpStream::connect(upstream).await?;
    let (mut from_client, mut from_store) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut may_be_lost = false;
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => {
                let request = &from_client[..read?];
                if request.is_empty() {
                    return Ok(());
                }
                // A transaction that only reads is a PUT as well.
                let text = String::from_utf8_lossy(request);
                let writes = ["cas", "\"set\"", "delete", "lock"];
                may_be_lost = reads_too.load(Ordering::SeqCst)
                    || text.starts_with("PUT") && writes.iter().any(|verb| text.contains(verb));
                store.write_all(request).await?;
            }
            read = store.read(&mut from_store) => {
                let answer = &from_store[..read?];
                let armed = |left: usize| left.checked_sub(1);
                if answer.is_empty()
                    || may_be_lost
                        && swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed).is_ok()
                {
                    return Ok(());
                }
                client.write_all(answer).await?;
            }
        }
    }
}

async fn a_lost_answer_is_an_unknown_outcome(at: &Place) -> Result<()> {
    let lossy = Lossy::new(at).await?;
    lossy.lose(1);
    let key = at.key("a");
    let error = lossy
        .place
        .client
        .cas(&key, b"1".to_vec(), 0)
        .await
        .refused()?;
    ensure!(error.is_unknown_outcome(), "{error:?}");
    ensure!(error.kind() == ErrorKind::Interrupted && !lossy.place.client.health().view().up);
    ensure!(
        at.client.get(&key).await?.value.is_some(),
        "the relay lost the request"
    );
    ensure!(lossy.place.client.get(&key).await?.value.is_some());
    ensure!(lossy.place.client.health().view().up);
    Ok(())
}

async fn a_cut_off_read_is_sent_again(at: &Place) -> Result<()> {
    at.client.put(&at.key("a"), b"1".to_vec()).await?;
    let lossy = Lossy::new(at).await?;
    lossy.reads_too.store(true, Ordering::SeqCst);
    lossy.lose(1);
    let pair = lossy.place.client.get(&at.key("a")).await?.value;
    ensure!(lossy.all_lost() && pair.is_some_and(|pair| pair.value == b"1"));
    lossy.lose(2);
    let error = lossy.place.client.get(&at.key("a")).await.refused()?;
    ensure!(error.kind() == ErrorKind::Interrupted, "{error:?}");
    Ok(())
}

async fn a_network_is_made_once(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let lossy = Lossy::new(at).await?;
    lossy.lose(1);
    let made = lossy.place.registry.create_network(&blank("blue")).await?;
    ensure!(lossy.all_lost() && at.registry.networks().await?.items == [made]);
    Ok(())
}

async fn a_network_is_removed_once(at: &Place) -> Result<()> {
    at.registry.init().await?;
    at.registry.create_network(&blank("blue")).await?;
    let lossy = Lossy::new(at).await?;
    lossy.lose(1);
    lossy.place.registry.delete_network("blue").await?;
    ensure!(lossy.all_lost() && at.registry.networks().await?.items.is_empty());
    Ok(())
}

async fn an_address_is_claimed_once(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let lossy = Lossy::new(at).await?;
    let ipam = &lossy.place.ipam;
    let gateways = at.client.keys(&at.keys.addresses_of(net.vni)).await?.value;
    for want in [Want::Any(Family::V4), Want::Address("10.1.0.7".parse()?)] {
        let owner = owner(NodeId::random());
        lossy.lose(2);
        let lease = ipam.allocate(&net.pool, &want, &owner).await?;
        ensure!(lossy.all_lost());
        let mut claims = at.client.keys(&at.keys.addresses_of(net.vni)).await?.value;
        claims.retain(|key| !gateways.contains(key));
        ensure!(claims == [at.keys.address(net.vni, lease.ip)], "{claims:?}");
        lossy.lose(1);
        ensure!(
            ipam.free(net.vni, lease.ip, &owner, Some(lease.nonce))
                .await?
        );
        ensure!(lossy.all_lost());
        let lease = ipam.allocate(&net.pool, &want, &owner).await?;
        lossy.lose(1);
        let released = ipam.release(net.vni, lease.ip, &owner, Some(lease.nonce), None);
        let released = released.await?.context("it was not held")?;
        ensure!(lossy.all_lost() && ipam.holder(net.vni, lease.ip).await?.is_none());
        lossy.lose(1);
        ipam.reap(&[released]).await?;
        ensure!(lossy.all_lost());
        let left = at.client.keys(&at.keys.addresses_of(net.vni)).await?.value;
        ensure!(left == gateways, "{left:?}");
    }
    Ok(())
}

async fn an_endpoint_is_counted_once(at: &Place) -> Result<()> {
    let net = Net::new(at, "blue").await?;
    let node = net.node("n").await?;
    let lossy = Lossy::new(at).await?;
    let (path, record) = net.publish(node).await?;
    at.registry.withdraw_endpoint(&path).await?;
    lossy.lose(1);
    lossy
        .place
        .registry
        .publish_endpoint(&path, &record)
        .await?;
    ensure!(
        lossy.all_lost()
            && net.revision(node).await?
                == Revision {
                    rev: 3,
                    endpoints: 1
                }
    );
    lossy.lose(1);
    ensure!(lossy.place.registry.withdraw_endpoint(&path).await?);
    ensure!(
        lossy.all_lost()
            && net.revision(node).await?
                == Revision {
                    rev: 4,
                    endpoints: 0
                }
    );
    Ok(())
}

async fn a_node_is_added_once(at: &Place) -> Result<()> {
    at.registry.init().await?;
    let lossy = Lossy::new(at).await?;
    lossy.lose(1);
    let node = lossy
        .place
        .registry
        .add_node("n", "192.0.2.1".parse()?, 4789)
        .await?;
    ensure!(lossy.all_lost() && at.registry.nodes().await?.items == [node]);
    Ok(())
}

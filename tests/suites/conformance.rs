//! What the agent needs of its store. The same cases run against a real Consul and against the
//! embedded store, so that one client and one code path are enough.

mod crowd;
mod engine;
mod faults;
mod ipam;
mod kv;
mod members;
mod networks;
mod nodes;
mod publish;
mod session;
mod txn;
mod versions;
mod watch;

use std::fmt::Debug;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, bail};
use overlay_agent::ipam::Allocator;
use overlay_agent::store::client::TxnOp;
use overlay_agent::store::schema::Keys;
use overlay_agent::store::{Client, Registry, StoreConfig, StoreError};
use tests::consul::Consul;
use tests::netns::Netns;
use tests::workdir::WorkDir;

use super::store_http::embedded::Running;

/// A corner of the store that one case has to itself.
struct Place {
    url: String,
    config: StoreConfig,
    client: Client,
    keys: Keys,
    registry: Registry,
    ipam: Allocator,
}

impl Place {
    fn new(url: &str) -> Result<Self> {
        let prefix = format!("conformance/{:016x}/", rand::random::<u64>());
        Self::at(url, &prefix)
    }

    fn at(url: &str, prefix: &str) -> Result<Self> {
        let config = StoreConfig::from_parts(Some(url), |_| None)?.with_prefix(prefix)?;
        let client = Client::new(&config)?;
        let keys = Keys::new(&config.prefix);
        let registry = Registry::new(client.clone(), keys.clone());
        Ok(Self {
            url: url.to_owned(),
            ipam: Allocator::new(&registry),
            registry,
            client,
            keys,
            config,
        })
    }

    /// Deletes everything of the case.
    async fn clear(&self) -> Result<(), StoreError> {
        let all = [TxnOp::delete_tree(&*self.config.prefix)];
        let result = self.client.txn("clean up", &all).await;
        match result {
            Ok(_) => Ok(()),
            // What the case did may have cost the connection.
            Err(error) if error.is_unknown_outcome() => {
                self.client.txn("clean up", &all).await.map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// A key of no meaning to the schema.
    fn key(&self, name: &str) -> String {
        format!("{}free/{name}", self.config.prefix)
    }
}

/// For what must not work: fails the case when it did, where a panic would end all cases.
trait Refused<E> {
    fn refused(self) -> Result<E>;
}

impl<T: Debug, E> Refused<E> for Result<T, E> {
    fn refused(self) -> Result<E> {
        match self {
            Ok(done) => bail!("this should have been refused: {done:?}"),
            Err(error) => Ok(error),
        }
    }
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One named case.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    run: fn(&Place) -> Pending<'_>,
}

/// Names the async functions of a module as cases.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: |place| Box::pin($name(place)),
        }),+];
    };
}
use cases;

/// Longest time for one case.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs every case against the store at `store_url` (`consul://HOST:PORT`), each under a prefix of
/// its own, and names all that failed. Leaves nothing in the store.
fn run_all(store_url: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let all = [
        kv::CASES,
        txn::CASES,
        session::CASES,
        networks::CASES,
        nodes::CASES,
        versions::CASES,
        publish::CASES,
        ipam::CASES,
        engine::CASES,
        watch::CASES,
        members::CASES,
        faults::CASES,
    ];
    let mut failed = Vec::new();
    for case in all.concat() {
        let place = Place::new(store_url)?;
        let result = runtime.block_on(async {
            let result = tokio::time::timeout(LIMIT, (case.run)(&place)).await;
            place.clear().await?;
            result?
        });
        match result {
            Ok(()) => println!("ok     {}", case.name),
            Err(error) => {
                println!("FAILED {}: {error:#}", case.name);
                failed.push(format!("{}: {error:#}", case.name));
            }
        }
    }
    if !failed.is_empty() {
        bail!(
            "{} of the store's cases failed:\n{}",
            failed.len(),
            failed.join("\n")
        );
    }
    Ok(())
}

#[test]
fn the_embedded_store_is_enough() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = Running::start(&dir.path().join("store"));
    run_all(&server.base())?;
    Ok(server.stop()?)
}

#[test]
fn consul_is_enough() -> Result<()> {
    let netns = Netns::new("conform")?;
    let work = WorkDir::new("conform")?;
    let consul = Consul::start(&netns, Ipv4Addr::LOCALHOST.into(), work.path())?;
    netns.run(|| {
        run_all(&consul.url())?;
        a_crowd(&consul.url())
    })
}

fn a_crowd(store_url: &str) -> Result<()> {
    let place = Place::new(store_url)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let all = crowd::no_address_twice_at_few_requests(&place);
        tokio::time::timeout(LIMIT, all).await??;
        Ok(place.clear().await?)
    })
}

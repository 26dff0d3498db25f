//! What an idle agent costs.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tests::netns::Netns;

use crate::support::{StoreKind, World, reachable};

/// Resident memory of an idle agent stays below this.
const RESIDENT_KIB: u64 = 30 * 1024;
const IDLE: Duration = Duration::from_secs(25);

#[test]
fn idle_agent_is_small_and_quiet() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let server: SocketAddr = world
        .store
        .url()
        .trim_start_matches("http://")
        .parse()
        .context("address of the store")?;
    let relay = Relay::start(world.host(1).netns(), server)?;
    let url = format!("http://{}", relay.address);
    world.host_mut(1).start_agent(&url)?;
    let url = world.store.url();
    world.host_mut(2).start_agent(&url)?;
    world.create_network("blue", &["--subnet", "10.42.0.0/16"])?;
    let one = world.container(1, "blue", "one")?;
    let two = world.container(2, "blue", "two")?;
    reachable(&one, &two, 3)?;
    // What the changes above set off is over.
    thread::sleep(Duration::from_secs(2));

    relay
        .requests
        .lock()
        .map_err(|_| anyhow::anyhow!("relay"))?
        .clear();
    thread::sleep(IDLE);
    let requests = relay
        .requests
        .lock()
        .map_err(|_| anyhow::anyhow!("relay"))?
        .clone();
    for request in &requests {
        let blocking = request.starts_with("GET ") && request.contains("index=");
        let renewal = request.starts_with("PUT ") && request.contains("/v1/session/renew/");
        ensure!(blocking || renewal, "an idle agent asks: {request}");
    }
    ensure!(
        requests.len() <= 8,
        "{} requests: {requests:#?}",
        requests.len()
    );

    let pid = world.host_mut(1).agent()?.pid();
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("read the agent's status")?;
    let resident: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .context("no VmRSS")?
        .parse()
        .context("VmRSS")?;
    println!(
        "idle agent: {resident} KiB resident, {} requests in {IDLE:?}",
        requests.len()
    );
    ensure!(resident < RESIDENT_KIB, "{resident} KiB resident");
    Ok(())
}

/// Passes TCP on and notes the first line of every request.
struct Relay {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    fn start(netns: &Netns, server: SocketAddr) -> Result<Self> {
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind"))?;
        let address = listener.local_addr().context("address of the relay")?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&requests);
        let namespace = fs::File::open(netns.path()).context("open the namespace")?;
        thread::spawn(move || {
            // Connections are made from this thread, in the host's namespace.
            if nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(server) else {
                    continue;
                };
                let _ = relay(client, upstream, &noted);
            }
        });
        Ok(Self { address, requests })
    }
}

fn relay(client: TcpStream, server: TcpStream, noted: &Arc<Mutex<Vec<String>>>) -> Result<()> {
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let noted = Arc::clone(noted);
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = from_client.read(&mut buffer) {
            // A request's head is one write of the client, and so one read here on loopback.
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some(line) = text.lines().next()
                && line.contains(" HTTP/1.1")
                && let Ok(mut noted) = noted.lock()
            {
                noted.push(line.to_owned());
            }
            if to_server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut from_server, mut to_client) = (server, client);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Write);
    });
    Ok(())
}

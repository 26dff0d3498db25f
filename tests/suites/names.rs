//! Names of endpoints on all hosts, asked for at the service address.

use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType::{A, AAAA, PTR};
use tests::lab::Host;
use tests::traffic::ping::ping;
use tests::wait::until;

use crate::support::dns::{
    Reply, SERVICE, Upstream, ask, ask_on, ask_tcp, ask_with_room, connect, question,
};
use crate::support::{CONVERGE, Container, StoreKind, World};

/// What a person would call at once.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Two hosts whose name server out there is [`Upstream`].
struct Names {
    upstream: Upstream,
    world: World,
}

impl Names {
    fn new() -> Result<Self> {
        let mut world = World::without_agents(StoreKind::Embedded)?;
        let station = &world.store_station;
        let upstream = Upstream::start(&station.netns, station.ip)?;
        let file = world.work.path().join("resolv.conf");
        std::fs::write(&file, upstream.resolv_conf())?;
        let file = file.to_str().context("a path")?.to_owned();
        world.start_agents(&["--resolv-conf", &file])?;
        Ok(Self { upstream, world })
    }

    fn start_agent(&mut self, n: usize) -> Result<()> {
        let (url, file) = (
            self.world.store.url(),
            self.world.work.path().join("resolv.conf"),
        );
        let file = file.to_str().context("a path")?;
        let host = self.world.host_mut(n);
        host.start_agent_with(&url, &["--resolv-conf", file])
    }
}

/// Waits until a name means this.
fn becomes(from: &Container, name: &str, wanted: &Reply) -> Result<()> {
    until(CONVERGE, || {
        let said = ask(&from.netns, name, A)?;
        ensure!(said == *wanted, "{name}: {said:?}, not {wanted:?}");
        Ok(())
    })
}

fn means(from: &Container, name: &str, to: &Container) -> Result<()> {
    becomes(from, name, &Reply::of(&[&to.ip.to_string()]))
}

fn unknown() -> Reply {
    Reply::failed(ResponseCode::NXDomain)
}

#[test]
fn on_other_hosts_and_out_there() -> Result<()> {
    let Names { upstream, world } = Names::new()?;
    let subnets = ["--subnet", "10.1.0.0/24", "--subnet", "fd00:1::/64"];
    world.create_network("blue", &subnets)?;
    let web = world.container(1, "blue", "Web")?;
    let db = world.container(2, "blue", "db")?;
    for name in ["db", "DB", "db.blue", "db.blue.", "db."] {
        means(&web, name, &db)?;
    }
    means(&db, "web", &web)?;
    // Itself.
    means(&web, "web", &web)?;
    let ip6 = world.host(2).cli_json(&["endpoint", "inspect", "db"])?;
    let ip6 = ip6["ip6"].as_str().context("no IPv6 address")?.to_owned();
    ensure!(ask(&web.netns, "db", AAAA)? == Reply::of(&[&ip6]));
    ensure!(ask_tcp(&web.netns, "db", A)? == Reply::of(&[&db.ip.to_string()]));

    let [a, b, c, d] = db.ip.octets();
    let reverse = |d: u8| format!("{d}.{c}.{b}.{a}.in-addr.arpa.");
    ensure!(ask(&web.netns, &reverse(d), PTR)? == Reply::of(&["db.blue."]));
    // Nobody's address, of a network that nobody else knows.
    let before = upstream.asked();
    ensure!(ask(&web.netns, &reverse(250), PTR)? == unknown());
    ensure!(upstream.asked() == before, "the question got out");

    let out_there = Reply::of(&[&Upstream::ANSWER.to_string()]);
    ensure!(ask(&web.netns, "www.example", A)? == out_there);
    ensure!(ask_tcp(&web.netns, "other.example", A)? == out_there);
    ensure!(ask(&web.netns, "www.example", AAAA)? == Reply::of(&[]));
    ensure!(ask(&web.netns, "nobody", A)? == unknown());
    ensure!(upstream.asked() > before, "nobody asked");

    // The file is read again.
    let file = world.work.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 169.254.53.53\n")?;
    let failed = Reply::failed(ResponseCode::ServFail);
    ensure!(ask(&web.netns, "more.example", A)? == failed);
    means(&web, "db", &db)?;

    // The address is there as a host is.
    let answered = ping(&web.netns, SERVICE.ip(), 3)?;
    ensure!(answered.lost() == 0, "{answered:?}");
    Ok(())
}

/// Two networks with the same addresses and the same names, on the same hosts.
#[test]
fn two_networks_never_mix() -> Result<()> {
    let Names {
        upstream: _upstream,
        world,
    } = Names::new()?;
    let mut all = Vec::new();
    for network in ["blue", "red"] {
        let vni = if network == "blue" { "11" } else { "12" };
        world.create_network(network, &["--subnet", "10.1.0.0/24", "--vni", vni])?;
        let host = world.host(1);
        let netns = host.container(network)?;
        let ip = host.add_endpoint(network, &netns, &["--ip", "10.1.0.7", "--name", "asks"])?;
        let mac = crate::support::mac_of(&netns)?;
        let asks = Container { netns, ip, mac };
        let host = world.host(2);
        let netns = host.container(&format!("{network}-web"))?;
        let last = if network == "blue" {
            "10.1.0.8"
        } else {
            "10.1.0.9"
        };
        let ip = host.add_endpoint(network, &netns, &["--ip", last, "--name", "web"])?;
        all.push((asks, ip));
        let only = world.container(2, network, &format!("only-{network}"))?;
        means(&all[all.len() - 1].0, &format!("only-{network}"), &only)?;
    }
    let [(blue, blue_web), (red, red_web)] = &all[..] else {
        anyhow::bail!("not two");
    };
    ensure!(blue.ip == red.ip && blue_web != red_web);
    for (asks, web, other) in [(blue, blue_web, "red"), (red, red_web, "blue")] {
        becomes(asks, "web", &Reply::of(&[&web.to_string()]))?;
        for name in [format!("only-{other}"), format!("web.{other}")] {
            ensure!(ask(&asks.netns, &name, A)? == unknown(), "{name} is known");
        }
    }
    Ok(())
}

/// As the host's own resolver does: the first that answers is asked alone.
#[test]
fn servers_are_asked_in_their_order() -> Result<()> {
    let Names {
        upstream: second,
        mut world,
    } = Names::new()?;
    world.create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let web = world.container(1, "blue", "web")?;
    let station = world.lab.station("first")?;
    let first = Upstream::start(&station.netns, station.ip)?;
    let file = world.work.path().join("resolv.conf");
    let both = first.resolv_conf() + &second.resolv_conf();
    std::fs::write(file, both)?;
    let out_there = Reply::of(&[&Upstream::ANSWER.to_string()]);
    ensure!(ask(&web.netns, "www.example", A)? == out_there);
    ensure!(ask(&web.netns, "nobody", A)? == unknown());
    ensure!(first.asked() > 0 && second.asked() == 0, "not in order");
    // One that has no good answer is followed by the next, and so is a dead one.
    for name in ["a.refused.example", "b.silent.example"] {
        let before = second.asked();
        let _ = ask(&web.netns, name, A);
        ensure!(second.asked() > before, "{name}: the second was not asked");
    }
    drop(first);
    station.netns.ip(&["link", "set", "eth0", "down"])?;
    ensure!(ask(&web.netns, "more.example", A)? == out_there);
    Ok(())
}

/// Longer than a datagram holds, than a packet of the way there, than whoever asks has room for.
#[test]
fn long_answers() -> Result<()> {
    let Names {
        upstream: _upstream,
        world,
    } = Names::new()?;
    world.create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let web = world.container(1, "blue", "web")?;
    let (reply, cut) = ask_with_room(&web.netns, "many.example", None)?;
    ensure!(
        cut && reply.data.len() < Upstream::MANY,
        "{cut} {}",
        reply.data.len()
    );
    let (reply, cut) = ask_with_room(&web.netns, "many.example", Some(4096))?;
    ensure!(
        !cut && reply.data.len() == Upstream::MANY,
        "{cut} {}",
        reply.data.len()
    );
    let reply = ask_tcp(&web.netns, "many.example", A)?;
    ensure!(reply.data.len() == Upstream::MANY, "{}", reply.data.len());
    Ok(())
}

/// A container that asks without end takes nothing from another.
#[test]
fn one_asks_too_much() -> Result<()> {
    let Names {
        upstream: _upstream,
        world,
    } = Names::new()?;
    world.create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let greedy = world.container(1, "blue", "greedy")?;
    let web = world.container(1, "blue", "web")?;
    means(&web, "greedy", &greedy)?;
    let mut connections = Vec::new();
    for _ in 0..40 {
        connections.push(connect(&greedy.netns)?);
    }
    let mut answered = 0;
    for stream in &mut connections {
        answered += usize::from(ask_on(stream, "web", A).is_ok());
    }
    ensure!(answered == 32, "{answered} connections are served");
    let since = Instant::now();
    means(&web, "greedy", &greedy)?;
    ensure!(ask_tcp(&web.netns, "greedy", A)? == Reply::of(&[&greedy.ip.to_string()]));
    ensure!(since.elapsed() < AT_ONCE, "took {:?}", since.elapsed());
    drop(connections);
    until(CONVERGE, || ask_tcp(&greedy.netns, "web", A).map(drop))?;

    // And names out there that nobody answers.
    let socket = greedy.netns.run(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    for k in 0..200 {
        let question = question(&format!("{k}.silent.example"), A, None)?;
        socket.send_to(&question, SERVICE)?;
    }
    let since = Instant::now();
    ensure!(ask(&web.netns, "www.example", A)? == Reply::of(&[&Upstream::ANSWER.to_string()]));
    ensure!(since.elapsed() < AT_ONCE, "took {:?}", since.elapsed());
    Ok(())
}

/// It has no way out, and so no names out there.
#[test]
fn an_internal_network() -> Result<()> {
    let Names { upstream, world } = Names::new()?;
    world.create_network("inner", &["--subnet", "10.1.0.0/24", "--internal"])?;
    let web = world.container(1, "inner", "web")?;
    let db = world.container(2, "inner", "db")?;
    means(&web, "db", &db)?;
    let since = Instant::now();
    let refused = Reply::failed(ResponseCode::ServFail);
    for name in ["www.example", "nobody", "1.2.0.192.in-addr.arpa"] {
        ensure!(ask(&web.netns, name, A)? == refused, "{name}");
    }
    ensure!(since.elapsed() < AT_ONCE, "took {:?}", since.elapsed());
    ensure!(upstream.asked() == 0, "the question got out");
    Ok(())
}

#[test]
fn names_follow_at_once() -> Result<()> {
    let Names {
        upstream: _upstream,
        world,
    } = Names::new()?;
    world.create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let web = world.container(1, "blue", "web")?;
    let mut times = Vec::new();
    for round in 0..5 {
        let db = world.container(2, "blue", "db")?;
        let since = Instant::now();
        means(&web, "db", &db)?;
        let came = since.elapsed();
        world.host(2).cli_ok(&["endpoint", "rm", "db"])?;
        let since = Instant::now();
        becomes(&web, "db", &unknown())?;
        let went = since.elapsed();
        ensure!(
            came < AT_ONCE && went < AT_ONCE,
            "round {round}: {came:?}, {went:?}"
        );
        times.push((came, went));
    }
    println!("names came and went after {times:?}");
    Ok(())
}

fn has_device(host: &Host) -> Result<bool> {
    Ok(host.netns().ip(&["-o", "link"])?.contains("ovdns0"))
}

/// Whoever asks learns at once that nobody answers, and may ask another server.
fn refused_at_once(from: &Container) -> Result<()> {
    let since = Instant::now();
    let error = ask(&from.netns, "db", A).err().context("an answer")?;
    let tcp = from.netns.run(|| {
        let connected = TcpStream::connect_timeout(&SERVICE, CONVERGE);
        connected.err().context("a connection")
    })?;
    for error in [error, tcp.into()] {
        let kind = error.root_cause().downcast_ref().map(std::io::Error::kind);
        ensure!(
            kind == Some(std::io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
    }
    ensure!(since.elapsed() < AT_ONCE, "took {:?}", since.elapsed());
    Ok(())
}

#[test]
fn the_agent_dies_and_comes_back() -> Result<()> {
    let mut names = Names::new()?;
    names
        .world
        .create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let web = names.world.container(1, "blue", "web")?;
    let db = names.world.container(2, "blue", "db")?;
    means(&web, "db", &db)?;
    names.world.host_mut(1).agent()?.kill9()?;
    // The kernel removes what is the agent's a moment later.
    until(CONVERGE, || {
        ensure!(!has_device(names.world.host(1))?, "the device is there");
        Ok(())
    })?;
    refused_at_once(&web)?;
    names.start_agent(1)?;
    means(&web, "db", &db)?;
    // By a signal it ends no other way.
    names.world.host_mut(1).agent()?.stop(CONVERGE)?;
    until(CONVERGE, || {
        ensure!(!has_device(names.world.host(1))?, "the device is there");
        Ok(())
    })?;
    refused_at_once(&web)?;
    names.start_agent(1)?;
    means(&web, "db", &db)
}

#[test]
fn a_device_that_somebody_removes_is_made_anew() -> Result<()> {
    let Names {
        upstream: _upstream,
        world,
    } = Names::new()?;
    world.create_network("blue", &["--subnet", "10.1.0.0/24"])?;
    let web = world.container(1, "blue", "web")?;
    means(&web, "web", &web)?;
    world.host(1).netns().ip(&["link", "del", "ovdns0"])?;
    refused_at_once(&web)?;
    means(&web, "web", &web)
}

#[test]
fn a_device_of_somebody_else_is_left_alone() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    let host = world.host(1).netns();
    host.ip(&["link", "add", "ovdns0", "type", "bridge"])?;
    world.start_agents(&[])?;
    let problem = until(CONVERGE, || {
        let status = world.host(1).cli_json(&["status"])?;
        let problems = status["problems"].as_array().context("no list")?.clone();
        problems.first().cloned().context("no problem")
    })?;
    let text = problem.as_str().unwrap_or_default();
    ensure!(
        text.contains("names are not served to endpoints") && text.contains("ovdns0"),
        "{text}"
    );
    world.host(1).netns().ip(&["link", "del", "ovdns0"])?;
    until(CONVERGE, || {
        let status = world.host(1).cli_json(&["status"])?;
        ensure!(status["problems"] == serde_json::json!([]), "{status}");
        Ok(())
    })
}

//! The harness itself: what it makes works, and leaves nothing behind.

mod load;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    panic,
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use tests::{
    bpffs::BpfDir,
    capture::{self, Capture},
    consul::Consul,
    http,
    kernel_overlay::KernelOverlay,
    lab::{Lab, UNDERLAY},
    metrics::Metrics,
    names,
    netns::Netns,
    process::Daemon,
    prometheus::{self, Prometheus},
    traffic::{
        ping::{Ping, Pinging, ping},
        tcp,
        udp::{self, UdpCounter},
    },
    wait::{eventually, until},
    workdir::WorkDir,
};

const KIB: u64 = 1 << 10;

#[test]
fn namespace_is_removed_also_by_a_panic() -> Result<()> {
    let mut path = None;
    let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let netns = Netns::new("panic").unwrap();
        path = Some(netns.path());
        assert!(netns.path().exists());
        panic!("on purpose");
    }));
    ensure!(ended.is_err());
    ensure!(!path.context("the namespace was made")?.exists());
    Ok(())
}

#[test]
fn namespace_takes_its_processes_with_it() -> Result<()> {
    let work = WorkDir::new("stray")?;
    let netns = Netns::new("stray")?;
    let mut command = netns.command("sleep")?;
    command.arg("1000");
    let mut sleeper = Daemon::spawn("a stray process", command, &work.path().join("log"))?;
    ensure!(sleeper.poll()?.is_none());
    drop(netns);
    sleeper.wait_exit(Duration::from_secs(5))?;
    Ok(())
}

#[test]
fn borrowed_namespace_is_given_back() -> Result<()> {
    let work = WorkDir::new("lender")?;
    let netns = Netns::new("lender")?;
    netns.connect("eth0", &netns, "eth1")?;
    let mut command = netns.command("sleep")?;
    command.arg("1000");
    let mut sleeper = Daemon::spawn("the lender", command, &work.path().join("log"))?;

    let lent = format!("/proc/{}/ns/net", sleeper.pid());
    let borrowed = Netns::borrow("borrowed", Path::new(&lent))?;
    borrowed.ip(&["link", "show", "dev", "eth1"])?;
    let place = borrowed.path();
    drop(borrowed);
    ensure!(!place.exists());
    ensure!(sleeper.poll()?.is_none(), "the lender's process has ended");
    netns.ip(&["link", "show", "dev", "eth1"])?;

    // What is no namespace leaves no name behind.
    let listed = || -> Result<usize> {
        let entries = fs::read_dir(tests::netns::FOLDER)?.flatten();
        let own = Some(std::process::id());
        let names = entries.map(|entry| entry.file_name());
        Ok(names
            .filter(|name| names::owner(&name.to_string_lossy()) == own)
            .count())
    };
    let before = listed()?;
    let absent = Netns::borrow("absent", &work.path().join("absent"));
    ensure!(absent.is_err() && listed()? == before);
    Ok(())
}

#[test]
fn names_tell_their_owner() {
    let name = names::unique("a-b");
    assert_eq!(names::owner(&name), Some(std::process::id()));
    for other in ["", "ovt", "ovt-", "ovt-x-1-a", "ovx-12-1-a", "docker"] {
        assert_eq!(names::owner(other), None, "{other}");
    }
}

#[test]
fn command_runs_in_the_namespace_and_sees_the_mounts() -> Result<()> {
    let netns = Netns::new("command")?;
    let pins = BpfDir::new("command")?;
    fs::create_dir(pins.path().join("seen"))?;
    let mut command = netns.command("sh")?;
    command.arg("-c").arg(format!(
        "readlink /proc/self/ns/net; ls {}",
        pins.path().display()
    ));
    let said = tests::command::output(&mut command)?;
    let outside = fs::read_link("/proc/self/ns/net")?.display().to_string();
    ensure!(!said.contains(&outside), "not in another namespace: {said}");
    ensure!(said.contains("seen"), "the pins are hidden: {said}");
    Ok(())
}

#[test]
fn pins_folder_is_removed() -> Result<()> {
    let pins = BpfDir::new("pins")?;
    let path = pins.path().to_owned();
    ensure!(path.is_dir());
    drop(pins);
    ensure!(!path.exists());
    Ok(())
}

#[test]
fn daemon_that_ends_is_told_with_its_log() -> Result<()> {
    let work = WorkDir::new("ends")?;
    let mut command = Command::new("sh");
    command.args(["-c", "echo the reason; exit 3"]);
    let mut daemon = Daemon::spawn("a failing program", command, &work.path().join("log"))?;
    let waited = daemon.wait_ready(Duration::from_secs(20), || anyhow::bail!("never"));
    let said = format!("{:#}", waited.err().context("it never was ready")?);
    ensure!(
        said.contains("the reason") && said.contains("exit status: 3"),
        "{said}"
    );
    Ok(())
}

#[test]
fn daemon_is_killed_with_its_children() -> Result<()> {
    let work = WorkDir::new("children")?;
    let log = work.path().join("log");
    let mut command = Command::new("sh");
    command.args(["-c", "sleep 1000 & echo $!; wait"]);
    let daemon = Daemon::spawn("a parent", command, &log)?;
    let child = eventually(Duration::from_secs(5), || {
        Ok(fs::read_to_string(&log)?.trim().parse::<u32>()?)
    });
    drop(daemon);
    // Killed; whoever reaps orphans here may take a moment.
    eventually(Duration::from_secs(5), || {
        let status = fs::read_to_string(Path::new("/proc").join(child.to_string()).join("status"));
        ensure!(
            status.is_err() || status?.contains("State:\tZ"),
            "process {child} lives"
        );
        Ok(())
    });
    Ok(())
}

#[test]
fn waiting_ends_with_the_last_error() -> Result<()> {
    let mut tries = 0;
    let waited: Result<()> = until(Duration::from_millis(100), || {
        tries += 1;
        anyhow::bail!("try {tries} failed")
    });
    let said = format!("{:#}", waited.err().context("it never worked")?);
    ensure!(said.contains(&format!("try {tries} failed")), "{said}");
    ensure!(tries > 1);
    Ok(())
}

#[test]
fn ping_summary_is_read() -> Result<()> {
    let said = "PING 1.1.1.1\n5 packets transmitted, 3 received, +2 errors, 40% packet loss, time 4ms\n\
                rtt min/avg/max/mdev = 0.010/0.250/0.500/0.100 ms";
    let ping: Ping = said.parse()?;
    ensure!(
        ping == Ping {
            sent: 5,
            received: 3,
            average_ms: Some(0.25)
        },
        "{ping:?}"
    );
    ensure!(ping.lost() == 2);
    ensure!("ping: unknown host".parse::<Ping>().is_err());
    Ok(())
}

#[test]
fn metrics_are_summed_by_label() -> Result<()> {
    let metrics = Metrics::new(
        "# TYPE a counter\na{vni=\"1\",direction=\"tx\"} 2\na{vni=\"11\",direction=\"tx\"} 3\n\
         a{vni=\"1\",direction=\"rx\"} 4\nab 5\nc 0\n"
            .to_owned(),
    );
    ensure!(metrics.sum("a", &[])? == Some(9.0));
    ensure!(metrics.sum("a", &[("vni", "1")])? == Some(6.0));
    ensure!(metrics.sum("a", &[("direction", "tx"), ("vni", "1")])? == Some(2.0));
    ensure!(metrics.sum("c", &[])? == Some(0.0));
    ensure!(metrics.sum("d", &[])?.is_none());
    Ok(())
}

#[test]
fn switched_lab_carries_traffic() -> Result<()> {
    let mut lab = Lab::switched(2)?;
    let stranger = lab.station("stranger")?;
    let (one, two) = lab.pair()?;
    ensure!(ping(one.netns(), two.ip().into(), 3)?.lost() == 0);
    ensure!(ping(&stranger.netns, one.ip().into(), 3)?.lost() == 0);
    Ok(())
}

#[test]
fn direct_lab_carries_tcp_unchanged() -> Result<()> {
    let mut lab = Lab::direct()?;
    let (one, two) = lab.pair()?;
    let address = SocketAddr::new(two.ip().into(), 5001);
    let bytes = 64 * KIB * KIB + 1;
    let moved = tcp::transfer(one.netns(), two.netns(), address, bytes)?;
    ensure!(moved.bytes == bytes);
    moved.verify()
}

#[test]
fn lost_packets_are_counted_as_lost() -> Result<()> {
    let mut lab = Lab::direct()?;
    let (one, two) = lab.pair()?;
    let work = WorkDir::new("lost")?;
    let pinging = Pinging::start(
        one.netns(),
        two.ip().into(),
        Duration::from_millis(20),
        work.path(),
    )?;
    eventually(Duration::from_secs(5), || {
        ensure!(pinging.answers()? >= 3, "not three answers yet");
        Ok(())
    });
    two.netns().sysctl("net.ipv4.icmp_echo_ignore_all", "1")?;
    let before = pinging.answers()?;
    ensure!(ping(one.netns(), two.ip().into(), 5)?.lost() == 5);
    two.netns().sysctl("net.ipv4.icmp_echo_ignore_all", "0")?;
    eventually(Duration::from_secs(5), || {
        ensure!(pinging.answers()? > before + 3, "it does not answer again");
        Ok(())
    });
    let summary = pinging.stop()?;
    ensure!(summary.lost() > 5 && summary.received > 6, "{summary:?}");
    Ok(())
}

#[test]
fn udp_datagrams_are_counted() -> Result<()> {
    let mut lab = Lab::direct()?;
    let (one, two) = lab.pair()?;
    let address = SocketAddr::new(two.ip().into(), 5002);
    let counter = UdpCounter::start(two.netns(), address, None)?;
    udp::send(one.netns(), address, 64, 500, Duration::ZERO)?;
    eventually(Duration::from_secs(5), || {
        ensure!(counter.received() == 500, "{} of 500", counter.received());
        Ok(())
    });
    ensure!(counter.stop()? == 500);
    Ok(())
}

#[test]
fn kernel_overlay_is_decoded_as_vxlan() -> Result<()> {
    const MAC1: &str = "02:00:00:00:00:01";
    const MAC2: &str = "02:00:00:00:00:02";
    let (ip1, ip2) = (Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2));
    let lab = Lab::direct()?;
    let [one, two] = lab.hosts.as_slice() else {
        anyhow::bail!("two hosts")
    };
    let mut overlay1 = KernelOverlay::new(&one.station, 42)?;
    let mut overlay2 = KernelOverlay::new(&two.station, 42)?;
    let container1 = overlay1.container(ip1, MAC1)?;
    let _container2 = overlay2.container(ip2, MAC2)?;
    for mac in [MAC2, "00:00:00:00:00:00"] {
        overlay1.remote(mac, two.ip())?;
    }
    for mac in [MAC1, "00:00:00:00:00:00"] {
        overlay2.remote(mac, one.ip())?;
    }

    let work = WorkDir::new("capture")?;
    let recording = Capture::start(two.netns(), UNDERLAY, "udp port 4789", work.path())?;
    ensure!(ping(&container1, ip2.into(), 3)?.lost() == 0);
    let file = recording.stop()?;
    let rows = capture::fields(
        &file,
        "icmp.type == 8",
        &["vxlan.vni", "ip.src", "udp.dstport"],
    )?;
    ensure!(rows == vec![["42", "192.0.2.1", "4789"]; 3], "{rows:?}");
    Ok(())
}

/// A server may answer before it has read the body; closing then resets the connection.
#[test]
fn an_answer_counts_also_before_a_reset() -> Result<()> {
    let netns = Netns::new("reset")?;
    let listener = netns.run(|| Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    let address = listener.local_addr()?;
    let exchange = |answer: &'static str| {
        thread::scope(|scope| {
            let server = scope.spawn(|| -> Result<()> {
                let (mut stream, _) = listener.accept()?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte)?;
                    head.extend(byte);
                }
                Ok(stream.write_all(answer.as_bytes())?)
            });
            let answer = http::request(&netns, address, "PUT", "/", "never read");
            server.join().expect("the server's thread")?;
            answer
        })
    };
    let whole = exchange("HTTP/1.0 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied")?;
    ensure!(
        (whole.status, whole.body.as_str()) == (403, "denied"),
        "{whole:?}"
    );
    for cut in [
        "HTTP/1.0 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenie",
        "HTTP/1.0 403 Forbidden\r\n\r\ndenied",
        "",
    ] {
        ensure!(exchange(cut).is_err(), "took for a whole answer: {cut:?}");
    }
    Ok(())
}

#[test]
fn consul_keeps_its_data_over_a_kill() -> Result<()> {
    let work = WorkDir::new("consul")?;
    let mut lab = Lab::switched(1)?;
    let server = lab.station("consul")?;
    let host = &lab.hosts[0];
    let mut consul = Consul::start(&server.netns, server.ip.into(), work.path())?;
    let put = |value| http::request(host.netns(), consul.address(), "PUT", "/v1/kv/k", value);
    ensure!(put("kept")?.body.trim() == "true");
    let agent = http::get(host.netns(), consul.address(), "/v1/agent/self")?;
    let agent: serde_json::Value = serde_json::from_str(&agent)?;
    ensure!(
        agent["Config"]["Version"]
            .as_str()
            .is_some_and(|version| version.starts_with("1."))
    );

    consul.daemon().kill9()?;
    ensure!(http::get(host.netns(), consul.address(), "/v1/kv/k?raw").is_err());
    let consul = Consul::start(&server.netns, server.ip.into(), work.path())?;
    ensure!(http::get(host.netns(), consul.address(), "/v1/kv/k?raw")? == "kept");
    Ok(())
}

#[test]
fn prometheus_scrapes_and_promtool_complains() -> Result<()> {
    let work = WorkDir::new("prometheus")?;
    let host = Netns::new("prometheus")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
    let server = Prometheus::start(&host, work.path(), &[&address.to_string()])?;
    eventually(Duration::from_secs(15), || {
        ensure!(server.query("sum(up{job=\"overlay\"})")? == 1.0);
        Ok(())
    });
    prometheus::check_metrics("# HELP a_total Things.\n# TYPE a_total counter\na_total 1\n")?;
    let bad = prometheus::check_metrics("# HELP a Things.\n# TYPE a counter\na 1\n");
    ensure!(bad.is_err(), "a counter that is not called _total passed");
    Ok(())
}

#[test]
fn leftovers_of_a_dead_run_are_swept() -> Result<()> {
    // The highest process id the kernel gives out is one below pid_max.
    let dead: u32 = fs::read_to_string("/proc/sys/kernel/pid_max")?
        .trim()
        .parse()?;
    let name = format!("ovt-{dead}-0-leftover");
    tests::command::output(Command::new("ip").args(["netns", "add", &name]))?;
    let folder = std::env::temp_dir().join(&name);
    fs::create_dir_all(folder.join("inside"))?;
    // Sweeping is done once per process, and this process may have done it: take another.
    let own = std::env::current_exe()?;
    let mut other = Command::new(own);
    other.args(["--exact", "harness::namespace_is_removed_also_by_a_panic"]);
    tests::command::output(&mut other)?;
    ensure!(!folder.exists());
    ensure!(!Path::new("/run/netns").join(&name).exists());
    Ok(())
}

#[test]
fn loopback_is_up() -> Result<()> {
    let netns = Netns::new("lo")?;
    ensure!(ping(&netns, IpAddr::V4(Ipv4Addr::LOCALHOST), 1)?.lost() == 0);
    Ok(())
}

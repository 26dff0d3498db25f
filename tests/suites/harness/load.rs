//! What the benchmark is made of.

use std::{fs, net::Ipv4Addr, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tests::{
    bare_redirect::BareRedirect,
    capture::{self, Capture},
    command::output,
    lab::{Lab, UNDERLAY},
    netns::Netns,
    traffic::{
        OnOneCpu, connections,
        flood::Flood,
        junk::{End, Junk},
        napi,
        ping::ping,
        sockperf::RoundTrips,
    },
    wait::eventually,
    workdir::WorkDir,
};

#[test]
fn bare_redirect_carries_frames_as_they_are() -> Result<()> {
    let one = ("02:00:00:00:00:01", Ipv4Addr::new(10, 9, 0, 1));
    let two = ("02:00:00:00:00:02", Ipv4Addr::new(10, 9, 0, 2));
    let mut lab = Lab::direct()?;
    let (host1, host2) = lab.pair()?;
    let (container1, redirect1) = BareRedirect::container(&host1.station, one, two)?;
    let (_container2, _redirect2) = BareRedirect::container(&host2.station, two, one)?;

    let work = WorkDir::new("redirect")?;
    let recording = Capture::start(host2.netns(), UNDERLAY, "icmp", work.path())?;
    ensure!(ping(&container1, two.1.into(), 3)?.lost() == 0);
    let file = recording.stop()?;
    let rows = capture::fields(&file, "icmp.type == 8", &["eth.src", "eth.dst", "ip.src"])?;
    ensure!(rows == vec![[one.0, two.0, "10.9.0.1"]; 3], "{rows:?}");

    // The redirects are there as long as they are wanted.
    drop(redirect1);
    eventually(Duration::from_secs(5), || {
        ensure!(ping(&container1, two.1.into(), 1)?.received == 0);
        Ok(())
    });
    Ok(())
}

/// What sockperf 3.7 said.
const SOCKPERF: &str = "\
sockperf: ====> avg-rtt=16.138 (std-dev=3.972)
sockperf: ---> <MAX> observation =  124.591
sockperf: ---> percentile 99.999 =  124.591
sockperf: ---> percentile 99.990 =   95.627
sockperf: ---> percentile 99.900 =   72.484
sockperf: ---> percentile 99.000 =   25.316
sockperf: ---> percentile 90.000 =   20.067
sockperf: ---> percentile 50.000 =   14.927
sockperf: ---> <MIN> observation =   14.767
";

#[test]
fn percentiles_are_read() -> Result<()> {
    let read: RoundTrips = SOCKPERF.parse()?;
    let wanted = RoundTrips {
        p50_us: 14.927,
        p99_us: 25.316,
        p999_us: 72.484,
    };
    ensure!(read == wanted, "{read:?}");
    let cut = SOCKPERF.replace("99.900", "99.901").parse::<RoundTrips>();
    let error = cut.err().context("a percentile is missing")?;
    ensure!(error.to_string().contains("99.900"), "{error}");
    Ok(())
}

#[test]
fn connections_are_made_and_closed() -> Result<()> {
    let mut lab = Lab::direct()?;
    let (one, two) = lab.pair()?;
    let work = WorkDir::new("connections")?;
    let ends = OnOneCpu {
        from: one.netns(),
        to: two.netns(),
        address: two.ip().into(),
        cpu: 0,
        folder: work.path(),
        duration: Duration::from_secs(1),
    };
    let opened = || -> Result<u64> { snmp(one.netns(), "Tcp:", "ActiveOpens") };
    let before = opened()?;
    let rate = connections::per_second(&ends)?;
    let (opened, rate) = (opened()? - before, rate as u64);
    // One more ends the server; the measuring takes a second and the last connection.
    ensure!(
        (rate..=rate + rate / 5 + 2).contains(&opened),
        "{rate} per second, {opened} in all"
    );
    Ok(())
}

/// A counter of a namespace's protocols: a line of names, and one of numbers.
fn snmp(netns: &Netns, protocol: &str, name: &str) -> Result<u64> {
    let text = netns.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (names, numbers) = (lines.next(), lines.next());
    let (names, numbers) = names.zip(numbers).context("two lines of a protocol")?;
    let column = names.split(' ').position(|column| column == name);
    let number = numbers.split(' ').nth(column.context("no such counter")?);
    Ok(number.context("a number for each name")?.parse()?)
}

#[test]
fn junk_floods_at_its_rate_and_is_taken_in_where_it_is_told() -> Result<()> {
    const RATE: u32 = 20_000;
    let mut lab = Lab::direct()?;
    let (one, two) = lab.pair()?;
    let mut ethtool = two.netns().command("ethtool")?;
    output(ethtool.args(["-K", UNDERLAY, "gro", "on"]))?;
    let cpu = thread::available_parallelism().map_or(1, usize::from) - 1;
    napi::pin(two.netns(), UNDERLAY, cpu)?;

    let counters = || -> Result<[u64; 2]> {
        let link = two.netns().ip(&["-s", "-json", "link", "show", UNDERLAY])?;
        let link: serde_json::Value = serde_json::from_str(&link)?;
        let received = link[0]["stats64"]["rx"]["packets"].as_u64();
        Ok([received.context("a counter")?, softnet(cpu)?])
    };
    let junk = Junk {
        from: End {
            mac: [2, 0, 0, 0, 0, 1],
            ip: one.ip(),
        },
        to: End {
            mac: [2, 0, 0, 0, 0, 2],
            ip: two.ip(),
        },
        vni: 7,
        has_vni: true,
    };
    let before = counters()?;
    let flood = Flood::start(one.netns(), UNDERLAY, junk.frame()?, Some(RATE), 0)?;
    thread::sleep(Duration::from_secs(2));
    let rate = flood.stop()?;
    let after = counters()?;
    let off = (rate / f64::from(RATE) - 1.0).abs();
    ensure!(off < 0.1, "{rate} frames a second");
    let [received, processed] = [0, 1].map(|i| after[i] - before[i]);
    // Some may be lost on a busy machine, and other frames come along.
    ensure!(received > 30_000, "{received} frames came");
    ensure!(processed > 30_000, "CPU {cpu} took {processed} frames in");
    Ok(())
}

/// Frames that a CPU has taken in.
fn softnet(cpu: usize) -> Result<u64> {
    let text = fs::read_to_string("/proc/net/softnet_stat")?;
    let line = text.lines().nth(cpu).context("a line for each CPU")?;
    let count = line.split(' ').next().context("a number")?;
    Ok(u64::from_str_radix(count, 16)?)
}

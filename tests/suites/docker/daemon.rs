//! Docker as the harness makes it, without a plugin of ours: it works, two know nothing of each
//! other, and nothing stays.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tests::docker::{Docker, DockerVersion, IMAGE, Options};
use tests::lab::Lab;
use tests::packages;
use tests::process::Daemon;
use tests::traffic::ping::ping;
use tests::wait::until;
use tests::workdir::WorkDir;

use super::traces::{Traces, machine};
use super::{inspect, run, say, started};

const SOON: Duration = Duration::from_secs(10);

/// Given to a process that is to be killed: where it says what it made.
const VICTIM_ENV: &str = "OVERLAY_TEST_VICTIM";

fn namespace(path: impl AsRef<Path>) -> Result<PathBuf> {
    let path = path.as_ref();
    fs::read_link(path).with_context(|| format!("read {}", path.display()))
}

/// A web server that serves a word.
fn serve(word: &str) -> String {
    format!("mkdir /www; echo {word} > /www/w; httpd -f -h /www")
}

#[test]
fn runs_a_container() -> Result<()> {
    let lab = Lab::switched(1)?;
    let docker = started(&lab, 0, Options::default())?;
    ensure!(say(&docker, &[], &["echo", "hi"])? == "hi");
    let failed = docker.cli(&["run", "--rm", IMAGE, "sh", "-c", "exit 3"])?;
    ensure!(failed.code == 3, "{failed:?}");
    let programs = "for p in sh ping nslookup wget ip nc httpd iperf3; do which $p || exit; done";
    say(&docker, &[], &["sh", "-c", programs]).context("a program is not in the image")?;
    say(&docker, &[], &["iperf3", "--version"])?;

    // The bridge is the host's, and the container's namespace can be found.
    run(&docker, &["--name", "web"], &serve("word"))?;
    let address = inspect(&docker, "web", "NetworkSettings.Networks.bridge.IPAddress")?;
    ensure!(ping(lab.hosts[0].netns(), address.parse()?, 3)?.lost() == 0);
    let ask = ["wget", "-qO-", &format!("http://{address}/w")];
    let word = until(SOON, || say(&docker, &[], &ask))?;
    ensure!(word == "word", "{word}");
    let pid = inspect(&docker, "web", "State.Pid")?;
    let container = namespace(docker.inside(&format!("/proc/{pid}/ns/net")))?;
    let host = namespace(docker.inside("/proc/1/ns/net"))?;
    ensure!(container != host && host != namespace("/proc/self/ns/net")?);
    Ok(())
}

#[test]
fn two_daemons_are_apart() -> Result<()> {
    let lab = Lab::switched(2)?;
    let start = |host| started(&lab, host, Options::default());
    let dockers = [start(0)?, start(1)?];
    let words = ["one", "two"];
    let mut addresses = Vec::new();
    let mut networks = Vec::new();
    for (docker, word) in dockers.iter().zip(words) {
        let network = ["network", "create", "--subnet", "10.9.0.0/24", "blue"];
        networks.push(docker.cli_ok(&network)?);
        run(
            docker,
            &["--network", "blue", "--name", "web"],
            &serve(word),
        )?;
        addresses.push(inspect(
            docker,
            "web",
            "NetworkSettings.Networks.blue.IPAddress",
        )?);
        fs::write(docker.plugins().join(word), "").context("put a file to the plugins")?;
    }
    ensure!(addresses[0] == addresses[1], "{addresses:?}");
    // A network's bridge is called after its id, and is on its own host.
    for (host, network) in lab.hosts.iter().zip(&networks) {
        let bridges = host.netns().ip(&["-o", "link", "show", "type", "bridge"])?;
        let own = format!("br-{}", &network[..12]);
        ensure!(bridges.lines().count() == 2, "{own} and docker0: {bridges}");
        ensure!(bridges.contains(&own), "no {own}: {bridges}");
    }

    for (docker, word) in dockers.iter().zip(words) {
        let ask = ["wget", "-qO-", "http://web/w"];
        let said = until(SOON, || say(docker, &["--network", "blue"], &ask))?;
        ensure!(said == word, "wanted {word}: {said}");
        ensure!(docker.cli_ok(&["ps", "--format", "{{.Names}}"])? == "web");
        // A volume is a path as dockerd sees it.
        let seen = say(docker, &["-v", "/run/docker/plugins:/p"], &["ls", "/p"])?;
        ensure!(seen == word, "the plugins of {word}: {seen}");
    }

    // One of them gone is nothing to the other.
    let [one, two] = dockers;
    drop(one);
    ensure!(inspect(&two, "web", "State.Running")? == "true");
    ensure!(two.cli_ok(&["exec", "web", "cat", "/www/w"])? == "two");
    Ok(())
}

#[test]
fn restart_keeps_containers() -> Result<()> {
    let lab = Lab::switched(1)?;
    let options = Options {
        live_restore: true,
        ..Options::default()
    };
    let mut docker = started(&lab, 0, options)?;
    run(&docker, &["--name", "web", "--init"], "sleep 1000")?;
    let state = |docker: &Docker| inspect(docker, "web", "State.StartedAt}} {{.State.Pid");
    let before = state(&docker)?;
    let address = inspect(&docker, "web", "NetworkSettings.Networks.bridge.IPAddress")?;
    let answers = || -> Result<()> {
        ensure!(ping(lab.hosts[0].netns(), address.parse()?, 3)?.lost() == 0);
        Ok(())
    };
    let goes_on = |docker: &Docker| -> Result<()> {
        let now = state(docker)?;
        ensure!(now == before, "another start: {before}, {now}");
        answers()?;
        ensure!(docker.cli_ok(&["exec", "web", "echo", "hi"])? == "hi");
        Ok(())
    };

    docker.kill9()?;
    ensure!(docker.cli(&["ps"])?.code != 0, "dockerd is still there");
    answers().context("with dockerd killed")?;
    docker.restart()?;
    goes_on(&docker).context("after SIGKILL")?;
    docker.restart()?;
    goes_on(&docker).context("after SIGTERM")?;

    // Without live restore they end with dockerd, and can be started again.
    docker.options.live_restore = false;
    docker.restart()?;
    docker.restart()?;
    ensure!(inspect(&docker, "web", "State.Running")? == "false");
    docker.cli_ok(&["start", "web"])?;
    ensure!(state(&docker)? != before);
    answers().context("started again")
}

#[test]
fn leaves_nothing() -> Result<()> {
    let lab = Lab::switched(1)?;
    let before = machine()?;
    let docker = started(&lab, 0, Options::default())?;
    run(&docker, &["--name", "web"], "sleep 1000")?;
    run(
        &docker,
        &["-p", "8080:80", "--restart", "always"],
        "sleep 1000",
    )?;
    let traces = Traces::of(&docker);
    let found = traces.left()?;
    for program in ["dockerd", "containerd", "sleep", "docker-proxy"] {
        let ends = |trace: &String| trace.ends_with(&format!(" {program}"));
        ensure!(found.iter().any(ends), "no trace of {program}: {found:?}");
    }
    drop(docker);
    let left = traces.left()?;
    ensure!(left.is_empty(), "left: {left:?}");
    drop(lab);
    same(&before, &machine()?)?;

    // The same with a panic, and the host dropped before its Docker.
    let ended = std::panic::catch_unwind(|| -> Result<()> {
        let docker;
        let lab = Lab::switched(1)?;
        docker = started(&lab, 0, Options::default())?;
        run(&docker, &["--name", "web"], "sleep 1000")?;
        std::panic::panic_any(Traces::of(&docker));
    });
    let traces = match ended {
        Ok(result) => bail!("no panic: {result:?}"),
        Err(payload) => payload.downcast::<Traces>(),
    };
    let traces = traces.map_err(|_| anyhow::anyhow!("another panic"))?;
    let left = traces.left()?;
    ensure!(left.is_empty(), "left after a panic: {left:?}");
    same(&before, &machine()?)
}

fn same(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Result<()> {
    let changes: Vec<_> = before.symmetric_difference(after).collect();
    ensure!(changes.is_empty(), "the machine has changed: {changes:#?}");
    Ok(())
}

/// The process that the next test kills. Does nothing by itself.
#[test]
fn victim() -> Result<()> {
    let Some(file) = std::env::var_os(VICTIM_ENV) else {
        return Ok(());
    };
    let lab = Lab::switched(1)?;
    let docker = started(&lab, 0, Options::default())?;
    run(&docker, &["--name", "web"], "sleep 1000")?;
    let file = PathBuf::from(file);
    let part = file.with_extension("part");
    fs::write(&part, Traces::of(&docker).to_text())?;
    fs::rename(&part, &file)?;
    std::thread::sleep(Duration::from_secs(600));
    Ok(())
}

#[test]
fn killed_run_is_swept() -> Result<()> {
    // Not in the victim's time.
    packages::docker(DockerVersion::from_env()?)?;
    let work = WorkDir::new("victim")?;
    let lab = Lab::switched(1)?;
    let before = machine()?;
    let file = work.path().join("traces");
    let own = std::env::current_exe()?;
    let mut command = Command::new(&own);
    command
        .args(["--exact", "docker::daemon::victim", "--nocapture"])
        .env(VICTIM_ENV, &file);
    let mut victim = Daemon::spawn("the victim", command, &work.path().join("log"))?;
    victim.wait_ready(Duration::from_secs(60), || {
        ensure!(file.is_file(), "not started yet");
        Ok(())
    })?;
    let traces = Traces::from_text(&fs::read_to_string(&file)?)?;
    victim.kill9()?;
    ensure!(!traces.left()?.is_empty(), "all went by itself");

    // Sweeping is done once per process, and this process has done it: take another.
    let mut other = Command::new(own);
    other.args(["--exact", "harness::namespace_is_removed_also_by_a_panic"]);
    tests::command::output(&mut other)?;
    let left = traces.left()?;
    ensure!(left.is_empty(), "left: {left:?}");
    drop(lab);
    same(&before, &machine()?)
}

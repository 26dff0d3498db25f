//! Wrong arguments, and help.

use anyhow::{Result, ensure};
use tests::lab::Lab;

use super::{ended, is_refusal, refused};

#[test]
fn wrong_arguments() -> Result<()> {
    let lab = Lab::switched(1)?;
    let host = &lab.hosts[0];
    for mistake in [
        (
            "bogus",
            2,
            &["unrecognized subcommand 'bogus'", "--help"][..],
        ),
        ("netwrok ls", 2, &["'netwrok'", "similar", "'network'"]),
        (
            "run --undrelay eth0",
            2,
            &["'--undrelay'", "similar", "'--underlay'"],
        ),
        ("network", 2, &["subcommand", "create, ls, inspect, rm"]),
        ("network create", 2, &["not provided", "<NAME>"]),
        ("network ls -o yaml", 2, &["'yaml'", "table, json"]),
        (
            "network create blue --vni 0",
            2,
            &["--vni", "`0`", "1 to 16777215"],
        ),
        (
            "network create blue --vni 16777216",
            2,
            &["--vni", "`16777216`", "1 to 16777215"],
        ),
        (
            "network create blue --vni ten",
            2,
            &["--vni", "`ten`", "1 to 16777215"],
        ),
        (
            "network create blue --subnet 10.0.0.0",
            2,
            &["--subnet", "10.0.0.0/16"],
        ),
        (
            "network create blue --subnet 10.0.0.0/33",
            2,
            &["--subnet", "10.0.0.0/33"],
        ),
        (
            "network create blue --subnet 10.0.0.1/8",
            2,
            &["--subnet", "10.0.0.0/8 is meant"],
        ),
        ("network create blue --mtu 100", 2, &["--mtu", "576"]),
        (
            "network create blue --flood always",
            2,
            &["--flood", "drop, replicate or multicast=GROUP"],
        ),
        (
            "network create blue --flood multicast=10.0.0.1",
            2,
            &["--flood", "10.0.0.1 is not a multicast group"],
        ),
        (
            "network create blue --flood multicast=2001:db8::1",
            2,
            &["--flood", "2001:db8::1 is not a multicast group"],
        ),
        (
            "network create blue --flood multicast=all",
            2,
            &["--flood", "drop, replicate or multicast=GROUP"],
        ),
        ("network create blue --mtu 575", 2, &["--mtu", "576"]),
        ("network create blue --mtu 65536", 2, &["--mtu", "65536"]),
        (
            "network create blue --flood-rate 0",
            2,
            &["--flood-rate", "nothing would be flooded", "--flood drop"],
        ),
        (
            "endpoint add --network blue --netns /a --allow-ip all",
            2,
            &["--allow-ip", "an address or a prefix is wanted"],
        ),
        (
            "endpoint add --network blue --node n --ip 10.0.0.1 --mac 02:00:00:00:00:01 --allow-ip 10.0.0.9",
            2,
            &["--allow-ip", "--node"],
        ),
        ("run --decap often", 2, &["--decap", "auto, tc, xdp"]),
        ("run --node-grace 9", 2, &["--node-grace", "9", "10.."]),
        (
            "attach --underlay eth0 --decap xdp --xdp off",
            2,
            &[
                "--decap xdp",
                "--xdp is off",
                "--xdp native or auto",
                "--decap tc",
            ],
        ),
        (
            "run --underlay eth0 --decap xdp --xdp generic",
            2,
            &["--decap xdp", "--xdp is generic"],
        ),
        (
            "attach --underlay eth0 --decap xdp",
            1,
            &["device eth0", "--xdp auto", "--xdp native", "--decap tc"],
        ),
        (
            "network create ../blue",
            2,
            &["`../blue`", "letters, digits"],
        ),
        ("network rm ../blue", 2, &["`../blue`", "letters, digits"]),
        (
            "endpoint add --network blue",
            2,
            &["--netns", "--pid", "--container", "--node"],
        ),
        (
            "endpoint add --network blue --netns /a --pid 1",
            2,
            &["--netns", "--pid"],
        ),
        (
            "endpoint add --network blue --pid 1 --container web",
            2,
            &["--pid", "--container"],
        ),
        (
            "endpoint add --network blue --netns /a --mac 01:00:5e:00:00:01",
            2,
            &["--mac", "01:00:5e:00:00:01", "group address"],
        ),
        (
            "endpoint add --network blue --netns /a --mac ff:ff:ff:ff:ff:ff",
            2,
            &["--mac", "group address"],
        ),
        (
            "endpoint add --network blue --netns /a --mac 2:42",
            2,
            &["--mac", "six hex bytes"],
        ),
        (
            "endpoint add --network blue --netns /a --ip 10.0.0.300",
            2,
            &["--ip", "10.0.0.300"],
        ),
        (
            "endpoint add --network blue --netns /a --ifname a/b",
            2,
            &["--ifname", "`/`"],
        ),
        (
            "endpoint add --network blue --node n --ip 10.0.0.1",
            2,
            &["not provided", "--mac"],
        ),
        ("endpoint rm ", 2, &["<ENDPOINT>"]),
        ("endpoint inspect ", 2, &["<ENDPOINT>"]),
        ("node add n --vtep 224.0.0.1", 2, &["--vtep", "224.0.0.1"]),
        ("node add n --vtep ff05::1", 2, &["--vtep", "ff05::1"]),
        ("run --port 0", 2, &["--port", "0"]),
        (
            "run --xdp often",
            2,
            &["--xdp", "auto, native, generic, off"],
        ),
        ("run --metrics-addr 9469", 2, &["--metrics-addr", "IP:PORT"]),
        // Nobody is there to ask.
        (
            "status",
            1,
            &[
                "cannot reach the agent at",
                "agent.sock",
                "`overlay-agent run`",
            ],
        ),
        (
            "network ls",
            1,
            &["cannot reach the agent at", "`overlay-agent run`"],
        ),
        (
            "network create blue",
            1,
            &[
                "cannot create network blue",
                "cannot reach the agent at",
                "`overlay-agent run`",
            ],
        ),
        (
            "dump",
            1,
            &["no data path is loaded", "`overlay-agent run`"],
        ),
    ] {
        refused(host, &[], mistake)?;
    }

    let mut command = host.command(&["run"])?;
    command.env("OVERLAY_PORT", "often");
    is_refusal(
        &ended(command)?,
        2,
        &["'often'", "--port", "(from OVERLAY_PORT)"],
    )?;
    let mut command = host.command(&["run", "--port", "often"])?;
    command.env("OVERLAY_PORT", "4789");
    let said = ended(command)?;
    is_refusal(&said, 2, &["'often'", "--port"])?;
    ensure!(!said.stderr.contains("OVERLAY_PORT"), "{said:?}");

    let help = host.cli_ok(&["--help"])?;
    for word in [
        "run", "attach", "detach", "network", "endpoint", "node", "status", "dump",
    ] {
        ensure!(help.contains(&format!("\n  {word} ")), "{word}: {help}");
    }
    for args in [
        &["network", "create", "--help"][..],
        &["help", "endpoint", "add"],
    ] {
        let help = host.cli_ok(args)?;
        ensure!(help.contains("Usage: overlay-agent "), "{help}");
    }
    ensure!(host.cli_ok(&["--version"])?.starts_with("overlay-agent "));
    Ok(())
}

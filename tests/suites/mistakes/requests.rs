//! Requests that contradict what is there. Each leaves the hosts, the containers and the store as
//! they were.

use anyhow::{Context as _, Result, ensure};

use super::{inside, keys, refused, unchanged};
use crate::support::traces::Traces;
use crate::support::{CONVERGE, Store, StoreKind, World, reachable};

#[test]
fn networks_endpoints_and_nodes() -> Result<()> {
    let mut world = World::without_agents(StoreKind::Embedded)?;
    world.start_agents(&["--docker-socket", "/run/no-docker.sock"])?;
    let Store::Embedded(store) = &world.store else {
        anyhow::bail!("this world has another store");
    };
    let (one, two) = (world.host(1), world.host(2));
    world.create_network("blue", &["--subnet", "10.42.0.0/24", "--vni", "42"])?;
    world.create_network("tiny", &["--subnet", "10.9.0.0/30"])?;
    world.create_network(
        "gated",
        &["--subnet", "10.8.0.0/24", "--gateway", "10.8.0.1"],
    )?;
    world.create_network(
        "dual",
        &["--subnet", "10.7.0.0/24", "--subnet", "fd00:9::/64"],
    )?;
    let vip = one.container("vip")?;
    one.add_endpoint("blue", &vip, &["--allow-ip", "10.42.0.99", "--name", "vip"])?;
    let web = world.container(1, "blue", "web")?;
    let db = world.container(2, "blue", "db")?;
    let path = web.netns.path();
    let path = path.to_str().context("path")?;
    // Of its two addresses the gateway has one.
    let args = ["endpoint", "add", "--network", "tiny", "--netns", path];
    one.cli_ok(&[&args[..], &["--ifname", "t1"]].concat())?;
    one.cli_ok(&["node", "add", "switch", "--vtep", "192.0.2.50"])?;
    one.cli_ok(&[
        "endpoint",
        "add",
        "--network",
        "blue",
        "--node",
        "switch",
        "--ip",
        "10.42.0.200",
        "--mac",
        "02:42:0a:2a:00:c8",
        "--name",
        "hw",
    ])?;
    // Both hosts have seen all of it, and ask the underlay for the switch.
    tests::wait::until(CONVERGE, || {
        for host in [one, two] {
            let seen = host.cli_ok(&["endpoint", "ls"])? + &host.netns().ip(&["neigh"])?;
            ensure!(
                ["web", "db", "hw", "192.0.2.50"]
                    .iter()
                    .all(|part| seen.contains(part)),
                "{seen}"
            );
        }
        Ok(())
    })?;
    reachable(&web, &db, 1)?;

    let free = one.container("free")?;
    let names = [("free", &free), ("web", &web.netns), ("own", one.netns())];
    let before = (Traces::settled(one)?, Traces::settled(two)?);
    let containers = || Ok::<_, anyhow::Error>((inside(&free)?, inside(&web.netns)?));
    let interfaces = containers()?;
    let stored = keys(&world.store_station, store.address())?;

    let web_ip = web.ip.to_string();
    let db_ip = db.ip.to_string();
    let take_db = format!("endpoint add --network blue --netns @free --ip {db_ip}");
    let allow_db = format!("endpoint add --network blue --netns @free --allow-ip {db_ip}");
    let both_families = "endpoint add --network dual --netns @free --ip fd00:9::1".to_owned();
    let take_mac = format!(
        "endpoint add --network blue --netns @free --mac {}",
        web.mac
    );
    let web_again =
        format!("endpoint add --network blue --netns @web --name web --ip {web_ip} --ifname eth1");
    for mistake in [
        // Networks
        (
            "network create blue",
            1,
            &[
                "cannot create network blue",
                "`blue` exists already",
                "choose another",
            ][..],
        ),
        (
            "network create red --vni 42",
            1,
            &[
                "cannot create network red",
                "VNI 42 is taken by the network `blue`",
                "another --vni",
            ],
        ),
        (
            "network create red --subnet 10.0.0.0/8 --subnet 10.3.0.0/16",
            1,
            &[
                "cannot create network red",
                "10.0.0.0/8 and 10.3.0.0/16 overlap",
            ],
        ),
        (
            "network create red --subnet 10.0.0.0/31",
            1,
            &["10.0.0.0/31 is too small", "/30 or larger"],
        ),
        (
            "network create red --subnet 0.0.0.0/0",
            1,
            &["0.0.0.0/0 is too large", "/8 or smaller"],
        ),
        (
            "network create red --subnet 224.0.0.0/16",
            1,
            &["224.0.0.0/16", "multicast"],
        ),
        (
            "network create red --subnet 10.1.0.0/24 --gateway 10.2.0.1",
            1,
            &["gateway 10.2.0.1 is in none of the network's subnets"],
        ),
        (
            "network create red --subnet 10.1.0.0/24 --gateway 10.1.0.1 --gateway 10.1.0.2",
            1,
            &["gateways 10.1.0.1 and 10.1.0.2 are in one subnet"],
        ),
        (
            "network create red --mtu 1451",
            1,
            &["MTU 1451", "this host's underlay", "1500", "1450 at most"],
        ),
        (
            "network create red --subnet fd00::/64 --mtu 1279",
            1,
            &["MTU 1279", "1280 to"],
        ),
        (
            "network create red --flood multicast=224.0.0.9",
            1,
            &["224.0.0.9 does not leave a link"],
        ),
        (
            "network create red --flood multicast=ff05::1",
            1,
            &["no VTEP of the family of group ff05::1"],
        ),
        (
            "network rm blue",
            1,
            &[
                "cannot remove network blue",
                "(4)",
                "web (",
                "on host1",
                "db (",
                "on host2",
                "hw (",
                "on switch",
                "remove them first",
            ],
        ),
        (
            "network rm red",
            1,
            &[
                "cannot remove network red",
                "no network `red`",
                "network ls",
            ],
        ),
        (
            "network inspect red",
            1,
            &["no network `red`", "`overlay-agent network ls`"],
        ),
        // Endpoints
        (
            "endpoint add --network red --netns @free",
            1,
            &[
                "cannot add an endpoint to network red",
                "no network `red`",
                "network ls",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.43.0.1",
            1,
            &[
                "cannot add an endpoint to network blue",
                "10.43.0.1 is outside",
                "10.42.0.0/24",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --ip fd00::1",
            1,
            &["fd00::1 is outside"],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.42.0.0",
            1,
            &["10.42.0.0 is the network address of 10.42.0.0/24"],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.42.0.255",
            1,
            &["10.42.0.255 is the broadcast address of 10.42.0.0/24"],
        ),
        (
            "endpoint add --network gated --netns @free --ip 10.8.0.1",
            1,
            &["10.8.0.1 is the network's gateway"],
        ),
        // Nobody named that one.
        (
            "endpoint add --network blue --netns @free --ip 10.42.0.1",
            1,
            &["10.42.0.1 is the network's gateway"],
        ),
        (
            "endpoint add --network blue --netns @free --mac 02:6f:76:00:00:2a",
            1,
            &[
                "02:6f:76:00:00:2a is that of the network's gateway",
                "--mac",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.42.0.7 --ip 10.42.0.8",
            1,
            &["10.42.0.7 and 10.42.0.8 are of one family"],
        ),
        (
            "endpoint add --network blue --netns @free --allow-ip 10.42.0.1",
            1,
            &["10.42.0.1 is the network's gateway", "cannot be allowed"],
        ),
        (
            &allow_db,
            1,
            &[
                &db_ip,
                "is the address of endpoint db (",
                "cannot be allowed",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --allow-ip 224.0.0.18",
            1,
            &["224.0.0.18/32 cannot be allowed", "no host sends from it"],
        ),
        (
            "endpoint add --network blue --netns @free --allow-ip 0.0.0.0",
            1,
            &["0.0.0.0/32 cannot be allowed"],
        ),
        (
            "endpoint add --network blue --netns @free --allow-ip 192.168.0.1/16",
            1,
            &[
                "192.168.0.1/16 has host bits set",
                "192.168.0.0/16 is meant",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --ip 10.42.0.99",
            1,
            &["10.42.0.99 is an --allow-ip of an endpoint"],
        ),
        // The first family was claimed already.
        (
            &both_families,
            1,
            &[
                "cannot add an endpoint to network dual",
                "fd00:9::1 is the network's gateway",
            ],
        ),
        // Its holder is on the other host.
        (
            &take_db,
            1,
            &[
                &db_ip,
                "is taken by endpoint db (",
                "on host2",
                "another --ip",
            ],
        ),
        (
            &take_mac,
            1,
            &[
                &web.mac.to_string(),
                "is taken by endpoint web (",
                "another --mac",
            ],
        ),
        (
            "endpoint add --network tiny --netns @free",
            1,
            &[
                "cannot add an endpoint to network tiny",
                "no IPv4 address is left in 10.9.0.0/30",
                "remove endpoints",
            ],
        ),
        (
            "endpoint add --network blue --netns /run/netns/no-such-container",
            1,
            &[
                "/run/netns/no-such-container",
                "is the container running?",
                "No such file",
            ],
        ),
        (
            "endpoint add --network blue --container web",
            1,
            &[
                "cannot add an endpoint to network blue",
                "cannot ask Docker for container `web`",
                "--docker-socket",
                "/run/no-docker.sock",
            ],
        ),
        // Beyond the largest process id that a kernel gives.
        (
            "endpoint add --network blue --pid 4194305",
            1,
            &["/proc/4194305/ns/net", "is the container running?"],
        ),
        (
            "endpoint add --network blue --netns /etc/passwd",
            1,
            &["/etc/passwd is not a network namespace", "/run/netns/NAME"],
        ),
        (
            "endpoint add --network blue --netns @own",
            1,
            &["is the agent's own network namespace"],
        ),
        (
            "endpoint add --network blue --netns @web",
            1,
            &[
                "cannot add an endpoint to network blue",
                "eth0 is taken in the container",
                "--ifname",
            ],
        ),
        // Twice: the very same, and by name alone.
        (
            &web_again,
            1,
            &["endpoint `web` is on network blue already", "endpoint rm"],
        ),
        (
            "endpoint add --network blue --netns @free --name web",
            1,
            &[
                "endpoint `web` is on network blue already",
                "another --name",
            ],
        ),
        (
            "endpoint add --network blue --netns @free --name db",
            1,
            &["endpoint `db` is on network blue already"],
        ),
        (
            "endpoint rm nobody",
            1,
            &[
                "cannot remove endpoint nobody",
                "no endpoint `nobody`",
                "endpoint ls",
            ],
        ),
        (
            "endpoint inspect nobody",
            1,
            &["no endpoint `nobody`", "`overlay-agent endpoint ls`"],
        ),
        (
            "endpoint rm db",
            1,
            &[
                "cannot remove endpoint db",
                "on host host2",
                "remove it there",
            ],
        ),
        // Nodes
        (
            "endpoint add --network blue --node nobody --ip 10.42.0.7 --mac 02:00:00:00:00:07",
            1,
            &["no node `nobody`", "`overlay-agent node ls`"],
        ),
        (
            "endpoint add --network blue --node host2 --ip 10.42.0.7 --mac 02:00:00:00:00:07",
            1,
            &["host host2 has an agent", "add its endpoints there"],
        ),
        (
            "node add switch --vtep 192.0.2.51",
            1,
            &["`switch` exists already", "node forget"],
        ),
        (
            "node add other --vtep 192.0.2.50",
            1,
            &["192.0.2.50 is the VTEP of the node `switch`"],
        ),
        (
            "node add other --vtep 192.0.2.1",
            1,
            &["192.0.2.1 is this host's own address"],
        ),
        (
            "node forget nobody",
            1,
            &["cannot forget node nobody", "no node `nobody`", "node ls"],
        ),
        (
            "node rm host2",
            1,
            &[
                "cannot forget node host2",
                "has a running agent",
                "stop it first",
            ],
        ),
    ] {
        refused(one, &names, mistake)?;
        let what = mistake.0;
        ensure!(containers()? == interfaces, "{what}: left in a container");
        unchanged(one, &before.0).context(what.to_owned())?;
        let now = keys(&world.store_station, store.address())?;
        ensure!(now == stored, "{what}: before {stored}\nafter {now}");
    }
    unchanged(two, &before.1)?;
    reachable(&web, &db, 3)?;

    // The way out that the refusals name.
    for endpoint in ["web", "hw", "vip"] {
        one.cli_ok(&["endpoint", "rm", endpoint])?;
    }
    two.cli_ok(&["endpoint", "rm", "db"])?;
    one.cli_ok(&["network", "rm", "blue"])?;
    Ok(())
}

use clap::Parser;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    locations: Locations,
    #[command(flatten)]
    settings: Settings,
}

fn resolve(arguments: &[&str], file: &str) -> Config {
    let cli = Cli::try_parse_from([&["test"], arguments].concat()).unwrap();
    let file = file::parse(Path::new("test.toml"), file).unwrap();
    Config::resolve(cli.locations, cli.settings, file)
}

fn refusal(file: &str) -> String {
    file::parse(Path::new("test.toml"), file)
        .unwrap_err()
        .to_string()
}

#[test]
fn defaults() {
    let config = resolve(&[], "");
    assert_eq!(config.run_dir, Path::new("/run/overlay"));
    assert_eq!(config.port, 4789);
    assert_eq!(config.store, StoreChoice::Unset);
    assert_eq!(config.metrics_addr.to_string(), "127.0.0.1:9469");
    assert!(!config.log_drops);
    assert_eq!(config.node_grace, Duration::from_secs(60));
}

#[test]
fn a_file_beats_the_default_and_a_flag_the_file() {
    let file = "run-dir = \"/a\"\nport = 1\nxdp = \"off\"\nstore = \"embedded\"\nlog-drops = true";
    let config = resolve(&[], file);
    assert_eq!(config.run_dir, Path::new("/a"));
    assert_eq!((config.port, config.xdp), (1, XdpMode::Off));
    assert_eq!(config.store, StoreChoice::Embedded);
    assert!(config.log_drops);

    let flags = ["--run-dir=/b", "--port=2", "--xdp=native", "--log-drops=no"];
    let config = resolve(&flags, file);
    assert_eq!(config.run_dir, Path::new("/b"));
    assert_eq!((config.port, config.xdp), (2, XdpMode::Native));
    assert!(!config.log_drops);
}

#[test]
fn decapsulation_in_xdp_needs_xdp() {
    let file = "decap = \"xdp\"\nxdp = \"off\"";
    assert_eq!(resolve(&[], "").decap, DecapMode::Tc);
    for (arguments, refused) in [
        (&[][..], Some("--xdp is off")),
        (&["--xdp=generic"], Some("--xdp is generic")),
        (&["--xdp=native"], None),
        (&["--xdp=auto"], None),
        (&["--decap=tc"], None),
        (&["--decap=auto"], None),
    ] {
        let found = resolve(arguments, file).consistent();
        let error = found.err().map(|error| error.to_string());
        match refused {
            Some(said) => assert!(error.unwrap().contains(said), "{arguments:?}"),
            None => assert_eq!(error, None, "{arguments:?}"),
        }
    }
}

#[test]
fn advertised_addresses_are_lists() {
    let both: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    for arguments in [
        &["--advertise=192.0.2.1,fd00::1"][..],
        &["--advertise", "192.0.2.1", "--advertise", "fd00::1"],
    ] {
        assert_eq!(resolve(arguments, "").advertise, both);
    }
    for file in [
        "advertise = \"192.0.2.1, fd00::1\"",
        "advertise = [\"192.0.2.1\", \"fd00::1\"]",
    ] {
        assert_eq!(resolve(&[], file).advertise, both);
        assert_eq!(resolve(&["--advertise=fd00::1"], file).advertise, both[1..]);
    }
    assert_eq!(resolve(&[], "").advertise, [] as [IpAddr; 0]);
    let message = refusal("\nadvertise = \"192.0.2.1, here\"");
    assert!(
        message.starts_with("test.toml:2: ") && message.contains("here"),
        "{message}"
    );
}

#[test]
fn outer_headers() {
    let config = resolve(&[], "");
    assert_eq!((config.outer_ttl, config.dscp), (64, Dscp::Fixed(0)));
    assert!(!config.udp_checksum);
    let file = "outer-ttl = 9\ndscp = \"inherit\"\nudp-checksum = true";
    let config = resolve(&[], file);
    assert_eq!((config.outer_ttl, config.dscp), (9, Dscp::Inherit));
    assert!(config.udp_checksum);
    let config = resolve(&["--outer-ttl=255", "--dscp=46", "--udp-checksum=no"], file);
    assert_eq!((config.outer_ttl, config.dscp), (255, Dscp::Fixed(46)));
    assert!(!config.udp_checksum);
    assert_eq!(resolve(&[], "dscp = 63").dscp, Dscp::Fixed(63));
    for wrong in ["--outer-ttl=0", "--outer-ttl=256", "--dscp=64", "--dscp=ef"] {
        assert!(Cli::try_parse_from(["test", wrong]).is_err(), "{wrong}");
    }
    for wrong in ["outer-ttl = 0", "dscp = 64", "dscp = -1", "dscp = \"ef\""] {
        assert!(refusal(wrong).starts_with("test.toml:1: "), "{wrong}");
    }
}

/// Environment and flag are clap's: what is asserted is that each flag has its variable.
#[test]
fn every_flag_has_a_variable() {
    let command = <Cli as clap::CommandFactory>::command();
    for argument in command.get_arguments() {
        let Some(flag) = argument.get_long().filter(|flag| *flag != "help") else {
            continue;
        };
        let wanted = format!("OVERLAY_{}", flag.replace('-', "_").to_uppercase());
        assert_eq!(argument.get_env(), Some(wanted.as_ref()), "--{flag}");
    }
}

#[test]
fn every_flag_is_a_key() {
    let command = <Cli as clap::CommandFactory>::command();
    for argument in command.get_arguments() {
        let Some(flag) = argument
            .get_long()
            .filter(|flag| !["help", "config"].contains(flag))
        else {
            continue;
        };
        // A table is no flag's type: the refusal is about the type exactly if the key is known.
        let message = refusal(&format!("{flag} = {{}}"));
        assert!(!message.contains("unknown field"), "{message}");
    }
}

#[test]
fn refusals_name_file_line_and_key() {
    let message = refusal("port = 1\nprot = 4789\n");
    assert!(
        message.starts_with("test.toml:2: unknown field `prot`"),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    let message = refusal("port = 0");
    assert!(message.starts_with("test.toml:1: port 0"), "{message}");
    let message = refusal("port = 1\nnode-grace = 9");
    assert!(
        message.starts_with("test.toml:2: node-grace 9"),
        "{message}"
    );
    let message = refusal("\n\nxdp = \"often\"");
    assert!(message.starts_with("test.toml:3: "), "{message}");
}

#[test]
fn only_a_named_file_has_to_exist() {
    let path = Path::new("/nonexistent/config.toml");
    assert!(file::read(path).is_err());
    assert!(file::read_if_there(path).is_ok());
}

use super::*;

fn config(flag: Option<&str>, env: &[(&str, &str)]) -> Result<StoreConfig, ConfigError> {
    StoreConfig::from_parts(flag, |name| {
        env.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned())
    })
}

fn address(flag: Option<&str>, env: &[(&str, &str)]) -> String {
    config(flag, env).unwrap().address.to_string()
}

#[test]
fn address_forms() {
    for (given, wanted) in [
        ("consul://10.0.0.1", "http://10.0.0.1:8500"),
        ("consul://10.0.0.1:80", "http://10.0.0.1"),
        ("consul://[fd00::1]", "http://[fd00::1]:8500"),
        ("http://consul.lan", "http://consul.lan"),
        (
            "https://consul.lan:8501/proxy/",
            "https://consul.lan:8501/proxy",
        ),
        ("localhost:8600", "http://localhost:8600"),
        ("10.0.0.1", "http://10.0.0.1:8500"),
        (
            "unix:///run/overlay/store.sock",
            "unix:///run/overlay/store.sock",
        ),
    ] {
        assert_eq!(address(Some(given), &[]), wanted, "{given}");
    }
}

#[test]
fn addresses_refused() {
    for given in [
        "",
        "etcd://10.0.0.1",
        "unix://relative",
        "http://",
        "http://h:99999",
        "http://h?token=x",
    ] {
        assert!(config(Some(given), &[]).is_err(), "{given}");
    }
}

#[test]
fn flag_wins_over_environment_over_default() {
    let env = [("CONSUL_HTTP_ADDR", "10.0.0.2:8500")];
    assert_eq!(
        address(Some("consul://10.0.0.1:8500"), &env),
        "http://10.0.0.1:8500"
    );
    assert_eq!(address(None, &env), "http://10.0.0.2:8500");
    assert_eq!(address(None, &[]), "http://127.0.0.1:8500");
    assert_eq!(
        address(None, &[("CONSUL_HTTP_ADDR", "")]),
        "http://127.0.0.1:8500"
    );
}

#[test]
fn ssl_is_for_addresses_without_scheme() {
    let ssl = ("CONSUL_HTTP_SSL", "true");
    assert_eq!(address(None, &[ssl]), "https://127.0.0.1:8500");
    assert_eq!(
        address(None, &[ssl, ("CONSUL_HTTP_ADDR", "http://h:8500")]),
        "http://h:8500"
    );
    assert!(matches!(
        config(None, &[("CONSUL_HTTP_SSL", "maybe")]),
        Err(ConfigError::Bool { .. })
    ));
}

#[test]
fn secrets_are_not_printed() {
    let config = config(None, &[("CONSUL_HTTP_TOKEN", "s3cret")]).unwrap();
    assert_eq!(config.token.as_ref().unwrap().secret(), "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
    let error = self::config(Some("http://me:s3cret@h:1"), &[]).unwrap_err();
    assert!(!format!("{error}{error:?}").contains("s3cret"));
}

#[test]
fn tls_namespace_and_datacenter() {
    let config = config(
        Some("https://h:8501?dc=east"),
        &[
            ("CONSUL_CACERT", "/ca"),
            ("CONSUL_CLIENT_CERT", "/c"),
            ("CONSUL_CLIENT_KEY", "/k"),
            ("CONSUL_TLS_SERVER_NAME", "server.dc1.consul"),
            ("CONSUL_NAMESPACE", "team"),
            ("CONSUL_HTTP_SSL_VERIFY", "false"),
            ("CONSUL_HTTP_TOKEN_FILE", "/t"),
        ],
    )
    .unwrap();
    assert_eq!(
        config.tls,
        TlsConfig {
            ca_cert: Some("/ca".into()),
            client: Some(("/c".into(), "/k".into())),
            server_name: Some("server.dc1.consul".into()),
            verify: false,
        }
    );
    assert_eq!(config.namespace.as_deref(), Some("team"));
    assert_eq!(config.datacenter.as_deref(), Some("east"));
    assert_eq!(config.token_file, Some("/t".into()));
    assert!(matches!(
        self::config(None, &[("CONSUL_CLIENT_CERT", "/c")]),
        Err(ConfigError::HalfAPair { .. })
    ));
}

#[test]
fn prefixes() {
    let prefix = |given| Some(config(None, &[]).unwrap().with_prefix(given).ok()?.prefix);
    assert_eq!(prefix("a/b"), Some("a/b/".into()));
    assert_eq!(prefix("/a/"), Some("a/".into()));
    for refused in ["", "/", "a//b", "../a", "a b", "a/./b"] {
        assert_eq!(prefix(refused), None, "{refused}");
    }
}

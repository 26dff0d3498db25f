//! Where the store is and how to talk to it.

mod address;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

pub use address::Address;

/// The prefix of every key when none is configured.
pub const DEFAULT_PREFIX: &str = "overlay/";

/// Settings of the connection. The environment's names and meanings are those of Consul's own
/// command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    pub address: Address,
    pub token: Option<Token>,
    /// Its contents win over `token`, as in Consul's own client.
    pub token_file: Option<PathBuf>,
    pub tls: TlsConfig,
    /// Consul Enterprise.
    pub namespace: Option<String>,
    /// From `?dc=` of the address. Consul's key-value store is one per datacenter.
    pub datacenter: Option<String>,
    /// Ends with `/`, has no leading `/`.
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_cert: Option<PathBuf>,
    /// PEM files of the client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Name that the server's certificate has to carry, when it is not the address's host.
    pub server_name: Option<String>,
    pub verify: bool,
}

/// An ACL token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// A setting that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "the store's address `{given}` ({origin}) is not usable: {why}; \
         wanted is consul://HOST:PORT, http://…, https://… or unix:///PATH"
    )]
    Address {
        given: String,
        origin: &'static str,
        why: String,
    },
    #[error("{variable}=`{value}` is neither true nor false")]
    Bool {
        variable: &'static str,
        value: String,
    },
    #[error("{given} is set and {missing} is not: a client certificate needs both")]
    HalfAPair {
        given: &'static str,
        missing: &'static str,
    },
    #[error("the store's prefix `{0}` is not usable: wanted is a path such as `overlay/`")]
    Prefix(String),
    #[error("cannot read {what} from {}", path.display())]
    File {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{what} in {} is not PEM as wanted", path.display())]
    Pem {
        what: &'static str,
        path: PathBuf,
        source: reqwest::Error,
    },
    #[error("the {what} has characters that an HTTP header cannot carry")]
    Header { what: &'static str },
    #[error("cannot set up the store's HTTP client")]
    Client(#[source] reqwest::Error),
}

impl StoreConfig {
    /// Settings from a `--store` flag and the environment (`env` gives a variable's value). The
    /// flag wins over `CONSUL_HTTP_ADDR`; an empty variable counts as unset.
    pub fn from_parts(
        flag: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let env = &|name: &str| env(name).filter(|value| !value.is_empty());
        let ssl = boolean("CONSUL_HTTP_SSL", env)?.unwrap_or(false);
        let from_env = env("CONSUL_HTTP_ADDR");
        let (given, origin) = match (flag, &from_env) {
            (Some(flag), _) => (flag, "--store"),
            (None, Some(variable)) => (variable.as_str(), "CONSUL_HTTP_ADDR"),
            (None, None) => ("127.0.0.1:8500", "the default"),
        };
        let (address, datacenter) =
            Address::parse(given, ssl).map_err(|why| ConfigError::Address {
                given: address::without_credentials(given),
                origin,
                why,
            })?;
        let client = match (env("CONSUL_CLIENT_CERT"), env("CONSUL_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(ConfigError::HalfAPair {
                    given: "CONSUL_CLIENT_CERT",
                    missing: "CONSUL_CLIENT_KEY",
                });
            }
            (None, Some(_)) => {
                return Err(ConfigError::HalfAPair {
                    given: "CONSUL_CLIENT_KEY",
                    missing: "CONSUL_CLIENT_CERT",
                });
            }
        };
        Ok(Self {
            address,
            token: env("CONSUL_HTTP_TOKEN").map(Token),
            token_file: env("CONSUL_HTTP_TOKEN_FILE").map(PathBuf::from),
            tls: TlsConfig {
                ca_cert: env("CONSUL_CACERT").map(PathBuf::from),
                client,
                server_name: env("CONSUL_TLS_SERVER_NAME"),
                verify: boolean("CONSUL_HTTP_SSL_VERIFY", env)?.unwrap_or(true),
            },
            namespace: env("CONSUL_NAMESPACE"),
            datacenter,
            prefix: DEFAULT_PREFIX.to_owned(),
        })
    }

    /// The same with another prefix; a missing `/` at its end is added.
    pub fn with_prefix(mut self, prefix: &str) -> Result<Self, ConfigError> {
        let trimmed = prefix.trim_matches('/');
        let usable = !trimmed.is_empty()
            && trimmed.split('/').all(|part| {
                !matches!(part, "" | "." | "..") && part.chars().all(|c| c.is_ascii_graphic())
            });
        if !usable {
            return Err(ConfigError::Prefix(prefix.to_owned()));
        }
        self.prefix = format!("{trimmed}/");
        Ok(self)
    }
}

/// Reads a boolean as Go's `strconv.ParseBool` does, which is what Consul uses.
fn boolean(
    variable: &'static str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<bool>, ConfigError> {
    let Some(value) = env(variable) else {
        return Ok(None);
    };
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
        _ => Err(ConfigError::Bool { variable, value }),
    }
}

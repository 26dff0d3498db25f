//! The ACL token that a request carries.

use std::fs;
use std::sync::{Mutex, PoisonError};

use reqwest::header::HeaderValue;

use super::super::config::{ConfigError, StoreConfig, Token};

/// Reads the token file anew for each request, so that whoever changes the token need not start the agent
/// again. Requests are few and the file is small.
#[derive(Debug)]
pub(super) struct TokenSource {
    config: StoreConfig,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    header: Option<HeaderValue>,
    /// How often it was another one than before.
    changes: u64,
    unreadable: bool,
}

impl TokenSource {
    pub(super) fn new(config: &StoreConfig) -> Result<Self, ConfigError> {
        let token = from_file(config)?.or_else(|| config.token.clone());
        let last = Last {
            header: token.as_ref().map(header).transpose()?,
            changes: 0,
            unreadable: false,
        };
        Ok(Self {
            config: config.clone(),
            last: Mutex::new(last),
        })
    }

    /// The file's token; while the file is missing, empty or no token, the one before.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.config.token_file else {
            return last.header.clone();
        };
        let read = from_file(&self.config).and_then(|token| token.as_ref().map(header).transpose());
        match read {
            Ok(Some(now)) => {
                if last.header.as_ref() != Some(&now) {
                    tracing::info!("another token is in {}", path.display());
                    last.header = Some(now);
                    last.changes += 1;
                }
                last.unreadable = false;
            }
            // It is being written, or was so from the start.
            Ok(None) => {}
            Err(error) if !last.unreadable => {
                tracing::warn!(
                    "the token of before stays in use: {:#}",
                    anyhow::Error::from(error)
                );
                last.unreadable = true;
            }
            Err(_) => {}
        }
        last.header.clone()
    }

    pub(super) fn changes(&self) -> u64 {
        let last = self.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).changes
    }
}

/// `None` without a file, and for an empty one, as in Consul's own client.
fn from_file(config: &StoreConfig) -> Result<Option<Token>, ConfigError> {
    let Some(path) = &config.token_file else {
        return Ok(None);
    };
    let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
        what: "the token",
        path: path.clone(),
        source,
    })?;
    let secret = text.trim();
    Ok((!secret.is_empty()).then(|| Token::new(secret)))
}

fn header(token: &Token) -> Result<HeaderValue, ConfigError> {
    let mut value =
        HeaderValue::from_str(token.secret()).map_err(|_| ConfigError::Header { what: "token" })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let env = |name: &str| match name {
            "CONSUL_HTTP_TOKEN" => Some("variable".to_owned()),
            "CONSUL_HTTP_TOKEN_FILE" => Some(file.display().to_string()),
            _ => None,
        };
        let config = StoreConfig::from_parts(None, env).unwrap();
        assert!(matches!(
            TokenSource::new(&config),
            Err(ConfigError::File { .. })
        ));
        fs::write(&file, "").unwrap();
        let source = TokenSource::new(&config).unwrap();
        let is = |text: &str| {
            source.header().unwrap() == text && source.header().unwrap().is_sensitive()
        };
        assert!(is("variable") && source.changes() == 0);
        for (number, text) in [(1, "one\n"), (2, "two")] {
            fs::write(&file, text).unwrap();
            assert!(is(text.trim()) && source.changes() == number);
        }
        for broken in ["", " \n", "a\nb"] {
            fs::write(&file, broken).unwrap();
            assert!(is("two"), "{broken:?}");
        }
        fs::remove_file(&file).unwrap();
        assert!(is("two") && source.changes() == 2);
    }
}

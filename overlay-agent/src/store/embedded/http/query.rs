//! The parameters of a request.

use std::time::Duration;

use axum::extract::Query as Pairs;
use axum::http::Uri;

use super::reply::Failure;
use crate::store::embedded::engine::Patience;
use crate::store::embedded::go_duration;

/// How long a blocking read waits if it does not say.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// The longest wait, whatever the client says.
const MAX_WAIT: Duration = Duration::from_secs(600);

/// A wait is prolonged by up to this part of it, so that readers do not return all at once.
const JITTER_PART: u32 = 16;

/// The parameters, in the order they came.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of the address after the `?`.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of(uri: &Uri) -> Result<Self, Failure> {
        let Pairs(pairs) = Pairs::try_from_uri(uri)
            .map_err(|rejection| Failure::bad_request(rejection.body_text()))?;
        Ok(Self(pairs))
    }

    /// Whether the parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of the parameter; empty if it has none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A number in the parameter, if it is there.
    ///
    /// # Errors
    /// It is no number. That is a 500, as it is in Consul.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        self.get(name)
            .map(|text| number(text).map_err(Failure::internal))
            .transpose()
    }

    /// Refuses parameters that exclude each other.
    ///
    /// # Errors
    /// More than one of `names` is there.
    pub(super) fn at_most_one_of(&self, names: &[&str]) -> Result<(), Failure> {
        if names.iter().filter(|name| self.has(name)).count() < 2 {
            return Ok(());
        }
        let mut pairs: Vec<String> = (self.0.iter())
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.sort_unstable();
        let pairs = pairs.join("&");
        Err(Failure::bad_request(format!(
            "Conflicting flags: {pairs}\n"
        )))
    }

    /// How long a read may block, if at all.
    ///
    /// The consistency modes are checked and otherwise ignored: there is one server, and what
    /// it says is always consistent.
    ///
    /// # Errors
    /// An index or a time that cannot be read, or contradictory consistency modes.
    pub(super) fn patience(&self) -> Result<Option<Patience>, Failure> {
        let wait = match self.get("wait").unwrap_or_default() {
            "" => 0,
            text => {
                go_duration::parse(text).map_err(|_| Failure::bad_request("Invalid wait time"))?
            }
        };
        let index = match self.get("index").unwrap_or_default() {
            "" => 0,
            text => number(text).map_err(|_| Failure::bad_request("Invalid index"))?,
        };
        if self.has("stale") && self.has("consistent") {
            return Err(Failure::bad_request(
                "Cannot specify ?stale with ?consistent, conflicting semantics.",
            ));
        }
        let wait = match u64::try_from(wait) {
            Ok(0) | Err(_) => DEFAULT_WAIT,
            Ok(nanoseconds) => Duration::from_nanos(nanoseconds).min(MAX_WAIT),
        };
        let jitter = (wait / JITTER_PART).mul_f64(rand::random());
        Ok((index > 0).then_some(Patience {
            index,
            wait: wait + jitter,
        }))
    }
}

/// Reads a number as strictly as Go's `strconv.ParseUint`, and fails with its words.
fn number(text: &str) -> Result<u64, String> {
    let refused = |why| Err(format!("strconv.ParseUint: parsing {text:?}: {why}"));
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused("invalid syntax");
    }
    text.parse().or_else(|_| refused("value out of range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patience(query: &str) -> Result<Option<Patience>, u16> {
        let uri: Uri = format!("/?{query}").parse().unwrap();
        let query = Query::of(&uri).unwrap();
        query.patience().map_err(|err| err.status().as_u16())
    }

    #[test]
    fn a_read_blocks_only_with_an_index() {
        for query in ["", "wait=10s", "index=0&wait=10s", "index=&wait=", "index"] {
            assert_eq!(patience(query), Ok(None), "{query}");
        }
    }

    #[test]
    fn the_wait_is_bounded_and_spread() {
        for (query, seconds) in [
            ("index=7&wait=10s", 10),
            ("index=7", 300),
            ("index=7&wait=-5s", 300),
            ("index=7&wait=0s", 300),
            ("index=7&wait=2h", 600),
        ] {
            let patience = patience(query).unwrap().unwrap();
            let wait = Duration::from_secs(seconds);
            assert_eq!(patience.index, 7);
            assert!(patience.wait >= wait, "{query}: {patience:?}");
            assert!(patience.wait <= wait + wait / 16, "{query}: {patience:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_a_bad_request() {
        for query in [
            "wait=1",
            "wait=x",
            "index=x",
            "index=-1",
            "index=%2B1",
            "index=99999999999999999999",
            "stale&consistent",
        ] {
            assert_eq!(patience(query), Err(400), "{query}");
        }
    }
}

//! What can go wrong between the agent and the store.

use std::fmt;

use reqwest::StatusCode;
use thiserror::Error;

/// A failed request. Messages name the action and the store, never the token.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No connection: nothing was sent, so nothing was changed.
    #[error("cannot {action}: no connection to the store at {address}; is it running?")]
    Unreachable {
        action: String,
        address: String,
        source: reqwest::Error,
    },
    /// One of the two does not take the other's certificate: nothing was changed.
    #[error(
        "cannot {action}: this host and the store at {address} do not trust each other; check \
         CONSUL_CACERT and CONSUL_TLS_SERVER_NAME for its certificate, CONSUL_CLIENT_CERT and \
         CONSUL_CLIENT_KEY for the one that it may want"
    )]
    Untrusted {
        action: String,
        address: String,
        source: reqwest::Error,
    },
    /// The request was sent, and no whole answer came back.
    #[error("cannot {action}: the store at {address} did not answer")]
    Interrupted {
        action: String,
        address: String,
        source: reqwest::Error,
    },
    /// The request was given up, sent or not: this host's address has changed under it.
    #[error(
        "cannot {action}: this host's address has changed; the store at {address} is asked anew"
    )]
    Moved { action: String, address: String },
    #[error(
        "cannot {action}: the store's ACL denies it to this token, or none was given ({detail}); \
         check CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE and the token's policy"
    )]
    Denied { action: String, detail: String },
    /// The token itself is unknown to the store.
    #[error(
        "cannot {action}: the store refused the token ({detail}); check CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE"
    )]
    TokenRefused { action: String, detail: String },
    /// A transaction was rolled back because its conditions did not hold.
    #[error("cannot {action}: the store's state changed meanwhile ({}); try again", join(.failed))]
    Conflict {
        action: String,
        failed: Vec<FailedOp>,
    },
    /// Permanent: the request is beyond the store's limits (512 KiB, 64 operations).
    #[error("cannot {action}: too large for the store ({detail})")]
    TooLarge { action: String, detail: String },
    /// The store has trouble of its own, e.g. no leader.
    #[error("cannot {action}: the store answered {status} ({detail})")]
    Server {
        action: String,
        status: StatusCode,
        detail: String,
    },
    /// The store understood and refused: a mistake in the request or the address.
    #[error("cannot {action}: the store refused it with {status} ({detail})")]
    Refused {
        action: String,
        status: StatusCode,
        detail: String,
    },
    /// Not an answer that Consul gives.
    #[error("cannot {action}: the answer is not Consul's ({detail}); check the store's address")]
    Decode { action: String, detail: String },
    /// The read may lack keys, so it must not be taken for the state.
    #[error(
        "cannot trust what was read under `{prefix}`: `{missing}` is not readable; the prefix is \
         wrong, the store was emptied or set back, or the token lost its rights"
    )]
    Incomplete { prefix: String, missing: String },
    /// The read is of an earlier moment than one before it, as from a server that is behind.
    #[error("cannot trust what was read under `{prefix}`: it is older than what is known already")]
    Behind { prefix: String },
    /// The store is a later version's.
    #[error(
        "`{key}` says layout version {found}, and this agent knows up to {known}: use an agent of a later version"
    )]
    Layout { key: String, found: u32, known: u32 },
}

/// One operation of a refused transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedOp {
    /// Position in the transaction.
    pub op: usize,
    /// The store's words.
    pub what: String,
}

impl fmt::Display for FailedOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

fn join(failed: &[FailedOp]) -> String {
    let texts: Vec<_> = failed.iter().map(|op| op.what.as_str()).collect();
    texts.join("; ")
}

/// Bounded labels for counters of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorKind {
    Unreachable,
    Interrupted,
    Denied,
    TokenRefused,
    Conflict,
    TooLarge,
    Server,
    Refused,
    Decode,
    Incomplete,
}

impl ErrorKind {
    /// In the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Unreachable,
        Self::Interrupted,
        Self::Denied,
        Self::TokenRefused,
        Self::Conflict,
        Self::TooLarge,
        Self::Server,
        Self::Refused,
        Self::Decode,
        Self::Incomplete,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Interrupted => "interrupted",
            Self::Denied => "denied",
            Self::TokenRefused => "token_refused",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Server => "server",
            Self::Refused => "refused",
            Self::Decode => "decode",
            Self::Incomplete => "incomplete",
        }
    }
}

impl StoreError {
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } => ErrorKind::Unreachable,
            Self::Interrupted { .. } | Self::Moved { .. } => ErrorKind::Interrupted,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::TokenRefused { .. } => ErrorKind::TokenRefused,
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Server { .. } => ErrorKind::Server,
            Self::Refused { .. } | Self::Layout { .. } => ErrorKind::Refused,
            Self::Decode { .. } => ErrorKind::Decode,
            Self::Incomplete { .. } | Self::Behind { .. } => ErrorKind::Incomplete,
        }
    }

    /// Whether a write may have been applied although it failed: such a write has to be read
    /// back. Consul answers "EOF" to writes that it did apply.
    pub const fn is_unknown_outcome(&self) -> bool {
        matches!(self.kind(), ErrorKind::Interrupted | ErrorKind::Server)
    }

    /// Whether the connection ended in place of an answer; unlike a time-out this comes at once.
    pub(crate) fn is_cut_off(&self) -> bool {
        match self {
            Self::Interrupted { source, .. } => !source.is_timeout(),
            other => matches!(other, Self::Moved { .. }),
        }
    }

    /// Whether the store is away or has trouble of its own, which passes without anybody's doing.
    pub const fn is_outage(&self) -> bool {
        match self.kind() {
            ErrorKind::Unreachable | ErrorKind::Interrupted | ErrorKind::Server => true,
            ErrorKind::Denied
            | ErrorKind::TokenRefused
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::Refused
            | ErrorKind::Decode
            | ErrorKind::Incomplete => false,
        }
    }

    pub const fn is_conflict(&self) -> bool {
        matches!(self.kind(), ErrorKind::Conflict)
    }

    /// Whether operation number `op` of a refused transaction is among those that failed.
    pub fn op_failed(&self, op: usize) -> bool {
        matches!(self, Self::Conflict { failed, .. } if failed.iter().any(|f| f.op == op))
    }

    /// The error that an answer with a status other than success stands for.
    pub(crate) fn from_answer(action: String, status: StatusCode, body: &[u8]) -> Self {
        let detail = brief(body);
        if status == StatusCode::FORBIDDEN || status == StatusCode::UNAUTHORIZED {
            return if detail.contains("ACL not found") {
                Self::TokenRefused { action, detail }
            } else {
                Self::Denied { action, detail }
            };
        }
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            return Self::TooLarge { action, detail };
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Self::Server {
                action,
                status,
                detail,
            };
        }
        Self::Refused {
            action,
            status,
            detail,
        }
    }
}

/// The message and those of its sources, in one line: only the innermost says why a connection
/// did not come to be.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

/// One printable line of a body that may be anything.
pub(crate) fn brief(body: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(body);
    let line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LONGEST)
        .collect();
    if line.is_empty() {
        "no text".to_owned()
    } else {
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_map_to_kinds() {
        for (status, body, kind) in [
            (403, "Permission denied", ErrorKind::Denied),
            (
                403,
                "rpc error making call: ACL not found",
                ErrorKind::TokenRefused,
            ),
            (413, "Request body too large", ErrorKind::TooLarge),
            (500, "No cluster leader", ErrorKind::Server),
            (429, "too many requests", ErrorKind::Server),
            (400, "Invalid wait time", ErrorKind::Refused),
            (404, "", ErrorKind::Refused),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let error = StoreError::from_answer("x".into(), status, body.as_bytes());
            assert_eq!(error.kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn only_unanswered_or_failed_writes_are_unknown() {
        let at = |status| {
            StoreError::from_answer(
                "x".into(),
                StatusCode::from_u16(status).unwrap(),
                b"rpc EOF",
            )
            .is_unknown_outcome()
        };
        assert!(at(500));
        assert!(!at(403));
        assert!(!at(413));
        let conflict = StoreError::Conflict {
            action: "x".into(),
            failed: vec![FailedOp {
                op: 3,
                what: "index is stale".into(),
            }],
        };
        assert!(!conflict.is_unknown_outcome());
        assert!(conflict.op_failed(3) && !conflict.op_failed(0));
    }

    #[test]
    fn labels_are_distinct_and_in_order() {
        for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            assert!(
                ErrorKind::ALL[..at]
                    .iter()
                    .all(|k| k.label() != kind.label())
            );
        }
    }

    #[test]
    fn bodies_become_one_line() {
        assert_eq!(brief(b" a\nb\x1b[0m "), "a b [0m");
        assert_eq!(brief(b""), "no text");
        assert_eq!(brief(&[b'x'; 5000]).len(), 200);
    }
}

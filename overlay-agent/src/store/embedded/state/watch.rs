//! Who has to be woken by which write.

use super::{Changes, Key};

/// What a blocked reader waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Watch {
    /// A change of this key.
    Key(Key),
    /// A change of any key with this prefix.
    Prefix(Key),
    /// A change of any key: what was asked for does not exist, so the answer's index is that of
    /// the last change anywhere. (Consul does the same; it is why a watched prefix should never
    /// be empty.)
    AnyKey,
    /// A session made or ended.
    Sessions,
}

impl Watch {
    /// Whether `changes` may alter the answer this was made for.
    pub(in super::super) fn is_woken_by(&self, changes: &Changes) -> bool {
        match self {
            Self::Key(key) => changes.kv.contains_key(key),
            Self::Prefix(prefix) => changes.kv.keys().any(|key| key.starts_with(prefix)),
            Self::AnyKey => changes.touches_keys(),
            Self::Sessions => !changes.sessions.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_woken_by_what_it_covers_and_by_nothing_else() {
        let written = |key: &str| Changes {
            kv: [(Key::from(key.as_bytes()), None)].into(),
            ..Changes::default()
        };
        let key = Watch::Key(Key::from(*b"a/b"));
        let prefix = Watch::Prefix(Key::from(*b"a/b"));
        // what was written, does it wake the key, the prefix
        for (name, wakes_key, wakes_prefix) in [
            ("a/b", true, true),
            ("a/bc", false, true),
            ("a/b/c", false, true),
            ("a/a", false, false),
            ("a", false, false),
            ("b", false, false),
        ] {
            assert_eq!(key.is_woken_by(&written(name)), wakes_key, "{name}");
            assert_eq!(prefix.is_woken_by(&written(name)), wakes_prefix, "{name}");
            assert!(Watch::AnyKey.is_woken_by(&written(name)), "{name}");
            assert!(!Watch::Sessions.is_woken_by(&written(name)), "{name}");
        }
        let session = Changes {
            sessions: [(super::super::SessionId::from_bytes([1; 16]), None)].into(),
            ..Changes::default()
        };
        assert!(Watch::Sessions.is_woken_by(&session));
        assert!(!Watch::AnyKey.is_woken_by(&session));
    }
}

//! Single keys and lists of keys.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Deserializer, de};

use super::{Client, REQUEST_TIMEOUT, Reply};
use crate::store::error::StoreError;

/// One key as Consul stores it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct KvPair {
    pub key: String,
    /// Empty for `null`, and in a transaction's answer to a write.
    #[serde(default, deserialize_with = "from_base64")]
    pub value: Vec<u8>,
    pub create_index: u64,
    pub modify_index: u64,
    pub lock_index: u64,
    pub flags: u64,
    /// The session that holds the key's lock.
    #[serde(default)]
    pub session: Option<super::SessionId>,
}

/// A read's result and the index to block on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    pub value: T,
    /// At least 1.
    pub index: u64,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(Vec::new()),
        Some(text) => STANDARD.decode(text).map_err(de::Error::custom),
    }
}

impl Client {
    /// One key; `None` when the store has none or hides it.
    pub async fn get(&self, key: &str) -> Result<Answer<Option<KvPair>>, StoreError> {
        self.read(key, &[], None, || format!("read `{key}`"))
            .await
            .map(first)
    }

    /// The same, answered when the key's index passes `index` or after `wait`.
    pub async fn get_blocking(
        &self,
        key: &str,
        index: u64,
        wait: Duration,
    ) -> Result<Answer<Option<KvPair>>, StoreError> {
        self.read(key, &[], Some((index, wait)), || format!("watch `{key}`"))
            .await
            .map(first)
    }

    /// All keys under a prefix, in order; none when the store hides them.
    pub async fn list(&self, prefix: &str) -> Result<Answer<Vec<KvPair>>, StoreError> {
        self.read(prefix, &["recurse"], None, || format!("list `{prefix}`"))
            .await
    }

    /// The same, answered when the prefix's index passes `index` or after `wait`.
    pub async fn list_blocking(
        &self,
        prefix: &str,
        index: u64,
        wait: Duration,
    ) -> Result<Answer<Vec<KvPair>>, StoreError> {
        let query = Some((index, wait));
        self.read(prefix, &["recurse"], query, || format!("watch `{prefix}`"))
            .await
    }

    /// The names of all keys under a prefix.
    pub async fn keys(&self, prefix: &str) -> Result<Answer<Vec<String>>, StoreError> {
        self.read(prefix, &["keys"], None, || format!("list `{prefix}`"))
            .await
    }

    /// Writes unconditionally.
    pub async fn put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        let action = || format!("write `{key}`");
        if self.write(key, value, None, action).await? {
            Ok(())
        } else {
            Err(StoreError::Decode {
                action: action(),
                detail: "a plain write was answered with `false`".to_owned(),
            })
        }
    }

    /// Writes if the key's `ModifyIndex` is `index`; 0 means that it must not exist. `false` when
    /// it was another.
    pub async fn cas(&self, key: &str, value: Vec<u8>, index: u64) -> Result<bool, StoreError> {
        self.write(key, value, Some(index), || format!("write `{key}`"))
            .await
    }

    /// Removes a key; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let action = || format!("delete `{key}`");
        let request = self.request(Method::DELETE, "kv", key);
        self.send(request, action, &[]).await.map(drop)
    }

    async fn read<T: Default + de::DeserializeOwned>(
        &self,
        path: &str,
        flags: &[&str],
        blocking: Option<(u64, Duration)>,
        action: impl Fn() -> String,
    ) -> Result<Answer<T>, StoreError> {
        let request = || {
            let mut request = self.request(Method::GET, "kv", path);
            for flag in flags {
                request = request.query(&[(flag, "")]);
            }
            let Some((index, wait)) = blocking else {
                return request;
            };
            request
                .query(&[("index", index.to_string())])
                // Without a unit Consul answers 400.
                .query(&[("wait", format!("{}ms", wait.as_millis()))])
                // Consul adds up to a sixteenth, so that watchers do not return together.
                .timeout(wait + wait / 16 + REQUEST_TIMEOUT)
        };
        let send = || self.send(request(), &action, &[StatusCode::NOT_FOUND]);
        let mut result = send().await;
        // A server that closes an idle connection may do so just when the next request is on its
        // way. A read can simply be sent again.
        if result.as_ref().is_err_and(StoreError::is_cut_off) {
            result = send().await;
        }
        let Reply {
            status,
            index,
            body,
        } = result?;
        let Some(index) = index else {
            return Err(StoreError::Decode {
                action: action(),
                detail: format!("{status} without X-Consul-Index"),
            });
        };
        let value = if status == StatusCode::NOT_FOUND {
            T::default()
        } else {
            self.decode(&body, action)?
        };
        Ok(Answer {
            value,
            // A blocking query with index 0 does not block.
            index: index.max(1),
        })
    }

    async fn write(
        &self,
        key: &str,
        value: Vec<u8>,
        cas: Option<u64>,
        action: impl Fn() -> String,
    ) -> Result<bool, StoreError> {
        let mut request = self.request(Method::PUT, "kv", key).body(value);
        if let Some(index) = cas {
            request = request.query(&[("cas", index)]);
        }
        let reply = self.send(request, &action, &[]).await?;
        self.decode(&reply.body, action)
    }
}

fn first(answer: Answer<Vec<KvPair>>) -> Answer<Option<KvPair>> {
    Answer {
        value: answer.value.into_iter().next(),
        index: answer.index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_from_json() {
        let pair: KvPair = serde_json::from_str(
            r#"{"LockIndex":1,"Session":"adf4238a","Key":"a/b","Flags":0,"Value":"//79","CreateIndex":3,"ModifyIndex":4}"#,
        )
        .unwrap();
        assert_eq!(pair.value, [0xff, 0xfe, 0xfd]);
        assert_eq!(pair.session.unwrap().to_string(), "adf4238a");
        let pair: KvPair = serde_json::from_str(
            r#"{"LockIndex":0,"Key":"a/","Flags":0,"Value":null,"CreateIndex":3,"ModifyIndex":3}"#,
        )
        .unwrap();
        assert!(pair.value.is_empty() && pair.session.is_none());
    }
}

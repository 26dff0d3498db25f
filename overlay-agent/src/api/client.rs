//! The command line's side.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use reqwest::{Method, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::types::Failure;

#[derive(Debug, Error)]
pub enum ApiError {
    #[error("cannot reach the agent at {}: is `overlay-agent run` running?", socket.display())]
    Unreachable { socket: PathBuf },
    #[error("may not talk to the agent at {}: run as root", socket.display())]
    Denied { socket: PathBuf },
    /// What the agent answered.
    #[error("{0}")]
    Refused(String),
    #[error("the agent at {} broke off", socket.display())]
    Broken {
        socket: PathBuf,
        source: reqwest::Error,
    },
    #[error("cannot make an HTTP client")]
    Client(#[from] reqwest::Error),
}

/// A connection to the agent of one run directory.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: &Path) -> Result<Self, ApiError> {
        // The client wants a TLS provider even where it never uses TLS. A second installation
        // is refused and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            http: reqwest::Client::builder().unix_socket(socket).build()?,
            socket: socket.to_owned(),
        })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.decode(self.send(Method::GET, path, None::<&()>).await?)
            .await
    }

    pub async fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, ApiError> {
        self.decode(self.send(Method::POST, path, Some(body)).await?)
            .await
    }

    pub async fn delete(&self, path: &[&str]) -> Result<(), ApiError> {
        self.send(Method::DELETE, path, None::<&()>).await?;
        Ok(())
    }

    /// `path` is made of segments, so that a name with a slash stays one segment.
    async fn send<B: Serialize>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&B>,
    ) -> Result<Response, ApiError> {
        let mut request = self.http.request(method, url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|source| {
            if !source.is_connect() {
                return self.broken(source);
            }
            let socket = self.socket.clone();
            match io_kind(&source) {
                Some(ErrorKind::PermissionDenied) => ApiError::Denied { socket },
                _ => ApiError::Unreachable { socket },
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let refusal = match response.json::<Failure>().await {
            Ok(failure) => failure.error,
            Err(_) => format!("the agent answered {status}"),
        };
        Err(ApiError::Refused(refusal))
    }

    async fn decode<T: DeserializeOwned>(&self, response: Response) -> Result<T, ApiError> {
        response.json().await.map_err(|error| self.broken(error))
    }

    fn broken(&self, source: reqwest::Error) -> ApiError {
        ApiError::Broken {
            socket: self.socket.clone(),
            source: source.without_url(),
        }
    }
}

/// What the system said, at whatever depth.
fn io_kind(error: &reqwest::Error) -> Option<ErrorKind> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        source = error.source();
    }
    None
}

fn url(path: &[&str]) -> String {
    let mut url = "http://agent/v1".to_owned();
    for segment in path {
        url.push('/');
        for byte in segment.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                    url.push(char::from(byte));
                }
                _ => url.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_segments() {
        assert_eq!(
            url(&["networks", "a/../b c"]),
            "http://agent/v1/networks/a%2F%2E%2E%2Fb%20c"
        );
    }

    #[tokio::test]
    async fn says_that_no_agent_runs() {
        let client = Client::new(Path::new("/nonexistent/agent.sock")).unwrap();
        let error = client.get::<()>(&["status"]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot reach the agent at /nonexistent/agent.sock: is `overlay-agent run` running?"
        );
    }
}

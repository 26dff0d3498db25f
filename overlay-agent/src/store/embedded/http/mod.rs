//! The HTTP side: requests in, answers out, word for word as Consul 1.8 gives them.
//!
//! Not there, and answered with 404 or ignored: ACLs (any token is taken), datacenters and
//! namespaces, the catalog, and transactions on anything but keys.

mod kv;
mod path;
mod query;
mod reply;
mod session;
mod status;
mod txn;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::serve::Listener;

use self::path::{Resource, Target};
use self::query::Query;
use self::reply::Failure;
use super::engine::Engine;
use super::error::EmbeddedError;

/// The largest value of a key, and the largest body of a transaction, in bytes.
const MAX_BODY: usize = 512 * 1024;

/// How long open connections may take to end once the store stops.
const GRACE: Duration = Duration::from_secs(2);

/// What a request is answered from.
#[derive(Debug, Clone)]
struct Server {
    engine: Arc<Engine>,
    /// Where it listens; what `/v1/status/leader` says.
    address: Arc<str>,
}

/// Serves until `shutdown` is done, then closes the file.
///
/// # Errors
/// The listener failed, or the file could not be closed.
pub(super) async fn serve<L>(
    engine: Arc<Engine>,
    listener: L,
    address: String,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), EmbeddedError>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let server = Server {
        engine: engine.clone(),
        address: address.into(),
    };
    let router = Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(server);
    let stop = {
        let engine = engine.clone();
        async move {
            shutdown.await;
            engine.stop_waiting();
        }
    };
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop);
    // A graceful shutdown waits for half-sent requests, however long they take.
    let out_of_time = async {
        engine.stopped_waiting().await;
        tokio::time::sleep(GRACE).await;
    };
    let served = tokio::select! {
        served = serving => served.map_err(EmbeddedError::Serve),
        () = engine.keep_house() => Ok(()),
        () = out_of_time => Ok(()),
    };
    served.and(engine.close().await)
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    match dispatch(&server, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(),
    }
}

async fn dispatch(server: &Server, request: Request) -> Result<Response, Failure> {
    let target = Target::of(request.uri())?;
    let resource = match target {
        Target::Resource(resource) => resource,
        Target::Elsewhere(location) => {
            let location = HeaderValue::from_str(&location)
                .map_err(|_| Failure::bad_request("the path cannot be written in a header"))?;
            let headers = [(header::LOCATION, location)];
            return Ok((StatusCode::MOVED_PERMANENTLY, headers).into_response());
        }
    };
    let allowed = resource.methods();
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return Ok(([(header::ALLOW, allowed)], ()).into_response());
    }
    if !allowed.split(',').any(|allowed| allowed == method.as_str()) {
        return Err(Failure::method_not_allowed(&method, allowed));
    }
    let query = Query::of(request.uri())?;
    let engine = &server.engine;
    match resource {
        Resource::Kv(key) => match method {
            Method::GET => kv::get(engine, key, &query).await,
            Method::DELETE => kv::delete(engine, key, &query).await,
            // The only other one that `methods` allows is PUT.
            _ => {
                kv::check_put(&key, &query)?;
                let value = body(request, "kv_max_value_size").await?;
                kv::put(engine, key, &query, &value).await
            }
        },
        Resource::Txn => {
            let ops = body(request, "txn_max_req_len").await?;
            txn::put(engine, &query, &ops).await
        }
        Resource::SessionCreate => {
            let wanted = body(request, "kv_max_value_size").await?;
            session::create(engine, &wanted).await
        }
        Resource::SessionDestroy(id) => session::destroy(engine, &id).await,
        Resource::SessionRenew(id) => session::renew(engine, &id, &query),
        Resource::SessionInfo(id) => session::info(engine, &id, &query).await,
        Resource::SessionList => session::list(engine, &query).await,
        Resource::StatusLeader => reply::json(StatusCode::OK, &*server.address),
        Resource::AgentSelf => status::agent_self(),
    }
}

/// The body, if it is not too large; `limit` is the name Consul's own limit has.
async fn body(request: Request, limit: &str) -> Result<Bytes, Failure> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<u64>().ok());
    if let Some(announced) = announced
        && announced > MAX_BODY as u64
    {
        return Err(Failure::too_large(format!(
            "Request body({announced} bytes) too large, max size: {MAX_BODY} bytes. ({limit})"
        )));
    }
    let body = Bytes::from_request(request, &()).await;
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_large(format!(
            "Request body too large, max size: {MAX_BODY} bytes. ({limit})"
        )),
        _ => Failure::bad_request(rejection.body_text()),
    })
}

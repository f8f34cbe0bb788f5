//! The server HTTP API: `POST /api/<method>`, JSON in and out, with Centrifugo's names.

mod answers;
mod channels;
mod requests;
mod users;

use super::http::{BodyError, Reply, body, json, key_of, text};
use crate::config::ErrorMode;
use crate::node::Node;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::Trace;
use plimsoll_core::limits;
use plimsoll_protocol::json::push_string;
use requests::Batch;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiError {
    /// The body is not what the method takes: HTTP 400.
    Malformed,
    /// No such method: HTTP 404.
    NoMethod,
    /// An error of the API, told in the body.
    Told(ClientError),
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        Self::Told(error)
    }
}

/// The JSON text of a result.
type Outcome = Result<String, ApiError>;

/// Answers one request.
pub async fn handle(request: Request<Incoming>, method: &str, node: &Arc<Node>) -> Reply {
    let config = &node.config.http_api;
    if config.disabled {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    let given = key_of(request.headers(), request.uri().query()).unwrap_or_default();
    if !config.insecure && !config.key.matches(given) {
        return text(StatusCode::UNAUTHORIZED, "an API key is needed\n");
    }
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "POST only\n");
    }
    let by_status = config.error_mode == ErrorMode::Transport
        || request.headers().get("x-centrifugo-error-mode").is_some_and(|v| v == "transport");
    let trace = requests::trace(request.headers());
    let bytes = match body(request).await {
        Ok(bytes) => bytes,
        Err(BodyError::TooLarge) => return text(StatusCode::PAYLOAD_TOO_LARGE, "too large\n"),
        Err(BodyError::Broken) => return text(StatusCode::BAD_REQUEST, "broken body\n"),
    };
    let Ok(params) = std::str::from_utf8(&bytes) else {
        return text(StatusCode::BAD_REQUEST, "the body is not UTF-8\n");
    };
    let params = if params.trim_ascii().is_empty() { "{}" } else { params };
    let outcome = match method {
        "batch" => batch(params, trace.as_ref(), node).await,
        _ => call(method, params, trace.as_ref(), node).await,
    };
    tell(outcome, method == "batch", by_status)
}

fn tell(outcome: Outcome, bare: bool, by_status: bool) -> Reply {
    match outcome {
        Ok(result) if bare => json(StatusCode::OK, result),
        Ok(result) => json(StatusCode::OK, format!("{{\"result\":{result}}}")),
        Err(ApiError::Malformed) => text(StatusCode::BAD_REQUEST, "the body does not fit\n"),
        Err(ApiError::NoMethod) => text(StatusCode::NOT_FOUND, "no such method\n"),
        Err(ApiError::Told(error)) => {
            let status = if by_status { status_of(error) } else { StatusCode::OK };
            json(status, format!("{{\"error\":{}}}", error_object(error)))
        }
    }
}

fn status_of(error: ClientError) -> StatusCode {
    match error.code {
        102 | 104 => StatusCode::NOT_FOUND,
        107 | 108 => StatusCode::BAD_REQUEST,
        111 => StatusCode::TOO_MANY_REQUESTS,
        112 => StatusCode::RANGE_NOT_SATISFIABLE,
        113 => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn error_object(error: ClientError) -> String {
    let mut out = format!("{{\"code\":{},\"message\":", error.code).into_bytes();
    push_string(&mut out, error.message);
    out.push(b'}');
    String::from_utf8(out).unwrap_or_default()
}

/// What this node says of itself.
pub(crate) fn own_info(node: &Node) -> serde_json::Value {
    channels::own_info(node)
}

/// Does on this node alone what another node was asked to do on all. The code of the error, if
/// there is one.
pub(crate) async fn call_here(method: &str, params: &str, node: &Arc<Node>) -> Result<String, u32> {
    let outcome = call_one(method, params, node).await;
    outcome.map_err(|error| match error {
        ApiError::Told(error) => error.code,
        ApiError::NoMethod => ClientError::METHOD_NOT_FOUND.code,
        ApiError::Malformed => ClientError::BAD_REQUEST.code,
    })
}

/// Does it here, and on all other nodes of the cluster. Error 100 when a node did not answer:
/// doing it again does no harm.
async fn everywhere(method: &str, params: &str, node: &Arc<Node>) -> Outcome {
    let here = call_one(method, params, node).await?;
    if let Some(cluster) = &node.cluster {
        let answers = cluster.call_all(method, params).await.map_err(|_| ClientError::INTERNAL)?;
        if answers.values().any(Result::is_err) {
            return Err(ClientError::INTERNAL.into());
        }
    }
    Ok(here)
}

async fn call_one(method: &str, params: &str, node: &Arc<Node>) -> Outcome {
    match method {
        "subscribe" => users::subscribe(params, node).await,
        "unsubscribe" => users::unsubscribe(params, node).await,
        "disconnect" => users::disconnect(params, node).await,
        "refresh" => users::refresh(params, node).await,
        "channels" => channels::channels_here(params, node).await,
        _ => Err(ApiError::NoMethod),
    }
}

/// One method of the API but `batch`.
async fn call(method: &str, params: &str, trace: Option<&Trace>, node: &Arc<Node>) -> Outcome {
    match method {
        "publish" => channels::publish(params, trace, node).await,
        "broadcast" => channels::broadcast(params, trace, node).await,
        "presence" => channels::presence(params, node).await,
        "presence_stats" => channels::presence_stats(params, node).await,
        "history" => channels::history(params, node).await,
        "history_remove" => channels::history_remove(params, node).await,
        "channels" => channels::channels(params, node).await,
        "info" => Ok(channels::info(node)),
        "subscribe" | "unsubscribe" | "disconnect" | "refresh" => {
            everywhere(method, params, node).await
        }
        _ => Err(ApiError::NoMethod),
    }
}

/// Commands one after the other (their order is the order of their effects, `parallel` or not).
async fn batch(params: &str, trace: Option<&Trace>, node: &Arc<Node>) -> Outcome {
    let batch: Batch<'_> = requests::parse(params)?;
    if batch.commands.len() > limits::API_BATCH_MAX {
        return Err(ClientError::LIMIT_EXCEEDED.into());
    }
    if batch.commands.iter().any(|command| command.len() != 1) {
        return Err(ApiError::Malformed);
    }
    let mut replies = Vec::with_capacity(batch.commands.len());
    for command in batch.commands {
        replies.push(batch_one(command, trace, node).await?);
    }
    Ok(format!("{{\"replies\":[{}]}}", replies.join(",")))
}

async fn batch_one(
    command: std::collections::BTreeMap<String, &RawValue>,
    trace: Option<&Trace>,
    node: &Arc<Node>,
) -> Outcome {
    let Some((method, params)) = command.into_iter().next() else {
        return Err(ApiError::Malformed);
    };
    match call(&method, params.get(), trace, node).await {
        Ok(result) => Ok(format!("{{\"{method}\":{result}}}")),
        Err(ApiError::Told(error)) => Ok(format!("{{\"error\":{}}}", error_object(error))),
        Err(ApiError::NoMethod) => {
            Ok(format!("{{\"error\":{}}}", error_object(ClientError::METHOD_NOT_FOUND)))
        }
        // The others have had their effect: only this one is refused.
        Err(ApiError::Malformed) => {
            Ok(format!("{{\"error\":{}}}", error_object(ClientError::BAD_REQUEST)))
        }
    }
}

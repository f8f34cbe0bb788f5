//! Publications on their way, and what became of them.

use super::failure;
use super::shared::Shared;
use super::streams::Streams;
use crate::contract::*;
use crate::{limits, names};
use async_nats::HeaderMap;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Bytes that the envelope's headers may take beside a body.
const HEADERS_BYTES: usize = 1_024;
/// JetStream's code for a key that is being stored.
const KEY_IN_PROCESS: u64 = 10_158;
/// Between two questions where it was stored, in milliseconds.
const SAME_KEY_PAUSE_MS: u64 = 20;

/// Polls once: what it has to send is sent then.
async fn begin<T>(mut later: Later<T>) -> Result<T, Later<T>> {
    let first = std::future::poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;
    match first {
        Poll::Ready(done) => Ok(done),
        Poll::Pending => Err(later),
    }
}

/// A publication that was sent.
pub(super) enum Sent {
    /// Without history: it has arrived when what was sent after it has.
    Plain,
    /// JetStream will say where it stands.
    Asked(Result<Answered, Later<Answered>>),
    /// Not sent.
    Not(Failure),
}

pub(super) type Answered = Result<async_nats::Message, async_nats::client::RequestError>;

pub(super) async fn send(shared: &Shared, streams: &Streams, publish: Publish) -> Sent {
    if publish.body.len() > body_bytes_max(shared) {
        return Sent::Not(Failure::TooLarge);
    }
    if publish.version.is_some() {
        return Sent::Not(Failure::Unsupported);
    }
    let token = names::to_token(&publish.channel);
    let Some(keep) = publish.keep else {
        if publish.idempotency_key.is_some() {
            return Sent::Not(Failure::Unsupported);
        }
        let subject = format!("{}{token}", shared.plain);
        return match shared.client.publish(subject, publish.body).await {
            Ok(()) => Sent::Plain,
            Err(_) => Sent::Not(Failure::Refused),
        };
    };
    let subject = match streams.subject(&publish.channel, keep).await {
        Ok(subject) => subject,
        // It was not sent, whatever became of the stream.
        Err(_) => return Sent::Not(Failure::Busy),
    };
    let mut headers = HeaderMap::new();
    if let Some(key) = &publish.idempotency_key {
        let id = format!("{token}/{}", names::to_token(key));
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
    }
    let client = shared.client.clone();
    let keyed = publish.idempotency_key.is_some();
    // The first poll has to send it: the runtime must not take the turn away in the midst of a
    // batch, or what the next call sends would overtake the rest.
    let later: Later<Answered> = Box::pin(tokio::task::unconstrained(async move {
        let deadline = Instant::now() + Duration::from_millis(limits::CALL_MS / 2);
        loop {
            let (subject, headers, body) = (subject.clone(), headers.clone(), publish.body.clone());
            let answered = client.request_with_headers(subject, headers, body).await;
            let again = keyed && answered.as_ref().is_ok_and(is_being_stored);
            if !again || Instant::now() >= deadline {
                return answered;
            }
            tokio::time::sleep(Duration::from_millis(SAME_KEY_PAUSE_MS)).await;
        }
    }));
    Sent::Asked(begin(later).await)
}

/// The same idempotency key is being stored at this moment, says a cluster: in a moment it will be
/// known where.
fn is_being_stored(answer: &async_nats::Message) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    answer["error"]["err_code"] == KEY_IN_PROCESS
}

/// What JetStream said.
pub(super) async fn published(streams: &Streams, answered: Answered) -> Result<Published, Failure> {
    let message = answered.map_err(|e| {
        let failure = failure(&e);
        if failure == Failure::Busy {
            // Nobody listens: the stream may have been deleted.
            streams.forget();
        }
        failure
    })?;
    let answer: serde_json::Value =
        serde_json::from_slice(&message.payload).map_err(|_| Failure::Unknown)?;
    if !answer["error"].is_null() {
        // Full, without a leader, or the like: not stored.
        return Err(Failure::Busy);
    }
    let (Some(stream), Some(offset)) = (answer["stream"].as_str(), answer["seq"].as_u64()) else {
        return Err(Failure::Unknown);
    };
    let position = streams.position(stream, offset).await;
    let is_new = answer["duplicate"] != true;
    Ok(Published { position: Some(position.ok_or(Failure::Unknown)?), is_new })
}

/// The largest body that the server takes, with its headers.
pub(super) fn body_bytes_max(shared: &Shared) -> usize {
    let most = shared.client.server_info().max_payload.saturating_sub(HEADERS_BYTES);
    most.min(limits::ENVELOPE_BYTES_MAX)
}

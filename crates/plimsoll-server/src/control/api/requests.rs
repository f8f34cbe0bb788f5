//! What the methods take.

use super::ApiError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::Trace;
use plimsoll_core::limits;
use plimsoll_core::model::{ClientId, Since};
use plimsoll_core::token::Overrides;
use plimsoll_protocol::json::compact;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Bytes of a `traceparent` (W3C Trace Context, version 00).
const TRACEPARENT_BYTES: usize = 55;
/// Bytes of a `tracestate`, as that says.
const TRACESTATE_BYTES_MAX: usize = 512;

/// Where a request comes from, when it says so in a way that others understand.
pub fn trace(headers: &HeaderMap) -> Option<Trace> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let fits = |b: (usize, u8)| match b.0 {
        2 | 35 | 52 => b.1 == b'-',
        _ => b.1.is_ascii_digit() || (b'a'..=b'f').contains(&b.1),
    };
    let parent = text("traceparent")
        .filter(|t| t.len() == TRACEPARENT_BYTES && t.bytes().enumerate().all(fits))?;
    let state = text("tracestate").filter(|t| !t.is_empty() && t.len() <= TRACESTATE_BYTES_MAX);
    Some(Trace { parent: parent.into(), state: state.map(Into::into) })
}

/// Reads the parameters of a method.
pub fn parse<'a, T: Deserialize<'a>>(params: &'a str) -> Result<T, ApiError> {
    serde_json::from_str(params).map_err(|_| ApiError::Malformed)
}

#[derive(Deserialize)]
pub struct Batch<'a> {
    #[serde(borrow)]
    pub commands: Vec<BTreeMap<String, &'a RawValue>>,
}

/// What is published, where is told beside it.
#[derive(Deserialize)]
pub struct Content<'a> {
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    #[serde(default)]
    pub b64data: Option<String>,
    #[serde(default)]
    pub skip_history: bool,
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub idempotency_key: String,
    #[serde(default)]
    pub version: u64,
    #[serde(default)]
    pub version_epoch: String,
}

#[derive(Deserialize)]
pub struct Broadcast {
    pub channels: Vec<String>,
}

#[derive(Deserialize)]
pub struct Channel {
    pub channel: String,
}

#[derive(Deserialize)]
pub struct Position {
    #[serde(default)]
    pub offset: u64,
    #[serde(default)]
    pub epoch: String,
}

#[derive(Deserialize)]
pub struct History {
    pub channel: String,
    #[serde(default)]
    pub limit: i64,
    #[serde(default)]
    pub since: Option<Position>,
    #[serde(default)]
    pub reverse: bool,
}

#[derive(Deserialize)]
pub struct Channels {
    #[serde(default)]
    pub pattern: String,
}

#[derive(Deserialize)]
pub struct Who {
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub client: String,
    #[serde(default)]
    pub whitelist: Vec<String>,
}

#[derive(Deserialize)]
pub struct Ended {
    pub code: u16,
    #[serde(default)]
    pub reason: String,
}

#[derive(Deserialize)]
pub struct Disconnect {
    #[serde(default)]
    pub disconnect: Option<Ended>,
}

#[derive(Deserialize)]
pub struct Unsubscribe {
    #[serde(default)]
    pub channel: String,
}

#[derive(Deserialize)]
pub struct Refresh {
    #[serde(default)]
    pub expired: bool,
    #[serde(default)]
    pub expire_at: u64,
}

#[derive(Deserialize)]
pub struct Subscribe<'a> {
    pub channel: String,
    #[serde(borrow, default)]
    pub info: Option<&'a RawValue>,
    #[serde(default)]
    pub b64info: Option<String>,
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    #[serde(default)]
    pub b64data: Option<String>,
    #[serde(default)]
    pub recover_since: Option<Position>,
    #[serde(default, rename = "override")]
    pub overrides: Option<WireOverrides>,
    #[serde(default)]
    pub expire_at: u64,
}

#[derive(Default, Deserialize)]
pub struct BoolValue {
    pub value: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct WireOverrides {
    presence: Option<BoolValue>,
    join_leave: Option<BoolValue>,
    force_recovery: Option<BoolValue>,
    force_positioning: Option<BoolValue>,
    force_push_join_leave: Option<BoolValue>,
}

impl WireOverrides {
    pub fn read(self) -> Overrides {
        let value = |v: Option<BoolValue>| v.map(|v| v.value);
        Overrides {
            presence: value(self.presence),
            join_leave: value(self.join_leave),
            force_recovery: value(self.force_recovery),
            force_positioning: value(self.force_positioning),
            force_push_join_leave: value(self.force_push_join_leave),
        }
    }
}

impl From<Position> for Since {
    fn from(p: Position) -> Self {
        Self { offset: p.offset, epoch: p.epoch.into() }
    }
}

/// `data` or `b64data` as compacted JSON; `None` when neither is there. Values that no client
/// could be sent are error 107.
pub fn payload(
    data: Option<&RawValue>,
    base64: Option<&str>,
    bytes_max: usize,
) -> Result<Option<Box<str>>, ApiError> {
    let bad = ApiError::Told(ClientError::BAD_REQUEST);
    let decoded;
    let text = match (data, base64) {
        (Some(raw), _) => raw.get(),
        (None, Some(base64)) => {
            let bytes = STANDARD.decode(base64).map_err(|_| bad)?;
            decoded = String::from_utf8(bytes).map_err(|_| bad)?;
            // Only JSON can stand inside a client's JSON message.
            serde_json::from_str::<&RawValue>(&decoded).map_err(|_| bad)?;
            decoded.as_str()
        }
        (None, None) => return Ok(None),
    };
    let compacted = compact(text).map_err(|_| bad)?;
    if compacted.len() > bytes_max {
        return Err(ClientError::LIMIT_EXCEEDED.into());
    }
    Ok(Some(compacted.into()))
}

/// A client id, when one was given.
pub fn client(text: &str) -> Result<Option<ClientId>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    ClientId::parse(text).map(Some).ok_or(ClientError::BAD_REQUEST.into())
}

/// An idempotency key, when one was given.
pub fn key(text: String) -> Result<Option<Box<str>>, ApiError> {
    if text.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
        return Err(ClientError::BAD_REQUEST.into());
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_right_trace_is_taken() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |parent: &str, state: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent.parse().unwrap());
            headers.insert("tracestate", state.parse().unwrap());
            trace(&headers)
        };
        let state = |t: Option<Trace>| t.and_then(|t| t.state);
        assert_eq!(state(read(good, "a=b")).as_deref(), Some("a=b"));
        assert_eq!(read(good, "").map(|t| t.parent).as_deref(), Some(good));
        assert_eq!(state(read(good, &"x".repeat(513))), None);
        for bad in ["", "00", &good.replace('-', "_"), &good.to_uppercase(), &format!("{good}0")] {
            assert_eq!(read(bad, ""), None, "{bad}");
        }
        assert_eq!(trace(&HeaderMap::new()), None);
    }
}

//! Methods about connections of a user.

use super::requests::{self, Who};
use super::{ApiError, Outcome, channels};
use crate::node::Node;
use crate::worker::letter::{Order, Selection, UserOrder};
use plimsoll_core::codes::{ClientError, Disconnect};
use plimsoll_core::limits;
use plimsoll_core::token::SubscriptionOptions;
use std::borrow::Cow;
use std::sync::Arc;

pub async fn disconnect(params: &str, node: &Arc<Node>) -> Outcome {
    let requests::Disconnect { disconnect } = requests::parse(params)?;
    let with = match disconnect {
        None => Disconnect::FORCE_DISCONNECT,
        Some(custom) => custom_disconnect(custom)?,
    };
    order(params, UserOrder::Disconnect(with), node).await
}

/// Codes that clients understand, and a reason that they do not take for JSON: a text such as
/// `123` would be parsed and turned into "do not reconnect".
fn custom_disconnect(custom: requests::Ended) -> Result<Disconnect, ApiError> {
    let fits = (3000..5000).contains(&custom.code)
        && custom.reason.len() <= limits::CLOSE_REASON_BYTES_MAX
        && serde_json::from_str::<serde_json::Value>(&custom.reason).is_err();
    if !fits && !custom.reason.is_empty() || !(3000..5000).contains(&custom.code) {
        return Err(ClientError::BAD_REQUEST.into());
    }
    Ok(Disconnect { code: custom.code, reason: Cow::Owned(custom.reason) })
}

pub async fn unsubscribe(params: &str, node: &Arc<Node>) -> Outcome {
    let requests::Unsubscribe { channel } = requests::parse(params)?;
    order(params, UserOrder::Unsubscribe { channel: channel.into() }, node).await
}

pub async fn refresh(params: &str, node: &Arc<Node>) -> Outcome {
    let requests::Refresh { expired, expire_at } = requests::parse(params)?;
    let expires_at_ms = (expire_at > 0).then(|| expire_at.saturating_mul(1_000));
    order(params, UserOrder::Refresh { expired, expires_at_ms }, node).await
}

pub async fn subscribe(params: &str, node: &Arc<Node>) -> Outcome {
    let s: requests::Subscribe<'_> = requests::parse(params)?;
    channels::options(&s.channel, node)?;
    let most = limits::INFO_BYTES_MAX;
    let options = SubscriptionOptions {
        info: requests::payload(s.info, s.b64info.as_deref(), most)?,
        data: requests::payload(s.data, s.b64data.as_deref(), most)?,
        overrides: s.overrides.map(requests::WireOverrides::read).unwrap_or_default(),
    };
    let order_ = UserOrder::Subscribe {
        channel: s.channel.into(),
        options,
        recover: s.recover_since.map(Into::into),
        expires_at_ms: (s.expire_at > 0).then(|| s.expire_at.saturating_mul(1_000)),
    };
    order(params, order_, node).await
}

/// Gives the order to all workers. Somebody must be meant: error 107 otherwise.
async fn order(params: &str, order: UserOrder, node: &Arc<Node>) -> Outcome {
    let who: Who = requests::parse(params)?;
    let client = requests::client(&who.client)?;
    if who.user.is_empty() && client.is_none() {
        return Err(ClientError::BAD_REQUEST.into());
    }
    if who.whitelist.len() > limits::API_BATCH_MAX {
        return Err(ClientError::LIMIT_EXCEEDED.into());
    }
    let mut except = Vec::with_capacity(who.whitelist.len());
    for id in &who.whitelist {
        except.extend(requests::client(id)?);
    }
    let selection = Selection { user: who.user.into(), client, except };
    let reports = node.order_all(|| Order::Users(selection.clone(), order.clone())).await;
    if reports.len() < node.stats.len() {
        return Err(ClientError::INTERNAL.into());
    }
    Ok("{}".into())
}

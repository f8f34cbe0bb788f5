//! Methods about channels.

use super::requests::{self, Content};
use super::{ApiError, Outcome, answers, error_object};
use crate::load::process;
use crate::node::Node;
use crate::worker::letter::{Order, Report};
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::{PublishRequest, Request, Trace};
use plimsoll_core::limits;
use plimsoll_core::policy::ChannelOptions;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

pub async fn publish(params: &str, trace: Option<&Trace>, node: &Arc<Node>) -> Outcome {
    let requests::Channel { channel } = requests::parse(params)?;
    let content: Content<'_> = requests::parse(params)?;
    let request = content.request(trace, node)?;
    publish_one(channel, request, node).await
}

pub async fn broadcast(params: &str, trace: Option<&Trace>, node: &Arc<Node>) -> Outcome {
    let requests::Broadcast { channels } = requests::parse(params)?;
    let content: Content<'_> = requests::parse(params)?;
    if channels.is_empty() {
        return Err(ClientError::BAD_REQUEST.into());
    }
    if channels.len() > limits::API_BATCH_MAX {
        return Err(ClientError::LIMIT_EXCEEDED.into());
    }
    let request = content.request(trace, node)?;
    let mut responses = Vec::with_capacity(channels.len());
    for channel in channels {
        responses.push(match publish_one(channel, request.clone(), node).await {
            Ok(result) => format!("{{\"result\":{result}}}"),
            Err(ApiError::Told(error)) => format!("{{\"error\":{}}}", error_object(error)),
            Err(other) => return Err(other),
        });
    }
    Ok(format!("{{\"responses\":[{}]}}", responses.join(",")))
}

impl Content<'_> {
    fn request(self, trace: Option<&Trace>, node: &Node) -> Result<PublishRequest, ApiError> {
        // What a client may not send it is not sent either.
        let most = node.config.policy.websocket.message_size_limit_bytes;
        let data = requests::payload(self.data, self.b64data.as_deref(), most)?;
        let tags = self.tags.map(|tags| json!(tags).to_string());
        if tags.as_ref().is_some_and(|t| t.len() > limits::INFO_BYTES_MAX) {
            return Err(ClientError::LIMIT_EXCEEDED.into());
        }
        Ok(PublishRequest {
            data: data.ok_or(ClientError::BAD_REQUEST)?,
            info: None,
            payer: None,
            tags: tags.map(Into::into),
            idempotency_key: requests::key(self.idempotency_key)?,
            skip_history: self.skip_history,
            version: (self.version > 0).then(|| (self.version, self.version_epoch.into())),
            trace: trace.cloned().map(Box::new),
        })
    }
}

async fn publish_one(channel: String, request: PublishRequest, node: &Arc<Node>) -> Outcome {
    let options = options(&channel, node)?;
    if options.require_json_object && !request.data.starts_with('{') {
        return Err(ClientError::BAD_REQUEST.into());
    }
    answers::render(node.ask_home(channel.into(), Request::Publish(request)).await)
}

pub async fn presence(params: &str, node: &Arc<Node>) -> Outcome {
    about_members(params, node, Request::Presence).await
}

pub async fn presence_stats(params: &str, node: &Arc<Node>) -> Outcome {
    about_members(params, node, Request::PresenceStats).await
}

async fn about_members(params: &str, node: &Arc<Node>, request: Request) -> Outcome {
    let requests::Channel { channel } = requests::parse(params)?;
    if !options(&channel, node)?.presence {
        return Err(ClientError::NOT_AVAILABLE.into());
    }
    answers::render(node.ask_home(channel.into(), request).await)
}

pub async fn history(params: &str, node: &Arc<Node>) -> Outcome {
    let h: requests::History = requests::parse(params)?;
    if !options(&h.channel, node)?.has_history() {
        return Err(ClientError::NOT_AVAILABLE.into());
    }
    if h.reverse && h.since.as_ref().is_some_and(|s| s.offset == 0) {
        return Err(ClientError::BAD_REQUEST.into());
    }
    let most = node.config.policy.client.history_max_publication_limit;
    let limit = usize::try_from(h.limit).map_or(most, |n| n.min(most));
    let request = Request::History { since: h.since.map(Into::into), limit, reverse: h.reverse };
    answers::render(node.ask_home(h.channel.into(), request).await)
}

pub async fn history_remove(params: &str, node: &Arc<Node>) -> Outcome {
    let requests::Channel { channel } = requests::parse(params)?;
    if !options(&channel, node)?.has_history() {
        return Err(ClientError::NOT_AVAILABLE.into());
    }
    answers::render(node.ask_home(channel.into(), Request::HistoryRemove).await)
}

/// Channels with subscribers, on all nodes.
pub async fn channels(params: &str, node: &Arc<Node>) -> Outcome {
    let here = channels_here(params, node).await?;
    let Some(cluster) = &node.cluster else { return Ok(here) };
    let answers = cluster.call_all("channels", params).await.map_err(|_| ClientError::INTERNAL)?;
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut lists = vec![here];
    for answer in answers.into_values() {
        lists.push(answer.map_err(|_| ClientError::INTERNAL)?);
    }
    for list in &lists {
        let list: Listed = serde_json::from_str(list).map_err(|_| ClientError::INTERNAL)?;
        for (name, channel) in list.channels {
            *found.entry(name).or_default() += channel.num_clients;
        }
    }
    let found: BTreeMap<_, _> =
        found.into_iter().map(|(name, n)| (name, json!({ "num_clients": n }))).collect();
    Ok(json!({ "channels": found }).to_string())
}

/// What one node lists.
#[derive(Deserialize)]
struct Listed {
    channels: BTreeMap<String, ListedChannel>,
}

#[derive(Deserialize)]
struct ListedChannel {
    num_clients: usize,
}

/// Channels with subscribers on this node.
pub async fn channels_here(params: &str, node: &Arc<Node>) -> Outcome {
    let requests::Channels { pattern } = requests::parse(params)?;
    if pattern.len() > limits::CHANNEL_NAME_BYTES_MAX {
        return Err(ClientError::BAD_REQUEST.into());
    }
    let mut found = BTreeMap::new();
    for report in node.order_all(|| Order::Channels).await {
        let Report::Channels(channels) = report else { continue };
        for (name, num_clients) in channels {
            if pattern.is_empty() || glob(pattern.as_bytes(), name.as_bytes()) {
                found.insert(name.to_string(), json!({ "num_clients": num_clients }));
            }
        }
    }
    Ok(json!({ "channels": found }).to_string())
}

/// `*` stands for any text, `?` for any one byte. Linear but for one backtracking point, so no
/// pattern can make it slow.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while let Some(&byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == byte => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

/// All nodes of the cluster, this one first.
pub fn info(node: &Node) -> String {
    let mut nodes = vec![own_info(node)];
    let peers = node.cluster.as_ref().map(|cluster| cluster.peers()).unwrap_or_default();
    nodes.extend(peers.iter().filter_map(|(_, _, info)| serde_json::from_str(info).ok()));
    json!({ "nodes": nodes }).to_string()
}

pub fn own_info(node: &Node) -> Value {
    let sum = |pick: fn(&crate::telemetry::stats::WorkerStats) -> u64| -> u64 {
        node.stats.iter().map(|s| pick(s)).sum()
    };
    json!({
        "uid": node.uid,
        "name": node.name,
        "version": env!("CARGO_PKG_VERSION"),
        "num_clients": node.population.connections(),
        "num_users": node.population.users(),
        "num_channels": sum(|s| s.channels_home.get()),
        "num_subs": sum(|s| s.subscriptions.get()),
        "uptime": node.started.elapsed().as_secs(),
        "process": { "cpu": process::cpu_seconds(), "rss": process::resident_bytes() as u64 },
    })
}

/// Options of a channel; error 102 or 107 when its name is no good.
pub(super) fn options<'a>(
    channel: &str,
    node: &'a Node,
) -> Result<&'a ChannelOptions, ClientError> {
    let namespace = node.shared.channels.resolve(channel)?.namespace;
    Ok(node.shared.channels.options(namespace))
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn globs() {
        for (pattern, text, want) in [
            ("*", "anything", true),
            ("chat:*", "chat:room", true),
            ("chat:*", "news:room", false),
            ("*:1?", "a:12", true),
            ("*:1?", "a:1", false),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "", true),
            ("[a]", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), want, "{pattern} {text}");
        }
        let text = "a".repeat(255);
        assert!(!glob("*a*a*a*a*a*a*a*a*b".as_bytes(), text.as_bytes()), "and it ends");
    }
}

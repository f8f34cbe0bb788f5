//! The Centrifugo protocol, JSON encoding: objects, one a line.

use super::scan::{Scanned, scan};
use super::{Answer, Dialect, Event, Malformed, Subscription};
use crate::ledger::Position;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::io::Write;

/// The dialect. It has no state.
#[derive(Clone, Copy, Debug, Default)]
pub struct CentrifugoJson;

impl Dialect for CentrifugoJson {
    fn connect(&self, out: &mut Vec<u8>, id: u32, token: Option<&str>) {
        next(out);
        // Writing into a vector does not fail, here and below.
        let _ = match token {
            Some(token) => write!(out, r#"{{"connect":{{"token":"{token}","name":"bench"}},"#),
            None => write!(out, r#"{{"connect":{{"name":"bench"}},"#),
        };
        let _ = write!(out, r#""id":{id}}}"#);
    }

    fn subscribe(&self, out: &mut Vec<u8>, id: u32, channel: &str, from: Option<Position<'_>>) {
        next(out);
        out.extend_from_slice(br#"{"subscribe":{"channel":"#);
        string(out, channel);
        if let Some(Position { epoch, offset }) = from {
            out.extend_from_slice(br#","recover":true,"epoch":"#);
            string(out, epoch);
            let _ = write!(out, r#","offset":{offset}"#);
        }
        let _ = write!(out, r#"}},"id":{id}}}"#);
    }

    fn unsubscribe(&self, out: &mut Vec<u8>, id: u32, channel: &str) {
        next(out);
        out.extend_from_slice(br#"{"unsubscribe":{"channel":"#);
        string(out, channel);
        let _ = write!(out, r#"}},"id":{id}}}"#);
    }

    fn publish(&self, out: &mut Vec<u8>, id: u32, channel: &str, data: &[u8]) {
        next(out);
        out.extend_from_slice(br#"{"publish":{"channel":"#);
        string(out, channel);
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
        let _ = write!(out, r#"}},"id":{id}}}"#);
    }

    fn pong(&self, out: &mut Vec<u8>) {
        next(out);
        out.extend_from_slice(b"{}");
    }

    fn read(
        &self,
        message: &str,
        on_event: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Result<(), Malformed> {
        for line in message.trim().split('\n') {
            let more = match scan(line) {
                Some(Scanned::Ping) => on_event(Event::Ping),
                Some(Scanned::Published { id }) => {
                    on_event(Event::Reply { id, answer: Answer::Published })
                }
                Some(Scanned::Publication { channel, offset, data }) => {
                    on_event(Event::Publication { channel, offset, data })
                }
                None => parse(line, on_event)?,
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u32,
    error: Option<Refusal>,
    #[serde(borrow)]
    push: Option<Push<'a>>,
    connect: Option<Connected>,
    #[serde(borrow)]
    subscribe: Option<Subscribed<'a>>,
    unsubscribe: Option<IgnoredAny>,
    publish: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    temporary: bool,
}

#[derive(Deserialize)]
struct Connected {
    #[serde(default)]
    ping: u32,
    #[serde(default)]
    pong: bool,
}

#[derive(Deserialize)]
struct Push<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, rename = "pub")]
    publication: Option<Publication<'a>>,
    unsubscribe: Option<Unsubscribed>,
}

#[derive(Deserialize)]
struct Unsubscribed {
    #[serde(default)]
    code: u32,
}

#[derive(Deserialize)]
struct Publication<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    offset: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Subscribed<'a> {
    recoverable: bool,
    positioned: bool,
    #[serde(borrow)]
    epoch: Cow<'a, str>,
    offset: u64,
    recovered: bool,
    was_recovering: bool,
    #[serde(borrow)]
    publications: Vec<Publication<'a>>,
}

/// Reads any message; what `on_event` said.
fn parse(line: &str, on_event: &mut dyn FnMut(Event<'_>) -> bool) -> Result<bool, Malformed> {
    let reply: Reply<'_> = serde_json::from_str(line).map_err(|_| Malformed)?;
    if reply.id > 0 {
        let answer = answer(&reply);
        return Ok(on_event(
            answer.map_or(Event::Other, |a| Event::Reply { id: reply.id, answer: a }),
        ));
    }
    let Some(push) = &reply.push else { return Ok(on_event(Event::Ping)) };
    let channel = &*push.channel;
    Ok(on_event(match (&push.publication, &push.unsubscribe) {
        (Some(publication), _) => {
            Event::Publication { channel, offset: publication.offset, data: publication.data() }
        }
        (_, Some(Unsubscribed { code })) => Event::Unsubscribed { channel, code: *code },
        _ => Event::Other,
    }))
}

fn answer<'a>(reply: &'a Reply<'_>) -> Option<Answer<'a>> {
    if let Some(Refusal { code, temporary }) = reply.error {
        return Some(Answer::Error { code, temporary });
    }
    if let Some(Connected { ping, pong }) = reply.connect {
        return Some(Answer::Connected { ping_s: ping, pong });
    }
    if let Some(reply) = &reply.subscribe {
        let position = reply.recoverable || reply.positioned || !reply.epoch.is_empty();
        let publications = &reply.publications;
        return Some(Answer::Subscribed(Subscription {
            position: position.then(|| (Cow::Borrowed(&*reply.epoch), reply.offset)),
            recovered: reply.recovered,
            was_recovering: reply.was_recovering,
            publications: publications.iter().map(|p| (p.offset, p.data())).collect(),
        }));
    }
    if reply.publish.is_some() {
        return Some(Answer::Published);
    }
    reply.unsubscribe.map(|_| Answer::Unsubscribed)
}

impl<'a> Publication<'a> {
    fn data(&self) -> &'a [u8] {
        self.data.get().as_bytes()
    }
}

/// Ends the line before, if there is one.
fn next(out: &mut Vec<u8>) {
    if !out.is_empty() {
        out.push(b'\n');
    }
}

/// A channel's name or an epoch as a JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests;

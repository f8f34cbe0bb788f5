//! Replies and pushes to text.
//!
//! Keys and defaults as the clients expect them: false, 0 and "" are left out, except where §1.2
//! of the protocol says that they are always written.

use crate::json::{push_number, push_string};
use plimsoll_core::codes::ClientError;
use plimsoll_core::model::{ClientInfo, Publication};
use plimsoll_core::presence::{Change, Told};
use plimsoll_core::session::{ConnectResult, Push, ReplyBody, SubscribeResult};

/// The server's ping.
pub const PING: &[u8] = b"{}";

/// Told as `version` of the server.
const VERSION: &str = concat!("Plimsoll ", env!("CARGO_PKG_VERSION"));

type Out = Vec<u8>;

/// A reply with a result.
pub fn write_reply(out: &mut Out, id: u32, body: &ReplyBody) {
    put(out, "{\"id\":");
    push_number(out, id.into());
    put(out, ",");
    match body {
        ReplyBody::Connect(c) => write_connect(out, c),
        ReplyBody::Subscribe(s) => {
            put(out, "\"subscribe\":");
            write_subscribed(out, s);
        }
        ReplyBody::Unsubscribe => put(out, "\"unsubscribe\":{}"),
        ReplyBody::Publish => put(out, "\"publish\":{}"),
        ReplyBody::Presence(members) => {
            put(out, "\"presence\":{\"presence\":{");
            each(out, members, |out, m| {
                push_string(out, str_of(&m.client.text()));
                put(out, ":");
                write_info(out, m);
            });
            put(out, "}}");
        }
        ReplyBody::PresenceStats { clients, users } => {
            put(out, "\"presence_stats\":{\"num_clients\":");
            push_number(out, *clients as u64);
            put(out, ",\"num_users\":");
            push_number(out, *users as u64);
            put(out, "}");
        }
        ReplyBody::History(page) => {
            put(out, "\"history\":{\"publications\":[");
            each(out, &page.publications, |out, p| write_pub(out, p));
            put(out, "],\"epoch\":");
            push_string(out, page.position.epoch.as_str());
            put(out, ",\"offset\":");
            push_number(out, page.position.offset);
            put(out, "}");
        }
        ReplyBody::Refresh { ttl_s } => {
            put(out, "\"refresh\":{\"version\":");
            push_string(out, VERSION);
            write_ttl(out, *ttl_s);
            put(out, "}");
        }
        ReplyBody::SubRefresh { ttl_s } => {
            put(out, "\"sub_refresh\":");
            write_only_ttl(out, *ttl_s);
        }
    }
    put(out, "}");
}

/// A reply that refuses.
pub fn write_error(out: &mut Out, id: u32, error: ClientError) {
    put(out, "{\"id\":");
    push_number(out, id.into());
    put(out, ",\"error\":{\"code\":");
    push_number(out, error.code.into());
    put(out, ",\"message\":");
    push_string(out, error.message);
    if error.temporary {
        put(out, ",\"temporary\":true");
    }
    put(out, "}}");
}

/// A push to one connection.
pub fn write_push(out: &mut Out, push: &Push) {
    put(out, "{\"push\":{");
    match push {
        Push::Unsubscribe { channel, why } => {
            write_channel(out, channel);
            put(out, ",\"unsubscribe\":{\"code\":");
            push_number(out, why.code.into());
            put(out, ",\"reason\":");
            push_string(out, why.reason);
            put(out, "}");
        }
        Push::Subscribe { channel, result } => {
            write_channel(out, channel);
            put(out, ",\"subscribe\":{");
            let mut first = true;
            write_position(out, result, &mut first);
            if let Some(data) = &result.data {
                key(out, &mut first, "data");
                put(out, data);
            }
            put(out, "}");
        }
        Push::Refresh { ttl_s } => {
            put(out, "\"refresh\":");
            write_only_ttl(out, *ttl_s);
        }
    }
    put(out, "}}");
}

/// A publication to all subscribers of a channel.
pub fn write_publication(out: &mut Out, channel: &str, publication: &Publication) {
    put(out, "{\"push\":{");
    write_channel(out, channel);
    put(out, ",\"pub\":");
    write_pub(out, publication);
    put(out, "}}");
}

/// Who came or went, or how many are there. The protocol has no push for the latter: it is a
/// message of no channel, like the notices of the load.
pub fn write_presence(out: &mut Out, channel: &str, told: &Told) {
    let tally = match told {
        Told::Change(Change::Join(info)) => return write_member(out, channel, "join", info),
        Told::Change(Change::Leave(info)) => return write_member(out, channel, "leave", info),
        Told::Tally(tally) => tally,
    };
    put(out, "{\"push\":{\"message\":{\"data\":{\"plimsoll\":{\"type\":\"presence\",");
    write_channel(out, channel);
    put(out, ",\"clients\":");
    push_number(out, tally.clients as u64);
    put(out, ",\"users\":");
    push_number(out, tally.users as u64);
    if tally.resync {
        put(out, ",\"resync\":true");
    }
    put(out, "}}}}}");
}

fn write_member(out: &mut Out, channel: &str, what: &str, info: &ClientInfo) {
    put(out, "{\"push\":{");
    write_channel(out, channel);
    put(out, ",\"");
    put(out, what);
    put(out, "\":{\"info\":");
    write_info(out, info);
    put(out, "}}}");
}

fn write_connect(out: &mut Out, c: &ConnectResult) {
    put(out, "\"connect\":{\"client\":");
    push_string(out, str_of(&c.client.text()));
    put(out, ",\"version\":");
    push_string(out, VERSION);
    write_ttl(out, c.ttl_s);
    if !c.subs.is_empty() {
        put(out, ",\"subs\":{");
        each(out, &c.subs, |out, (channel, result)| {
            push_string(out, channel);
            put(out, ":");
            write_subscribed(out, result);
        });
        put(out, "}");
    }
    if c.ping_s > 0 {
        put(out, ",\"ping\":");
        push_number(out, c.ping_s);
    }
    if c.pong {
        put(out, ",\"pong\":true");
    }
    if let Some(time_ms) = c.time_ms {
        put(out, ",\"time\":");
        push_number(out, time_ms);
    }
    put(out, "}");
}

fn write_subscribed(out: &mut Out, s: &SubscribeResult) {
    put(out, "{");
    let mut first = true;
    if let Some(ttl_s) = s.ttl_s {
        flag(out, &mut first, "expires", true);
        key(out, &mut first, "ttl");
        push_number(out, ttl_s);
    }
    write_position(out, s, &mut first);
    if !s.publications.is_empty() {
        key(out, &mut first, "publications");
        put(out, "[");
        each(out, &s.publications, |out, p| write_pub(out, p));
        put(out, "]");
    }
    flag(out, &mut first, "recovered", s.recovered);
    flag(out, &mut first, "was_recovering", s.was_recovering);
    if let Some(data) = &s.data {
        key(out, &mut first, "data");
        put(out, data);
    }
    put(out, "}");
}

fn write_position(out: &mut Out, s: &SubscribeResult, first: &mut bool) {
    flag(out, first, "recoverable", s.recoverable);
    flag(out, first, "positioned", s.positioned);
    if let Some(p) = s.position {
        key(out, first, "epoch");
        push_string(out, p.epoch.as_str());
        if p.offset > 0 {
            key(out, first, "offset");
            push_number(out, p.offset);
        }
    }
}

/// A publication as it stands in pushes, recovery and history.
pub fn write_pub(out: &mut Out, p: &Publication) {
    put(out, "{\"data\":");
    put(out, &p.data);
    if let Some(info) = &p.info {
        put(out, ",\"info\":");
        write_info(out, info);
    }
    if p.offset > 0 {
        put(out, ",\"offset\":");
        push_number(out, p.offset);
    }
    if let Some(tags) = &p.tags {
        put(out, ",\"tags\":");
        put(out, tags);
    }
    if let Some(epoch) = p.epoch {
        put(out, ",\"epoch\":");
        push_string(out, epoch.as_str());
    }
    put(out, "}");
}

/// A client as it stands in publications, presence, join and leave.
pub fn write_info(out: &mut Out, info: &ClientInfo) {
    put(out, "{\"user\":");
    push_string(out, &info.user);
    put(out, ",\"client\":");
    push_string(out, str_of(&info.client.text()));
    for (name, raw) in [("conn_info", &info.conn_info), ("chan_info", &info.chan_info)] {
        if let Some(raw) = raw {
            put(out, ",\"");
            put(out, name);
            put(out, "\":");
            put(out, raw);
        }
    }
    put(out, "}");
}

fn write_channel(out: &mut Out, channel: &str) {
    put(out, "\"channel\":");
    push_string(out, channel);
}

/// `,"expires":true,"ttl":N`, or nothing.
fn write_ttl(out: &mut Out, ttl_s: Option<u64>) {
    if let Some(ttl_s) = ttl_s {
        put(out, ",\"expires\":true,\"ttl\":");
        push_number(out, ttl_s);
    }
}

fn write_only_ttl(out: &mut Out, ttl_s: Option<u64>) {
    match ttl_s {
        None => put(out, "{}"),
        Some(ttl_s) => {
            put(out, "{\"expires\":true,\"ttl\":");
            push_number(out, ttl_s);
            put(out, "}");
        }
    }
}

fn key(out: &mut Out, first: &mut bool, name: &str) {
    if !std::mem::replace(first, false) {
        put(out, ",");
    }
    put(out, "\"");
    put(out, name);
    put(out, "\":");
}

fn flag(out: &mut Out, first: &mut bool, name: &str, value: bool) {
    if value {
        key(out, first, name);
        put(out, "true");
    }
}

fn each<T>(out: &mut Out, items: &[T], mut write: impl FnMut(&mut Out, &T)) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            put(out, ",");
        }
        write(out, item);
    }
}

fn put(out: &mut Out, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn str_of(text: &[u8]) -> &str {
    std::str::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_core::model::{ClientId, Epoch, StreamPosition};
    use plimsoll_core::presence::Tally;
    use std::sync::Arc;

    fn text(write: impl FnOnce(&mut Out)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn info() -> ClientInfo {
        let conn_info = Some(r#"{"n":1}"#.into());
        ClientInfo { user: "u\"1".into(), client: ClientId([0; 16]), conn_info, chan_info: None }
    }

    #[test]
    fn publications_carry_what_clients_need() {
        let epoch = Epoch::from_random(0);
        let p = Publication {
            offset: 1,
            previous: 0,
            epoch: Some(epoch),
            data: r#"{"t":"hi"}"#.into(),
            tags: Some(r#"{"k":"v"}"#.into()),
            info: Some(info()),
            appended_ms: 0,
        };
        assert_eq!(
            text(|out| write_publication(out, "news:1", &p)),
            concat!(
                r#"{"push":{"channel":"news:1","pub":{"data":{"t":"hi"},"info":{"user":"u\"1","#,
                r#""client":"00000000-0000-0000-0000-000000000000","conn_info":{"n":1}},"#,
                r#""offset":1,"tags":{"k":"v"},"epoch":"aaaaaaaa"}}}"#
            )
        );
    }

    #[test]
    fn presence_is_told_by_member_or_by_number() {
        let told = |told| text(|out| write_presence(out, "a", &told));
        let leave = told(Told::Change(Change::Leave(Arc::new(info()))));
        assert!(leave.starts_with(r#"{"push":{"channel":"a","leave":{"info":{"user":"u\"1""#));
        for (resync, more) in [(false, ""), (true, r#","resync":true"#)] {
            let tally = Tally { clients: 3, users: 2, resync };
            let note = r#"{"type":"presence","channel":"a","clients":3,"users":2"#;
            let want =
                format!(r#"{{"push":{{"message":{{"data":{{"plimsoll":{note}{more}}}}}}}}}}}"#);
            assert_eq!(told(Told::Tally(tally)), want);
        }
    }

    #[test]
    fn results_are_present_even_when_empty() {
        for (body, want) in [
            (ReplyBody::Publish, r#"{"id":3,"publish":{}}"#),
            (ReplyBody::Unsubscribe, r#"{"id":3,"unsubscribe":{}}"#),
            (ReplyBody::Presence(vec![]), r#"{"id":3,"presence":{"presence":{}}}"#),
            (
                ReplyBody::PresenceStats { clients: 0, users: 0 },
                r#"{"id":3,"presence_stats":{"num_clients":0,"num_users":0}}"#,
            ),
            (ReplyBody::Subscribe(Box::default()), r#"{"id":3,"subscribe":{}}"#),
            (ReplyBody::SubRefresh { ttl_s: None }, r#"{"id":3,"sub_refresh":{}}"#),
        ] {
            assert_eq!(text(|out| write_reply(out, 3, &body)), want);
        }
    }

    #[test]
    fn a_subscription_tells_its_position() {
        let position = Some(StreamPosition { epoch: Epoch::from_random(0), offset: 7 });
        let s = SubscribeResult {
            recoverable: true,
            positioned: true,
            position,
            was_recovering: true,
            ttl_s: Some(5),
            ..Default::default()
        };
        assert_eq!(
            text(|out| write_reply(out, 2, &ReplyBody::Subscribe(Box::new(s)))),
            concat!(
                r#"{"id":2,"subscribe":{"expires":true,"ttl":5,"recoverable":true,"#,
                r#""positioned":true,"epoch":"aaaaaaaa","offset":7,"was_recovering":true}}"#
            )
        );
    }

    #[test]
    fn errors_say_whether_to_try_again() {
        assert_eq!(
            text(|out| write_error(out, 9, ClientError::TOO_MANY_REQUESTS)),
            r#"{"id":9,"error":{"code":111,"message":"too many requests","temporary":true}}"#
        );
    }
}

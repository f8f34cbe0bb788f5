//! Text to commands.

use crate::json;
use plimsoll_core::command::{Body, Command, Connect, History, Subscribe};
use plimsoll_core::limits;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// What was sent is not a command of the protocol: disconnect 3501.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadCommand;

/// The commands of one WebSocket message. Too many, an empty line inside or an empty message
/// yield an error item.
pub fn lines(message: &str) -> impl Iterator<Item = Result<&str, BadCommand>> {
    let message = message.strip_suffix('\n').unwrap_or(message);
    message.split('\n').enumerate().map(|(i, line)| {
        if i >= limits::COMMANDS_PER_MESSAGE_MAX || line.trim_ascii().is_empty() {
            Err(BadCommand)
        } else {
            Ok(line)
        }
    })
}

/// Reads one command. Strict JSON; unknown keys inside a payload are ignored, a payload of an
/// unknown kind, none or two are errors.
pub fn decode(line: &str) -> Result<Command<'_>, BadCommand> {
    let Object(wire): Object<Wire<'_>> = serde_json::from_str(line).map_err(|_| BadCommand)?;
    let id = wire.id;
    let mut bodies = wire.bodies();
    match (bodies.next(), bodies.next()) {
        (Some(body), None) => Ok(Command { id, body: body? }),
        (None, None) if id == 0 && line.trim_ascii() == "{}" => {
            Ok(Command { id, body: Body::Pong })
        }
        _ => Err(BadCommand),
    }
}

/// A JSON object and nothing else: serde's structs would take an array of their fields too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapOnly<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for MapOnly<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(MapOnly(PhantomData))
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    id: u32,
    #[serde(borrow)]
    connect: Option<Object<WireConnect<'a>>>,
    #[serde(borrow)]
    subscribe: Option<Object<WireSubscribe<'a>>>,
    #[serde(borrow)]
    unsubscribe: Option<Object<WireChannel<'a>>>,
    #[serde(borrow)]
    publish: Option<Object<WirePublish<'a>>>,
    #[serde(borrow)]
    presence: Option<Object<WireChannel<'a>>>,
    #[serde(borrow)]
    presence_stats: Option<Object<WireChannel<'a>>>,
    #[serde(borrow)]
    history: Option<Object<WireHistory<'a>>>,
    #[serde(borrow)]
    ping: Option<&'a RawValue>,
    #[serde(borrow)]
    send: Option<&'a RawValue>,
    #[serde(borrow)]
    rpc: Option<&'a RawValue>,
    #[serde(borrow)]
    refresh: Option<Object<WireToken<'a>>>,
    #[serde(borrow)]
    sub_refresh: Option<Object<WireToken<'a>>>,
}

impl<'a> Wire<'a> {
    fn bodies(self) -> impl Iterator<Item = Result<Body<'a>, BadCommand>> {
        let object = |raw: &RawValue| match raw.get().starts_with('{') {
            true => Ok(()),
            false => Err(BadCommand),
        };
        let bodies = [
            self.connect.map(|Object(c)| c.body()),
            self.subscribe.map(|Object(s)| Ok(Body::Subscribe(s.into_subscribe()))),
            self.unsubscribe.map(|Object(c)| Ok(Body::Unsubscribe { channel: c.channel })),
            self.publish.map(|Object(p)| p.body()),
            self.presence.map(|Object(c)| Ok(Body::Presence { channel: c.channel })),
            self.presence_stats.map(|Object(c)| Ok(Body::PresenceStats { channel: c.channel })),
            self.history.map(|Object(h)| Ok(h.body())),
            self.ping.map(|p| object(p).map(|()| Body::Ping)),
            self.send.map(|s| object(s).map(|()| Body::Send { active: is_activity(s) })),
            self.rpc.map(|r| object(r).map(|()| Body::Rpc)),
            self.refresh.map(|Object(t)| Ok(Body::Refresh { token: t.token })),
            self.sub_refresh
                .map(|Object(t)| Ok(Body::SubRefresh { channel: t.channel, token: t.token })),
        ];
        bodies.into_iter().flatten()
    }
}

/// Does this `send` say that the user is active (`{"plimsoll":{"type":"active"}}`)?
fn is_activity(send: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Send<'a> {
        #[serde(borrow)]
        data: Data<'a>,
    }
    #[derive(Deserialize)]
    struct Data<'a> {
        #[serde(borrow)]
        plimsoll: Ours<'a>,
    }
    #[derive(Deserialize)]
    struct Ours<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
    }
    serde_json::from_str::<Send<'_>>(send.get()).is_ok_and(|s| s.data.plimsoll.kind == "active")
}

#[derive(Deserialize)]
struct WireConnect<'a> {
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(borrow, default)]
    subs: Option<BTreeMap<Cow<'a, str>, Object<WireSubscribe<'a>>>>,
}

impl<'a> WireConnect<'a> {
    fn body(self) -> Result<Body<'a>, BadCommand> {
        let asked = self.subs.unwrap_or_default();
        if asked.len() > limits::SERVER_SUBS_MAX {
            return Err(BadCommand);
        }
        let subs = asked
            .into_iter()
            .map(|(channel, s)| Subscribe { channel, ..s.0.into_subscribe() })
            .collect();
        Ok(Body::Connect(Connect { token: self.token, subs }))
    }
}

#[derive(Deserialize)]
struct WireSubscribe<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(default)]
    recover: bool,
    #[serde(borrow, default)]
    epoch: Cow<'a, str>,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    positioned: bool,
    #[serde(default)]
    recoverable: bool,
    #[serde(default)]
    join_leave: bool,
    #[serde(borrow, default)]
    delta: Cow<'a, str>,
    #[serde(borrow, default)]
    tf: Option<&'a RawValue>,
    #[serde(default)]
    flag: i64,
    #[serde(default, rename = "type")]
    kind: i32,
}

impl<'a> WireSubscribe<'a> {
    fn into_subscribe(self) -> Subscribe<'a> {
        Subscribe {
            channel: self.channel,
            token: self.token,
            recover: self.recover,
            epoch: self.epoch,
            offset: self.offset,
            positioned: self.positioned,
            recoverable: self.recoverable,
            join_leave: self.join_leave,
            delta: self.delta,
            filtered: self.tf.is_some_and(|tf| tf.get() != "null"),
            flag: self.flag,
            kind: self.kind,
        }
    }
}

#[derive(Deserialize)]
struct WireChannel<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WireToken<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
}

#[derive(Deserialize)]
struct WirePublish<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default, rename = "type")]
    kind: i32,
}

impl<'a> WirePublish<'a> {
    fn body(self) -> Result<Body<'a>, BadCommand> {
        // Type 1 publishes to a map channel; there are none here.
        if self.kind != 0 {
            return Err(BadCommand);
        }
        let data = match self.data {
            Some(raw) => json::compact(raw.get()).map_err(|_| BadCommand)?,
            None => Cow::Borrowed(""),
        };
        Ok(Body::Publish { channel: self.channel, data })
    }
}

#[derive(Deserialize)]
struct WireHistory<'a> {
    #[serde(borrow, default)]
    channel: Cow<'a, str>,
    #[serde(default)]
    limit: i32,
    #[serde(borrow, default)]
    since: Option<Object<WireSince<'a>>>,
    #[serde(default)]
    reverse: bool,
}

#[derive(Deserialize)]
struct WireSince<'a> {
    #[serde(default)]
    offset: u64,
    #[serde(borrow, default)]
    epoch: Cow<'a, str>,
}

impl<'a> WireHistory<'a> {
    fn body(self) -> Body<'a> {
        Body::History(History {
            channel: self.channel,
            limit: self.limit,
            since: self.since.map(|Object(s)| (s.offset, s.epoch)),
            reverse: self.reverse,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_decode() {
        let c = decode(r#"{"connect":{"token":"t","name":"js"},"id":1}"#).unwrap();
        let Body::Connect(connect) = c.body else { panic!("{c:?}") };
        assert_eq!((c.id, &*connect.token), (1, "t"));
        let c = decode(r#"{"id":2,"publish":{"channel":"a","data": {"x": "\n"} }}"#).unwrap();
        let data = Cow::Borrowed(r#"{"x":"\n"}"#);
        assert_eq!(c.body, Body::Publish { channel: "a".into(), data });
        let c = decode(
            r#"{"id":3,"subscribe":{"channel":"\u0061","recover":true,"epoch":"e","offset":9,
            "flag":3}}"#,
        );
        let Body::Subscribe(s) = c.unwrap().body else { panic!() };
        assert_eq!((&*s.channel, s.recover, &*s.epoch, s.offset, s.flag), ("a", true, "e", 9, 3));
        assert_eq!(decode("{}").unwrap().body, Body::Pong);
        for (send, active) in [
            (r#"{"send":{"data":1}}"#, false),
            (r#"{"send":{}}"#, false),
            (r#"{"send":{"data":{"plimsoll":{"type":"away"}}}}"#, false),
            (r#"{"send":{"data":{"plimsoll":"active"}}}"#, false),
            (r#"{"send":{"data":{"plimsoll":{"type":"active"}}}}"#, true),
            (r#"{ "send": {"data": {"a":1, "plimsoll": {"v":2, "type":"active"}} } }"#, true),
        ] {
            assert_eq!(decode(send).unwrap().body, Body::Send { active }, "{send}");
        }
        assert_eq!(decode(r#"{"id":1,"rpc":{"method":"m","data":{}}}"#).unwrap().body, Body::Rpc);
        let since =
            r#"{"id":1,"history":{"channel":"a","limit":-1,"since":{"epoch":"e","offset":1}}}"#;
        let Body::History(h) = decode(since).unwrap().body else { panic!() };
        assert_eq!((h.limit, h.since), (-1, Some((1, "e".into()))));
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for bad in [
            "",
            " ",
            "null",
            "[]",
            "1",
            "{",
            r#"{"id":1}"#,
            r#"{"id":1,"nonsense":{}}"#,
            r#"{"id":-1,"ping":{}}"#,
            r#"{"id":4294967296,"ping":{}}"#,
            r#"{"id":1,"id":2,"ping":{}}"#,
            r#"{"id":1,"ping":{},"rpc":{}}"#,
            r#"{"id":1,"publish":{"channel":"a","data":"\ud800"}}"#,
            r#"{"id":1,"publish":{"channel":1,"data":1}}"#,
            r#"{"id":1,"publish":{"channel":"a","data":{"a":}}}"#,
            r#"{"id":1,"subscribe":[]}"#,
            r#"{"id":1,"rpc":3}"#,
            "{\"id\":1,\"ping\":{}}x",
        ] {
            assert_eq!(decode(bad).err(), Some(BadCommand), "{bad}");
        }
        let deep = format!(
            r#"{{"id":1,"publish":{{"channel":"a","data":{}}}}}"#,
            "[".repeat(32_000) + &"]".repeat(32_000)
        );
        assert_eq!(decode(&deep).err(), Some(BadCommand));
        let deep =
            format!(r#"{{"id":1,"rpc":{{"data":{}}}}}"#, "[".repeat(32_000) + &"]".repeat(32_000));
        assert!(decode(&deep).is_ok(), "skipped without recursion");
    }

    #[test]
    fn lines_split_and_are_counted() {
        let count = |m: &str| lines(m).map(|l| l.is_ok()).collect::<Vec<_>>();
        assert_eq!(count("{}\n{}\n"), [true, true]);
        assert_eq!(count(""), [false]);
        assert_eq!(count("{}\n\n{}"), [true, false, true]);
        let many = "{}\n".repeat(limits::COMMANDS_PER_MESSAGE_MAX + 1);
        assert_eq!(lines(&many).filter(Result::is_err).count(), 1);
    }
}

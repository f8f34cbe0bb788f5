//! Bad commands. The letters and numbers name the attacks of our list.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::{Arena, OPEN};
use plimsoll_conformance::client::Client;
use plimsoll_conformance::raw::{self, Ending, PATIENCE, PING, Raw, frame, text};
use plimsoll_conformance::token;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MESSAGE_MAX: usize = 65_536;
const SECRET: &str = "a-secret-of-the-conformance-tests-42";

fn with_secret() -> String {
    format!("{OPEN}\n[client.token]\nhmac_secret_key = \"{SECRET}\"\n")
}

fn expired() -> String {
    let claims = json!({ "sub": "42", "exp": token::now() - 3_600 }).to_string();
    token::hs256(r#"{"alg":"HS256","typ":"JWT"}"#, &claims, SECRET.as_bytes())
}

/// Sends a text on a connected client and expects the code it is closed with.
fn closes(address: SocketAddr, name: &str, message: &str, code: u16) {
    let mut raw = Raw::connected(address);
    raw.send(&text(message));
    assert_eq!(raw.ending(PATIENCE), Ending::Code(code), "{name}");
}

fn publish(data: &str) -> String {
    format!(r#"{{"id":2,"publish":{{"channel":"room:x","data":{data}}}}}"#)
}

/// Publishes raw JSON and returns the raw publication that a subscriber got.
fn passes(address: SocketAddr, name: &str, data: &str) -> String {
    let mut raw = Raw::connected(address);
    raw.send(&text(r#"{"id":7,"subscribe":{"channel":"room:x"}}"#));
    raw.send(&text(&publish(data)));
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let frame = raw.frame(PATIENCE).unwrap_or_else(|| panic!("{name}: closed"));
        let text = String::from_utf8_lossy(&frame.payload).into_owned();
        assert_eq!(frame.first, raw::TEXT, "{name}: {text}");
        if let Some(line) = text.split('\n').find(|l| l.contains("\"push\"")) {
            return line.to_owned();
        }
        assert!(!text.contains("\"error\""), "{name}: {text}");
    }
    panic!("{name}: no publication");
}

#[test]
fn a20_json_that_hurts_parsers() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    closes(address, "32,000 open brackets", &"[".repeat(32_000), 3501);
    closes(address, "32,000 open braces", &"{\"a\":".repeat(12_000), 3501);
    closes(address, "a deep payload", &publish(&nested(30_000)), 3501);
    closes(address, "a payload of depth 65", &publish(&nested(65)), 3501);
    closes(address, "a lone surrogate", &publish(r#""\ud800""#), 3501);
    closes(address, "a lone low surrogate", &publish(r#""\udc00\ud800""#), 3501);
    closes(address, "an id twice", r#"{"id":2,"id":3,"publish":{"channel":"room:x"}}"#, 3501);
    closes(address, "two commands in one", r#"{"id":2,"ping":{},"rpc":{"method":"m"}}"#, 3501);
    for bad in ["", " ", "nul", "{", "'x'", "{\"id\":2}", "[]", "{\"id\":2,\"nonsense\":{}}"] {
        closes(address, bad, bad, 3501);
    }
    let line = passes(address, "depth 64", &nested(64));
    assert!(line.contains(&nested(64)), "{line}");
    // Valid JSON is passed on as it is, whatever a number or a key may be.
    let digits = "9".repeat(60_000);
    let colliding: Vec<String> = (0..2_048u32)
        .map(|n| (0..11).map(|bit| if n >> bit & 1 == 0 { "Aa" } else { "BB" }).collect())
        .map(|key: String| format!(r#""{key}":1"#))
        .collect();
    let colliding = format!("{{{}}}", colliding.join(","));
    for data in ["1e400", r#"{"a":1,"a":2}"#, "-0.0e-999", &digits, &colliding] {
        let start = Instant::now();
        let line = passes(address, &data[..data.len().min(40)], data);
        assert!(line.contains(data), "changed: {}", &line[..line.len().min(200)]);
        assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
    }
    closes(address, "a number of 1 MB", &publish(&"9".repeat(1 << 20)), 1009);
    arena.close("A20");
}

#[test]
fn a21_floods_of_commands_in_one_frame() {
    let config =
        OPEN.replace("[client]", "[client]\nmessage_rate_limit = 1000\nmessage_rate_burst = 2000");
    let arena = Arena::open(&config);
    let address = arena.server.clients();
    closes(address, "10,000 pongs", &"{}\n".repeat(10_000), 3501);
    closes(address, "one pong that nobody asked for", "{}", 3501);
    let subscribe =
        |n: usize| format!(r#"{{"id":{},"subscribe":{{"channel":"room:{n}"}}}}"#, n + 2);
    let subscribes = |count: usize| (0..count).map(subscribe).collect::<Vec<_>>().join("\n");
    closes(address, "5,000 subscribes", &subscribes(5_000), 1009);

    // As many as fit: the first 128 are granted, the others refused one by one.
    let mut client = Client::anonymous(address);
    client.send(&subscribes(1_000)).unwrap();
    let (mut granted, mut refused) = (0, 0);
    for n in 0..1_000 {
        let reply = client.reply(n + 2, PATIENCE).unwrap();
        match reply.pointer("/error/code").and_then(Value::as_u64) {
            None if reply.get("subscribe").is_some() => granted += 1,
            Some(106) => refused += 1,
            _ => panic!("subscribe {n} was answered by {reply}"),
        }
    }
    assert_eq!((granted, refused), (128, 872));
    arena.close("A21");
}

#[test]
fn a21_a_client_over_its_rate() {
    let config =
        OPEN.replace("[client]", "[client]\nmessage_rate_limit = 200\nmessage_rate_burst = 200");
    let arena = Arena::open(&config);
    let mut client = Client::anonymous(arena.server.clients());
    let mut id = 10_000;
    let (mut good, mut limited) = (0, 0);
    let start = Instant::now();
    let code = loop {
        assert!(start.elapsed() < Duration::from_secs(20), "void: never closed");
        let first = id;
        let publish = |id| format!(r#"{{"id":{id},"publish":{{"channel":"room:x","data":1}}}}"#);
        let frame: Vec<String> = (first..first + 300).map(publish).collect();
        id += 300;
        if client.send(&frame.join("\n")).is_err() {
            break client.closing_code(PATIENCE).or(client.last_close());
        }
        let replies = (first..id).map_while(|id| client.reply(id, PATIENCE).ok());
        let mut seen = 0;
        for reply in replies {
            seen += 1;
            match reply.pointer("/error/code").and_then(Value::as_u64) {
                None => good += 1,
                Some(111) => limited += 1,
                _ => panic!("{reply}"),
            }
        }
        if seen < 300 {
            break client.last_close();
        }
    };
    assert!(good >= 150, "void: only {good} commands were good");
    assert!(limited >= 100, "void: only {limited} commands were refused by 111");
    assert_eq!(code, Some(3013), "after {good} good and {limited} refused commands");
    arena.close("A21 rate");
}

#[test]
fn a23_messages_of_the_wrong_kind() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let mut binary = Raw::connected(address);
    binary.send(&frame(raw::BINARY, br#"{"id":2,"publish":{"channel":"room:x","data":1}}"#));
    assert_eq!(binary.ending(PATIENCE), Ending::Code(3501), "a binary frame");
    let mut binary = Raw::upgraded(address, "");
    binary.send(&frame(raw::BINARY, b"\x00"));
    assert_eq!(binary.ending(PATIENCE), Ending::Code(3501), "a binary frame before connect");
    closes(address, "a payload with a line break", &publish("{\"a\":\n1}"), 3501);

    // Through the API a line break is white space, and goes.
    let mut raw = Raw::connected(address);
    raw.send(&text(r#"{"id":7,"subscribe":{"channel":"room:x"}}"#));
    raw.frame(PATIENCE).expect("a reply to the subscribe");
    let body = "{\"channel\":\"room:x\",\r\n\"data\":{\"a\" :\n[1,\r\n\t2],\"b\":\"x\\ny\"}}";
    let response = arena.server.api_response("publish", body);
    assert_eq!(response.status, 200, "{}", response.text());
    let push = raw.frame(PATIENCE).expect("a publication");
    let line = String::from_utf8(push.payload).unwrap();
    assert!(!line.contains(['\n', '\r']), "{line:?}");
    assert!(line.contains(r#""data":{"a":[1,2],"b":"x\ny"}"#), "{line}");
    arena.close("A23");
}

#[test]
fn a25_sizes_at_the_limit() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let sized = |total: usize| {
        let rest = total - publish("\"\"").len();
        publish(&format!("\"{}\"", "x".repeat(rest)))
    };
    for total in [MESSAGE_MAX - 1, MESSAGE_MAX] {
        let mut raw = Raw::connected(address);
        raw.send(&text(&sized(total)));
        let reply = raw.frame(PATIENCE).expect("a reply");
        let reply = String::from_utf8_lossy(&reply.payload).into_owned();
        assert!(reply.contains("\"publish\""), "{total} bytes: {reply}");
    }
    closes(address, "a byte more", &sized(MESSAGE_MAX + 1), 1009);

    let name = |bytes: usize| format!("room:{}", "n".repeat(bytes - 5));
    let mut client = Client::anonymous(address);
    client.subscribe(&name(255));
    let api = |channel: &str| {
        let body = json!({ "channel": channel, "data": 1 }).to_string();
        let response = arena.server.api_response("publish", &body);
        let value: Value = serde_json::from_str(&response.text()).unwrap_or_default();
        (response.status, value)
    };
    assert_eq!(api(&name(255)).1.get("error"), None);
    // 256 bytes; 252 bytes that are 503 characters' worth of nothing: not ASCII.
    for long in [name(256), name(1_000), format!("room:{}", "\u{e9}".repeat(50))] {
        for method in ["subscribe", "publish"] {
            let code = client.call_error(method, &json!({ "channel": long, "data": 1 }));
            assert_eq!(code, 107, "{method} {long}");
        }
        let (status, value) = api(&long);
        let code = value.pointer("/error/code").and_then(Value::as_u64);
        assert!(code == Some(107) || status == 400, "API, {long}: {status} {value}");
    }
    arena.close("A25");
}

#[test]
fn a26_ids_and_connects() {
    let arena = Arena::open(&with_secret());
    let address = arena.server.clients();
    let history = |id: &str| format!(r#"{{"id":{id},"history":{{"channel":"room:x"}}}}"#);
    for id in ["0", "-1", "4294967296", "1.5", "\"7\"", "1e3", "18446744073709551617"] {
        closes(address, id, &history(id), 3501);
    }
    closes(address, "no id", r#"{"history":{"channel":"room:x"}}"#, 3501);
    closes(address, "a second connect", r#"{"id":2,"connect":{}}"#, 3501);
    let mut two = Raw::upgraded(address, "");
    two.send(&text("{\"id\":1,\"connect\":{}}\n{\"id\":2,\"connect\":{}}"));
    assert_eq!(two.ending(PATIENCE), Ending::Code(3501), "two connects in one frame");

    // The highest id, and one id for two commands: each is answered under its id.
    let mut client = Client::anonymous(address);
    let commands = [history("4294967295"), history("4294967295"), history("1")];
    client.send(&commands.join("\n")).unwrap();
    for id in [u32::MAX, u32::MAX, 1] {
        let reply = client.reply(id, PATIENCE).unwrap();
        assert!(reply.get("history").is_some(), "{reply}");
    }

    let attempt = |token: &str| {
        let mut raw = Raw::upgraded(address, "");
        let connect = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#);
        let subscribe = r#"{"id":2,"subscribe":{"channel":"room:x"}}"#;
        raw.send(&text(&format!("{connect}\n{subscribe}")));
        let mut seen = String::new();
        let ending = raw.ending_after(PATIENCE, |f| seen += &String::from_utf8_lossy(&f.payload));
        (ending, seen)
    };
    let (ending, seen) = attempt("not.a.token");
    assert_eq!((ending, seen.as_str()), (Ending::Code(3500), ""), "an invalid token");
    let (ending, seen) = attempt(&expired());
    assert_eq!(ending, Ending::Code(3501), "a subscribe after an expired token: {seen}");
    assert!(seen.contains("109") && !seen.contains("\"subscribe\""), "{seen}");
    arena.close("A26");
}

#[test]
fn a31_connections_that_say_nothing() {
    let arena = Arena::open(&OPEN.replace("[client]", "[client]\nstale_close_delay = \"2s\""));
    let address = arena.server.clients();
    let start = Instant::now();
    let mut bare = Raw::connect(address);
    let mut silent = Raw::upgraded(address, "");
    let mut pinging = Raw::upgraded(address, "");
    let mut pongs = 0;
    // Pings until the end; the others wait in the meantime.
    let ending = loop {
        pinging.send(&frame(PING, b"alive"));
        match pinging.frame(Duration::from_millis(300)) {
            Some(f) if f.first == 0x8a => {
                assert_eq!(f.payload, b"alive");
                pongs += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            Some(f) if f.first == raw::CLOSE => {
                break u16::from_be_bytes([f.payload[0], f.payload[1]]);
            }
            other => panic!("{other:?} after {pongs} pongs and {:?}", start.elapsed()),
        }
        assert!(start.elapsed() < Duration::from_secs(8), "pings keep a stranger alive");
    };
    let took = start.elapsed();
    assert_eq!(ending, 3502);
    assert!(pongs >= 5, "void: only {pongs} pings were answered");
    assert!(took > Duration::from_millis(1_500), "void: closed after {took:?}");
    assert_eq!(silent.ending(Duration::from_secs(6)), Ending::Code(3502));
    assert!(bare.closes(Duration::from_secs(6)), "a bare TCP connection stays open");
    // Somebody who has connected stays.
    let mut client = Client::anonymous(address);
    std::thread::sleep(Duration::from_millis(2_500));
    client.subscribe("room:x");
    arena.close("A31");
}

#[test]
fn a33_commands_before_connect() {
    let arena = Arena::open(&with_secret());
    let address = arena.server.clients();
    let secret = json!({ "channel": "room:secret", "data": "the secret" });
    arena.server.api("publish", &secret);
    let commands = [
        r#"{"id":1,"subscribe":{"channel":"room:secret"}}"#,
        r#"{"id":1,"publish":{"channel":"room:secret","data":"forged"}}"#,
        r#"{"id":1,"history":{"channel":"room:secret","limit":10}}"#,
        r#"{"id":1,"presence":{"channel":"room:secret"}}"#,
        r#"{"id":1,"presence_stats":{"channel":"room:secret"}}"#,
        r#"{"id":1,"unsubscribe":{"channel":"room:secret"}}"#,
        r#"{"id":1,"rpc":{"method":"m","data":{}}}"#,
        r#"{"id":1,"refresh":{"token":"x"}}"#,
        r#"{"id":1,"sub_refresh":{"channel":"room:secret","token":"x"}}"#,
        r#"{"id":1,"ping":{}}"#,
        r#"{"send":{"data":{}}}"#,
        "{}",
    ];
    let failed = format!(r#"{{"id":9,"connect":{{"token":"{}"}}}}"#, expired());
    for command in commands {
        let mut seen = String::new();
        let mut raw = Raw::upgraded(address, "");
        raw.send(&text(command));
        let ending = raw.ending_after(PATIENCE, |f| seen += &String::from_utf8_lossy(&f.payload));
        assert_eq!((ending, seen.as_str()), (Ending::Code(3501), ""), "{command}");

        // The same after a connect that failed, in the same frame.
        let mut raw = Raw::upgraded(address, "");
        raw.send(&text(&format!("{failed}\n{command}")));
        let ending = raw.ending_after(PATIENCE, |f| seen += &String::from_utf8_lossy(&f.payload));
        assert_eq!(ending, Ending::Code(3501), "{command} after a failed connect: {seen}");
        assert!(seen.contains("109") && !seen.contains("secret"), "{command}: {seen}");
    }
    let history = arena.server.api("history", &json!({ "channel": "room:secret", "limit": 10 }));
    let count = history["publications"].as_array().map(Vec::len);
    assert_eq!(count, Some(1), "a publication of a stranger was stored: {history}");
    arena.close("A33");
}

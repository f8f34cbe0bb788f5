//! What is no message, as told by the real server: who is there, who has read how far, who types.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::http;
use plimsoll_conformance::server::Server;
use plimsoll_conformance::token::hs256;
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::time::Duration;

const SECRET: &str = "a-secret-of-the-conformance-tests-42";

/// Namespaces with these options beside what all have.
fn config(namespaces: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[server]\nworkers = 2\n[http_api]\ninsecure = true\n[admin]\ninsecure = true\n\
         [client.token]\nhmac_secret_key = \"{SECRET}\"\n"
    );
    for (name, options) in namespaces {
        text += &format!(
            "\n[[channel.namespaces]]\nname = \"{name}\"\npresence = true\njoin_leave = true\n\
             force_push_join_leave = true\nallow_subscribe_for_client = true\n\
             allow_presence_for_client = true\n{options}\n"
        );
    }
    text + SIGNALS
}

const SIGNALS: &str = r#"
[[channel.namespaces]]
name = "read"
feature = "receipts"
allow_subscribe_for_client = true
allow_publish_for_subscriber = true

[[channel.namespaces]]
name = "typing"
feature = "typing"
class = "ephemeral"
allow_subscribe_for_client = true
allow_publish_for_subscriber = true
"#;

/// A server at a level that stays, whatever the machine does.
fn pinned(namespaces: &[(&str, &str)], level: u64) -> Server {
    let server = Server::start_with(&config(namespaces), &[]);
    pin(&server, level);
    server
}

fn pin(server: &Server, level: u64) {
    let address = server.admin();
    let body = format!(r#"{{"pin_level":{level},"ttl":"10m","reason":"test"}}"#);
    let head = format!(
        "POST /admin/overload HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    assert_eq!(http::request(address, &head, body.as_bytes()).status, 200);
    let pinned = || server.metrics().sum("plimsoll_load_level") == Some(level as f64);
    assert!(wait::until(PATIENCE, pinned), "level {level}");
}

fn connected(server: &Server, user: &str) -> Client {
    let claims = json!({ "sub": user }).to_string();
    let token = hs256(r#"{"alg":"HS256","typ":"JWT"}"#, &claims, SECRET.as_bytes());
    Client::connect(server.clients(), &json!({ "token": token })).expect("a connect")
}

fn newcomer(server: &Server, user: &str, channel: &str) -> Client {
    let mut client = connected(server, user);
    client.subscribe(channel);
    client
}

/// A member, with its connection id: it asks who is there.
fn member(server: &Server, user: &str, channel: &str) -> (Client, String) {
    let mut client = newcomer(server, user, channel);
    let presence = client.call("presence", &json!({ "channel": channel })).expect("presence");
    let members = presence["presence"]["presence"].as_object().cloned().expect("members");
    let mine = members.iter().find(|(_, info)| info["user"] == user).expect("myself");
    (client, mine.0.clone())
}

/// What a subscriber is told of presence within a time, in short words.
fn told(client: &mut Client, within: Duration) -> Vec<String> {
    let mut all = Vec::new();
    let deadline = std::time::Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let Some(push) = client.push(left) else { return all };
        all.extend(words(&push["push"]));
    }
}

fn words(push: &Value) -> Option<String> {
    let user = |info: &Value| info["user"].as_str().unwrap_or_default().to_owned();
    if push["join"].is_object() {
        return Some(format!("+{}", user(&push["join"]["info"])));
    }
    if push["leave"].is_object() {
        return Some(format!("-{}", user(&push["leave"]["info"])));
    }
    let note = &push["message"]["data"]["plimsoll"];
    let resync = if note["resync"] == true { " resync" } else { "" };
    (note["type"] == "presence").then(|| format!("{}/{}{resync}", note["clients"], note["users"]))
}

/// The next thing a subscriber is told of presence.
fn next(client: &mut Client, within: Duration) -> String {
    let mut found = None;
    wait::until(within, || {
        let push = client.push(within).unwrap_or_default();
        found = words(&push["push"]);
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("nothing was told within {within:?}"))
}

/// Longer than a push takes on a busy machine.
const SHORT: Duration = Duration::from_millis(400);

#[test]
fn a_reconnect_within_the_debounce_is_not_told() {
    let spaces = [("away", "presence_leave_debounce = \"2s\""), ("plain", "")];
    let server = pinned(&spaces, 0);
    let mut ann = connected(&server, "ann");
    ann.subscribe("away:a");
    assert_eq!(next(&mut ann, PATIENCE), "+ann");
    let (ben, first) = member(&server, "ben", "away:a");
    assert_eq!(next(&mut ann, PATIENCE), "+ben");

    drop(ben);
    std::thread::sleep(SHORT);
    let params = json!({ "channel": "away:a" });
    let stats = ann.call("presence_stats", &params).expect("stats")["presence_stats"].clone();
    assert_eq!((&stats["num_clients"], &stats["num_users"]), (&json!(2), &json!(2)));
    let (ben, second) = member(&server, "ben", "away:a");
    assert_eq!(first, second, "the entry that was told");
    assert_eq!(told(&mut ann, Duration::from_secs(3)), [""; 0]);
    let debounced = || {
        let label = "reason=\"debounced\"";
        server.metrics().labelled("plimsoll_presence_events_saved_total", label) == Some(2.0)
    };
    assert!(wait::until(PATIENCE, debounced));

    drop(ben);
    assert_eq!(told(&mut ann, Duration::from_millis(1_200)), [""; 0]);
    let push = std::iter::from_fn(|| ann.push(PATIENCE)).find(|p| p["push"]["leave"].is_object());
    assert_eq!(push.expect("a leave")["push"]["leave"]["info"]["client"], json!(first));
    // Without a debounce all is told at once, as ever.
    ann.subscribe("plain:a");
    drop(member(&server, "ben", "plain:a"));
    assert_eq!(
        (0..3).map(|_| next(&mut ann, PATIENCE)).collect::<Vec<_>>(),
        ["+ann", "+ben", "-ben"]
    );
}

#[test]
fn a_room_that_reconnects_as_one_is_silent() {
    let server = pinned(&[("away", "presence_leave_debounce = \"20s\""), ("plain", "")], 0);
    let room = |name: &str| {
        let before = server.metrics().sum("realtime_presence_updates_total").unwrap_or(0.0);
        for _ in 0..2 {
            let members: Vec<_> = (0..40)
                .map(|n| newcomer(&server, &format!("u{n}"), &format!("{name}:a")))
                .collect();
            let mut watcher = connected(&server, "ann");
            let params = json!({ "channel": format!("{name}:a") });
            let full = wait::until(PATIENCE, || {
                let stats = watcher.call("presence_stats", &params).expect("stats");
                stats["presence_stats"]["num_users"] == 40
            });
            assert!(full, "{name}");
            drop(members);
        }
        std::thread::sleep(SHORT);
        server.metrics().sum("realtime_presence_updates_total").unwrap_or(0.0) - before
    };
    assert_eq!(room("plain"), 160.0, "each join and each leave");
    assert_eq!(room("away"), 40.0, "each member once");
}

#[test]
fn the_load_decides_how_much_is_told_and_a_gap_is_told() {
    let server = pinned(&[("plain", ""), ("gather", "presence_coalesce = \"1s\"")], 0);
    let mut ann = connected(&server, "ann");
    ann.subscribe("plain:a");
    ann.subscribe("gather:a");
    let mut first = [next(&mut ann, PATIENCE), next(&mut ann, PATIENCE)];
    first.sort();
    assert_eq!(first, ["+ann", "+ann"]);

    // Normal, where the namespace asks for it: who comes and goes at once is not told.
    drop(newcomer(&server, "ben", "gather:a"));
    let (_cid, _) = member(&server, "cid", "gather:a");
    assert_eq!(told(&mut ann, Duration::from_millis(1_500)), ["+cid"]);

    // Warning: batched.
    pin(&server, 1);
    drop(newcomer(&server, "ben", "plain:a"));
    let (dan, _) = member(&server, "dan", "plain:a");
    assert_eq!(told(&mut ann, Duration::from_millis(3_000)), ["+dan"]);

    // Degraded: a number.
    pin(&server, 2);
    let (_eve, _) = member(&server, "eve", "plain:a");
    let (_eva, _) = member(&server, "eve", "plain:a");
    assert_eq!(told(&mut ann, Duration::from_millis(11_000)), ["4/3"]);

    // Critical: nothing, and no answers.
    pin(&server, 3);
    drop(dan);
    assert_eq!(told(&mut ann, Duration::from_millis(2_500)), [""; 0]);
    assert_eq!(ann.call_error("presence", &json!({ "channel": "plain:a" })), 503);

    // Over: it is told once that something is missing, and all goes on.
    pin(&server, 0);
    assert_eq!(next(&mut ann, PATIENCE), "3/2 resync");
    let (_fay, _) = member(&server, "fay", "plain:a");
    assert_eq!(told(&mut ann, SHORT), ["+fay"]);
    let saved = |reason: &str| {
        let label = format!("reason=\"{reason}\"");
        server.metrics().labelled("plimsoll_presence_events_saved_total", &label)
    };
    assert!(wait::until(PATIENCE, || saved("suppressed") == Some(3.0)));
    assert_eq!(saved("coalesced"), Some(4.0));
}

#[test]
fn a_crowd_is_told_as_a_number() {
    let server = pinned(&[("crowd", "presence_roster_max = 3")], 0);
    let mut ann = connected(&server, "ann");
    ann.subscribe("crowd:a");
    let mut others: Vec<_> =
        (0..5).map(|n| member(&server, &format!("u{}", n / 2), "crowd:a")).collect();
    let joins: Vec<_> = (0..3).map(|_| next(&mut ann, PATIENCE)).collect();
    assert_eq!(joins, ["+ann", "+u0", "+u0"]);
    assert_eq!(next(&mut ann, PATIENCE), "6/4");
    let params = json!({ "channel": "crowd:a" });
    let stats = ann.call("presence_stats", &params).expect("stats")["presence_stats"].clone();
    assert_eq!(stats, json!({ "num_clients": 6, "num_users": 4 }));
    others.truncate(1);
    let mut last = String::new();
    wait::until(PATIENCE, || {
        last = next(&mut ann, PATIENCE);
        last.contains("resync")
    });
    assert_eq!(last, "2/2 resync");
}

/// The data of the publications of a channel that come within a time.
fn published(client: &mut Client, channel: &str, within: Duration) -> Vec<Value> {
    let mut all = Vec::new();
    let deadline = std::time::Instant::now() + within;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let Some(push) = client.push(left) else { return all };
        if push["push"]["channel"] == channel && push["push"]["pub"].is_object() {
            all.push(push["push"]["pub"]["data"].clone());
        }
    }
}

fn read(client: &mut Client, channel: &str, data: Value) -> Value {
    client.call("publish", &json!({ "channel": channel, "data": data })).expect("an answer")
}

#[test]
fn read_marks_are_told_together_and_kept_back_under_load() {
    let server = pinned(&[], 0);
    let (mut ann, mut ben) = (connected(&server, "ann"), connected(&server, "ben"));
    ann.subscribe("read:a");
    ben.subscribe("read:a");
    for offset in [1, 5, 3, 9, 7] {
        let answer = read(&mut ben, "read:a", json!({ "read": offset }));
        assert!(answer["publish"].is_object(), "{answer}");
    }
    read(&mut ann, "read:a", json!({ "read": 4 }));
    let told = published(&mut ann, "read:a", Duration::from_millis(2_500));
    assert_eq!(told, [json!({ "receipts": { "ann": 4, "ben": 9 } })]);
    for bad in [json!(7), json!({ "read": -1 }), json!({ "read": 1, "user": "ann" })] {
        assert_eq!(read(&mut ben, "read:a", bad.clone())["error"]["code"], 107, "{bad}");
    }
    // A back end says for whom, and others see it with their subscription.
    let of_cid = json!({ "channel": "read:a", "data": { "user": "cid", "read": 2 } });
    server.api("publish", &of_cid);
    let of_nobody = json!({ "channel": "read:a", "data": { "read": 2 } });
    let refused = server.api_response("publish", &of_nobody.to_string()).text();
    assert!(refused.contains("\"code\":107"), "{refused}");
    let mut cid = connected(&server, "cid");
    let subscribed = cid.subscribe("read:a");
    let marks = &subscribed["publications"][0]["data"]["receipts"];
    assert_eq!(*marks, json!({ "ann": 4, "ben": 9, "cid": 2 }), "{subscribed}");
    assert_eq!(published(&mut ann, "read:a", Duration::from_millis(1_500)).len(), 1);

    pin(&server, 2);
    read(&mut ben, "read:a", json!({ "read": 11 }));
    pin(&server, 3);
    read(&mut ben, "read:a", json!({ "read": 12 }));
    assert_eq!(published(&mut ann, "read:a", Duration::from_millis(2_000)), [Value::Null; 0]);
    pin(&server, 4);
    assert_eq!(read(&mut ben, "read:a", json!({ "read": 13 }))["error"]["code"], 503);
    pin(&server, 0);
    let told = published(&mut ann, "read:a", Duration::from_millis(6_500));
    assert_eq!(told, [json!({ "receipts": { "ben": 12 } })]);
    let outcome = |what: &str| {
        let label = format!("outcome=\"{what}\"");
        server.metrics().labelled("plimsoll_receipts_total", &label)
    };
    assert_eq!((outcome("risen"), outcome("old")), (Some(7.0), Some(2.0)));
    assert_eq!(outcome("refused"), Some(4.0), "at the home; sessions refuse what the load forbids");
    assert_eq!(server.metrics().sum("plimsoll_receipts_pushes_total"), Some(3.0));
}

#[test]
fn many_readers_are_told_as_numbers() {
    let server = pinned(&[], 0);
    let mut ann = connected(&server, "ann");
    ann.subscribe("read:crowd");
    for n in 0..30 {
        let data = json!({ "user": format!("u{n}"), "read": 1 + n / 10 });
        let params = json!({ "channel": "read:crowd", "data": data });
        server.api("publish", &params);
    }
    let mut last = Value::Null;
    let all = wait::until(PATIENCE, || {
        let told = published(&mut ann, "read:crowd", Duration::from_millis(1_100));
        last = told.last().cloned().unwrap_or_default();
        last["readers"] == 30
    });
    assert!(all, "{last}");
    let steps = [(3, 10), (2, 20), (1, 30)].map(|(o, u)| json!({ "offset": o, "users": u }));
    assert_eq!(last["read_by"], json!(steps));
}

#[test]
fn typing_is_told_once_for_a_user_from_all_connections() {
    let server = pinned(&[], 0);
    let mut ann = connected(&server, "ann");
    ann.subscribe("typing:a");
    let mut bens: Vec<_> = (0..3).map(|_| connected(&server, "ben")).collect();
    let typing = json!({ "typing": true, "ttl_ms": 6_000 });
    for ben in &mut bens {
        ben.subscribe("typing:a");
        for _ in 0..2 {
            let answer = read(ben, "typing:a", typing.clone());
            assert!(answer["publish"].is_object(), "{answer}");
        }
    }
    let once = [typing];
    assert_eq!(published(&mut ann, "typing:a", Duration::from_secs(1)), once);
    std::thread::sleep(Duration::from_millis(2_500));
    read(&mut bens[1], "typing:a", once[0].clone());
    assert_eq!(published(&mut ann, "typing:a", Duration::from_secs(1)), once);
    pin(&server, 2);
    assert_eq!(read(&mut bens[0], "typing:a", once[0].clone())["error"]["code"], 503);
}

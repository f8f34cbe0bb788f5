//! The load line of the real server: pinned, shown, told, and gone by itself.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::http::{self, Response};
use plimsoll_conformance::server::Server;
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// From a change of the level to the last client that is told: 5 s to be sure of it, then 5 s over
/// which the notice is spread, and something for a busy machine.
const TOLD: Duration = Duration::from_secs(30);

fn overload(server: &Server, method: &str, query: &str, body: &str) -> (u16, Value) {
    let address = server.admin();
    let head = format!(
        "{method} /admin/overload{query} HTTP/1.1\r\nHost: {address}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    answer(&http::request(address, &head, body.as_bytes()))
}

fn answer(response: &Response) -> (u16, Value) {
    let text = response.text();
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (response.status, json)
}

fn load(server: &Server) -> Value {
    let (status, mut all) = answer(&http::get(server.admin(), "/admin/status"));
    assert_eq!(status, 200);
    all["load"].take()
}

/// The next notice of this level; others may come before it on a busy machine.
fn notice(client: &mut Client, level: u64) -> Value {
    let mut found = Value::Null;
    let told = wait::until(TOLD, || {
        let push = client.push(PATIENCE).unwrap_or_default();
        found = push["push"]["message"]["data"]["plimsoll"].clone();
        found["level"] == level
    });
    assert!(told, "no notice of level {level}");
    assert_eq!(found["type"], "load");
    found
}

fn level_is(server: &Server, level: u64) -> bool {
    wait::until(PATIENCE, || {
        server.metrics().sum("plimsoll_load_level") == Some(level as f64)
            && load(server)["level"] == level
    })
}

#[test]
fn a_level_is_pinned_told_and_given_up_again() {
    let server = Server::start_with(OPEN, &[]);
    assert!(level_is(&server, 0), "a server without work is not at Normal: {}", load(&server));
    let mut old = Client::anonymous(server.clients());
    let pin = r#"{"pin_level":3,"ttl":"20s","reason":"drill","author":"ann"}"#;
    let (status, set) = overload(&server, "POST", "", pin);
    assert_eq!(status, 200, "{set}");
    assert!(set["effect"].as_str().is_some_and(|t| t.contains("next sample")), "{set}");
    assert!(level_is(&server, 3), "{}", load(&server));

    let load_now = load(&server);
    assert_eq!(load_now["level_name"], "critical");
    assert_eq!(load_now["override"][0]["reason"], "drill");
    assert_eq!(load_now["accept_new_connections"], true);
    assert!(load_now["pressures"]["memory"].is_number(), "{load_now}");
    assert_eq!(load_now["actions"].as_object().map(serde_json::Map::len), Some(10));
    let metrics = server.metrics();
    for family in [
        "plimsoll_load_score",
        "plimsoll_pressure",
        "plimsoll_action_strength",
        "plimsoll_level_transitions_total",
        "plimsoll_signal",
        "plimsoll_overload_alerts_total",
        "plimsoll_dropped_ephemeral_total",
        "plimsoll_conflated_total",
        "plimsoll_fell_behind_total",
    ] {
        assert!(metrics.sum(family).is_some(), "no {family}");
    }
    assert!(metrics.sum("plimsoll_level_transitions_total") >= Some(1.0));
    assert!(metrics.labelled("plimsoll_pressure", "resource=\"memory\"").is_some());
    let line = server.log_tail();
    assert!(
        line.contains("override set: pin_level=critical") && line.contains("\"ann\""),
        "{line}"
    );

    // Old messages have to wait; what is said now does not.
    old.subscribe("room:a");
    let history = json!({ "channel": "room:a", "limit": 10 });
    assert_eq!(old.call_error("history", &history), 503);
    old.call("publish", &json!({ "channel": "room:a", "data": 1 })).expect("a publication");
    assert!(old.push(PATIENCE).is_some(), "the publication came back");

    // Who is there is told within seconds; who comes then, at once.
    let data = notice(&mut old, 3);
    assert_eq!(data["message"], "Some features are temporarily unavailable");
    assert_eq!(data["features"]["typing"], "off");
    // At this level others than those who come back wait at the door.
    let back = json!({ "subs": { "room:a": { "recover": true } } });
    let mut new = Client::connect(server.clients(), &back).expect("who comes back gets in");
    let greeting = new.push(PATIENCE).expect("a greeting");
    assert_eq!(greeting["push"]["message"]["data"]["plimsoll"]["level"], 3, "{greeting}");

    let expired = wait::until(TOLD, || level_is(&server, 0));
    assert!(expired, "20 s are over: {}", load(&server));
    assert_eq!(load(&server)["override"], json!([]));
    let log = server.log_tail();
    assert!(log.contains("override expired: pin_level=critical"), "{log}");
    for client in [&mut old, &mut new] {
        assert_eq!(notice(client, 0)["features"]["typing"], "on");
    }
    let mut last = Client::anonymous(server.clients());
    assert_eq!(last.push(Duration::from_millis(200)), None, "nothing is to be told");
}

#[test]
fn what_is_not_an_order_is_refused() {
    let server = Server::start_with(OPEN, &[]);
    let check = |body: &str, status: u16, why: &str| {
        let (found, answer) = overload(&server, "POST", "", body);
        assert_eq!(found, status, "{body}: {answer}");
        let told = answer["error"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{body}: {told}");
    };
    check("", 400, "the body");
    check(r#"{"reason":"x"}"#, 400, "give one of");
    check(r#"{"pin_level":5,"reason":"x"}"#, 400, "0 to 4");
    check(r#"{"pin_level":3}"#, 400, "a reason is required");
    check(r#"{"pin_level":3,"reason":"x","ttl":"25h"}"#, 400, "24h at most");
    check(r#"{"pin_level":3,"reason":"x","ttl":"soon"}"#, 400, "ttl");
    let much = r#"{"pin_action":"shed_queues","strength":2,"reason":"x"}"#;
    check(much, 400, "from 0 to 1");
    check(&format!(r#"{{"reason":"{}"}}"#, "x".repeat(5_000)), 413, "4096 bytes");
    assert_eq!(overload(&server, "PUT", "", "").0, 405);
    assert_eq!(overload(&server, "DELETE", "?subject=lvl", "").0, 400);
    // What a form of any page could make a browser send.
    let address = server.admin();
    let body = r#"{"pin_level":3,"reason":"x"}"#;
    let head = format!(
        "POST /admin/overload HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    assert_eq!(answer(&http::request(address, &head, body.as_bytes())).0, 415);
    assert_eq!(load(&server)["override"], json!([]));
}

#[test]
fn actions_and_accepts_are_overridden_and_freed() {
    let server = Server::start_with(OPEN, &[]);
    let action = r#"{"pin_action":"widen_batching","strength":0.5,"reason":"drill"}"#;
    assert_eq!(overload(&server, "POST", "", action).0, 200);
    let closed = r#"{"accept_new_connections":false,"reason":"drill"}"#;
    assert_eq!(overload(&server, "POST", "", closed).0, 200);
    let at_work = wait::until(PATIENCE, || {
        let label = "action=\"widen_batching\"";
        let strength = server.metrics().labelled("plimsoll_action_strength", label);
        let gates = overload(&server, "GET", "", "").1;
        strength == Some(0.5) && gates["admission"] == "closed"
    });
    assert_eq!(load(&server)["accept_new_connections"], false);
    assert!(at_work, "{}", load(&server));
    let (status, all) = overload(&server, "GET", "", "");
    assert_eq!((status, &all["batching_window_ms"]), (200, &json!(50)), "{all}");
    assert_eq!(all["override"][1]["author"], "127.0.0.1", "nobody said who");

    let (status, cleared) = overload(&server, "DELETE", "?subject=widen_batching", "");
    assert_eq!((status, cleared["override"].as_array().map(Vec::len)), (200, Some(1)));
    let (status, cleared) = overload(&server, "DELETE", "", "");
    assert_eq!((status, &cleared["override"]), (200, &json!([])), "{cleared}");
    let free = wait::until(PATIENCE, || overload(&server, "GET", "", "").1["admission"] == "all");
    assert!(free, "{}", load(&server));
}

#[test]
fn a_key_is_needed() {
    let key = "an-admin-key-of-32-random-bytes!";
    let config = OPEN.replace("[admin]\ninsecure = true", &format!("[admin]\nkey = \"{key}\""));
    let server = Server::start_with(&config, &[]);
    let address = server.admin();
    assert_eq!(http::get(address, "/admin/overload").status, 401);
    let with = format!("GET /admin/overload HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\n");
    assert_eq!(http::request(address, &with, b"").status, 200);
    // The page itself says nothing, and asks for the key.
    let page = http::get(address, "/");
    assert_eq!((page.status, page.header("x-frame-options")), (200, Some("DENY")));
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[test]
fn the_environment_says_where_to_begin() {
    let variables = [("DEGRADATION_LEVEL", "degraded"), ("ACCEPT_NEW_CONNECTIONS", "false")];
    let server = Server::start_with(OPEN, &variables);
    let load_now = load(&server);
    assert_eq!(
        (&load_now["level"], &load_now["accept_new_connections"]),
        (&json!(2), &json!(false))
    );
    assert_eq!(load_now["override"][0]["author"], "environment");
    assert_eq!(overload(&server, "DELETE", "", "").0, 200);
    assert!(level_is(&server, 0), "{}", load(&server));
}

#[test]
fn switched_off_it_is_measured_and_nothing_is_given_up() {
    let server = Server::start_with(&format!("{OPEN}\n[overload]\nenabled = false\n"), &[]);
    let pin = r#"{"pin_level":4,"reason":"drill"}"#;
    let (status, set) = overload(&server, "POST", "", pin);
    assert!(status == 200 && set["effect"].as_str().is_some_and(|e| e.contains("shown only")));
    assert!(level_is(&server, 4), "{}", load(&server));
    assert_eq!(load(&server)["enabled"], false);
    let mut client = Client::anonymous(server.clients());
    client.subscribe("room:a");
    client.call("history", &json!({ "channel": "room:a", "limit": 10 })).expect("history");
}

#[test]
fn the_webhook_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let (bodies, received) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut got = Vec::new();
            let mut piece = [0; 1_024];
            while !got.ends_with(b"}") {
                match stream.read(&mut piece) {
                    Ok(n @ 1..) => got.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = bodies.send(String::from_utf8_lossy(&got).into_owned());
        }
    });
    let server =
        Server::start_with(&format!("{OPEN}\n[overload]\nalert_webhook = \"{url}\"\n"), &[]);
    assert!(level_is(&server, 0));
    assert_eq!(overload(&server, "POST", "", r#"{"pin_level":3,"reason":"drill"}"#).0, 200);
    let request = received.recv_timeout(PATIENCE).expect("an alert");
    let (_, body) = request.split_once("\r\n\r\n").expect("a body");
    let alert: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!((&alert["type"], &alert["to"]), (&json!("load_level"), &json!("critical")));
    assert_eq!((&alert["from"], &alert["pinned"]), (&json!("normal"), &json!(true)));
    let counted = wait::until(PATIENCE, || {
        let label = "outcome=\"sent\"";
        server.metrics().labelled("plimsoll_overload_alerts_total", label) == Some(1.0)
    });
    assert!(counted, "the alert is not counted");
}

/// The steps of an emergency, in their order.
const STEPS: [&str; 10] = [
    "stop_ephemeral",
    "pace_accepts",
    "relieve_cpu",
    "drop_caches",
    "shrink_read_buffers",
    "shed_queues",
    "catch_up",
    "close_idle",
    "cut_publishing",
    "page",
];

/// Those that are in force, by the metric.
fn steps(server: &Server) -> Vec<&'static str> {
    let metrics = server.metrics();
    let taken = |step: &&str| {
        let label = format!("step=\"{step}\"");
        metrics.labelled("plimsoll_emergency_step", &label) == Some(1.0)
    };
    STEPS.into_iter().filter(taken).collect()
}

#[test]
fn out_of_memory_one_step_after_the_other_is_taken_and_taken_back() {
    // Less than the process needs: memory is short from the start.
    let limit = [("PLIMSOLL_OVERLOAD_MEMORY_LIMIT", "4MiB")];
    let server = Server::start_with(OPEN, &limit);
    // The processor's step is for the processor.
    let memory: Vec<&str> = STEPS.into_iter().filter(|step| *step != "relieve_cpu").collect();
    let mut seen = 0;
    let all = wait::until(Duration::from_secs(40), || {
        let now = steps(&server);
        // Other resources may have a step of their own on a busy machine.
        let now: Vec<_> = now.into_iter().filter(|s| *s != "relieve_cpu").collect();
        assert!(now.len() >= seen && now == memory[..now.len()], "{now:?}");
        seen = now.len();
        seen == memory.len()
    });
    assert!(all, "{:?}", steps(&server));
    let (_, shown) = overload(&server, "GET", "", "");
    let names: Vec<_> = shown["emergency_steps"].as_array().expect("a list").clone();
    assert!(memory.iter().all(|step| names.contains(&json!(step))), "{shown}");
    assert_eq!((&shown["admission"], &shown["storm"]), (&json!("resumes_only"), &json!(false)));
    // Who comes back still gets in, and is served.
    let back = json!({ "subs": { "room:a": { "recover": true } } });
    let mut client = Client::connect(server.clients(), &back).expect("who comes back gets in");
    client.call("publish", &json!({ "channel": "room:a", "data": 1 })).expect("a publication");
    let kind = server.metrics().labelled("plimsoll_connects_total", "kind=\"back\"");
    assert_eq!(kind, Some(1.0));
    // A worker without connections sleeps, and has nothing to give back.
    let given_back = wait::until(PATIENCE, || {
        server.metrics().sum("plimsoll_memory_given_back_total") >= Some(2.0)
    });
    assert!(given_back, "once a second");

    let calm = r#"{"pin_level":0,"ttl":"60s","reason":"drill"}"#;
    assert_eq!(overload(&server, "POST", "", calm).0, 200);
    let mut left = steps(&server).len();
    let none = wait::until(Duration::from_secs(40), || {
        let now = steps(&server).len();
        assert!(now <= left, "{now} after {left}");
        left = now;
        left == 0
    });
    assert!(none, "{:?}", steps(&server));
}

/// Comes back and asks for what it missed, in one frame, as client libraries do.
fn come_back(server: &Server, epoch: &str) -> Client {
    let mut client = Client::open(server.clients()).expect("a connection");
    let since = json!({ "channel": "room:a", "recover": true, "epoch": epoch, "offset": 0 });
    let subscribe = json!({ "id": 2, "subscribe": since });
    client.send(&format!("{{\"id\":1,\"connect\":{{}}}}\n{subscribe}")).expect("sent");
    client
}

#[test]
fn at_critical_recoveries_have_a_pace_and_nobody_is_refused_for_good() {
    const CLIENTS: usize = 300;
    let server = Server::start_with(OPEN, &[]);
    let mut publisher = Client::anonymous(server.clients());
    let epoch = publisher.subscribe("room:a")["epoch"].as_str().unwrap_or_default().to_owned();
    let data = "x".repeat(200);
    for _ in 0..100 {
        server.api("publish", &json!({ "channel": "room:a", "data": data }));
    }
    let pin = r#"{"pin_level":3,"ttl":"60s","reason":"drill","author":"ann"}"#;
    assert_eq!(overload(&server, "POST", "", pin).0, 200);
    assert!(level_is(&server, 3), "{}", load(&server));
    let cpu = server.cpu();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| come_back(&server, &epoch)).collect();
    let (mut recovered, mut later) = (0, 0);
    for client in &mut clients {
        assert!(client.reply(1, PATIENCE).expect("an answer")["connect"].is_object());
        let mut answer = client.reply(2, PATIENCE).expect("an answer");
        while answer["error"]["code"] == 111 {
            assert_eq!(answer["error"]["temporary"], true);
            later += 1;
            thread::sleep(Duration::from_millis(500));
            let since =
                json!({ "channel": "room:a", "recover": true, "epoch": epoch, "offset": 0 });
            answer = client.call("subscribe", &since).expect("an answer");
        }
        let result = &answer["subscribe"];
        assert_eq!(result["recovered"], true, "{answer}");
        assert_eq!(result["publications"].as_array().map(Vec::len), Some(100));
        recovered += 1;
    }
    let us = (server.cpu() - cpu).as_micros() / CLIENTS as u128;
    println!(
        "{recovered} recovered, {later} asked again; {us} µs of processor each, connect included"
    );
    let metrics = server.metrics();
    assert_eq!(metrics.sum("plimsoll_recoveries_waiting"), Some(0.0));
    assert_eq!(metrics.labelled("plimsoll_refused_total", "what=\"recovery\""), Some(later.into()));
}

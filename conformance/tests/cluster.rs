//! Several nodes over one broker: runs with faults, judged by their books, and what can be seen at
//! the broker itself.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::broker::Redis;
use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::server::{self, Server};
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One at a time: each of them is to have the machine's processors.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `plimsoll bench cluster`: its verdict has to be kept. Returns the figures of the whole run.
fn keep(flags: &[&str]) -> Value {
    let mut words = vec!["bench", "cluster", "--json"];
    words.extend(flags);
    if !flags.contains(&"--deliveries") {
        words.extend(["--deliveries", "80000"]);
    }
    let (ok, out, errors) = server::run(&words);
    let last = out.lines().last().unwrap_or_default();
    let summary: Value = serde_json::from_str(last).unwrap_or_default();
    assert!(ok && summary["verdict"] == "kept", "{words:?}: {}\n{errors}", summary["because"]);
    assert!(summary["ledger"]["counts"]["recoveries"].as_u64() >= Some(50), "{summary}");
    summary["steps"].as_array().unwrap().last().unwrap().clone()
}

#[test]
fn four_nodes_over_redis_keep_their_books() {
    let _turn = turn();
    let all = keep(&["--backbone", "redis"]);
    for nothing in ["refused", "not_recovered", "acks_lost", "ended_2500", "closed_3010"] {
        assert_eq!(all[nothing], 0, "{nothing}: {all}");
    }
}

#[test]
fn a_killed_node_takes_nothing_with_it() {
    let _turn = turn();
    let all = keep(&["--backbone", "redis", "--nodes", "3", "--fault", "kill-node:2s"]);
    assert_eq!((&all["refused"], &all["acks_lost"]), (&json!(0), &json!(0)), "{all}");
}

#[test]
fn a_stalled_redis_is_no_loss() {
    let _turn = turn();
    let all = keep(&["--backbone", "redis", "--nodes", "2", "--fault", "broker-stop:3s"]);
    assert!(all["refused"].as_u64() > Some(0), "publications are refused meanwhile: {all}");
    assert_eq!(all["acks_lost"], 0, "{all}");
}

#[test]
fn a_redis_that_comes_back_empty_is_told() {
    let _turn = turn();
    let flags = ["--backbone", "redis", "--nodes", "2", "--fault", "broker-kill:1s:empty"];
    // More than is published before the fault: offsets of the new life pass those of the old one.
    let all = keep(&[&flags[..], &["--deliveries", "200000"]].concat());
    assert!(all["ended_2500"].as_u64() > Some(0), "the new epochs are told: {all}");
    assert!(all["not_recovered"].as_u64() > Some(0), "{all}");
}

const LEASE: Duration = Duration::from_secs(5);

fn node(redis: &Redis, name: &str) -> Server {
    let config = format!(
        r#"
[server]
name = "{name}"
workers = 2

[client]
allow_anonymous_connect_without_token = true

[http_api]
insecure = true

[admin]
insecure = true

[backbone]
kind = "redis"
node_lease = "{}s"

[backbone.redis]
addresses = ["{}"]

[[channel.namespaces]]
name = "room"
presence = true
history_size = 100
history_ttl = "300s"
force_recovery = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
"#,
        LEASE.as_secs(),
        redis.url()
    );
    Server::start(&config)
}

fn present(node: &Server, channel: &str) -> usize {
    let result = node.api("presence", &json!({"channel": channel}));
    result["presence"].as_object().map_or(0, serde_json::Map::len)
}

#[test]
fn ghosts_of_a_killed_node_go_within_the_lease() {
    let _turn = turn();
    let redis = Redis::start();
    let (stays, dies) = (node(&redis, "stays"), node(&redis, "dies"));
    let mut living = Client::anonymous(stays.clients());
    living.subscribe("room:ghosts");
    let mut doomed: Vec<Client> = (0..5).map(|_| Client::anonymous(dies.clients())).collect();
    for client in &mut doomed {
        client.subscribe("room:ghosts");
    }
    assert!(wait::until(PATIENCE, || present(&stays, "room:ghosts") == 6));
    dies.kill();
    let killed = Instant::now();
    let gone = wait::until(LEASE * 3, || present(&stays, "room:ghosts") == 1);
    let took = killed.elapsed();
    assert!(gone, "{} are still there", present(&stays, "room:ghosts"));
    // The lease, and what a busy machine adds to it.
    assert!(took <= LEASE * 2, "{took:?}");
}

#[test]
fn a_node_has_one_connection_for_each_role() {
    let _turn = turn();
    let redis = Redis::start();
    let nodes = [node(&redis, "a"), node(&redis, "b")];
    let mut clients: Vec<Client> = nodes.iter().map(|n| Client::anonymous(n.clients())).collect();
    for n in 0..100 {
        for client in &mut clients {
            client.subscribe(&format!("room:{n}"));
        }
    }
    let lines = |kind: &str| {
        let text = redis.command(&["CLIENT", "LIST", "TYPE", kind]);
        text.lines().filter(|line| !line.contains("cmd=client")).count()
    };
    assert_eq!((lines("pubsub"), lines("normal")), (2, 2));
    for client in &mut clients {
        let text = json!({"channel": "room:7", "data": {"n": 1}});
        client.call("publish", &text).unwrap();
    }
    assert_eq!((lines("pubsub"), lines("normal")), (2, 2));
}

/// What others write to our channels, and envelopes of a version to come, are dropped and counted.
#[test]
fn foreign_envelopes_are_dropped_and_the_next_ones_come() {
    let _turn = turn();
    let redis = Redis::start();
    let nodes = [node(&redis, "a"), node(&redis, "b")];
    let mut reader = Client::anonymous(nodes[0].clients());
    reader.subscribe("room:mixed");
    let mut writer = Client::anonymous(nodes[1].clients());
    writer.call("publish", &json!({"channel": "room:mixed", "data": {"n": 1}})).unwrap();
    let came = |client: &mut Client| client.push(PATIENCE).unwrap()["push"]["pub"].clone();
    assert_eq!(came(&mut reader)["data"], json!({"n": 1}));
    let all = redis.command(&["PUBSUB", "CHANNELS", "*"]);
    let wire = all.lines().find(|name| name.contains("room:mixed")).expect("it is subscribed");
    let before = nodes[0].metrics();
    let garbage = ["", "x", "\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}", "{\"data\":1}", "9:9:epoch:x"];
    for body in garbage {
        redis.command(&["PUBLISH", wire, body]);
    }
    let dropped = || {
        let now = nodes[0].metrics();
        now.growth(&before, "plimsoll_pubsub_garbage_total") >= garbage.len() as f64
    };
    assert!(wait::until(PATIENCE, dropped), "garbage is counted");
    writer.call("publish", &json!({"channel": "room:mixed", "data": {"n": 2}})).unwrap();
    let next = came(&mut reader);
    assert_eq!((&next["data"], &next["offset"]), (&json!({"n": 2}), &json!(2)));
}

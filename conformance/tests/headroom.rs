//! A measured file: what a node makes of it, and when it does not start with it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::Client;
use plimsoll_conformance::http;
use plimsoll_conformance::server::{self, Server};
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Costs come from samples that are 10 s apart.
const SAMPLED: Duration = Duration::from_secs(25);

fn status(server: &Server) -> Value {
    let response = http::get(server.admin(), "/admin/status");
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_str(&response.text()).expect("/admin/status is JSON")
}

/// This machine as a node with the workers of `OPEN` describes it.
fn fingerprint() -> Value {
    status(&Server::start(OPEN))["fingerprint"].clone()
}

fn capacity_file(fingerprint: &Value, rated_connections: f64) -> Value {
    let figure = |rated: f64| {
        let knee = rated / 0.7;
        json!({ "knee": knee, "rated": rated, "low": knee, "high": knee,
            "ended_by": "latency", "ramp": "R1" })
    };
    json!({
        "format": 1,
        "fingerprint": fingerprint,
        "measured_at": "2026-01-02T03:04:05Z",
        "quick": true,
        "slo_p99_ms": 100.0,
        "resources": {
            "connections": figure(rated_connections),
            "deliveries_per_s": figure(1e6),
        },
        "memory": null, "cost": null, "scaling": null, "mixed": null,
        "not_measured": [], "steps": [],
    })
}

/// `OPEN` with recovery in its rooms, and these lines in its section `[capacity]`.
fn config(lines: &str) -> String {
    format!("{OPEN}force_recovery = true\n[capacity]\n{lines}\n")
}

fn written(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a file is written");
    path.display().to_string()
}

#[test]
fn a_node_knows_its_headroom() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = capacity_file(&fingerprint(), 10.0).to_string();
    let file = written(directory.path(), "capacity.json", &file);
    let server = Server::start(&config(&format!("file = \"{file}\"\ncost_per_hour = 0.5")));
    assert_eq!(server.metrics().get("realtime_connection_capacity"), Some(10.0));

    let mut clients: Vec<Client> = (0..4).map(|_| Client::anonymous(server.clients())).collect();
    let subscribed = clients[0].subscribe("room:a");
    server.api("publish", &json!({ "channel": "room:a", "data": "hello" }));
    // One that was here before, and asks for what it missed.
    let mut back = Client::anonymous(server.clients());
    let place = json!({ "channel": "room:a", "recover": true,
        "epoch": subscribed["epoch"], "offset": 0 });
    let reply = back.call("subscribe", &place).expect("a reply");
    assert_eq!(reply["subscribe"]["recovered"], true, "{reply}");
    clients.push(back);

    let ratio = |resource: &str| {
        let label = format!("resource=\"{resource}\"");
        server.metrics().labelled("plimsoll_headroom_ratio", &label)
    };
    let half = || ratio("connections") == Some(0.5);
    assert!(wait::until(SAMPLED, half), "headroom is {:?}", ratio("connections"));
    for resource in ["deliveries", "cpu", "memory", "descriptors"] {
        let ratio = ratio(resource).unwrap_or_else(|| panic!("no headroom of {resource}"));
        assert!((-1.0..=1.0).contains(&ratio), "{resource}: {ratio}");
    }
    assert_eq!(ratio("publishes"), None, "nothing was measured of it");
    let metrics = server.metrics();
    let left = metrics.labelled("plimsoll_time_to_line_seconds", "resource=\"connections\"");
    assert_eq!(left, Some(f64::INFINITY), "there is no trend yet");
    assert_eq!(metrics.sum("plimsoll_reconnects_total"), Some(1.0));
    assert_eq!(metrics.sum("plimsoll_publication_bytes_total"), Some(7.0));

    let cost = || server.metrics().get("plimsoll_cost_per_connection_month");
    assert!(wait::until(SAMPLED, || cost().is_some()), "{:?}", server.metrics());
    // 0.5 × 720 h, for at most 5 connections on average.
    assert!(cost().is_some_and(|cost| (72.0..1e4).contains(&cost)), "{:?}", cost());
    assert!(server.metrics().get("plimsoll_cost_per_monthly_active_user").is_some());

    let status = status(&server);
    assert_eq!(status["capacity"]["source"], "measured", "{status}");
    assert_eq!(status["capacity"]["mismatch"], Value::Null);
    assert_eq!(status["capacity"]["rated"]["connections"], 10.0);
    assert_eq!(status["headroom"]["connections"], 0.5);
    assert_eq!(status["time_to_line_seconds"]["connections"], Value::Null);
    assert_eq!(status["cost"]["per_hour"], 0.5);
    drop(clients);
    pages(&server);
}

/// What people and programs are shown of the same node.
fn pages(server: &Server) {
    let admin = format!("http://{}", server.admin());
    let (good, page, problems) = server::run(&["status", "--admin", &admin]);
    assert!(good, "{problems}");
    for part in ["node  ", " of 10 ", "measured 2026-01-02T03:04:05Z, quickly", "0.50 an hour"] {
        assert!(page.contains(part), "{part} in\n{page}");
    }
    let (good, object, problems) = server::run(&["status", "--admin", &admin, "--json"]);
    assert!(good, "{problems}");
    let object: Value = serde_json::from_str(&object).expect("JSON");
    assert!(object["limiting"].is_string(), "{object}");
}

#[test]
fn without_a_file_the_machine_is_the_line() {
    let server = Server::start(&OPEN.replace("[client]", "[client]\nconnection_limit = 40"));
    assert_eq!(server.metrics().get("realtime_connection_capacity"), Some(40.0));
    let status = status(&server);
    assert_eq!(status["capacity"]["source"], "machine");
    assert_eq!(status["headroom"]["connections"], 1.0);
    assert_eq!(status["headroom"].get("deliveries"), None);
    let families = server.metrics();
    let costs = families.families().into_iter().filter(|f| f.starts_with("plimsoll_cost")).count();
    assert_eq!(costs, 0, "a price that is not known has no metric");
}

#[test]
fn a_file_of_another_machine_is_refused_unless_allowed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut other = fingerprint();
    other["cores"] = json!(other["cores"].as_u64().unwrap_or(1) + 1);
    other["version"] = json!("0.0.9");
    let file = capacity_file(&other, 10.0).to_string();
    let file = written(directory.path(), "capacity.json", &file);
    let refused = config(&format!("file = \"{file}\""));
    let toml = written(directory.path(), "refused.toml", &refused);
    let serve = ["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--config"];
    for command in [&serve[..], &["check-config"]] {
        let mut arguments = command.to_vec();
        arguments.push(&toml);
        let (good, _, problems) = server::run(&arguments);
        assert!(!good, "{command:?}: {problems}");
        for part in ["capacity.file: ", "version 0.0.9 there", "cores", "capacity.allow_mismatch"] {
            assert!(problems.contains(part), "{command:?}: {part} in {problems}");
        }
    }

    let server = Server::start(&config(&format!("file = \"{file}\"\nallow_mismatch = true")));
    assert_eq!(server.metrics().get("realtime_connection_capacity"), Some(10.0));
    let mismatch = status(&server)["capacity"]["mismatch"].as_str().map(str::to_owned);
    assert!(mismatch.is_some_and(|what| what.contains("0.0.9 there")), "{}", status(&server));
}

#[test]
fn a_broken_file_is_refused_even_if_a_mismatch_is_allowed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut broken = capacity_file(&fingerprint(), 10.0);
    broken["resources"]["connections"]["rated"] = json!(1e9);
    let broken = written(directory.path(), "capacity.json", &broken.to_string());
    let missing = directory.path().join("none.json").display().to_string();
    for (file, told) in [(&broken, "connections.rated: is 1000000000"), (&missing, "No such file")]
    {
        let text = config(&format!("file = \"{file}\"\nallow_mismatch = true"));
        let toml = written(directory.path(), "plimsoll.toml", &text);
        let (good, _, problems) = server::run(&["check-config", &toml]);
        assert!(!good && problems.contains(told), "{problems}");
    }
}

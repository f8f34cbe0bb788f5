//! Tiers of the real server: what a token's claim makes of a connection.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, Event};
use plimsoll_conformance::http;
use plimsoll_conformance::server::Server;
use plimsoll_conformance::token;
use plimsoll_conformance::wait;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const IDLE: Duration = Duration::from_secs(2);
/// More than a busy machine is late.
const SLACK: Duration = Duration::from_secs(2);

/// Users with tokens, in tiers; `more` is added to the configuration.
fn tiers(more: &str) -> String {
    format!(
        "{OPEN}\n[client.token]\nhmac_secret_key = \"{SECRET}\"\n[tiers]\nenabled = true\n{more}"
    )
}

fn token(claims: &Value) -> String {
    token::hs256(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string(), SECRET.as_bytes())
}

/// Connected with these claims, and the result of the connect.
fn connect(server: &Server, claims: &Value) -> (Client, Value) {
    let mut client = Client::open(server.clients()).expect("a connection");
    let reply = client.call("connect", &json!({ "token": token(claims) })).expect("a reply");
    let result = reply.get("connect").cloned();
    (client, result.unwrap_or_else(|| panic!("{claims}: {reply}")))
}

fn of_tier(server: &Server, tier: &str) -> f64 {
    let label = format!("tier=\"{tier}\"");
    server.metrics().labelled("plimsoll_tier_connections", &label).expect("the gauge")
}

#[test]
fn the_claim_decides_the_tier_and_the_ping_interval() {
    let server = Server::start(&tiers("default = \"pro\"\n"));
    let mut here = Vec::new();
    for (claims, ping) in [
        (json!({ "sub": "a", "tier": "free" }), 60),
        (json!({ "sub": "b", "tier": "pro" }), 30),
        (json!({ "sub": "c", "tier": "enterprise" }), 15),
        (json!({ "sub": "d" }), 30),
        (json!({ "sub": "e", "tier": "gold" }), 30),
        (json!({ "tier": "enterprise" }), 15),
    ] {
        let (client, result) = connect(&server, &claims);
        assert_eq!(result["ping"], ping, "{claims}");
        here.push(client);
    }
    let mut anonymous = Client::open(server.clients()).expect("a connection");
    let reply = anonymous.call("connect", &json!({})).expect("a reply");
    assert_eq!(reply["connect"]["ping"], 60, "who has no id is of the free tier");
    for (tier, count) in [("free", 2.0), ("pro", 3.0), ("enterprise", 2.0)] {
        assert_eq!(of_tier(&server, tier), count, "{tier}");
    }
    assert_eq!(server.metrics().sum("plimsoll_unknown_tiers_total"), Some(1.0));
    drop((here, anonymous));
    let gone = || ["free", "pro", "enterprise"].iter().all(|t| of_tier(&server, t) == 0.0);
    assert!(wait::until(SLACK, gone), "they are still counted");
}

#[test]
fn who_does_nothing_is_closed_and_whoever_acts_stays() {
    let free = "[tiers.free]\nidle_timeout = \"2s\"\nping_interval = \"1s\"\n";
    let config = tiers(free).replace("[client]", "[client]\npong_timeout = \"500ms\"");
    let server = Server::start(&config);
    let free = json!({ "sub": "a", "tier": "free" });
    let (mut idle, _) = connect(&server, &free);
    idle.subscribe("room:a");
    let (mut active, _) = connect(&server, &free);
    let (mut pro, _) = connect(&server, &json!({ "sub": "b", "tier": "pro" }));
    pro.subscribe("room:a");
    let begin = Instant::now();
    // It answers pings and gets publications: neither is something that the person does.
    let mut closed = None;
    while closed.is_none() && begin.elapsed() < IDLE + SLACK {
        active.send(r#"{"send":{"data":{"plimsoll":{"type":"active"}}}}"#).expect("a send");
        while let Event::Line(_) = active.next_line(Duration::from_millis(50)) {}
        server.api("publish", &json!({ "channel": "room:a", "data": 1 }));
        match idle.next_line(Duration::from_millis(200)) {
            Event::Closed(code) => closed = Some((code, begin.elapsed())),
            Event::Line(_) | Event::Silence => {}
        }
    }
    let (code, after) = closed.expect("the idle connection is closed");
    assert_eq!(code, Some(4501), "a code after which client libraries stay away");
    assert!((IDLE..IDLE + SLACK).contains(&after), "after {after:?}");
    active.call("presence", &json!({ "channel": "room:a" })).expect("it said that it is active");
    pro.call("presence", &json!({ "channel": "room:a" })).expect("its tier waits longer");
    let closes = server.metrics().labelled("plimsoll_idle_closed_total", "cause=\"timeout\"");
    assert_eq!(closes, Some(1.0));
}

#[test]
fn without_tiers_nobody_is_closed_and_the_ping_is_the_usual_one() {
    let config = tiers("[tiers.free]\nidle_timeout = \"1s\"\n").replace("enabled = true\n", "");
    let server = Server::start(&config);
    let (mut client, result) = connect(&server, &json!({ "sub": "a", "tier": "enterprise" }));
    assert_eq!(result["ping"], 25);
    assert_eq!(client.next_line(IDLE), Event::Silence);
    client.call("presence", &json!({ "channel": "room:a" })).expect("still there");
    assert_eq!(server.metrics().sum("plimsoll_tier_connections"), Some(0.0));
}

fn idle_closes(server: &Server, cause: &str) -> f64 {
    let label = format!("cause=\"{cause}\"");
    server.metrics().labelled("plimsoll_idle_closed_total", &label).expect("the counter")
}

#[test]
fn memory_that_runs_short_shrinks_idle_timeouts_and_closes_slowly() {
    let server = Server::start_with(&tiers(""), &[]);
    let mut here: Vec<Client> = (0..4)
        .map(|n| connect(&server, &json!({ "sub": format!("u{n}"), "tier": "free" })).0)
        .collect();
    std::thread::sleep(Duration::from_secs(3));
    let order = r#"{"pin_action":"idle_timeout","strength":1,"reason":"drill","ttl":"30s"}"#;
    let head = format!(
        "POST /admin/overload HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        server.admin(),
        order.len()
    );
    let set = http::request(server.admin(), &head, order.as_bytes());
    assert_eq!(set.status, 200, "{}", set.text());
    // The timeout of five minutes is two seconds now, and still: one of each worker, then one in a
    // hundred seconds.
    assert!(wait::until(SLACK, || idle_closes(&server, "load") >= 1.0), "nobody was closed");
    std::thread::sleep(SLACK);
    let closed = idle_closes(&server, "load");
    assert!((1.0..=2.0).contains(&closed), "{closed} closed");
    let codes = here.iter_mut().filter_map(|c| c.closing_code(Duration::from_millis(50)));
    assert_eq!(codes.collect::<Vec<_>>(), vec![4501; closed as usize]);
}

#[test]
fn an_emergency_of_the_memory_closes_the_idle_by_a_code_they_come_back_from() {
    let config = OPEN.replace("[admin]", "[overload]\nmemory_limit = \"1MiB\"\n\n[admin]");
    let server = Server::start_with(&config, &[]);
    let back = json!({ "subs": { "room:a": { "recover": true } } });
    let mut idle = Client::connect(server.clients(), &back).expect("who comes back gets in");
    // Seven steps of two seconds come before, and nobody goes who did something 30 s ago.
    let begin = Instant::now();
    let code = idle.closing_code(Duration::from_secs(60));
    let after = begin.elapsed();
    assert_eq!(code, Some(4001), "after {after:?}");
    assert!(after >= Duration::from_secs(29), "after {after:?}");
    assert_eq!(idle_closes(&server, "load"), 1.0);
    Client::connect(server.clients(), &back).expect("it comes back, by the door");
}

/// Publications of ten at once that were taken; the others get error 111.
fn taken(client: &mut Client, channel: &str) -> usize {
    let publish = json!({ "channel": channel, "data": 1 });
    let replies = (0..10).map(|_| client.call("publish", &publish).expect("a reply"));
    let refused = |reply: &Value| reply.pointer("/error/code") == Some(&json!(111));
    let (refused, taken): (Vec<_>, Vec<_>) = replies.partition(refused);
    assert!(taken.iter().all(|reply| reply.get("publish").is_some()), "{taken:?}");
    assert_eq!(refused.len() + taken.len(), 10);
    taken.len()
}

#[test]
fn a_connection_publishes_as_much_as_its_tier_may() {
    let server = Server::start(&tiers(
        "[tiers.free]\npublish_rate_limit = 1\npublish_rate_burst = 4\n\
         [tiers.pro]\npublish_rate_limit = 0\n",
    ));
    let (mut free, _) = connect(&server, &json!({ "sub": "a", "tier": "free" }));
    let (mut pro, _) = connect(&server, &json!({ "sub": "b", "tier": "pro" }));
    let begin = Instant::now();
    let first = taken(&mut free, "room:a");
    let most = 4 + begin.elapsed().as_secs() as usize;
    assert!((4..=most).contains(&first), "{first}");
    assert_eq!(taken(&mut pro, "room:a"), 10, "0 is no limit");
    let refused = server.metrics().labelled("plimsoll_refused_total", "what=\"publish_rate\"");
    assert_eq!(refused, Some((10 - first) as f64));
    let top = server.api("history", &json!({ "channel": "room:a", "limit": 0 }));
    assert_eq!(top["offset"], first + 10, "what was refused is not appended");
}

#[test]
fn a_tenant_pays_for_what_its_publications_cost() {
    let quotas = "[quotas.tenant]\ndeliveries_per_second = 5\ndeliveries_burst = 20\n\
                  [quotas.user]\nconnects_per_second = 1\nconnects_burst = 2\n";
    let config = tiers(quotas).replace("[tiers]\nenabled = true\n", "");
    let server = Server::start(&config);
    let mut readers: Vec<Client> = (0..5).map(|_| Client::anonymous(server.clients())).collect();
    readers.iter_mut().for_each(|r| drop(r.subscribe("room:a")));
    let (mut shop, _) = connect(&server, &json!({ "sub": "a", "tenant": "shop" }));
    let (mut other, _) = connect(&server, &json!({ "sub": "b", "tenant": "other" }));
    let begin = Instant::now();
    let first = taken(&mut shop, "room:a");
    // Four publications to five are twenty deliveries; the next one is due after a second.
    let most = 5 + begin.elapsed().as_secs() as usize;
    assert!((4..=most).contains(&first), "{first}");
    assert!((4..=most).contains(&taken(&mut other, "room:a")), "a tenant of its own");
    assert_eq!(taken(&mut shop, "room:b"), 10, "a channel without subscribers costs nothing");
    let kind = |kind: &str| {
        let label = format!("kind=\"{kind}\"");
        server.metrics().labelled("plimsoll_quota_refused_total", &label)
    };
    assert!(kind("tenant_deliveries") >= Some((10 - first) as f64));

    // A user's connects, over all workers.
    let claims = json!({ "token": token(&json!({ "sub": "a" })) });
    let errors = (0..6).filter(|_| {
        let mut client = Client::open(server.clients()).expect("a connection");
        let reply = client.call("connect", &claims).expect("a reply");
        reply.pointer("/error/code") == Some(&json!(111)) && reply["error"]["temporary"] == true
    });
    let errors = errors.count();
    assert!((3..=5).contains(&errors), "{errors} of six");
    assert_eq!(kind("user_connects"), Some(errors as f64));
}

//! The Redis adapter when servers die, stand still, or refuse.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "support/client.rs"]
mod client;
#[path = "support/redis.rs"]
mod server;

use client::*;
use plimsoll_backbone::redis::{self, ConnectError, RedisConfig, TlsConfig};
use plimsoll_backbone::*;
use server::Server;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn config(server: &Server) -> RedisConfig {
    RedisConfig { addresses: vec![server.address()], ..RedisConfig::default() }
}

async fn connect(config: RedisConfig) -> (Arc<dyn Backbone>, Arc<Collector>) {
    let sink = Arc::new(Collector::default());
    let backbone = redis::connect(config, setup(&sink)).await.unwrap();
    (backbone, sink)
}

/// Kills the server, makes sure that nothing is acknowledged, and starts it again. Answers the
/// positions before and after.
async fn killed_and_back(arguments: &[&str]) -> (Vec<(u64, String)>, Page, Page) {
    let mut server = Server::redis(arguments);
    let (b, sink) = connect(config(&server)).await;
    subscribe(&b, &["a", "b"]).await;
    for n in 1..=50 {
        publish(&b, kept("a", &n.to_string())).await.unwrap();
    }
    let before = read(&b, "a", ALL).await.unwrap();
    server.kill();
    let begun = Instant::now();
    let mut failures = Vec::new();
    while begun.elapsed() < Duration::from_millis(300) {
        let call = Instant::now();
        failures.push(publish(&b, kept("a", "lost")).await.unwrap_err());
        assert!(call.elapsed() < Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(failures.last(), Some(&Failure::Down));
    assert_eq!(publish(&b, plain("b", "lost")).await, Err(Failure::Down));
    assert_eq!(b.subscribe(vec!["new".into()]).await, [Err(Failure::Down)]);
    assert!(!b.status().brokers[0].up);
    sink.forget();
    server.resume();
    until("a gap is told", SOON, || sink.gaps() == 1).await;
    publish_until(&b, plain("b", "again"), SOON).await;
    until("deliveries are there again", SOON, || sink.of("b") == [(0, "again".into())]).await;
    let page = read(&b, "a", ALL).await.unwrap();
    publish(&b, kept("a", "next")).await.unwrap();
    until("of a as well", SOON, || sink.of("a").len() == 1).await;
    assert!(b.status().brokers[0].up && b.status().brokers[0].resubscribes == 2);
    assert_eq!(sink.gaps(), 1);
    assert_eq!(server.named(redis::SUBSCRIPTIONS_NAME), 1);
    (sink.of("a"), before, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_a_restart_is_a_new_epoch() {
    let (next, before, page) = killed_and_back(&[]).await;
    assert_ne!(page.position.epoch, before.position.epoch);
    assert_eq!((page.position.offset, page.entries.len()), (0, 0));
    assert_eq!(next, [(1, "next".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_log_of_every_second_too() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "everysec"];
    let (next, before, page) = killed_and_back(&arguments).await;
    assert_ne!(page.position.epoch, before.position.epoch);
    assert_eq!((page.position.offset, page.entries.len()), (0, 0));
    assert_eq!(next, [(1, "next".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_log_of_everything_the_epoch_goes_on() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let (next, before, page) = killed_and_back(&arguments).await;
    assert_eq!(page, before);
    assert_eq!(next, [(51, "next".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_windows_are_told() {
    for (arguments, word) in [
        (&[][..], "no append-only file"),
        (&["--appendonly", "yes"], "one second"),
        (&["--appendonly", "yes", "--appendfsync", "always"], "nothing"),
    ] {
        let server = Server::redis(arguments);
        let (b, _) = connect(config(&server)).await;
        let status = b.status();
        assert!(status.loss_window.contains(word), "{}", status.loss_window);
        assert!(status.server.starts_with("redis 7."), "{}", status.server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_keys_are_new_epochs() {
    let server = Server::redis(&[]);
    let (b, _) = connect(config(&server)).await;
    let first = position(publish(&b, kept("a", "1")).await);
    server.cli(&["FLUSHALL"]);
    let second = position(publish(&b, kept("a", "1")).await);
    assert_eq!((first.offset, second.offset), (1, 1));
    assert_ne!(first.epoch, second.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_noticed_and_healed() {
    let server = Server::redis(&[]);
    let (b, sink) = connect(config(&server)).await;
    subscribe(&b, &["a"]).await;
    publish(&b, kept("a", "1")).await.unwrap();
    server.signal("-STOP");
    let begun = Instant::now();
    assert_eq!(publish(&b, kept("a", "2")).await, Err(Failure::Unknown));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    until("it counts as down", SOON, || !b.status().brokers[0].up).await;
    let begun = Instant::now();
    assert_eq!(publish(&b, kept("a", "3")).await, Err(Failure::Down));
    assert!(begun.elapsed() < Duration::from_millis(100));
    // The subscription link is given up as well: two intervals of 500 ms.
    let down = |e: &Event| matches!(e, Event::Link(l) if l.role == Role::Subscriptions && !l.up);
    until("the subscription link ends", SOON, || sink.all().iter().any(down)).await;
    server.signal("-CONT");
    until("a gap is told", SOON, || sink.gaps() == 1).await;
    publish_until(&b, kept("a", "4"), SOON).await;
    until("delivered", SOON, || sink.of("a").iter().any(|(_, body)| body == "4")).await;
    assert_eq!(b.probe().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_subscription_is_restored_with_a_gap() {
    let server = Server::redis(&["--client-output-buffer-limit", "pubsub 2mb 1mb 60"]);
    let (b, sink) = connect(config(&server)).await;
    let channels: Vec<Arc<str>> = (0..2_000).map(|n| format!("c{n}").into()).collect();
    assert!(b.subscribe(channels).await.iter().all(Result::is_ok));
    server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    until("a gap", SOON, || sink.gaps() == 1).await;
    publish(&b, plain("c1999", "x")).await.unwrap();
    until("delivered", SOON, || sink.of("c1999").len() == 1).await;
    let figures = &b.status().brokers[0];
    assert_eq!((figures.resubscribes, figures.gaps, figures.reconnects), (2_000, 1, 1));
    // One message above what Redis lets wait: it cuts us, and we come back.
    let channel = server.cli(&["PUBSUB", "CHANNELS", "*:c:c1999"]);
    server.cli_with(&["PUBLISH", &channel], &vec![b'x'; 9_000_000]);
    until("a second gap", SOON, || sink.gaps() == 2 || sink.garbage() == 1).await;
    publish_until(&b, plain("c1999", "y"), SOON).await;
    until("delivered", SOON, || sink.of("c1999").len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_and_a_read_only_server_are_busy() {
    let server = Server::redis(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]);
    let (b, sink) = connect(config(&server)).await;
    subscribe(&b, &["a"]).await;
    let body = "x".repeat(100_000);
    let mut last = Ok(());
    for n in 0..200 {
        last = publish(&b, kept(&format!("c{n}"), &body)).await.map(|_| ());
        if last.is_err() {
            break;
        }
    }
    assert_eq!(last, Err(Failure::Busy));
    // What needs no memory goes on.
    publish(&b, plain("a", "x")).await.unwrap();
    until("delivered", SOON, || sink.of("a").len() == 1).await;
    // Demoted: the links are given up, and nothing is acknowledged.
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let mut failures = Vec::new();
    let begun = Instant::now();
    while failures.last() != Some(&Failure::Down) {
        assert!(begun.elapsed() < SOON);
        failures.extend(publish(&b, kept("b", "1")).await.err());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(failures.iter().all(|f| f.is_certain() || *f == Failure::Unknown));
    server.cli(&["REPLICAOF", "NO", "ONE"]);
    publish_until(&b, kept("b", "1"), SOON).await;
}

/// The rights that the documentation of [`RedisConfig`] names.
fn rights() -> Vec<String> {
    let source = include_str!("../src/redis/config.rs");
    let text = source.split("ACL SETUSER").nth(1).unwrap().split("```").next().unwrap();
    let text = text.replace("///", " ").replace("PREFIX", "test").replace(">PASSWORD", ">geheim");
    text.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_documented_rights_suffices() {
    let server = Server::redis(&["--requirepass", "other"]);
    let rights = rights();
    let mut command = vec!["-a", "other", "ACL", "SETUSER"];
    command.extend(rights.iter().map(String::as_str));
    assert_eq!(server.cli(&command), "OK");
    let with = |user: Option<&str>, password: &str| RedisConfig {
        user: user.map(Into::into),
        password: Some(password.into()),
        ..config(&server)
    };
    let (b, sink) = connect(with(Some("plimsoll"), "geheim")).await;
    subscribe(&b, &["a"]).await;
    let p = Publish {
        idempotency_key: Some("k".into()),
        version: Some((1, "".into())),
        ..kept("a", "1")
    };
    position(publish(&b, p).await);
    publish(&b, plain("a", "2")).await.unwrap();
    b.clear("a".into()).await.unwrap();
    read(&b, "a", ALL).await.unwrap();
    let c: Arc<str> = "a".into();
    b.note_presence(vec![PresenceChange::Add(c.clone(), member(1, "u", NodeId(1)))]).await.unwrap();
    b.note_presence(vec![PresenceChange::Remove(
        c.clone(),
        member(1, "u", NodeId(1)).client,
        NodeId(1),
    )])
    .await
    .unwrap();
    b.note_presence(vec![PresenceChange::Add(c.clone(), member(2, "u", NodeId(1)))]).await.unwrap();
    b.keep_presence(vec![c.clone()]).await.unwrap();
    assert_eq!(b.presence(c.clone(), 5).await.unwrap().len(), 1);
    // The lease of that node ends: what removes it needs rights, too.
    let begun = Instant::now();
    while b.presence_stats(c.clone()).await.unwrap().clients > 0 {
        assert!(begun.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    b.tell(None, "x".into()).await.unwrap();
    assert_eq!(b.probe().await, Ok(()));
    until("both", SOON, || sink.of("a").len() == 2).await;
    b.unsubscribe(vec![c]).await;
    assert_eq!(server.cli(&["-a", "other", "ACL", "LOG"]), "", "nothing was forbidden");

    let sink = Arc::new(Collector::default());
    for wrong in [with(Some("plimsoll"), "wrong"), with(None, "geheim"), with(Some("nobody"), "x")]
    {
        let error = redis::connect(wrong, setup(&sink)).await.err().unwrap();
        assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }
    // Other prefixes are forbidden, which is told and not hidden.
    let other = Setup { prefix: "other".into(), ..setup(&sink) };
    let error = redis::connect(with(Some("plimsoll"), "geheim"), other).await.err().unwrap();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_config_get_a_server_is_not_durable() {
    let server = Server::redis(&["--appendonly", "yes", "--appendfsync", "always"]);
    server.cli(&["ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all", "-config"]);
    let with =
        RedisConfig { user: Some("u".into()), password: Some("p".into()), ..config(&server) };
    let (b, _) = connect(with).await;
    assert!(b.status().loss_window.contains("forbidden"), "{}", b.status().loss_window);
}

/// A CA and a certificate for `broker.test`, and for 127.0.0.1 if `with_ip`.
fn certificates(directory: &std::path::Path) {
    let run = |arguments: &str| {
        let out = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!("req -x509 {new} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"));
    run(&format!("req {new} -keyout server.key -out server.csr -subj /CN=broker.test"));
    std::fs::write(directory.join("ext"), "subjectAltName=DNS:broker.test").unwrap();
    run("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.pem \
         -days 2 -extfile ext");
    run(&format!("req -x509 {new} -keyout other.key -out other.pem -days 2 -subj /CN=other"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_checks_authority_and_name() {
    let certs = tempfile::tempdir().unwrap();
    certificates(certs.path());
    let file = |name: &str| certs.path().join(name).to_str().unwrap().to_owned();
    let port = server::free_port();
    let server = Server::redis(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let with = |ca: &str, name: Option<&str>| RedisConfig {
        addresses: vec![format!("127.0.0.1:{port}")],
        tls: Some(TlsConfig {
            ca_file: Some(certs.path().join(ca)),
            server_name: name.map(Into::into),
        }),
        ..RedisConfig::default()
    };
    let (b, sink) = connect(with("ca.pem", Some("broker.test"))).await;
    subscribe(&b, &["a"]).await;
    publish(&b, kept("a", &"x".repeat(300_000))).await.unwrap();
    until("delivered", SOON, || sink.of("a").len() == 1).await;
    assert_eq!(server.named(redis::COMMANDS_NAME), 1);
    let sink = Arc::new(Collector::default());
    for wrong in [
        with("other.pem", Some("broker.test")),
        with("ca.pem", Some("another.test")),
        with("ca.pem", None),
        with("missing.pem", None),
        with("ext", None),
    ] {
        let error = redis::connect(wrong, setup(&sink)).await.err().unwrap();
        assert!(!matches!(error, ConnectError::Refused { .. }), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_an_address() {
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("s").to_str().unwrap().to_owned();
    let _server = Server::redis(&["--unixsocket", &path]);
    let url = format!("redis+unix://{path}");
    let (b, _) = connect(RedisConfig::from_url(&url).unwrap()).await;
    assert_eq!(position(publish(&b, kept("a", "1")).await).offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_told_in_time() {
    let sink = Arc::new(Collector::default());
    let port = server::free_port();
    let at = |addresses: Vec<String>| RedisConfig { addresses, ..RedisConfig::default() };
    let error = redis::connect(at(vec![format!("127.0.0.1:{port}")]), setup(&sink)).await.err();
    assert!(matches!(error, Some(ConnectError::Unreachable { .. })));
    // Somebody who listens and says nothing.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let begun = Instant::now();
    let address = silent.local_addr().unwrap().to_string();
    let error = redis::connect(at(vec![address]), setup(&sink)).await.err();
    assert!(matches!(error, Some(ConnectError::Unreachable { .. })));
    assert!(begun.elapsed() < Duration::from_secs(4));
    for bad in [vec![], vec!["a".into()], vec!["a:1".into(), "b:1".into()]] {
        let error = redis::connect(at(bad), setup(&sink)).await.err();
        assert!(matches!(error, Some(ConnectError::Config(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_ends_both_links() {
    let server = Server::redis(&[]);
    let (b, _) = connect(config(&server)).await;
    b.close().await;
    until("no connection is left", SOON, || {
        server.named(redis::COMMANDS_NAME) + server.named(redis::SUBSCRIPTIONS_NAME) == 0
    })
    .await;
    assert_eq!(publish(&b, kept("a", "1")).await, Err(Failure::Down));
}

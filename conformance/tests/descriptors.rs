//! More clients than descriptors: accepting pauses without spinning, the admin listener answers,
//! who is in is served, and everything goes on by itself when others leave.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::OPEN;
use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::server::Server;
use plimsoll_conformance::{http, raw, wait};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Descriptors of the server.
const LIMIT: usize = 256;
/// Clients that want to be in.
const WANTED: usize = 400;
/// Over which the processor time of the pause is measured.
const MEASURED: Duration = Duration::from_secs(3);

/// Lowers the limit of the running server, the soft and the hard one.
fn limit(server: &Server, descriptors: usize) {
    let status = Command::new("prlimit")
        .args([
            "--pid",
            &server.pid().to_string(),
            &format!("--nofile={descriptors}:{descriptors}"),
        ])
        .status();
    assert!(status.expect("prlimit runs").success());
}

/// A socket that asks to be upgraded, and to be connected.
fn knock(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.clients()).expect("the kernel takes it");
    let mut bytes = raw::upgrade_request("");
    bytes.extend(raw::text(r#"{"id":1,"connect":{}}"#));
    stream.write_all(&bytes).expect("the kernel takes the request");
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a time limit is set");
    stream
}

/// Was the connect answered?
fn is_in(stream: &mut TcpStream, got: &mut Vec<u8>) -> bool {
    let mut piece = [0; 2_048];
    match stream.read(&mut piece) {
        Ok(n) => got.extend_from_slice(&piece[..n]),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        Err(e) => panic!("a client was cut: {e}"),
    }
    String::from_utf8_lossy(got).contains("\"connect\":")
}

/// Looks at all until `count` are in, or the time is over; how many are.
fn all_in(clients: &mut [(TcpStream, Vec<u8>)], count: usize, within: Duration) -> usize {
    let deadline = Instant::now() + within;
    loop {
        let found = clients.iter_mut().filter_map(|(s, got)| is_in(s, got).then_some(())).count();
        if found >= count || Instant::now() >= deadline {
            return found;
        }
    }
}

fn admin_answers(server: &Server) {
    for path in ["/health", "/ready", "/metrics", "/admin/status", "/admin/overload"] {
        let asked = Instant::now();
        assert_eq!(http::get(server.admin(), path).status, 200, "{path}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{path}: {:?}", asked.elapsed());
    }
}

fn served(first: &mut Client, second: &mut Client, n: u32) {
    first.call("publish", &json!({ "channel": "room:a", "data": n })).expect("a publication");
    // Notices of the load may come in between.
    let delivered = wait::until(PATIENCE, || {
        second.push(PATIENCE).unwrap_or_default()["push"]["pub"]["data"] == n
    });
    assert!(delivered, "publication {n}");
}

fn busy_ratio(server: &Server) -> f64 {
    let cpu = server.cpu();
    thread::sleep(MEASURED);
    (server.cpu() - cpu).as_secs_f64() / MEASURED.as_secs_f64()
}

#[test]
fn clients_beyond_the_descriptors_wait_and_come_in_when_others_leave() {
    let line_off = [("PLIMSOLL_OVERLOAD_ENABLED", "false")];
    let server = Server::start_limited(OPEN, &line_off, LIMIT);
    let (mut first, mut second) =
        (Client::anonymous(server.clients()), Client::anonymous(server.clients()));
    second.subscribe("room:a");
    let mut clients: Vec<_> = (0..WANTED).map(|_| (knock(&server), Vec::new())).collect();
    let paused =
        wait::until(PATIENCE, || server.metrics().sum("plimsoll_accept_pauses_total") >= Some(4.0));
    assert!(paused, "{}", server.log_tail());
    let before = all_in(&mut clients, WANTED, Duration::from_secs(2));
    assert!((100..LIMIT).contains(&before), "{before} of {WANTED} are in");

    let busy = busy_ratio(&server);
    assert!(busy < 0.20, "{:.0} % of a core while accepting pauses", busy * 100.0);
    admin_answers(&server);
    (0..20).for_each(|n| served(&mut first, &mut second, n));
    let log = server.log_tail();
    let told = log.lines().filter(|l| l.contains("no file descriptor left")).count();
    assert!((1..=6).contains(&told), "{log}");

    // Those who are in leave; those who wait come in without having to ask again.
    let (mut waiting, leaving): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .partition(|(_, got)| !String::from_utf8_lossy(got).contains("\"id\":1"));
    assert_eq!((waiting.len(), leaving.len()), (WANTED - before, before));
    drop(leaving);
    let most = waiting.len().min(before);
    let entered = all_in(&mut waiting, most, PATIENCE);
    println!(
        "{before} in, {} waited, {entered} came in; {:.1} % of a core while accepting pauses",
        waiting.len(),
        busy * 100.0
    );
    assert!(entered >= most, "{entered} of {most}: {}", server.log_tail());
    admin_answers(&server);
    served(&mut first, &mut second, 99);
    drop(waiting);
    let gone = wait::until(PATIENCE, || server.metrics().sum("process_open_fds") < Some(64.0));
    assert!(gone, "{:?} descriptors", server.metrics().sum("process_open_fds"));
    served(&mut first, &mut second, 100);
}

#[test]
fn the_load_line_sees_it_and_lets_people_in_again() {
    let server = Server::start_limited(OPEN, &[], LIMIT);
    let (mut first, mut second) =
        (Client::anonymous(server.clients()), Client::anonymous(server.clients()));
    second.subscribe("room:a");
    let clients: Vec<_> = (0..WANTED).map(|_| knock(&server)).collect();
    let hot = wait::until(PATIENCE, || {
        let metrics = server.metrics();
        let pressure = metrics.labelled("plimsoll_pressure", "resource=\"descriptors\"");
        pressure > Some(0.95) && metrics.sum("plimsoll_load_level") >= Some(3.0)
    });
    assert!(hot, "{}", server.log_tail());
    let busy = busy_ratio(&server);
    assert!(busy < 0.20, "{:.0} % of a core while accepting pauses", busy * 100.0);
    admin_answers(&server);
    // Descriptors are no reason to take features from who is in.
    served(&mut first, &mut second, 1);
    drop(clients);
    let left = Instant::now();
    let again = wait::until(Duration::from_secs(75), || {
        // They read meanwhile: pings want an answer.
        for client in [&mut first, &mut second] {
            client.push(Duration::from_millis(100));
        }
        Client::connect(server.clients(), &json!({})).is_ok()
    });
    assert!(again, "{}", server.log_tail());
    println!("newcomers are let in {:.1} s after the crowd left", left.elapsed().as_secs_f64());
    served(&mut first, &mut second, 2);
}

#[test]
fn a_limit_that_shrinks_while_it_runs_does_not_spin_either() {
    let server = Server::start(OPEN);
    let (mut first, mut second) =
        (Client::anonymous(server.clients()), Client::anonymous(server.clients()));
    second.subscribe("room:a");
    // Below what is open: every accept fails.
    limit(&server, 16);
    let clients: Vec<_> = (0..50).map(|_| knock(&server)).collect();
    let busy = busy_ratio(&server);
    println!("{:.1} % of a core while every accept fails", busy * 100.0);
    assert!(busy < 0.20, "{:.0} % of a core", busy * 100.0);
    served(&mut first, &mut second, 1);
    drop(clients);
}

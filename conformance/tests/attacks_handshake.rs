//! Bad requests for an upgrade. The letters and numbers name the attacks of our list.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::{Arena, OPEN};
use plimsoll_conformance::client::Client;
use plimsoll_conformance::http::{self, Response};
use plimsoll_conformance::raw::{self, Ending, PATIENCE, Raw, upgrade_request};
use plimsoll_conformance::wait;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Sends bytes on a connection of their own and returns all that was answered before the end.
fn answer(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut raw = Raw::connect(address);
    raw.send(bytes);
    assert!(raw.closes(PATIENCE), "still open: {:?}", String::from_utf8_lossy(bytes));
    raw.received().to_vec()
}

/// A request that must be refused with one of these statuses and nothing else.
fn refused(address: SocketAddr, name: &str, request: &[u8], statuses: &[u16]) -> Response {
    // A good request behind it: who reads it has lost the place where requests begin.
    let bytes = [request, &upgrade_request("")].concat();
    let answer = answer(address, &bytes);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let response = Response::parse(&answer).unwrap_or_else(|| panic!("{name}: {text:?}"));
    assert!(statuses.contains(&response.status), "{name}: {text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{name}: a second answer: {text}");
    response
}

/// The good request with one text replaced by another.
fn changed(from: &str, to: &str) -> Vec<u8> {
    let good = String::from_utf8(upgrade_request("")).unwrap();
    assert!(good.contains(from), "{from}");
    good.replace(from, to).into_bytes()
}

#[test]
fn a1_a_header_of_20_megabytes() {
    let arena = Arena::open(OPEN);
    let cpu_before = arena.server.cpu();
    let start = Instant::now();
    let mut raw = Raw::connect(arena.server.clients());
    raw.send(b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nX-Long: ");
    let piece = vec![b'a'; 64 * 1024];
    let mut taken = 0;
    while taken < 20 << 20 && raw.pump() && !raw.has_received() && raw.try_send(&piece) {
        taken += piece.len();
    }
    assert!(raw.closes(Duration::from_secs(3)), "the connection is still open");
    let (took, cpu) = (start.elapsed(), arena.server.cpu() - cpu_before);
    let response = Response::parse(raw.received()).expect("an answer");
    assert!(matches!(response.status, 400 | 431), "{}", response.head);
    assert!(took < Duration::from_secs(1), "closed after {took:?}");
    // The canaries have their share of it.
    assert!(cpu < Duration::from_millis(50) + took / 10, "{cpu:?} of processor time in {took:?}");
    println!("A1: {} in {took:?}, {cpu:?} of processor time", response.status);
    arena.close("A1");
}

#[test]
fn a2_slow_headers_on_500_connections() {
    let arena = Arena::open(&OPEN.replace("[client]", "[client]\nstale_close_delay = \"2s\""));
    let address = arena.server.clients();
    let start = Instant::now();
    let mut open: Vec<Raw> = (0..500).map(|_| Raw::connect(address)).collect();
    let bytes = upgrade_request("");
    let mut at = 0;
    let mut served = 0;
    // One byte each at a time; the whole request would take 40 seconds.
    let gone = wait::until(Duration::from_secs(6), || {
        let byte = &bytes[at % bytes.len()..][..1];
        open.retain_mut(|raw| raw.pump() && raw.try_send(byte));
        at += 1;
        let mut client = Client::anonymous(address);
        client.subscribe("room:a2");
        served += 1;
        std::thread::sleep(Duration::from_millis(150));
        open.is_empty()
    });
    let took = start.elapsed();
    assert!(gone, "{} connections are still open after {took:?}", open.len());
    assert!(
        took > Duration::from_millis(1_800),
        "void: closed after {took:?}, before the deadline"
    );
    assert!(served >= 5, "void: only {served} others were served meanwhile");
    println!("A2: all closed after {took:?}, {served} others served meanwhile");
    arena.close("A2");
}

#[test]
fn a4_two_thousand_header_lines() {
    let arena = Arena::open(OPEN);
    let request = upgrade_request(&"aa: x\r\n".repeat(2_000));
    let mut raw = Raw::connect(arena.server.clients());
    raw.send(&request);
    assert!(raw.closes(PATIENCE), "the connection is still open");
    let response = Response::parse(raw.received()).expect("an answer");
    assert_eq!(response.status, 431, "{}", response.head);
    arena.close("A4");
}

#[test]
fn a6_requests_that_are_no_upgrade() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let cases: &[(&str, Vec<u8>)] = &[
        ("no key", changed(key, "")),
        ("two keys", changed(key, &key.repeat(2))),
        ("a short key", changed("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==")),
        ("a key that is not base64", changed("dGhlIHNh", "!!!!!!!!")),
        ("a body", changed("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello")),
        ("HTTP/1.0", changed("HTTP/1.1", "HTTP/1.0")),
        ("a method in small letters", changed("GET ", "get ")),
        ("no Host", changed("Host: localhost\r\n", "")),
        ("Connection without upgrade", changed("Connection: Upgrade", "Connection: close")),
    ];
    for (name, request) in cases {
        refused(address, name, request, &[400]);
    }
    for version in ["8", "12", "99", "013", ""] {
        let request = changed("Version: 13", &format!("Version: {version}"));
        let response = refused(address, version, &request, &[400, 426]);
        assert!(version.is_empty() || response.status == 426, "version {version:?}");
        if response.status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"), "{}", response.head);
        }
    }
    // An upgrade to something else is an ordinary request, for which there is nothing here.
    let h2c = changed("Upgrade: websocket", "Upgrade: h2c");
    let status = plain(address, &h2c).status;
    assert!((400..500).contains(&status), "h2c was answered by {status}");
    arena.close("A6");
}

/// The answer to a request that may be kept alive.
fn plain(address: SocketAddr, request: &[u8]) -> Response {
    let mut raw = Raw::connect(address);
    raw.send(request);
    raw.response(PATIENCE).expect("an answer")
}

#[test]
fn a8_requests_that_two_parsers_read_differently() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let with = |lines: &str| changed("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n"));
    let cases: &[(&str, Vec<u8>)] = &[
        ("chunked", [with("Transfer-Encoding: chunked"), b"0\r\n\r\n".to_vec()].concat()),
        ("both lengths", with("Transfer-Encoding: chunked\r\nContent-Length: 0")),
        ("two lengths", with("Content-Length: 0\r\nContent-Length: 0")),
        ("a signed length", with("Content-Length: +1")),
        ("a folded line", with("X-A: b\r\n folded")),
        ("a bare line feed", with("X-A: b\nX-B: c")),
        ("a NUL", with("X-A: b\0c")),
        ("a space before the colon", with("X-A : b")),
        ("two hosts", with("Host: other")),
        ("an absolute target", changed("GET /", "GET http://localhost/")),
        ("a target with a fragment", changed("/websocket ", "/websocket#x ")),
    ];
    for (name, request) in cases {
        refused(address, name, request, &[400]);
    }
    // The control: the same request without the trick is answered by 101.
    Raw::upgraded(address, "");
    arena.close("A8");
}

#[test]
fn a9_frames_in_the_segment_of_the_handshake() {
    let arena = Arena::open(OPEN);
    let address = arena.server.clients();
    let start = |frames: &[u8]| {
        let mut raw = Raw::connect(address);
        raw.send(&[upgrade_request(""), frames.to_vec()].concat());
        assert_eq!(raw.response(PATIENCE).map(|r| r.status), Some(101));
        raw
    };
    let mut good = start(&raw::text(r#"{"id":1,"connect":{}}"#));
    let reply = good.frame(PATIENCE).expect("the first frame is answered");
    assert!(String::from_utf8_lossy(&reply.payload).contains(r#""connect""#));
    for rsv in [0x10, 0x20, 0x40] {
        let mut bad = start(&raw::frame(raw::TEXT | rsv, br#"{"id":1,"connect":{}}"#));
        assert_eq!(bad.ending(PATIENCE), Ending::Code(1002), "RSV bits {rsv:#x}");
    }
    let mut unmasked = start(&raw::unmasked(raw::TEXT, b"{}"));
    assert_eq!(unmasked.ending(PATIENCE), Ending::Code(1002));
    // The public port still answers.
    assert_ne!(http::get(address, "/").status, 500);
    arena.close("A9");
}

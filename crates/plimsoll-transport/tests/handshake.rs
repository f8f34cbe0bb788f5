//! The opening handshake: which requests become a WebSocket, and the answer they get.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use plimsoll_transport::handshake::{
    Request, Upgrade, accept_for, classify, origin_allowed, subprotocols,
};
use plimsoll_transport::head::{HeadLimits, HeadParse, parse_head};
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 64 * 1024, count_max: 64 };

const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// `GOOD` with one text replaced by another.
fn but(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

/// `GOOD` with one more line.
fn and(line: &str) -> String {
    but("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"))
}

fn request(text: &str) -> Request {
    match parse_head(text.as_bytes(), &LIMITS) {
        HeadParse::Complete { head, .. } => classify(&head),
        HeadParse::Bad(refusal) => Request::Refuse(refusal),
        HeadParse::Incomplete => panic!("incomplete: {text}"),
    }
}

fn upgrade(text: &str) -> Upgrade {
    match request(text) {
        Request::Upgrade(upgrade) => upgrade,
        other => panic!("{other:?} for {text}"),
    }
}

/// 101 for an upgrade, 0 for a plain request.
fn status(text: &str) -> u16 {
    match request(text) {
        Request::Plain => 0,
        Request::Upgrade(_) => 101,
        Request::Refuse(refusal) => refusal.status,
    }
}

#[test]
fn the_example_of_the_rfc() {
    let mut out = Vec::new();
    upgrade(GOOD).write_response(None, true, &mut out);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    assert_eq!(&accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn requests() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let table: &[(u16, String)] = &[
        (101, GOOD.to_owned()),
        (101, but("Connection: Upgrade", "connection: keep-alive, uPGRADE")),
        (101, but("Connection: Upgrade", "Connection: keep-alive\r\nConnection: upgrade")),
        (101, but("Upgrade: websocket", "Upgrade: WebSocket")),
        (101, and("Content-Length: 0")),
        // Not for us.
        (0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (0, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n".to_owned()),
        (0, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()),
        (0, but("Upgrade: websocket", "Upgrade: h2c")),
        (0, but("Upgrade: websocket\r\n", "")),
        (0, but("Upgrade: websocket", "Upgrade: xwebsocket")),
        // Keys.
        (400, but(key, "")),
        (400, but(key, &key.repeat(2))),
        (400, but("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j")),
        (400, but("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=a")),
        (400, but("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub2 jZQ==")),
        (400, but("dGhlIHNhbXBsZSBub25jZQ==", "")),
        (400, but("dGhlIHNhbXBsZSBub25jZQ==", "AAAAdGhlIHNhbXBsZSBub25jZQ==")),
        // Versions.
        (426, but("Version: 13", "Version: 8")),
        (426, but("Version: 13", "Version: 12")),
        (426, but("Version: 13", "Version: 99")),
        (426, but("Version: 13", "Version: 013")),
        (426, but("Sec-WebSocket-Version: 13\r\n", "")),
        (400, and("Sec-WebSocket-Version: 13")),
        // The request line.
        (400, but("GET", "POST")),
        (400, but("GET", "get")),
        (400, but("HTTP/1.1", "HTTP/1.0")),
        (400, "get / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (400, but("/ws", "http://example.com/ws")),
        // Bodies, and lengths that two parsers read in two ways.
        (400, and("Content-Length: 5")),
        (400, and("Content-Length: +1")),
        (400, and("Content-Length: -0")),
        (400, and("Content-Length:")),
        (400, and("Content-Length: 0\r\nContent-Length: 0")),
        (400, and("Content-Length: 0, 0")),
        (400, and("Transfer-Encoding: chunked")),
        (400, and("Transfer-Encoding: chunked\r\nContent-Length: 0")),
        (400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n".to_owned()),
        (
            400,
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ),
        // The rest.
        (400, but("Host: example.com\r\n", "")),
        (400, but("Host: example.com", "Host:")),
        (400, and("Host: example.com")),
        (400, but("Connection: Upgrade\r\n", "")),
        (400, but("Connection: Upgrade", "Connection: close")),
        (400, and("Origin: https://a\r\nOrigin: https://b")),
        (400, and("X: a\r\n b")),
        (400, and("X: a\nY: b")),
        (400, and("X: a\0b")),
    ];
    for (expected, text) in table {
        assert_eq!(status(text), *expected, "{text}");
    }
}

#[test]
fn subprotocols_come_in_the_clients_order() {
    let text = and("Sec-WebSocket-Protocol: b, a\r\nSec-WebSocket-Protocol: c,,d e, \u{e9}");
    let HeadParse::Complete { head, .. } = parse_head(text.as_bytes(), &LIMITS) else { panic!() };
    assert_eq!(subprotocols(&head).collect::<Vec<_>>(), ["b", "a", "c"]);
    let mut out = Vec::new();
    upgrade(&text).write_response(Some("a"), false, &mut out);
    assert!(String::from_utf8(out).unwrap().contains("\r\nSec-WebSocket-Protocol: a\r\n"));
}

/// The extension line of the response, or nothing.
fn deflate(offer: &str) -> Option<String> {
    let mut out = Vec::new();
    upgrade(&and(&format!("Sec-WebSocket-Extensions: {offer}")))
        .write_response(None, true, &mut out);
    let text = String::from_utf8(out).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    line.map(str::to_owned)
}

#[test]
fn offers_of_compression() {
    const PLAIN: &str =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let with_window = format!("{PLAIN}; server_max_window_bits=15");
    let taken: &[(&str, &str)] = &[
        ("permessage-deflate", PLAIN),
        ("Permessage-Deflate", PLAIN),
        ("permessage-deflate; client_max_window_bits", PLAIN),
        ("permessage-deflate;client_max_window_bits=8", PLAIN),
        ("permessage-deflate; client_max_window_bits=\"15\"", PLAIN),
        ("permessage-deflate; server_no_context_takeover ; client_no_context_takeover", PLAIN),
        ("permessage-deflate; server_max_window_bits=15", &with_window),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", PLAIN),
        ("x-webkit-deflate-frame, permessage-deflate", PLAIN),
        ("x; a=\"1, 2\\\", permessage-deflate; b\", permessage-deflate", PLAIN),
        ("bad offer here, permessage-deflate", PLAIN),
        ("a\r\nSec-WebSocket-Extensions: permessage-deflate", PLAIN),
    ];
    for (offer, expected) in taken {
        assert_eq!(deflate(offer).as_deref(), Some(*expected), "{offer}");
    }
    let many = "permessage-deflate; server_max_window_bits=9, ".repeat(200) + "permessage-deflate";
    let declined: &[&str] = &[
        "",
        "permessage-deflate2",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=14",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=abc",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; server_max_window_bits=15x",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=\"15",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; SERVER_no_context_takeover",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; unknown",
        "permessage-deflate;",
        "permessage-deflate;; client_max_window_bits",
        "permessage-deflate client_max_window_bits",
        "x; a=\"1, permessage-deflate",
        "x; a=\"1, permessage-deflate, 2\"",
        &many,
    ];
    for offer in declined {
        assert_eq!(deflate(offer), None, "{offer}");
    }
}

#[test]
fn the_extension_is_named_only_where_it_is_offered_and_accepted() {
    let offered = upgrade(&and("Sec-WebSocket-Extensions: permessage-deflate"));
    let mut out = Vec::new();
    offered.write_response(None, false, &mut out);
    upgrade(GOOD).write_response(None, true, &mut out);
    assert!(!String::from_utf8(out).unwrap().contains("Extensions"));
}

fn allowed(origin: &str, patterns: &[&str]) -> bool {
    let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
    origin_allowed(Some(origin.as_bytes()), &patterns)
}

#[test]
fn origins() {
    let list = ["https://app.example.com", "https://*.example.org", "http://[::1]:8000"];
    for good in [
        "https://app.example.com",
        "https://APP.Example.COM",
        "https://app.example.com:443",
        "https://a.example.org",
        "https://a.b.example.org",
        "https://xn--bcher-kva.example.org",
        "http://[::1]:8000",
    ] {
        assert!(allowed(good, &list), "{good}");
    }
    for bad in [
        "",
        "null",
        "https://app.example.com.evil.net",
        "https://app.example.com.",
        "https://evilexample.org",
        "https://example.org",
        "https://.example.org",
        "https://..example.org",
        "https://a..example.org",
        "https://*.example.org",
        "https://app.example.com:444",
        "https://app.example.com:",
        "https://app.example.com:+443",
        "https://app.example.com:65979",
        "http://app.example.com",
        "http://app.example.com:443/",
        "https://app.example.com/",
        "https://app.example.com@evil",
        "https://evil@app.example.com",
        "https://evil.net/.example.org",
        "https://evil.net#.example.org",
        "https://evil.net?.example.org",
        "https://evil.net\\.example.org",
        "https://a.example.org:80",
        "https://a.example.org.evil.net",
        "https://evil.net https://app.example.com",
        "https://b\u{fc}cher.example.org",
        "https:app.example.com",
        "app.example.com",
        "://app.example.com",
        "https://",
        "http://[::1]",
        "http://[::1:8000",
    ] {
        assert!(!allowed(bad, &list), "{bad}");
    }
    assert!(origin_allowed(None, &[]), "only browsers send it");
    assert!(!allowed("https://a", &[]));
    assert!(!origin_allowed(Some(b"https://\xff.example.org"), &["https://*.example.org".into()]));
    assert!(allowed("null", &["*"]) && allowed("rubbish", &["*"]));
    assert!(allowed("null", &["null"]));
    assert!(allowed("chrome-extension://abcdef", &["chrome-extension://abcdef"]));
    assert!(allowed("https://a.example.org:8443", &["https://*.example.org:8443"]));
    assert!(!allowed("https://a.b", &["https://*", "https://*.", "*.b", "a.b", ""]));
}

proptest! {
    /// A wildcard lets in what ends in its domain after a dot, and nothing else.
    #[test]
    fn no_origin_by_accident(
        origin in "(https?://)?[a-c.@:/*-]{0,6}\\.?example\\.org[.:/@a-c0-9]{0,4}",
    ) {
        let expected = origin
            .strip_prefix("https://")
            .map(|host| host.strip_suffix(":443").unwrap_or(host))
            .and_then(|host| host.strip_suffix(".example.org"))
            .is_some_and(|front| {
                let letter = |c: char| c.is_ascii_alphanumeric() || c == '-';
                front.split('.').all(|label| !label.is_empty() && label.chars().all(letter))
            });
        prop_assert_eq!(allowed(&origin, &["https://*.example.org"]), expected);
    }

    #[test]
    fn any_offer(offer in "[ -~]{0,60}") {
        let _ = deflate(&offer);
        let _ = deflate(&format!("permessage-deflate; {offer}"));
    }
}

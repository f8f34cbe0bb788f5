//! Request heads: what is read, what is refused, and that both hold however the bytes arrive.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

use plimsoll_transport::head::{Head, HeadLimits, HeadParse, Refusal, parse_head};
use proptest::prelude::*;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 8 * 1024, count_max: 64 };

/// The status of the refusal, 200 for a head, 0 for incomplete.
fn status(bytes: &[u8]) -> u16 {
    match parse_head(bytes, &LIMITS) {
        HeadParse::Incomplete => 0,
        HeadParse::Complete { .. } => 200,
        HeadParse::Bad(refusal) => refusal.status,
    }
}

fn with_head(bytes: &[u8], check: impl FnOnce(Head<'_>, usize)) {
    match parse_head(bytes, &LIMITS) {
        HeadParse::Complete { head, len } => check(head, len),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_head_is_read_and_what_follows_is_left() {
    let bytes = b"GET /connection/websocket?a=1&b=?2 HTTP/1.1\r\nHost: example.com\r\n\
        X-Empty:\r\nACCEPT: a\r\nAccept:  b, C \r\nX-High: \xe9\r\n\r\n\x81\x85rest\n";
    with_head(bytes, |head, len| {
        assert_eq!(&bytes[len..], b"\x81\x85rest\n");
        assert_eq!(head.method(), "GET");
        assert_eq!(head.target(), "/connection/websocket?a=1&b=?2");
        assert_eq!(head.path(), "/connection/websocket");
        assert_eq!(head.query(), Some("a=1&b=?2"));
        assert_eq!(head.minor_version(), 1);
        assert_eq!(head.header("HOST"), Some(&b"example.com"[..]));
        assert_eq!(head.header("x-empty"), Some(&b""[..]));
        assert_eq!(head.header("x-high"), Some(&b"\xe9"[..]));
        assert_eq!(head.header("missing"), None);
        assert_eq!(head.count("accept"), 2);
        assert_eq!(head.values("accept").last(), Some(&b"b, C"[..]));
        assert!(head.has_token("accept", "c") && !head.has_token("accept", "d"));
        assert_eq!(head.headers().count(), 5);
    });
    with_head(b"GET / HTTP/1.0\r\n\r\n", |head, len| {
        assert_eq!((head.query(), head.minor_version(), len), (None, 0, 18));
    });
}

#[test]
fn strictness() {
    let table: &[(u16, &str)] = &[
        (200, "GET / HTTP/1.1\r\n\r\n"),
        (200, "OPTIONS /x HTTP/1.1\r\nA: b\tc\r\n\r\n"),
        (0, ""),
        (0, "GE"),
        (0, "GET / HTTP/1.1\r\n"),
        (0, "GET / HTTP/1.1\r\n\r"),
        (0, "GET / HTTP/1.1\r\nHost: a\r\n"),
        // Bare line feeds and returns.
        (400, "GET / HTTP/1.1\n\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost: a\rb\r\n"),
        (400, "GET / HTTP/1.1\rHost"),
        // NUL and other control characters, the first byte of TLS among them.
        (400, "GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"),
        (400, "GET /\0 HTTP/1.1\r\n\r\n"),
        (400, "\x16\x03\x01"),
        (400, "GET / HTTP/1.1\r\nA: \x7f\r\n\r\n"),
        // Folded lines.
        (400, "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nA: b\r\n\tc"),
        (400, "GET / HTTP/1.1\r\n A: b\r\n\r\n"),
        (400, " GET / HTTP/1.1\r\n\r\n"),
        // Empty lines in front.
        (400, "\r\nGET / HTTP/1.1\r\n\r\n"),
        (400, "\n"),
        // Targets that are no path.
        (400, "GET http://a/ HTTP/1.1\r\n\r\n"),
        (400, "CONNECT a:443 HTTP/1.1\r\n\r\n"),
        (400, "OPTIONS * HTTP/1.1\r\n\r\n"),
        (400, "GET /a#b HTTP/1.1\r\n\r\n"),
        (400, "GET /\u{e9} HTTP/1.1\r\n\r\n"),
        (400, "GET  HTTP/1.1\r\n\r\n"),
        (400, "GET /a b HTTP/1.1\r\n\r\n"),
        // Bad tokens.
        (400, "G(T / HTTP/1.1\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHo st: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\n: a\r\n\r\n"),
        (400, "GET / HTTP/1.1\r\nHost\r\n\r\n"),
        (400, "GET /\r\n\r\n"),
        (400, "GET / HTTP/2.0\r\n\r\n"),
        (400, "PRI / HTTP/2.0\r\n\r\n"),
    ];
    for (expected, text) in table {
        assert_eq!(status(text.as_bytes()), *expected, "{text:?}");
    }
}

#[test]
fn too_large_is_refused_without_waiting_for_the_end() {
    let long = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(20 << 20));
    assert_eq!(status(long.as_bytes()), 431);
    assert_eq!(status(&long.as_bytes()[..LIMITS.bytes_max]), 431);
    assert_eq!(status(&long.as_bytes()[..LIMITS.bytes_max - 1]), 0);

    let exact = |bytes: usize| format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(bytes - 23));
    assert_eq!(exact(LIMITS.bytes_max).len(), LIMITS.bytes_max);
    assert_eq!(status(exact(LIMITS.bytes_max).as_bytes()), 200);
    assert_eq!(status(exact(LIMITS.bytes_max + 1).as_bytes()), 431);

    let lines = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "aa: x\r\n".repeat(count));
    assert_eq!(status(lines(64).as_bytes()), 200);
    assert_eq!(status(lines(65).as_bytes()), 431);
    assert_eq!(status(lines(2_000).as_bytes()), 431);
    let few = HeadLimits { count_max: 2, ..LIMITS };
    assert!(matches!(parse_head(lines(2).as_bytes(), &few), HeadParse::Complete { .. }));
    assert!(matches!(
        parse_head(lines(3).as_bytes(), &few),
        HeadParse::Bad(Refusal { status: 431, .. })
    ));
    let many = HeadLimits { count_max: usize::MAX, ..LIMITS };
    assert!(matches!(
        parse_head(lines(65).as_bytes(), &many),
        HeadParse::Bad(Refusal { status: 431, .. })
    ));
}

#[test]
fn refusals_are_whole_responses() {
    let write = |status| {
        let mut out = Vec::new();
        Refusal { status, reason: "No." }.write_to(&mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(
        write(400),
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: 4\r\n\r\nNo.\n"
    );
    let upgrade = write(426);
    assert!(upgrade.starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\n"));
    assert!(upgrade.contains("\r\nSec-WebSocket-Version: 13\r\n"));
}

proptest! {
    /// What one call says of all bytes holds for any number of calls on the way there.
    #[test]
    fn no_change_of_mind(
        lines in prop::collection::vec("[ -~]{0,12}(: )?[ -~\t\r\n]{0,12}(\r\n|\n)?", 0..6),
    ) {
        let text = format!("GET /a HTTP/1.1\r\n{}\r\n\r\n", lines.concat());
        let bytes = text.as_bytes();
        let whole = status(bytes);
        let first = (0..=bytes.len()).map(|cut| status(&bytes[..cut])).find(|code| *code != 0);
        prop_assert_eq!(first.unwrap_or(0) == 200, whole == 200);
        if whole == 200 {
            // Strict enough that no line can be read in another way.
            with_head(bytes, |head, len| {
                let text = std::str::from_utf8(&bytes[..len]).unwrap();
                assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
                assert_eq!(text.split("\r\n").count(), head.headers().count() + 3);
            });
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = status(&bytes);
    }
}

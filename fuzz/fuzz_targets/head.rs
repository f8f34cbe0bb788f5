//! Request heads: no panic, no change of mind as bytes arrive, no origin by accident.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_transport::handshake::{self, Request, origin_allowed};
use plimsoll_transport::head::{HeadLimits, HeadParse, parse_head};

fuzz_target!(|data: &[u8]| {
    let limits = HeadLimits { bytes_max: 2048, count_max: 16 };
    let whole = parse_head(data, &limits);
    for cut in (0..data.len()).step_by(7) {
        match (parse_head(&data[..cut], &limits), &whole) {
            (HeadParse::Incomplete, _) | (HeadParse::Bad(_), HeadParse::Bad(_)) => {}
            (HeadParse::Complete { len, .. }, HeadParse::Complete { len: all, .. }) => {
                assert_eq!(len, *all)
            }
            (early, late) => panic!("{early:?} of the first {cut} bytes became {late:?}"),
        }
    }
    let HeadParse::Complete { head, len } = whole else { return };
    assert!(len <= limits.bytes_max && data[..len].ends_with(b"\r\n\r\n"));
    assert!(head.target().starts_with('/') && head.headers().count() <= limits.count_max);
    assert!(head.path().len() + head.query().map_or(0, |q| q.len() + 1) == head.target().len());

    let mut out = Vec::new();
    match handshake::classify(&head) {
        Request::Plain => {}
        Request::Refuse(refusal) => refusal.write_to(&mut out),
        Request::Upgrade(upgrade) => {
            assert_eq!(head.method(), "GET");
            let subprotocol = handshake::subprotocols(&head).next();
            upgrade.write_response(subprotocol, true, &mut out);
            assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"\r\n\r\n"));
            // One head, whatever was offered: no line of the client's making.
            assert_eq!(out.windows(2).filter(|pair| pair == b"\r\n").count(), lines(&out));
        }
    }

    let patterns = ["https://app.example.com".to_owned(), "https://*.example.org".to_owned()];
    if let Some(origin) = head.header("origin").filter(|o| origin_allowed(Some(o), &patterns)) {
        let origin = String::from_utf8_lossy(origin).to_ascii_lowercase();
        let host = origin.strip_prefix("https://").expect("a scheme that is allowed");
        let host = host.split(':').next().unwrap_or_default();
        assert!(host == "app.example.com" || host.ends_with(".example.org"), "{origin}");
        assert!(!host.contains(['@', '/', '?', '#', '\\']), "{origin}");
    }
});

/// Lines of a response to an upgrade: status, three headers, up to two of ours, the blank one.
fn lines(out: &[u8]) -> usize {
    let has = |name: &[u8]| usize::from(out.windows(name.len()).any(|part| part == name));
    5 + has(b"\r\nSec-WebSocket-Protocol: ") + has(b"\r\nSec-WebSocket-Extensions: ")
}

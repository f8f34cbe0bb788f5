//! Bad frames. The letters and numbers name the attacks of our list.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use flate2::{Compress, Compression, FlushCompress};
use plimsoll_conformance::arena::{Arena, OPEN};
use plimsoll_conformance::http::Response;
use plimsoll_conformance::raw::{
    self, Ending, PATIENCE, PING, Raw, TEXT, frame, unmasked, upgrade_request, with_length16,
    with_length64,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MESSAGE_MAX: usize = 65_536;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate\r\n";

fn config() -> String {
    format!("{OPEN}\n[websocket]\ncompression = true\n")
}

/// Sends bytes on an upgraded connection and expects one of these endings.
fn ends(address: SocketAddr, name: &str, bytes: &[u8], expected: &[u16]) {
    let mut raw = Raw::upgraded(address, "");
    raw.send(bytes);
    ended(&mut raw, name, expected);
}

fn ended(raw: &mut Raw, name: &str, expected: &[u16]) {
    let ending = raw.ending(PATIENCE);
    let fits = matches!(ending, Ending::Code(code) if expected.contains(&code));
    assert!(fits, "{name}: {ending:?}, expected {expected:?}");
    assert!(raw.closes(PATIENCE), "{name}: TCP stays open");
}

#[test]
fn a11_lengths_that_overflow_or_are_not_minimal() {
    let arena = Arena::open(&config());
    let address = arena.server.clients();
    // Headers only: the verdict must not wait for a payload.
    let cases: &[(&str, Vec<u8>, &[u16])] = &[
        ("top bit", with_length64(TEXT, 1 << 63, b""), &[1002, 1009]),
        ("all bits", with_length64(TEXT, u64::MAX, b""), &[1002, 1009]),
        ("2^63 - 1", with_length64(TEXT, (1 << 63) - 1, b""), &[1009]),
        ("2^32", with_length64(TEXT, 1 << 32, b""), &[1009]),
        ("the limit + 1", with_length64(TEXT, 65_537, b""), &[1009]),
        ("5 in 16 bits", with_length16(TEXT, 5, b"hello"), &[1002]),
        ("125 in 16 bits", with_length16(TEXT, 125, b""), &[1002]),
        ("5 in 64 bits", with_length64(TEXT, 5, b"hello"), &[1002]),
        ("65,535 in 64 bits", with_length64(TEXT, 65_535, b""), &[1002]),
    ];
    for (name, bytes, expected) in cases {
        ends(address, name, bytes, expected);
    }
    arena.close("A11");
}

#[test]
fn a12_declared_lengths_allocate_nothing() {
    let config = config().replace("[client]", "[client]\nstale_close_delay = \"4s\"");
    let arena = Arena::open(&config);
    let address = arena.server.clients();
    for length in [64 << 20, 1 << 40] {
        ends(address, "64 MiB", &with_length64(TEXT, length, b"0123456789"), &[1009]);
    }
    // As large as is allowed, and never sent.
    let declared = with_length16(TEXT, 65_000, b"0123456789");
    let mut held: Vec<Raw> = (0..1_000).map(|_| Raw::upgraded(address, "")).collect();
    held.iter_mut().for_each(|raw| raw.send(&declared));
    let mut worst = 0;
    let sampling = Instant::now();
    while sampling.elapsed() < Duration::from_millis(500) {
        worst = worst.max(arena.rss_growth());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(worst < 10 << 20, "1,000 declared lengths took {} KiB", worst / 1024);
    let open = held.iter_mut().filter_map(|raw| raw.pump().then_some(())).count();
    assert!(open > 900, "void: only {open} connections were held");
    let stale = held.iter_mut().map(|raw| raw.ending(Duration::from_secs(10)));
    let wrong = stale.filter(|e| *e != Ending::Code(3502)).count();
    assert_eq!(wrong, 0, "connections that did not end as stale (3502)");
    println!("A12: 1,000 held, memory +{} KiB", worst / 1024);
    arena.close("A12");
}

#[test]
fn a13_frames_that_the_rfc_forbids() {
    let arena = Arena::open(&config());
    let address = arena.server.clients();
    let protocol_error: &[u16] = &[1002];
    let cases: &[(&str, Vec<u8>)] = &[
        ("unmasked", unmasked(TEXT, b"{}")),
        ("unmasked ping", unmasked(PING, b"")),
        ("a ping of 126 bytes", with_length16(PING, 126, &[0; 126])),
        ("a close of 126 bytes", with_length16(raw::CLOSE, 126, &[0; 126])),
        ("a ping in fragments", frame(0x09, b"x")),
        ("a close in fragments", frame(0x08, b"")),
        ("opcode 3", frame(0x83, b"x")),
        ("opcode 7", frame(0x87, b"x")),
        ("opcode B", frame(0x8b, b"x")),
        ("opcode F", frame(0x8f, b"x")),
        ("RSV2", frame(TEXT | 0x20, b"{}")),
        ("RSV3", frame(TEXT | 0x10, b"{}")),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a text within a text", [frame(0x01, b"a"), frame(TEXT, b"b")].concat()),
        ("a close of one byte", frame(raw::CLOSE, &[3])),
    ];
    for (name, bytes) in cases {
        ends(address, name, bytes, protocol_error);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        ends(address, &format!("close {code}"), &raw::close(code, b""), protocol_error);
    }
    ends(address, "a reason that is not UTF-8", &raw::close(1000, &[0xff, 0xfe]), &[1007]);
    // The control: a correct close is answered in kind.
    ends(address, "a correct close", &raw::close(1000, b"bye"), &[1000]);
    arena.close("A13");
}

#[test]
fn a14_a_message_that_never_ends() {
    let arena = Arena::open(&config());
    for size in [MESSAGE_MAX, MESSAGE_MAX / 2, 1_000] {
        let mut raw = Raw::upgraded(arena.server.clients(), "");
        let payload = vec![b'a'; size];
        raw.send(&frame(0x01, &payload));
        let next = frame(0x00, &payload);
        let mut sent = size;
        // 10 GB are on offer.
        while sent < 10 << 30 && raw.pump() && !raw.has_received() && raw.try_send(&next) {
            sent += size;
        }
        ended(&mut raw, &format!("fragments of {size}"), &[1009]);
        assert!(sent < 32 << 20, "{sent} bytes were taken of fragments of {size}");
    }
    // Very small ones are stopped by their number.
    let mut raw = Raw::upgraded(arena.server.clients(), "");
    raw.send(&frame(0x01, b""));
    let many = frame(0x00, b"").repeat(1_000);
    let mut sent = 1;
    while sent < 1_000_000 && raw.pump() && !raw.has_received() && raw.try_send(&many) {
        sent += 1_000;
    }
    ended(&mut raw, "empty fragments", &[1008, 1009]);
    assert!(sent < 1_000_000, "empty fragments never ended");
    arena.close("A14");
}

/// Deflated without an end, as permessage-deflate wants it.
fn deflated(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() / 100 + 1_024);
    let mut deflate = Compress::new(Compression::best(), false);
    deflate.compress_vec(data, &mut out, FlushCompress::Sync).expect("zeros are compressed");
    assert_eq!(usize::try_from(deflate.total_in()).unwrap(), data.len());
    out.truncate(out.len() - 4);
    out
}

#[test]
fn a16_compression_bombs() {
    let arena = Arena::open(&config());
    let address = arena.server.clients();
    let bomb = deflated(&vec![0; 60 << 20]);
    assert!(bomb.len() <= MESSAGE_MAX, "the bomb has {} bytes", bomb.len());
    let cpu_before = arena.server.cpu();
    let start = Instant::now();
    let mut raw = Raw::upgraded(address, OFFER);
    raw.send(&frame(TEXT | 0x40, &bomb));
    ended(&mut raw, "60 MiB in 60 KiB", &[1009]);
    let (took, cpu) = (start.elapsed(), arena.server.cpu() - cpu_before);
    assert!(cpu < Duration::from_millis(50) + took / 10, "{cpu:?} of processor time in {took:?}");
    let mut raw = Raw::upgraded(address, OFFER);
    // 1 MiB that would be 1 GiB: too big as it is.
    raw.send(&frame(TEXT | 0x40, &bomb.repeat(17)));
    ended(&mut raw, "1 MiB compressed", &[1009]);
    let mut raw = Raw::upgraded(address, OFFER);
    let (half, rest) = bomb.split_at(bomb.len() / 2);
    raw.send(&[frame(0x41, half), frame(0x80, rest)].concat());
    ended(&mut raw, "a bomb in two fragments", &[1009]);
    let grown = arena.rss_growth();
    assert!(grown < 10 << 20, "memory grew by {} KiB", grown / 1024);
    println!("A16: {cpu:?} of processor time, memory +{} KiB", grown / 1024);
    arena.close("A16");
}

/// The extension agreed on, if the upgrade was granted.
fn negotiated(address: SocketAddr, offer: &str) -> Result<Option<String>, u16> {
    let mut raw = Raw::connect(address);
    raw.send(&upgrade_request(&format!("Sec-WebSocket-Extensions: {offer}\r\n")));
    let response: Response = raw.response(PATIENCE).expect("an answer");
    match response.status {
        101 => Ok(response.header("sec-websocket-extensions").map(str::to_owned)),
        status => Err(status),
    }
}

#[test]
fn a18_offers_and_data_of_deflate_that_are_wrong() {
    let arena = Arena::open(&config());
    let address = arena.server.clients();
    let many = format!("{}permessage-deflate", "x, ".repeat(200));
    let repeated = "server_no_context_takeover; server_no_context_takeover";
    let repeated = format!("permessage-deflate; {repeated}");
    for offer in [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=abc",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; unknown=1",
        "permessage-deflate; ;",
        &repeated,
        &many,
    ] {
        let outcome = negotiated(address, offer);
        assert!(matches!(outcome, Ok(None) | Err(400)), "{offer}: {outcome:?}");
    }
    // A window of 8 bits may be granted (then it must be named) or not.
    let eight = negotiated(address, "permessage-deflate; server_max_window_bits=8");
    let fits = match &eight {
        Ok(agreed) => agreed.as_ref().is_none_or(|a| a.contains("server_max_window_bits=8")),
        Err(status) => *status == 400,
    };
    assert!(fits, "{eight:?}");
    // The control: a plain offer is taken, and what is compressed is understood.
    let mut raw = Raw::upgraded(address, OFFER);
    raw.send(&frame(TEXT | 0x40, &deflated(br#"{"id":1,"connect":{}}"#)));
    let reply = raw.frame(PATIENCE).expect("a compressed command is answered");
    assert_eq!(reply.first & 0x0f, 1, "{reply:?}");

    ends(address, "RSV1 without an agreement", &frame(TEXT | 0x40, b"x"), &[1002]);
    let first = frame(0x41, b"\xaa");
    let cases: &[(&str, Vec<u8>, &[u16])] = &[
        ("RSV1 on a continuation", [first, frame(0xc0, b"\x02")].concat(), &[1002]),
        ("RSV1 on a ping", frame(PING | 0x40, b""), &[1002]),
        ("a reserved block type", frame(TEXT | 0x40, b"\x07\x07\x07"), &[1002, 1007]),
        ("noise", frame(TEXT | 0x40, &[0xff; 64]), &[1002, 1007]),
        ("a stored block without end", frame(TEXT | 0x40, b"\x00\x64\x00\x9b\xff{"), &[1002, 1007]),
        ("a distance before the start", frame(TEXT | 0x40, b"\x03\x02\x00"), &[1002, 1007, 3501]),
    ];
    for (name, bytes, expected) in cases {
        let mut raw = Raw::upgraded(address, OFFER);
        raw.send(bytes);
        ended(&mut raw, name, expected);
    }
    arena.close("A18");
}

#[test]
fn a19_text_that_is_not_utf8() {
    let arena = Arena::open(&config());
    let address = arena.server.clients();
    let bad: &[(&str, &[u8])] = &[
        ("0xff", b"{\"id\":1,\"connect\":{\"data\":\"\xff\"}}"),
        ("a surrogate", b"\xed\xa0\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong NUL", b"\xe0\x80\x80"),
        ("above U+10FFFF", b"\xf4\x90\x80\x80"),
        ("a lone continuation", b"\x80"),
        ("half a character at the end", b"{}\xc3"),
    ];
    for (name, payload) in bad {
        ends(address, name, &frame(TEXT, payload), &[1007]);
    }
    ends(address, "in the first fragment", &frame(0x01, b"\xff"), &[1007]);
    let split = [frame(0x01, b"\xe2\x82"), frame(0x80, b"(")].concat();
    ends(address, "in the second half of a character", &split, &[1007]);
    ends(address, "before the frame is whole", &with_length16(TEXT, 200, b"{\xff}"), &[1007]);
    // The control: a character split between two fragments is whole again.
    let text = "{\"id\":1,\"connect\":{\"name\":\"\u{20ac}\"}}".as_bytes();
    let at = text.windows(2).position(|w| w == b"\xe2\x82").unwrap() + 1;
    let mut raw = Raw::upgraded(address, "");
    raw.send(&[frame(0x01, &text[..at]), frame(0x80, &text[at..])].concat());
    let reply = raw.frame(PATIENCE).expect("connect is answered");
    assert!(String::from_utf8_lossy(&reply.payload).contains("\"connect\""), "{reply:?}");
    arena.close("A19");
}

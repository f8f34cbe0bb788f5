//! Compression: round trips, and what bombs, rubbish and half a message come to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;

use common::{COMPRESSED, LIMITS, Owned, Reader, frame, steps, whole};
use flate2::{Compress, Compression, FlushCompress};
use plimsoll_transport::deflate::{Deflater, Inflater};
use plimsoll_transport::ws::{Opcode, frame_len};
use proptest::prelude::*;

/// `len` zeros as the wire of one message, made in pieces.
fn bomb(len: usize) -> Vec<u8> {
    let mut context = Compress::new(Compression::best(), false);
    let zeros = vec![0; 1 << 20];
    let mut wire = Vec::new();
    for _ in 0..len / zeros.len() {
        let mut out = vec![0; 8192];
        let before = context.total_out();
        context.compress(&zeros, &mut out, FlushCompress::Sync).unwrap();
        out.truncate((context.total_out() - before) as usize);
        wire.extend_from_slice(&out);
    }
    wire.truncate(wire.len() - 4);
    wire
}

fn code(result: Result<&[u8], plimsoll_transport::ws::Violation>) -> u16 {
    result.map_or_else(|violation| violation.code, |_| 0)
}

#[test]
fn a_bomb_makes_no_more_than_the_cap() {
    let wire = bomb(64 << 20);
    assert!(wire.len() < 100 * 1024);
    let mut inflater = Inflater::default();
    for cap in [0, 1, 1000, 64 * 1024] {
        assert_eq!(code(inflater.inflate(&wire, cap)), 1009);
        // One byte above the cap is how it shows.
        assert!(inflater.held_bytes() <= cap.max(4 * 1024) + 1, "{}", inflater.held_bytes());
    }
    // 1 MiB on the wire is over the limit before anything is inflated, part by part too.
    let whole_bomb = frame(0xc2, &wire.repeat(12));
    assert_eq!(whole(&whole_bomb, &COMPRESSED), (vec![], Some(1009)));
    assert_eq!(steps(&whole_bomb, 1000, &COMPRESSED), (vec![], Some(1009)));
    let small_bomb = frame(0xc2, &wire[..32 * 1024]);
    let mut reader = Reader::default();
    assert_eq!(reader.feed(&small_bomb, &COMPRESSED).unwrap_err().code, 1009);
    assert!(reader.inflater.held_bytes() <= COMPRESSED.message_bytes_max + 1);
}

#[test]
fn a_large_message_is_not_kept_for_the_next() {
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(&bomb(4 << 20), 4 << 20).unwrap().len(), 4 << 20);
    assert_eq!(inflater.inflate(b"\x00", 4 << 20).unwrap(), b"");
    assert!(inflater.held_bytes() <= 4 * 1024);
}

#[test]
fn the_examples_of_the_rfc() {
    let mut inflater = Inflater::default();
    let good: &[(&[u8], &[u8])] = &[
        (b"\xf2\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        // A block of its own for the first letters.
        (b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", b"Hello"),
        // Not compressed at all.
        (b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", b"Hello"),
        // A last block, with and without the empty one that should follow.
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", b"Hello"),
        (b"\xf3\x48\xcd\xc9\xc9\x07\x00", b"Hello"),
        (b"\x00", b""),
        (b"", b""),
    ];
    for (wire, expected) in good {
        assert_eq!(inflater.inflate(wire, 100).unwrap(), *expected, "{wire:x?}");
        assert_eq!(inflater.inflate(wire, expected.len()).unwrap(), *expected, "{wire:x?}");
    }
}

#[test]
fn rubbish_and_halves() {
    let mut inflater = Inflater::default();
    let bad: &[&[u8]] = &[
        // No such block type; a length that is not its complement; a distance before the start.
        b"\x07",
        b"\x00\x05\x00\x00\x00Hello\x00",
        b"\x4b\x04\x22\x00\x00",
        // Blocks that end too early: stored, fixed, and within a code.
        b"\x00\x05\x00\xfa\xff\x48\x65",
        b"\xf2\x48\xcd\xc9\xc9",
        b"\xf2\x48",
        b"\x04",
        b"\xf2\x48\x05\x00\x00\x00\xff\xff",
        // Rubbish after the end.
        b"\xf3\x48\xcd\xc9\xc9\x07\x00\x07",
    ];
    for wire in bad {
        assert_eq!(code(inflater.inflate(wire, 100)), 1007, "{wire:x?}");
    }
    // Last blocks without end cost a reset each, so there are few.
    assert_eq!(code(inflater.inflate(&b"\x03\x00".repeat(8), 100)), 0);
    assert_eq!(code(inflater.inflate(&b"\x03\x00".repeat(30_000), 100)), 1007);
    // And the next message is none the worse for it.
    assert_eq!(inflater.inflate(b"\xf2\x48\xcd\xc9\xc9\x07\x00", 5).unwrap(), b"Hello");
}

#[test]
fn frames() {
    let hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let text = |text: &str| Owned::Text(text.to_owned());
    let bytes = [
        frame(0xc1, hello),
        frame(0x81, b"plain"),
        frame(0x41, &hello[..3]),
        frame(0x89, b""),
        frame(0x80, &hello[3..]),
        frame(0xc2, hello),
    ]
    .concat();
    let expected = vec![
        text("Hello"),
        text("plain"),
        Owned::Ping(vec![]),
        text("Hello"),
        Owned::Binary(b"Hello".to_vec()),
    ];
    for step in 1..=bytes.len() {
        assert_eq!(steps(&bytes, step, &COMPRESSED), (expected.clone(), None), "{step}");
    }
    let refused = |bytes: &[u8]| whole(bytes, &COMPRESSED).1;
    assert_eq!(whole(&frame(0xc1, hello), &LIMITS).1, Some(1002), "not agreed upon");
    assert_eq!(refused(&[frame(0x41, hello), vec![0xc0]].concat()), Some(1002));
    assert_eq!(refused(&[0xc9]), Some(1002), "no control frame is compressed");
    assert_eq!(refused(&frame(0xc1, b"\xff\xff")), Some(1007));
    let mut deflater = Deflater::default();
    let wrong = deflater.compress(b"\xff\xfe").unwrap().to_vec();
    assert_eq!(refused(&frame(0xc1, &wrong)), Some(1007), "text that is not UTF-8");
}

#[test]
fn a_frame_is_compressed_only_if_that_makes_it_shorter() {
    let mut deflater = Deflater::default();
    let (mut short, mut long) = (Vec::new(), Vec::new());
    deflater.append_frame(&mut short, Opcode::Text, b"{}");
    assert_eq!(short, b"\x81\x02{}");
    let payload = b"{\"channel\":\"news\",\"data\":{}}".repeat(20);
    deflater.append_frame(&mut long, Opcode::Text, &payload);
    assert_eq!(long[0], 0xc1);
    assert!(long.len() < payload.len() / 4);
    assert_eq!(frame_len(&long), Some(long.len()));
}

proptest! {
    #[test]
    fn round_trips(
        part in prop::collection::vec(any::<u8>(), 0..400),
        times in 1..300_usize,
        level in 1..10_u32,
    ) {
        let payload = part.repeat(times);
        let mut deflater = Deflater::new(level);
        let mut inflater = Inflater::default();
        // A second message of other bytes, which must not lean on the first.
        for payload in [&payload[..], payload.get(part.len() / 2..).unwrap_or_default(), b"xy"] {
            let wire = deflater.compress(payload).unwrap().to_vec();
            prop_assert_eq!(inflater.inflate(&wire, payload.len()).unwrap(), payload);
            if let Some(less) = payload.len().checked_sub(1) {
                prop_assert_eq!(code(inflater.inflate(&wire, less)), 1009);
            }
        }
    }

    /// A message cut short is refused, wherever it is cut.
    #[test]
    fn halves(part in "[a-z ]{1,40}", times in 1..50_usize, cut in any::<prop::sample::Index>()) {
        let mut deflater = Deflater::default();
        let wire = deflater.compress(part.repeat(times).as_bytes()).unwrap().to_vec();
        let cut = 1 + cut.index(wire.len());
        if cut < wire.len() {
            prop_assert_eq!(code(Inflater::default().inflate(&wire[..cut], 1 << 20)), 1007);
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut inflater = Inflater::default();
        prop_assert!(matches!(code(inflater.inflate(&bytes, 1000)), 0 | 1007 | 1009));
        prop_assert!(inflater.held_bytes() <= 4 * 1024);
    }
}

//! Frames one by one: what each rule of RFC 6455 refuses, when, and what a connection holds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::ops::ControlFlow;

use common::{LIMITS, MASK, Owned, Reader, frame, pieces, steps, whole};
use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::ws::{
    ClientDecoder, Decoder, Event, Limits, Opcode, append_close, append_frame, apply_mask,
    encode_client, frame_header, frame_len,
};

fn text(text: &str) -> Owned {
    Owned::Text(text.to_owned())
}

#[test]
fn an_idle_decoder_is_a_pointer() {
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

#[test]
fn masking_is_an_exclusive_or() {
    for len in 0..80 {
        for offset in 0..9 {
            let mut data: Vec<u8> = (0..len).collect();
            let expected: Vec<u8> =
                (0..len).map(|i| i ^ MASK[(usize::from(i) + offset) % 4]).collect();
            apply_mask(&mut data, MASK, offset);
            assert_eq!(data, expected);
        }
    }
}

#[test]
fn messages_and_control_frames_come_in_order() {
    let bytes = [
        frame(0x81, "h\u{e9}llo".as_bytes()),
        frame(0x82, b"\xff\x00"),
        frame(0x01, b"a"),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x8a, b""),
        frame(0x80, b"b"),
        frame(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    let expected = vec![
        text("h\u{e9}llo"),
        Owned::Binary(vec![0xff, 0]),
        Owned::Ping(b"ping".to_vec()),
        Owned::Pong(Vec::new()),
        text("ab"),
        Owned::Close(Some(1000), "bye".to_owned()),
    ];
    assert_eq!(whole(&bytes, &LIMITS), (expected.clone(), None));
    for step in 1..bytes.len() {
        assert_eq!(steps(&bytes, step, &LIMITS), (expected.clone(), None), "{step}");
    }
}

#[test]
fn a_whole_frame_is_handed_out_where_it_lies() {
    let mut bytes = frame(0x82, &[7; 200]);
    let range = bytes.as_ptr_range();
    let mut seen = 0;
    Decoder::default()
        .decode(&mut bytes, &LIMITS, &mut Inflater::default(), &mut |event| {
            let Event::Binary(payload) = event else { panic!("{event:?}") };
            assert!(range.contains(&payload.as_ptr()));
            seen += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, 1);
}

#[test]
fn nothing_is_held_between_messages() {
    let mut reader = Reader::default();
    let bytes = [frame(0x81, &[b'x'; 5000]), frame(0x01, b"a"), frame(0x80, b"b")].concat();
    for byte in &bytes {
        reader.feed(&[*byte], &LIMITS).unwrap();
    }
    assert_eq!(reader.events.len(), 2);
    assert!(reader.decoder.is_idle());
    assert_eq!(reader.decoder.held_bytes(), 0);
    reader.feed(&bytes[..1], &LIMITS).unwrap();
    assert!(!reader.decoder.is_idle() && reader.decoder.held_bytes() > 0);
}

#[test]
fn memory_follows_what_arrived_and_not_what_was_declared() {
    let limits = Limits { message_bytes_max: 64 << 20, ..LIMITS };
    let mut reader = Reader::default();
    let header = [&[0x82, 0xff][..], &(64_u64 << 20).to_be_bytes(), &MASK].concat();
    reader.feed(&header, &limits).unwrap();
    reader.feed(b"0123456789", &limits).unwrap();
    assert!(reader.decoder.held_bytes() < 512, "{}", reader.decoder.held_bytes());
}

/// Every one is refused with the code, at once or in single bytes, and nothing comes of it.
#[test]
fn violations() {
    let masked = |first: u8, second: u8, rest: &[u8]| [&[first, second][..], rest].concat();
    let long = |len: u64| masked(0x82, 0xff, &len.to_be_bytes()).into_iter().chain(MASK).collect();
    let mut table: Vec<(u16, Vec<u8>)> = vec![
        // Not masked: by the second byte.
        (1002, vec![0x81, 0x05]),
        (1002, vec![0x89, 0x00]),
        // Lengths.
        (1002, long(1 << 63)),
        (1002, long(u64::MAX)),
        (1009, long((1 << 63) - 1)),
        (1009, long(1 << 32)),
        (1009, long(64 * 1024 + 1)),
        (1002, long(5)),
        (1002, long(0xffff)),
        (1002, masked(0x81, 0xfe, &[0, 5, 1, 2, 3, 4])),
        (1002, masked(0x81, 0xfe, &[0, 125, 1, 2, 3, 4])),
        // Control frames.
        (1002, masked(0x89, 0xfe, &[])),
        (1002, masked(0x88, 0xff, &[])),
        (1002, vec![0x09]),
        (1002, vec![0x0a]),
        (1002, vec![0x08]),
        // Order.
        (1002, vec![0x00]),
        (1002, vec![0x80]),
        (1002, [frame(0x01, b"a"), vec![0x81]].concat()),
        (1002, [frame(0x01, b"a"), vec![0x02]].concat()),
        // Compression that was not agreed upon, and bits nobody agrees upon.
        (1002, vec![0xc1]),
        (1002, vec![0xa1]),
        (1002, vec![0x91]),
        (1002, vec![0xf9]),
        // Close frames.
        (1002, frame(0x88, b"\x03")),
        (1007, frame(0x88, b"\x03\xe8\xff")),
        // Text.
        (1007, frame(0x81, b"\xff")),
        (1007, frame(0x81, b"abc\xe2\x82")),
        (1007, frame(0x81, b"\xed\xa0\x80")),
        (1007, frame(0x81, b"\xc0\xaf")),
        (1007, frame(0x81, b"\xf4\x90\x80\x80")),
        (1007, [frame(0x01, b"\xe2\x82"), frame(0x80, b"")].concat()),
        (1007, [frame(0x01, b"\xe2"), frame(0x80, b"a")].concat()),
        (1007, frame(0x01, b"\xff")),
    ];
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        table.push((1002, vec![0x80 | opcode]));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        table.push((1002, frame(0x88, &code.to_be_bytes())));
    }
    for (code, bytes) in table {
        assert_eq!(whole(&bytes, &LIMITS), (vec![], Some(code)), "{bytes:x?}");
        assert_eq!(steps(&bytes, 1, &LIMITS), (vec![], Some(code)), "{bytes:x?}");
    }
}

#[test]
fn close_codes_that_may_stand_on_the_wire() {
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999] {
        let bytes = frame(0x88, &code.to_be_bytes());
        let expected = vec![Owned::Close(Some(code), String::new())];
        assert_eq!(whole(&bytes, &LIMITS), (expected, None));
    }
    let longest = "x".repeat(123);
    let bytes = frame(0x88, &[b"\x0f\xa0", longest.as_bytes()].concat());
    assert_eq!(whole(&bytes, &LIMITS).0, [Owned::Close(Some(4000), longest)]);
    assert_eq!(whole(&frame(0x88, b""), &LIMITS).0, [Owned::Close(None, String::new())]);
}

#[test]
fn text_is_refused_at_the_byte_that_spoils_it() {
    let bytes = frame(0x81, b"\xce\xba\xf4\x90\x80\x80 and much more text that never arrives");
    let mut reader = Reader::default();
    // Six bytes of header, two good ones, the first of four, and the one that is too high.
    reader.feed(&bytes[..9], &LIMITS).unwrap();
    assert_eq!(reader.feed(&bytes[9..10], &LIMITS).unwrap_err().code, 1007);
    assert!(reader.decoder.is_idle());

    // Split within a character it is fine, over frames too.
    let (first, second) = "\u{1f409}".as_bytes().split_at(2);
    let bytes = [frame(0x01, first), frame(0x80, second)].concat();
    for step in 1..=bytes.len() {
        assert_eq!(steps(&bytes, step, &LIMITS), (vec![text("\u{1f409}")], None));
    }
}

#[test]
fn the_limit_of_a_message() {
    let max = LIMITS.message_bytes_max;
    let outcome = |len: usize| whole(&frame(0x82, &vec![1; len]), &LIMITS);
    assert_eq!(outcome(max - 1).1, None);
    assert_eq!(outcome(max).0, [Owned::Binary(vec![1; max])]);
    assert_eq!(outcome(max + 1), (vec![], Some(1009)));

    // Over fragments: at the header of the one that is too much.
    let mut reader = Reader::default();
    reader.feed(&frame(0x02, &vec![1; max]), &LIMITS).unwrap();
    reader.feed(&frame(0x00, b""), &LIMITS).unwrap();
    let header = &frame(0x00, b"x")[..6];
    assert_eq!(reader.feed(header, &LIMITS).unwrap_err().code, 1009);
    assert!(reader.events.is_empty());
    assert!(reader.decoder.held_bytes() < 512);
}

#[test]
fn a_continuation_without_end_is_cut_at_the_limit() {
    let mut reader = Reader::default();
    reader.feed(&frame(0x02, &[0; 4096]), &LIMITS).unwrap();
    let part = frame(0x00, &[0; 4096]);
    let mut offered = 4096;
    let violation = loop {
        if let Err(violation) = reader.feed(&part, &LIMITS) {
            break violation;
        }
        offered += 4096;
        assert!(reader.decoder.held_bytes() <= 2 * LIMITS.message_bytes_max + 512);
    };
    assert_eq!((violation.code, offered), (1009, LIMITS.message_bytes_max));
}

#[test]
fn the_number_of_fragments() {
    let limits = Limits { fragments_max: 3, ..LIMITS };
    let middle = frame(0x00, b"");
    let start = frame(0x01, b"a");
    let end = frame(0x80, b"b");
    let good = [&start[..], &middle, &end].concat();
    let twice = [&good[..], &good].concat();
    assert_eq!(whole(&twice, &limits), (vec![text("ab"), text("ab")], None));
    let bad = [&start[..], &middle, &middle, &end].concat();
    assert_eq!(whole(&bad, &limits), (vec![], Some(1008)));
    assert_eq!(steps(&bad, 1, &limits), (vec![], Some(1008)));
    // Control frames in between are no part of the message.
    let pings = frame(0x89, b"").repeat(10);
    let mixed = [&start[..], &pings, &middle, &pings, &end].concat();
    assert_eq!(whole(&mixed, &limits).1, None);
}

#[test]
fn nothing_counts_after_the_end() {
    let after = frame(0x81, b"late");
    // A close frame, a violation, and a caller who has had enough.
    let close = frame(0x88, b"");
    assert_eq!(whole(&[&close[..], &after].concat(), &LIMITS).0.len(), 1);
    assert_eq!(pieces(&[&close, &after], &LIMITS).0.len(), 1);
    assert_eq!(pieces(&[&[0x83], &after, &[0x83]], &LIMITS), (vec![], Some(1002)));

    let mut decoder = Decoder::default();
    let mut seen = 0;
    for _ in 0..2 {
        let mut bytes = after.repeat(3);
        let result = decoder.decode(&mut bytes, &LIMITS, &mut Inflater::default(), &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(result, Ok(()));
    }
    assert_eq!((seen, decoder.is_idle()), (1, true));
}

#[test]
fn a_client_reads_what_a_server_writes() {
    let mut wire = Vec::new();
    append_frame(&mut wire, Opcode::Text, b"one");
    append_frame(&mut wire, Opcode::Binary, &[2; 300]);
    append_frame(&mut wire, Opcode::Binary, &[3; 70_000]);
    append_frame(&mut wire, Opcode::Ping, &[4; 200]);
    append_close(&mut wire, 3501, "bad request");

    // Boundaries of frames, as an outbox finds them after a partial write.
    let mut lengths = Vec::new();
    let mut rest = &wire[..];
    while let Some(len) = frame_len(rest) {
        lengths.push(len);
        rest = &rest[len..];
    }
    assert_eq!(lengths, [5, 304, 70_010, 127, 15]);
    assert!(rest.is_empty());
    for cut in [&wire[..0], &wire[..1], &wire[5..7], &wire[5..8], &wire[309..318]] {
        assert_eq!(frame_len(cut), None);
    }

    let mut events: Vec<Owned> = Vec::new();
    let mut decoder = ClientDecoder::default();
    let limits = Limits { message_bytes_max: 1 << 20, ..LIMITS };
    for chunk in wire.clone().chunks_mut(1000) {
        let mut on_event = |event: Event<'_>| {
            events.push(event.into());
            ControlFlow::Continue(())
        };
        decoder.decode(chunk, &limits, &mut Inflater::default(), &mut on_event).unwrap();
    }
    assert_eq!(events.len(), 5);
    assert_eq!(events[3], Owned::Ping(vec![4; 125]));
    assert_eq!(events[4], Owned::Close(Some(3501), "bad request".to_owned()));

    let mut masked = Vec::new();
    encode_client(&mut masked, Opcode::Text, MASK, b"x");
    let result = ClientDecoder::default().decode(
        &mut masked,
        &LIMITS,
        &mut Inflater::default(),
        &mut |_| ControlFlow::Continue(()),
    );
    assert_eq!(result.unwrap_err().code, 1002);
}

#[test]
fn headers_are_written_in_the_shortest_form() {
    for (len, expected) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let (header, size) = frame_header(Opcode::Text, len, false);
        assert_eq!(size, expected, "{len}");
        assert_eq!(frame_len(&header[..size]), Some(len + size), "{len}");
        assert_eq!(frame_header(Opcode::Text, len, true).0[0], 0xc1);
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let mut out = Vec::new();
    append_close(&mut out, 1008, &("x".repeat(122) + "\u{e9}\u{e9}"));
    assert_eq!(out[1], 124);
    assert!(std::str::from_utf8(&out[4..]).is_ok());
}

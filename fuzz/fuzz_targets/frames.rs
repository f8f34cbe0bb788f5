//! Frames: whatever arrives, and however it is cut, the same events come out.

#![no_main]

use std::ops::ControlFlow;

use libfuzzer_sys::fuzz_target;
use plimsoll_transport::deflate::{Deflater, Inflater};
use plimsoll_transport::ws::{ClientDecoder, Decoder, Event, Limits, Violation, apply_mask};

const MESSAGE_BYTES_MAX: usize = 1024;

fuzz_target!(|data: &[u8]| {
    let [flags, seed, data @ ..] = data else { return };
    let limits = Limits {
        message_bytes_max: MESSAGE_BYTES_MAX,
        fragments_max: 8,
        compression: flags & 1 != 0,
    };
    let client = flags & 2 != 0;
    let bytes = match flags & 4 != 0 {
        true => data.to_vec(),
        false => frames(data, client),
    };
    let whole = run(&bytes, bytes.len().max(1), 0, client, &limits);
    let split = run(&bytes, 1 + usize::from(*seed & 0x3f), *seed, client, &limits);
    assert_eq!(whole, split);
});

/// Raw bytes seldom are frames, so most runs take them as a recipe: two bytes of header, two of
/// length and how the payload is made.
fn frames(mut recipe: &[u8], client: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut deflater = Deflater::default();
    while let [first, length, how, rest @ ..] = recipe {
        let take = usize::from(length & 0x7f).min(rest.len());
        let mut payload = rest[..take].to_vec();
        recipe = &rest[take..];
        if how & 1 != 0 {
            payload = payload.repeat(usize::from(how >> 4) + 1);
        }
        if how & 2 != 0 {
            payload = deflater.compress(&payload).expect("a compressor that works").to_vec();
        }
        out.push(*first);
        let masked = if client { 0 } else { 0x80 };
        match payload.len() {
            len @ 0..126 => out.push(masked | len as u8),
            len => {
                out.push(masked | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
        }
        if !client {
            let mask = [*how, *first, *length, 0x5a];
            out.extend_from_slice(&mask);
            apply_mask(&mut payload, mask, 0);
        }
        out.extend_from_slice(&payload);
    }
    out
}

type Outcome = (Vec<String>, Result<(), Violation>);

fn run(bytes: &[u8], step: usize, seed: u8, client: bool, limits: &Limits) -> Outcome {
    let (mut server, mut peer) = (Decoder::default(), ClientDecoder::default());
    let mut inflater = Inflater::default();
    let mut events = Vec::new();
    let mut copy = bytes.to_vec();
    let mut rest = copy.as_mut_slice();
    let mut turn = usize::from(seed);
    while !rest.is_empty() {
        // Steps of changing size, small ones above all.
        turn = turn.wrapping_mul(31).wrapping_add(7);
        let len = if step == bytes.len() { step } else { 1 + turn % step };
        let (part, next) = rest.split_at_mut(len.min(rest.len()));
        rest = next;
        let mut on_event = |event: Event<'_>| {
            check(&event);
            events.push(format!("{event:?}"));
            ControlFlow::Continue(())
        };
        let result = match client {
            true => peer.decode(part, limits, &mut inflater, &mut on_event),
            false => server.decode(part, limits, &mut inflater, &mut on_event),
        };
        // Twice the message, for a vector's growth, and the fixed part.
        assert!(server.held_bytes() <= 2 * MESSAGE_BYTES_MAX + 1024);
        if result.is_err() {
            assert!(server.is_idle() && peer.is_idle());
            return (events, result);
        }
    }
    (events, Ok(()))
}

fn check(event: &Event<'_>) {
    match event {
        Event::Text(text) => assert!(text.len() <= MESSAGE_BYTES_MAX),
        Event::Binary(bytes) => assert!(bytes.len() <= MESSAGE_BYTES_MAX),
        Event::Ping(bytes) | Event::Pong(bytes) => assert!(bytes.len() <= 125),
        Event::Close { code, reason } => {
            assert!(reason.len() <= 123 && (code.is_some() || reason.is_empty()));
            assert!(!matches!(code, Some(..1000 | 1004..=1006 | 1015..3000 | 5000..)));
        }
    }
}

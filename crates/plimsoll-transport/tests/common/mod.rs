//! What the tests of frames share.

#![allow(dead_code, reason = "each test program uses a part")]

use std::ops::ControlFlow;

use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::ws::{Decoder, Event, Limits, Violation, apply_mask};

pub const MASK: [u8; 4] = [0x9c, 0x01, 0xff, 0x37];

pub const LIMITS: Limits =
    Limits { message_bytes_max: 64 * 1024, fragments_max: 1024, compression: false };

pub const COMPRESSED: Limits = Limits { compression: true, ..LIMITS };

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Owned {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.to_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Event::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Event::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

pub type Outcome = (Vec<Owned>, Option<u16>);

/// A decoder with all it needs.
#[derive(Default)]
pub struct Reader {
    pub decoder: Decoder,
    pub inflater: Inflater,
    pub events: Vec<Owned>,
}

impl Reader {
    pub fn feed(&mut self, bytes: &[u8], limits: &Limits) -> Result<(), Violation> {
        let mut copy = bytes.to_vec();
        let events = &mut self.events;
        self.decoder.decode(&mut copy, limits, &mut self.inflater, &mut |event| {
            events.push(event.into());
            ControlFlow::Continue(())
        })
    }
}

/// What comes of bytes that arrive at once.
pub fn whole(bytes: &[u8], limits: &Limits) -> Outcome {
    pieces(&[bytes], limits)
}

/// What comes of bytes that arrive in steps of a fixed size.
pub fn steps(bytes: &[u8], step: usize, limits: &Limits) -> Outcome {
    pieces(&bytes.chunks(step).collect::<Vec<_>>(), limits)
}

pub fn pieces(pieces: &[&[u8]], limits: &Limits) -> Outcome {
    let mut reader = Reader::default();
    let mut code = None;
    for piece in pieces {
        if let Err(violation) = reader.feed(piece, limits) {
            assert_eq!(code, None, "a violation is told once");
            code = Some(violation.code);
        }
    }
    (reader.events, code)
}

/// A masked frame of any first byte, its length in the shortest form.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], MASK, 0);
    out
}

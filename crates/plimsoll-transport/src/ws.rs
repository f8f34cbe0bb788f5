//! WebSocket frames and messages (RFC 6455), without I/O.

mod decoder;
mod encode;
mod frame;
mod mask;

use std::ops::ControlFlow;

pub use decoder::{ClientDecoder, Decoder};
pub use encode::{append_close, append_frame, encode_client, frame_header, frame_len};
pub use mask::apply_mask;

/// Bytes of a control frame's payload.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Bounds and settings of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message, after decompression.
    pub message_bytes_max: usize,
    /// Frames that make up one message.
    pub fragments_max: usize,
    /// Whether `permessage-deflate` was agreed upon.
    pub compression: bool,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation = 0,
    /// A message of UTF-8 text, or its first part.
    Text = 1,
    /// A message of bytes, or its first part.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// To be answered by a pong of the same payload.
    Ping = 9,
    /// The answer to a ping, or unasked for.
    Pong = 10,
}

/// One message or control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, at most 125 bytes.
    Ping(&'a [u8]),
    /// A pong, at most 125 bytes.
    Pong(&'a [u8]),
    /// The peer closes; whatever it sends after this is ignored.
    Close {
        /// Why, if it says so; a code that may stand on the wire.
        code: Option<u16>,
        /// More words for it, at most 123 bytes.
        reason: &'a str,
    },
}

/// A breach of the protocol or of a limit: the connection is to be closed with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// 1002, 1007, 1008 or 1009.
    pub code: u16,
    /// One clause for the peer.
    pub reason: &'static str,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

impl std::error::Error for Violation {}

type OnEvent<'f> = dyn FnMut(Event<'_>) -> ControlFlow<()> + 'f;

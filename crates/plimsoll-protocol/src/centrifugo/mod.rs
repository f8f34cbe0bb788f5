//! The Centrifugo client protocol v2 in its JSON form.
//!
//! A WebSocket text message holds commands separated by one newline each; the server writes one
//! object per message, never with a raw newline in it.

mod command;
mod reply;

pub use command::{BadCommand, decode, lines};
pub use reply::{
    PING, write_error, write_info, write_presence, write_pub, write_publication, write_push,
    write_reply,
};

/// Query of the WebSocket URL or subprotocol that asks for the Protobuf form.
pub const PROTOBUF_SUBPROTOCOL: &str = "centrifuge-protobuf";
/// Subprotocol of the JSON form (clients usually name none).
pub const JSON_SUBPROTOCOL: &str = "centrifuge-json";

//! NATS: without history (at most once), and with JetStream.
//!
//! One connection, which the client library supervises: it connects again and subscribes again by
//! itself, and we tell the gap. Subjects:
//!
//! ```text
//! PREFIX.out.n.TOKEN          publications of a channel without history
//! PREFIX.in.CLASS.TOKEN       those with history: a stream of JetStream republishes them to
//! PREFIX.out.CLASS.TOKEN      which has the sequence, and the one before it, in headers
//! PREFIX.ctl, PREFIX.node.ID  messages between nodes
//! PREFIX.probe.ID             round trips of our own
//! PREFIX.pq                   who is present: every node answers for its own members
//! ```
//!
//! A channel is subscribed as `PREFIX.out.*.TOKEN`.

mod backbone;
mod config;
mod deliver;
mod presence;
mod send;
mod shared;
mod streams;

pub use backbone::{connect, connect_jetstream};
pub use config::{ConnectError, NatsConfig};

use crate::contract::Failure;
use async_nats::client::{RequestError, RequestErrorKind};

/// What an error of a request means.
fn failure(error: &RequestError) -> Failure {
    match error.kind() {
        // Nobody listens: there is no such stream, or it has no leader at the moment.
        RequestErrorKind::NoResponders => Failure::Busy,
        RequestErrorKind::InvalidSubject => Failure::Refused,
        RequestErrorKind::MaxPayloadExceeded => Failure::TooLarge,
        RequestErrorKind::TimedOut | RequestErrorKind::Other => Failure::Unknown,
    }
}

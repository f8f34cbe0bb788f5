//! What the pure core wants from whoever drives it: the epoll driver, or a simulator.

use super::super::letter::{Letter, Report};
use plimsoll_core::link::Call;
use std::sync::Arc;

/// How much of a send the kernel took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes, perhaps fewer than asked.
    Some(usize),
    /// None: the socket is full.
    Full,
    /// The connection is broken.
    Gone,
}

/// The outside of a worker.
pub trait Io {
    /// Sends without waiting.
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent;
    /// Call `on_writable` when the socket takes bytes again (or stop doing so).
    fn watch(&mut self, slot: u32, readable: bool, writable: bool);
    /// No more will be sent; the peer sees the end after what was.
    fn shut(&mut self, slot: u32);
    /// Closes the socket; the slot may be used again.
    fn close(&mut self, slot: u32);
    /// Gives the socket and what was read of it to the HTTP server.
    fn hand_off(&mut self, slot: u32, read: Vec<u8>);
    /// Posts a letter to another worker.
    fn post(&mut self, to: u16, letter: Letter);
    /// Is that worker's mailbox so full that letters wait here?
    fn is_congested(&self, to: u16) -> bool;
    /// Asks the backbone.
    fn call(&mut self, call: Call);
    /// Does so much wait for the backbone that no publication is to be added?
    fn is_backbone_congested(&self) -> bool;
    /// Answers the control runtime.
    fn report(&mut self, ticket: u64, report: Report);
    /// Random bits.
    fn random(&mut self) -> u64;
    /// Microseconds now, for the delivery latency; read once for each channel
    /// that is written.
    fn micros(&mut self) -> u64;
    /// Counts a connection of this node; false when the limit (0: none) is reached.
    fn admit(&mut self, limit: usize) -> bool;
    /// Takes that back.
    fn dismiss(&mut self);
    /// Counts a connection of a user; false when the limit (0: none) is reached.
    fn enter_user(&mut self, user: &Arc<str>, limit: usize) -> bool;
    /// Takes that back.
    fn leave_user(&mut self, user: &Arc<str>);
    /// Notes a problem of a connection for the log (rate-limited there). Never payloads or
    /// tokens.
    fn problem(&mut self, slot: u32, what: &'static str, code: u16);
}

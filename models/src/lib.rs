//! Model checks of what threads share: mailboxes and the switch from recovery to live.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test --release -p plimsoll-models`: loom then tries
//! every order in which the threads' steps can happen (up to a bound on preemptions). It is a
//! crate of its own because the runtime of the server cannot be built with that flag; the mailbox
//! is the server's own source file.

#[path = "../../crates/plimsoll-server/src/worker/mailbox.rs"]
pub mod mailbox;

#[cfg(all(test, loom))]
mod mailboxes;
#[cfg(all(test, loom))]
mod switch;

//! The way between nodes of one cluster: a broker that exists already, behind one contract.
//!
//! # Writing an adapter
//!
//! An adapter carries bytes. It knows channels by name, bodies as opaque bytes, and offsets; it
//! knows no connections, users, permissions or JSON. It implements [`Backbone`] and passes
//! the `suite` (a feature of this crate). What it owes, in short:
//!
//! 1. **Order.** Publications of one channel are appended in the order of the calls of
//!    [`Backbone::publish`], and within a call in the order of the batch. Every subscriber gets
//!    them in the order of their offsets, the origin included.
//! 2. **An answer is the truth.** `Ok` means appended (where history is kept) and published.
//!    [`Failure::is_certain`] says whether a failed one can still have happened.
//! 3. **Nothing is lost in silence.** Whatever breaks (a connection, an output buffer at the
//!    broker, a queue of our own), the adapter restores what [`Backbone::subscribe`] asked for by
//!    itself and then reports [`Event::Gap`]. Channels with history are read from their last offset
//!    by the caller; the adapter does not do that.
//! 4. **A new life has a new epoch.** A store that may have lost something acknowledged (it
//!    restarted without a durable log, it failed over, it was flushed) gives its channels new
//!    epochs. The same offset of the same epoch is never two different publications.
//! 5. **Nobody waits for a reader.** [`Sink::take`] returns at once; the adapter never waits for
//!    anything while bytes of the broker wait to be read.
//! 6. **Names are bytes.** A channel name is any UTF-8 text of up to 255 bytes. What the broker
//!    cannot have in a key or subject is encoded ([`names`]), never cut or replaced.
//! 7. **Input is not trusted.** What others write into our keys and channels is dropped and told
//!    as [`Event::Garbage`]; it never ends the adapter.
//! 8. **Everything is bounded**, and the bounds stand in [`limits`].

pub mod envelope;
pub mod limits;
pub mod memory;
pub mod names;
pub mod nats;
pub mod redis;
#[cfg(feature = "suite")]
pub mod suite;

mod contract;

pub use contract::*;

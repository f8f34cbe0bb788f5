//! Very many clients from few threads.
//!
//! Each thread has an epoll loop of its own and every n-th client. Publications are due at times
//! that are fixed in advance (open loop): a late generator does not make the server look fast,
//! since latency counts from the intended time, and how late it was is counted as well.

mod client;
mod connection;
mod counters;
mod events;
mod handle;
mod places;
mod publish;
pub mod reconnect;
mod remote;
mod schedule;
mod seen;
mod shared;
mod socket;
mod thread;
mod timers;
mod wire;

pub use counters::histogram;
pub use handle::{Finished, Fleet, Settle};
pub use remote::agent;

use crate::topology::{ChannelId, ClientId, Topology};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// Where the clients connect to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of the server.
    pub address: SocketAddr,
    /// `Host` of the request.
    pub host: String,
    /// Path and query of the request, as `/connection/websocket`.
    pub path: String,
}

/// Everything about a fleet that does not change while it runs.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// The server, or the nodes of a cluster: a client connects to any of them, and to another one
    /// each time. At least one, at most [`crate::limits::NODES_MAX`].
    pub targets: Vec<Target>,
    /// Who is in which channel. Every client has a place in it.
    pub topology: Arc<Topology>,
    /// Threads, at least 1.
    pub threads: usize,
    /// Connections leave from 127.0.0.1 to 127.0.0.`sources`; 0 or 1: from wherever.
    pub sources: u8,
    /// HMAC secret that signs each client's token (user `u<number>`); none: no token is sent.
    pub token_secret: Option<String>,
    /// When clients come back after their connection ended.
    pub reconnect: reconnect::Profile,
    /// Whether subscriptions ask for recovery when they come back.
    pub recover: bool,
    /// Whether to keep books for the ledger.
    pub ledger: bool,
    /// Makes what is random the same in every run.
    pub seed: u64,
    /// Processes, each with `threads` threads and an even share of the clients; 0 or 1: this one.
    pub processes: usize,
}

impl FleetConfig {
    /// One thread of this process, clients of centrifuge-js that recover, no tokens, no books.
    pub fn new(target: Target, topology: Arc<Topology>) -> Self {
        Self {
            targets: vec![target],
            topology,
            threads: 1,
            sources: 0,
            token_secret: None,
            reconnect: reconnect::Profile::CentrifugeJs,
            recover: true,
            ledger: false,
            seed: 1,
            processes: 1,
        }
    }
}

/// What is published.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// Publications per second over the whole fleet.
    pub per_s: f64,
    /// Bytes of a payload, least and most (evenly between them). At least 64: the stamp.
    pub bytes: Range<u32>,
    /// Into which channels.
    pub channels: Range<ChannelId>,
    /// By whom: a client's number, or (`None`) any connected member of a channel, at random.
    pub by: Option<ClientId>,
}

/// What the fleet is to do from now on. Everything is a rate, and can be changed at any time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Clients `0..clients` are to be connected; the others go.
    pub clients: u32,
    /// New connections per second, open loop; 0: as many as `handshakes_max` allows.
    pub connects_per_s: f64,
    /// Handshakes under way at one time; 0: 256.
    pub handshakes_max: u32,
    /// What is published.
    pub streams: Vec<Stream>,
    /// Connections that are cut per second, at random, and come back by the profile.
    pub cuts_per_s: f64,
    /// Of the cuts, clients that leave for good with a close frame and come back as new (0 to 1).
    pub leaves_ratio: f64,
    /// Subscriptions per second that are ended and made anew on a living connection.
    pub resubscribes_per_s: f64,
}

/// What happened, from the fleet's start. Differences tell of a period ([`Counters::since`]).
#[derive(Clone, Debug)]
pub struct Counters {
    /// Time of the reading, microseconds of [`crate::clock`].
    pub at_us: u64,
    /// Now: connections open and connected.
    pub connected: u64,
    /// Now: subscriptions that stand.
    pub subscribed: u64,
    /// Connections tried.
    pub attempts: u64,
    /// Connects answered with success.
    pub connects: u64,
    /// Connections that failed before that, or had to be given up, by reason (few, fixed words).
    pub failures: BTreeMap<&'static str, u64>,
    /// Connections that the server ended, by close code (1006: none).
    pub closes: BTreeMap<u16, u64>,
    /// Connections that the fleet cut or left.
    pub cuts: u64,
    /// Subscribes answered with success.
    pub subscribes: u64,
    /// Of them with `recovered: true` to a request to recover, and with `false`.
    pub recoveries: [u64; 2],
    /// Subscriptions ended by the server, by code.
    pub unsubscribes: BTreeMap<u32, u64>,
    /// Errors in replies, by code.
    pub errors: BTreeMap<u32, u64>,
    /// Publications that were due.
    pub due: u64,
    /// Publications sent.
    pub published: u64,
    /// Of them: acknowledged.
    pub acknowledged: u64,
    /// Of them: what became of it is not known: the answer said so, or none came.
    pub unknown: u64,
    /// Deliveries: publications received, live or recovered.
    pub deliveries: u64,
    /// Deliveries that the sent publications ought to make (their channels' subscribers then).
    pub deliveries_due: u64,
    /// Bytes of the frames that carried them.
    pub delivery_bytes: u64,
    /// Reads that brought something.
    pub reads: u64,
    /// CPU time of the fleet's threads, microseconds.
    pub cpu_us: u64,
    /// Intended time of a publication to its receipt, microseconds, per delivery (live only).
    pub latency_us: Histogram<u64>,
    /// Intended time of a publication to its acknowledgement, microseconds.
    pub ack_us: Histogram<u64>,
    /// Intended start of a connection to its last subscription, microseconds.
    pub connect_us: Histogram<u64>,
    /// End of a connection to the same client being connected and subscribed again, microseconds.
    pub back_us: Histogram<u64>,
    /// How late the generator was for a publication, microseconds.
    pub late_us: Histogram<u64>,
}

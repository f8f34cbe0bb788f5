//! Books that can be changed line by line, and a simulated server that fills them.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod good;
pub mod world;

use plimsoll_bench::ledger::{
    Channel, Comparison, Ledger, Outcome, Position, Recorder, Run, Stamp, Stored, Subscribed, Via,
};

/// An epoch and an offset.
pub type Place = (String, u64);

/// Something that a recorder is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    Published(u32, Stamp),
    Answered(u32, Outcome),
    Subscribed { channel: u32, asked: Option<Place>, position: Option<Place>, recovered: bool },
    Received { channel: u32, offset: u64, stamp: Option<Stamp>, via: Via },
    Stray(String),
    Unsubscribed(u32, u32),
    Closed(Option<u16>),
    Cut,
}

/// When, who, and what.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub at_us: u64,
    pub client: u32,
    pub act: Act,
}

/// A run before it is put into logs.
#[derive(Clone, Debug)]
pub struct Books {
    pub run: Run,
    pub channels: Vec<Channel>,
    pub lines: Vec<Line>,
    pub stored: Vec<Stored>,
    pub comparisons: Vec<Comparison>,
    pub threads: u32,
}

impl Books {
    /// The ledger: every client's lines in the log of its thread.
    pub fn ledger(&self) -> Ledger {
        let mut recorders: Vec<Recorder> = (0..self.threads).map(|_| Recorder::default()).collect();
        for line in &self.lines {
            let recorder = &mut recorders[(line.client % self.threads) as usize];
            record(recorder, line);
        }
        Ledger {
            run: self.run.clone(),
            channels: self.channels.clone(),
            logs: recorders.into_iter().map(Recorder::finish).collect(),
            stored: self.stored.clone(),
            comparisons: self.comparisons.clone(),
        }
    }

    /// Adds a line a millisecond after the last.
    pub fn then(&mut self, client: u32, act: Act) {
        let at_us = self.lines.last().map_or(0, |line| line.at_us) + 1_000;
        self.lines.push(Line { at_us, client, act });
    }
}

fn record(recorder: &mut Recorder, line: &Line) {
    let Line { at_us, client, act } = line.clone();
    match act {
        Act::Published(channel, stamp) => recorder.published(at_us, channel, stamp),
        Act::Answered(sequence, outcome) => recorder.answered(at_us, client, sequence, outcome),
        Act::Subscribed { channel, asked, position, recovered } => {
            let place = |place: &'_ Option<Place>| place.clone();
            let (asked, position) = (place(&asked), place(&position));
            let reply = Subscribed {
                asked: asked.as_ref().map(|(epoch, offset)| Position { epoch, offset: *offset }),
                position: position
                    .as_ref()
                    .map(|(epoch, offset)| Position { epoch, offset: *offset }),
                recovered,
                was_recovering: asked.is_some(),
            };
            recorder.subscribed(at_us, client, channel, reply);
        }
        Act::Received { channel, offset, stamp, via } => {
            recorder.received(at_us, client, channel, offset, stamp, via);
        }
        Act::Stray(channel) => recorder.stray(at_us, client, &channel),
        Act::Unsubscribed(channel, code) => recorder.unsubscribed(at_us, client, channel, code),
        Act::Closed(code) => recorder.closed(at_us, client, code),
        Act::Cut => recorder.cut(at_us, client),
    }
}

/// A stamp whose checksum goes with its name.
pub fn stamp(publisher: u32, sequence: u32) -> Stamp {
    let crc = publisher.wrapping_mul(0x9e37_79b9) ^ sequence.wrapping_mul(0x85eb_ca6b);
    Stamp { publisher, sequence, due_us: 0, crc }
}

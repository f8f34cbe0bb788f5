//! How orders and figures travel between the processes of a fleet: one JSON value a line.

use super::handle::{Order, Report};
use super::reconnect::Profile;
use super::{Counters, FleetConfig, Load, Stream, Target};
use crate::limits;
use crate::topology::{ChannelId, ClientId, Topology};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The first line: what a process of the fleet is to be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// Address, host and path of each.
    targets: Vec<(SocketAddr, String, String)>,
    threads: usize,
    sources: u8,
    token_secret: Option<String>,
    reconnect: Profile,
    recover: bool,
    ledger: bool,
    seed: u64,
    processes: usize,
    /// Which of them this one is.
    pub process: u32,
    /// File with the topology (see [`Places`]).
    pub topology: PathBuf,
    /// File for the books.
    pub books: PathBuf,
}

/// The topology as it stands in a file.
#[derive(Debug, Serialize, Deserialize)]
pub struct Places {
    names: Vec<Box<str>>,
    members: Vec<Vec<ChannelId>>,
}

/// An order, see [`Order`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Told {
    Apply { load: Wanted, at_us: u64 },
    Awake,
    Quiet,
    DropAll,
    Report { round: u64 },
    Probe,
    Finish,
}

/// A load, see [`Load`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Wanted {
    clients: u32,
    connects_per_s: f64,
    handshakes_max: u32,
    streams: Vec<WantedStream>,
    cuts_per_s: f64,
    leaves_ratio: f64,
    resubscribes_per_s: f64,
}

/// A rate, sizes from and to, channels from and to, and the publisher: see [`Stream`].
type WantedStream = (f64, [u32; 2], [ChannelId; 2], Option<ClientId>);

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub struct Said {
    round: u64,
    figures: Figures,
    pending: u64,
    unreached: u64,
    probed: u64,
    examples: Vec<(ClientId, ChannelId)>,
    /// The books are written; threads that broke.
    pub finished: Option<usize>,
}

/// Counters, see [`Counters`]. Histograms are pairs of a value and how often it came.
#[derive(Debug, Serialize, Deserialize)]
struct Figures {
    at_us: u64,
    connected: u64,
    subscribed: u64,
    sums: Vec<u64>,
    failures: BTreeMap<String, u64>,
    closes: BTreeMap<u16, u64>,
    unsubscribes: BTreeMap<u32, u64>,
    errors: BTreeMap<u32, u64>,
    histograms: Vec<Vec<(u64, u64)>>,
}

impl Start {
    pub fn new(config: &FleetConfig, process: u32, topology: PathBuf, books: PathBuf) -> Self {
        let FleetConfig { targets, token_secret, .. } = config.clone();
        Self {
            targets: targets.into_iter().map(|t| (t.address, t.host, t.path)).collect(),
            threads: config.threads,
            sources: config.sources,
            token_secret,
            reconnect: config.reconnect,
            recover: config.recover,
            ledger: config.ledger,
            seed: config.seed,
            processes: config.processes,
            process,
            topology,
            books,
        }
    }

    pub fn config(&self, topology: Topology) -> FleetConfig {
        let targets = self.targets.iter().cloned();
        FleetConfig {
            targets: targets.map(|(address, host, path)| Target { address, host, path }).collect(),
            topology: Arc::new(topology),
            threads: self.threads,
            sources: self.sources,
            token_secret: self.token_secret.clone(),
            reconnect: self.reconnect,
            recover: self.recover,
            ledger: self.ledger,
            seed: self.seed,
            processes: self.processes,
        }
    }
}

impl Places {
    pub fn of(topology: &Topology) -> Self {
        let names = topology.all_channels().map(|channel| topology.name(channel).into()).collect();
        let of = |client| topology.channels_of(client).to_vec();
        Self { names, members: (0..topology.clients()).map(of).collect() }
    }

    pub fn topology(self) -> Topology {
        Topology::new(self.names, self.members)
    }
}

impl Told {
    pub fn of(order: &Order) -> Self {
        match order {
            Order::Apply(load, at_us) => Self::Apply { load: Wanted::of(load), at_us: *at_us },
            Order::Quiet => Self::Quiet,
            Order::DropAll => Self::DropAll,
            Order::Report(round) => Self::Report { round: *round },
            Order::Probe => Self::Probe,
            Order::Finish => Self::Finish,
        }
    }
}

impl Wanted {
    fn of(load: &Load) -> Self {
        let stream = |s: &Stream| {
            let Stream { per_s, bytes, channels, by } = s;
            (*per_s, [bytes.start, bytes.end], [channels.start, channels.end], *by)
        };
        Self {
            clients: load.clients,
            connects_per_s: load.connects_per_s,
            handshakes_max: load.handshakes_max,
            streams: load.streams.iter().map(stream).collect(),
            cuts_per_s: load.cuts_per_s,
            leaves_ratio: load.leaves_ratio,
            resubscribes_per_s: load.resubscribes_per_s,
        }
    }

    pub fn load(self) -> Load {
        let stream = |(per_s, [least, most], [first, end], by): WantedStream| Stream {
            per_s,
            bytes: least..most,
            channels: first..end,
            by,
        };
        Load {
            clients: self.clients,
            connects_per_s: self.connects_per_s,
            handshakes_max: self.handshakes_max,
            streams: self.streams.into_iter().map(stream).collect(),
            cuts_per_s: self.cuts_per_s,
            leaves_ratio: self.leaves_ratio,
            resubscribes_per_s: self.resubscribes_per_s,
        }
    }
}

impl Said {
    pub fn of(report: Report, finished: Option<usize>) -> Self {
        let mut counters = report.counters;
        let pairs = |histogram: &mut Histogram<u64>| {
            let values = histogram.iter_recorded();
            values.map(|v| (v.value_iterated_to(), v.count_at_value())).collect()
        };
        let figures = Figures {
            at_us: counters.at_us,
            connected: counters.connected,
            subscribed: counters.subscribed,
            sums: counters.sums().into_iter().map(|sum| *sum).collect(),
            histograms: counters.histograms().into_iter().map(pairs).collect(),
            failures: counters.failures.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
            closes: counters.closes,
            unsubscribes: counters.unsubscribes,
            errors: counters.errors,
        };
        let Report { round, pending, unreached, probed, examples, .. } = report;
        Self { round, figures, pending, unreached, probed, examples, finished }
    }

    pub fn report(self) -> Report {
        let figures = self.figures;
        let mut counters = Counters {
            at_us: figures.at_us,
            connected: figures.connected,
            subscribed: figures.subscribed,
            failures: figures.failures.iter().map(|(k, v)| (reason(k), *v)).collect(),
            closes: figures.closes,
            unsubscribes: figures.unsubscribes,
            errors: figures.errors,
            ..Counters::default()
        };
        for (sum, value) in counters.sums().into_iter().zip(figures.sums) {
            *sum = value;
        }
        for (histogram, pairs) in counters.histograms().into_iter().zip(figures.histograms) {
            for (value, count) in pairs {
                // It grows by itself, and the other side has the same bound.
                let _ = histogram.record_n(value, count);
            }
        }
        Report {
            round: self.round,
            counters,
            pending: self.pending,
            unreached: self.unreached,
            probed: self.probed,
            examples: self.examples,
            over: false,
        }
    }
}

/// The fixed words for a reason that another process names.
fn reason(name: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(name) {
        Some(name) => name,
        None if known.len() >= limits::REASONS_MAX => "other",
        None => {
            // Once for each reason of the whole program.
            let name: &'static str = name.to_owned().leak();
            known.insert(name);
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::counters::record;
    use super::*;

    #[test]
    fn a_report_survives_the_way() {
        let mut counters =
            Counters { at_us: 5, connected: 6, subscribed: 7, ..Counters::default() };
        for (at, sum) in counters.sums().into_iter().enumerate() {
            *sum = 100 + at as u64;
        }
        for (at, histogram) in counters.histograms().into_iter().enumerate() {
            for us in 0..2_000 {
                record(histogram, us * us * (at as u64 + 1));
            }
        }
        counters.failures.insert("no port left", 3);
        counters.closes.insert(3001, 4);
        counters.errors.insert(103, 5);
        let examples = vec![(1, 2)];
        let report = Report {
            round: 9,
            counters,
            pending: 1,
            unreached: 2,
            probed: 3,
            examples,
            over: false,
        };
        let line = serde_json::to_string(&Said::of(report.clone(), None)).unwrap();
        let mut back = serde_json::from_str::<Said>(&line).unwrap().report();
        let mut report = report;
        assert_eq!(back.counters.sums(), report.counters.sums());
        assert_eq!(back.counters.failures, report.counters.failures);
        assert_eq!((back.counters.closes.len(), back.counters.errors.len()), (1, 1));
        for (a, b) in back.counters.histograms().into_iter().zip(report.counters.histograms()) {
            assert_eq!(a.len(), b.len());
            for quantile in [0.01, 0.5, 0.99, 1.0] {
                assert_eq!(a.value_at_quantile(quantile), b.value_at_quantile(quantile));
            }
        }
        assert_eq!((back.round, back.pending, back.unreached, back.probed), (9, 1, 2, 3));
    }

    #[test]
    fn a_load_survives_the_way() {
        let stream = Stream { per_s: 1.5, bytes: 64..99, channels: 3..9, by: Some(4) };
        let load = Load { clients: 8, streams: vec![stream], cuts_per_s: 0.5, ..Load::default() };
        let line = serde_json::to_string(&Told::of(&Order::Apply(Arc::new(load.clone()), 7)));
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Told::Apply { load: back, at_us: 7 } => assert_eq!(back.load(), load),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_topology_survives_the_way() {
        let topology = Topology::new(vec!["a\"".into(), "b".into()], [vec![1], vec![], vec![0, 1]]);
        let line = serde_json::to_string(&Places::of(&topology)).unwrap();
        let back = serde_json::from_str::<Places>(&line).unwrap().topology();
        assert_eq!((back.clients(), back.name(0), back.size(1)), (3, "a\"", 2));
        assert_eq!(back.channels_of(2), [0, 1]);
    }
}

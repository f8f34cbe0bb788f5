//! The judge: pure, so that it can be judged itself.
//!
//! Logs are read one after the other. A subscription's state lives while its log is read; what
//! stays is a line for each publication and for each subscription that stood at the end. So memory
//! goes with publications and subscriptions, and not with deliveries.

mod acks;
mod publications;
mod ranks;
mod reader;
mod report;
mod settle;
mod streams;
mod subscribes;
mod subscriptions;

use super::{Counts, Judgement, Ledger, Outcome, Rule, Run, Verdict};
use publications::{Publication, Publications};
use ranks::Ranks;
use reader::Standing;
use report::{Faults, Found, Report};
use streams::Streams;

/// No client, channel, stream or publication.
const NONE: u32 = u32::MAX;

/// A run with a smaller share of acknowledged publications than one of so many is void.
const ACKNOWLEDGED_ONE_OF: u64 = 100;

/// Judges a run by all rules.
pub fn judge(ledger: &Ledger) -> Verdict {
    let mut faults = Faults::default();
    let publications = Publications::of(ledger, &mut faults);
    let mut streams = Streams::default();
    let ranks = ledger.run.sparse_offsets.then(|| Ranks::of(ledger, &mut streams));
    let mut judge = Judge {
        ledger,
        times: Times::of(&ledger.run),
        publications,
        streams,
        ranks,
        standing: Vec::new(),
        report: Report::default(),
        faults,
        counts: Counts::default(),
    };
    for stored in &ledger.stored {
        judge.stored(stored);
    }
    for (number, log) in (0..).zip(&ledger.logs) {
        judge.read(number, log);
    }
    judge.settle();
    judge.compare();
    judge.verdict()
}

struct Judge<'a> {
    ledger: &'a Ledger,
    times: Times,
    publications: Publications,
    streams: Streams,
    /// Where offsets leave out numbers.
    ranks: Option<Ranks>,
    standing: Vec<Standing>,
    report: Report,
    faults: Faults,
    counts: Counts,
}

/// The times of a run that rules need.
#[derive(Clone, Copy)]
struct Times {
    ended_us: u64,
    settled: bool,
    heal_us: u64,
    /// `u64::MAX`: there are none.
    probes_from_us: u64,
}

impl Times {
    fn of(run: &Run) -> Self {
        Self {
            ended_us: run.ended_us,
            settled: run.settled,
            heal_us: run.heal_ms.saturating_mul(1_000),
            probes_from_us: run.probes_from_us.unwrap_or(u64::MAX),
        }
    }

    /// Whether something was long enough ago for everybody to have it.
    fn is_past(&self, at_us: u64) -> bool {
        let patience_us = if self.settled { 0 } else { self.heal_us };
        at_us.saturating_add(patience_us) <= self.ended_us && at_us != u64::MAX
    }

    /// Whether everybody who is there has to have a publication.
    fn is_due(&self, publication: &Publication) -> bool {
        publication.is_acknowledged() && self.is_past(publication.answered_us)
    }

    fn is_probe(&self, publication: &Publication) -> bool {
        publication.sent_us >= self.probes_from_us
    }
}

impl Judge<'_> {
    /// An offset as a number that leaves out none.
    fn dense(&self, stream: u32, offset: u64) -> u64 {
        self.ranks.as_ref().map_or(offset, |ranks| ranks.rank(stream, offset))
    }

    /// C9.
    fn compare(&mut self) {
        for c in self.ledger.comparisons.iter().filter(|c| c.expected != c.found) {
            self.report.add(Rule::C9, self.times.ended_us, || {
                let (name, expected, found) = (&c.name, c.expected, c.found);
                Found::new(format!("{name} is {found} at the server and {expected} by the ledger"))
            });
        }
    }

    fn verdict(mut self) -> Verdict {
        let counts = &mut self.counts;
        for p in &self.publications.list {
            counts.published += 1;
            match p.outcome {
                Outcome::Acknowledged => counts.acknowledged += 1,
                Outcome::Refused(_) => counts.refused += 1,
                Outcome::Unknown => counts.unknown += 1,
            }
        }
        counts.log_bytes = self.ledger.logs.iter().map(|log| log.bytes() as u64).sum();
        let mut void = self.faults.into_list();
        // Books with faults prove nothing. Otherwise one broken rule is proof, however little
        // happened.
        if void.is_empty() && self.report.broken.is_empty() {
            void = too_little(&self.ledger.run, counts);
        }
        let (violations, broken) = self.report.tell(self.ledger, &self.publications, &self.streams);
        let verdict = match (void.is_empty(), broken.is_empty()) {
            (false, _) => Judgement::Void,
            (true, false) => Judgement::Broken,
            (true, true) => Judgement::Kept,
        };
        Verdict { verdict, void, violations, broken, counts: self.counts }
    }
}

/// Why so little happened that nothing can be said.
fn too_little(run: &Run, counts: &Counts) -> Vec<String> {
    let mut void = Vec::new();
    let (all, acknowledged) = (counts.published, counts.acknowledged);
    if all == 0 {
        void.push("nothing was published".to_owned());
    } else if acknowledged.saturating_mul(ACKNOWLEDGED_ONE_OF) < all {
        void.push(format!("{acknowledged} of {all} publications were acknowledged"));
    }
    if counts.deliveries == 0 {
        void.push("nothing was delivered".to_owned());
    }
    let planned = [
        ("deliveries", counts.deliveries, run.deliveries_planned),
        ("recoveries", counts.recoveries, run.recoveries_planned),
    ];
    for (name, had, planned) in planned {
        if had < planned {
            void.push(format!("{had} {name} of {planned} that were planned"));
        }
    }
    void
}

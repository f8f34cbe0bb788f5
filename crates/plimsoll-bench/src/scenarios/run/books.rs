//! The books of a run: what the clients wrote down, what the server has kept, and what it counted.

use crate::fleet::{Counters, Finished};
use crate::ledger::{Channel, Comparison, Judgement, Ledger, Rule, Run, Verdict, judge};
use crate::report::Summary;
use crate::scenarios::Bed;
use crate::scenarios::history::{self, Histories};
use crate::scrape::Metrics;
use crate::server::ServerSetup;
use crate::topology::{ChannelId, Topology};
use std::ops::Range;

/// What is collected.
pub struct Books<'a> {
    topology: &'a Topology,
    rooms: Range<ChannelId>,
    is_own: bool,
    before: Option<Metrics>,
    after: Option<Metrics>,
    histories: Histories,
    notes: Vec<String>,
    /// Fewer deliveries, or successful recoveries, make the run void.
    pub planned: Planned,
    /// Numbers of publications leave out some.
    pub sparse: bool,
    /// Publications of one recovery at most, if a smaller one must not fail.
    pub recovery_max: Option<u64>,
    /// Publications from here on are probes.
    pub probes_from_us: Option<u64>,
}

/// How much has to happen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planned {
    /// Publications received.
    pub deliveries: u64,
    /// Requests to recover that succeed.
    pub recoveries: u64,
}

impl<'a> Books<'a> {
    /// Before the clients come; `rooms` are the channels with history.
    pub fn open(bed: &Bed, topology: &'a Topology, rooms: Range<ChannelId>) -> Self {
        let mut notes = Vec::new();
        let before = match bed.metrics() {
            Some(Ok(metrics)) => Some(metrics),
            Some(Err(error)) => {
                notes.push(format!("The server's counters were not compared: {error}."));
                None
            }
            None => {
                notes.push("The server's counters were not compared (C9): no --metrics.".into());
                None
            }
        };
        Self {
            topology,
            rooms,
            is_own: bed.is_own(),
            before,
            after: None,
            histories: Histories::default(),
            notes,
            planned: Planned::default(),
            sparse: false,
            recovery_max: None,
            probes_from_us: None,
        }
    }

    /// After the clients have gone.
    pub fn settled(&mut self, bed: &Bed, finished: &Finished, with_histories: bool) {
        if self.before.is_some() {
            match bed.metrics() {
                Some(Ok(metrics)) => self.after = Some(metrics),
                Some(Err(error)) => {
                    self.notes.push(format!("The server's counters were not compared: {error}."));
                }
                None => {}
            }
        }
        if !with_histories || finished.counters.acknowledged == 0 {
            return;
        }
        let secret = bed.token_secret.as_deref();
        let rooms = self.rooms.clone();
        match history::read(bed.target(), secret, self.topology, rooms) {
            Ok(histories) => self.histories = histories,
            Err(error) => self.notes.push(format!("The histories were not read: {error}.")),
        }
        if self.histories.refused > 0 {
            let n = self.histories.refused;
            self.notes.push(format!("The server gives no history of {n} channels (C3, C5)."));
        }
        if self.histories.cut_short {
            self.notes.push("Not all histories were read: they are too long.".into());
        }
    }

    /// Judges.
    pub fn close(
        self,
        name: &str,
        started_us: u64,
        mut finished: Finished,
        setup: &ServerSetup,
        summary: &mut Summary,
    ) -> Ledger {
        let counters = &finished.counters;
        let mut run = Run::new(name, started_us, finished.settled_us);
        run.settled = true;
        if self.is_own {
            run.history_size = Some(u64::from(setup.history_size));
            run.history_ttl_ms = Some(u64::from(setup.history_ttl_s) * 1_000);
        }
        run.deliveries_planned = self.planned.deliveries;
        run.recoveries_planned = self.planned.recoveries;
        run.sparse_offsets = self.sparse;
        run.recovery_max = self.recovery_max;
        run.probes_from_us = self.probes_from_us;
        let comparisons = match (&self.before, &self.after) {
            (Some(before), Some(after)) => compared(counters, before, after),
            _ => Vec::new(),
        };
        let topology = self.topology;
        let channels = topology.all_channels().map(|channel| Channel {
            name: topology.name(channel).into(),
            history: self.rooms.contains(&channel),
        });
        let ledger = Ledger {
            run,
            channels: channels.collect(),
            logs: std::mem::take(&mut finished.logs),
            stored: self.histories.stored,
            comparisons,
        };
        summary.notes.extend(self.notes);
        if finished.broken_threads > 0 {
            summary.finds(Judgement::Void, "the generator failed: its books are not whole");
        }
        let verdict = judged(summary, &ledger);
        if !verdict.broken.contains_key(&Rule::C10) {
            unreached(summary, topology, &finished);
        }
        ledger
    }
}

/// What the fleet itself knows of the probes.
fn unreached(summary: &mut Summary, topology: &Topology, finished: &Finished) {
    let Some((client, channel)) = finished.examples.first() else { return };
    let text = format!(
        "C10: the last publication did not reach {} of {} subscriptions in time, as client \
         {client} in {}",
        finished.unreached,
        finished.probed,
        topology.name(*channel)
    );
    summary.finds(Judgement::Broken, text);
}

/// What the judge says, in the summary.
pub fn judged(summary: &mut Summary, ledger: &Ledger) -> Verdict {
    let verdict = judge(ledger);
    // Books that contradict themselves are void even where they hold violations.
    for reason in &verdict.void {
        summary.finds(Judgement::Void, reason.clone());
    }
    for violation in &verdict.violations {
        match verdict.verdict {
            Judgement::Void => summary.because.push(violation.text.clone()),
            _ => summary.finds(Judgement::Broken, violation.text.clone()),
        }
    }
    summary.ledger = serde_json::to_value(&verdict).ok();
    summary.books = Some(verdict.to_string());
    verdict
}

/// The server's counters beside those of the clients. Where a connection was cut, the server may
/// have said what its client did not hear: then its figure may be higher. Of publications without
/// an answer it may have taken some.
fn compared(counters: &Counters, before: &Metrics, after: &Metrics) -> Vec<Comparison> {
    let cuts = counters.cuts + counters.closes.values().sum::<u64>();
    let heard = |n: u64| (n, if cuts > 0 { u64::MAX } else { n });
    let [recovered, lost] = counters.recoveries;
    let figures = [
        ("plimsoll_publications_total", (counters.acknowledged, counters.published)),
        // What is recovered is part of a reply, and no delivery of its own.
        ("plimsoll_deliveries_total", heard(counters.latency_us.len())),
        ("plimsoll_recoveries_total{recovered=\"true\"}", heard(recovered)),
        ("plimsoll_recoveries_total{recovered=\"false\"}", heard(lost)),
        ("plimsoll_error_replies_total", heard(counters.errors.values().sum())),
        ("plimsoll_bad_input_total", (0, 0)),
        ("plimsoll_panics_total", (0, 0)),
    ];
    let compared = figures.into_iter().filter_map(|(name, (least, most))| {
        let found = after.count(name)?.saturating_sub(before.count(name)?);
        let expected = found.clamp(least, most.max(least));
        Some(Comparison { name: name.into(), expected, found })
    });
    compared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_compared() {
        let check = |counters: &Counters, publications: u64, deliveries: u64, agree: bool| {
            let before =
                Metrics::parse("plimsoll_publications_total 5\nplimsoll_deliveries_total 7\n");
            let text = format!(
                "plimsoll_publications_total {}\nplimsoll_deliveries_total {}\n",
                publications + 5,
                deliveries + 7
            );
            let made = compared(counters, &before, &Metrics::parse(&text));
            assert_eq!(made.len(), 2);
            assert_eq!(made.iter().all(|c| c.expected == c.found), agree, "{made:?}");
        };
        let mut calm = Counters { published: 10, acknowledged: 9, ..Counters::default() };
        calm.latency_us.record_n(1, 90).unwrap();
        check(&calm, 9, 90, true);
        check(&calm, 10, 90, true);
        check(&calm, 11, 90, false);
        check(&calm, 8, 90, false);
        check(&calm, 9, 91, false);
        let cut = Counters { cuts: 1, ..calm };
        check(&cut, 9, 91, true);
        check(&cut, 9, 89, false);
    }
}

//! The books of a run: what the clients wrote down, what the server has kept, and what it counted.

use crate::fleet::{Counters, Finished};
use crate::ledger::{Channel, Comparison, Judgement, Ledger, Rule, Run, Verdict, judge};
use crate::report::Summary;
use crate::scenarios::Bed;
use crate::scenarios::history::{self, Histories};
use crate::scrape::Metrics;
use crate::server::ServerSetup;
use crate::topology::Topology;
use crate::workload::Workload;
use crate::workload::rooms::Scene;

/// Of the planned recoveries so many have to succeed: some clients are cut while they are on their
/// way back, and are not back at the end.
const RECOVERIES_RATIO: f64 = 0.5;
/// Of the planned deliveries so many have to come: less is another run than was planned.
const DELIVERIES_RATIO: f64 = 0.5;

/// What is collected.
pub(super) struct Books<'a> {
    workload: &'a Workload,
    scene: &'a Scene,
    is_own: bool,
    before: Option<Metrics>,
    after: Option<Metrics>,
    histories: Histories,
    notes: Vec<String>,
    /// Connections that were cut while the load lasted.
    pub cuts: u64,
    /// Publications from here on are probes.
    pub probes_from_us: Option<u64>,
}

impl<'a> Books<'a> {
    /// Before the clients come.
    pub fn open(bed: &Bed, workload: &'a Workload, scene: &'a Scene) -> Self {
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
            workload,
            scene,
            is_own: bed.is_own(),
            before,
            after: None,
            histories: Histories::default(),
            notes,
            cuts: 0,
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
        let rooms = self.scene.rooms.clone();
        match history::read(&bed.target, secret, &self.scene.topology, rooms) {
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
        run.deliveries_planned = self.deliveries_planned();
        run.recoveries_planned = self.recoveries_planned();
        run.probes_from_us = self.probes_from_us;
        let comparisons = match (&self.before, &self.after) {
            (Some(before), Some(after)) => compared(counters, before, after),
            _ => Vec::new(),
        };
        let topology = &self.scene.topology;
        let channels = topology.all_channels().map(|channel| Channel {
            name: topology.name(channel).into(),
            history: self.scene.rooms.contains(&channel),
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

    fn deliveries_planned(&self) -> u64 {
        let [(_, calm), (_, peak)] = self.workload.phases();
        let mean = (2.0 * calm + peak) / 3.0;
        let seconds = self.workload.duration.as_secs_f64();
        (self.scene.deliveries_per_s * mean * seconds * DELIVERIES_RATIO) as u64
    }

    /// A cut client asks to recover each of its rooms; one that leaves does not.
    fn recoveries_planned(&self) -> u64 {
        let rooms = self.scene.rooms.len();
        let in_rooms: u64 =
            (0..rooms as u32).map(|room| u64::from(self.scene.topology.size(room))).sum();
        let each = in_rooms as f64 / f64::from(self.workload.clients);
        let cuts = self.cuts as f64 * (1.0 - self.workload.leaves_ratio);
        (cuts * each * RECOVERIES_RATIO) as u64
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

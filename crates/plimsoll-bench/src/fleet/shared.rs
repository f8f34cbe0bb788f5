//! What the threads of a process share.

use super::FleetConfig;
use super::handle::Report;
use super::places::Places;
use crate::ledger::Stamp;
use crate::topology::ChannelId;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    pub config: FleetConfig,
    pub places: Places,
    /// Which process of the run this is.
    process: u32,
    /// What each thread said last.
    reports: Mutex<Vec<Report>>,
    answered: Condvar,
    /// The threads do not sleep, see [`super::Fleet::stay_awake`].
    awake: AtomicBool,
    /// Live subscribers of each channel in this process.
    live: Vec<AtomicU32>,
    /// For how many clients, and subscribers of each channel in other processes.
    elsewhere: Mutex<(u32, Vec<u32>)>,
    /// Which thread publishes for "any member" of each channel.
    owners: Vec<Option<u32>>,
    probes: Vec<Probe>,
}

/// The last publication of a channel.
#[derive(Debug, Default)]
struct Probe {
    /// Someone publishes it.
    claimed: AtomicBool,
    /// It must not be published there: nothing can be said.
    waived: AtomicBool,
    publisher: AtomicU32,
    /// 0: not published.
    sequence: AtomicU32,
    /// 0: nobody has seen it.
    offset: AtomicU64,
}

impl Shared {
    /// For a process of the fleet that hears from so many members.
    pub fn new(config: FleetConfig, process: u32, members: usize) -> Self {
        let topology = &config.topology;
        let places = Places::new(topology.clients(), config.processes, config.threads);
        let channels = topology.all_channels();
        Self {
            places,
            process,
            reports: Mutex::new(vec![Report::default(); members]),
            answered: Condvar::new(),
            awake: AtomicBool::new(false),
            live: channels.clone().map(|_| AtomicU32::new(0)).collect(),
            elsewhere: Mutex::new((0, Vec::new())),
            owners: places.owners(topology),
            probes: channels.map(|_| Probe::default()).collect(),
            config,
        }
    }

    /// The threads sleep no more when there is nothing to do, or do so again.
    pub fn stay_awake(&self, awake: bool) {
        self.awake.store(awake, Ordering::Relaxed);
    }

    /// Whether the threads are not to sleep.
    pub fn is_awake(&self) -> bool {
        self.awake.load(Ordering::Relaxed)
    }

    /// The number of a thread of this process among all.
    pub fn number(&self, at: usize) -> u32 {
        self.process * (self.places.threads() / self.places.processes()) + at as u32
    }

    /// Takes what a thread says.
    pub fn tell(&self, at: usize, report: Report) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = reports.get_mut(at) {
            *place = report;
        }
        drop(reports);
        self.answered.notify_all();
    }

    /// A thread has ended, however it did.
    pub fn tell_end(&self, at: usize) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = reports.get_mut(at) {
            report.over = true;
        }
        drop(reports);
        self.answered.notify_all();
    }

    /// What each thread said last; answers to `round` if they come in time.
    pub fn reports(&self, round: u64, patience: Duration) -> Vec<Report> {
        let reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |reports: &mut Vec<Report>| {
            reports.iter().any(|report| report.round < round && !report.over)
        };
        let reports = self.answered.wait_timeout_while(reports, patience, waiting);
        reports.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// One more subscriber of a channel.
    pub fn live_more(&self, channel: ChannelId) {
        if let Some(live) = self.live.get(channel as usize) {
            live.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One less.
    pub fn live_less(&self, channel: ChannelId) {
        if let Some(live) = self.live.get(channel as usize) {
            live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Live subscribers of a channel. Those in other processes are not seen: all that are wanted
    /// count as live.
    pub fn live(&self, channel: ChannelId) -> u64 {
        let at = channel as usize;
        let here = self.live.get(at).map_or(0, |live| live.load(Ordering::Relaxed));
        let elsewhere = match self.places.processes() {
            1 => 0,
            _ => {
                let all = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
                all.1.get(at).copied().unwrap_or(0)
            }
        };
        u64::from(here) + u64::from(elsewhere)
    }

    /// From now on clients `0..clients` are wanted: those of other processes are expected there.
    pub fn expect_elsewhere(&self, clients: u32) {
        let (topology, places) = (&self.config.topology, self.places);
        let mut elsewhere = self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner);
        if places.processes() == 1 || elsewhere.0 == clients {
            return;
        }
        let mut counts = vec![0; topology.all_channels().len()];
        let others = (0..clients.min(topology.clients()))
            .filter(|client| places.process_of(*client) != self.process);
        for channel in others.flat_map(|client| topology.channels_of(client)) {
            if let Some(count) = counts.get_mut(*channel as usize) {
                *count += 1;
            }
        }
        *elsewhere = (clients, counts);
    }

    /// Which thread publishes for "any member" of a channel.
    pub fn owner(&self, channel: ChannelId) -> Option<u32> {
        self.owners.get(channel as usize).copied().flatten()
    }

    /// Whether the caller is to make the channel's last publication.
    pub fn claim_probe(&self, channel: ChannelId) -> bool {
        let probe = self.probes.get(channel as usize);
        probe.is_some_and(|probe| !probe.claimed.swap(true, Ordering::Relaxed))
    }

    /// It was not answered, or refused for now: someone else may try.
    pub fn release_probe(&self, channel: Option<ChannelId>) {
        if let Some(probe) = channel.and_then(|channel| self.probes.get(channel as usize)) {
            probe.claimed.store(false, Ordering::Relaxed);
        }
    }

    /// It is refused for good.
    pub fn waive_probe(&self, channel: Option<ChannelId>) {
        if let Some(probe) = channel.and_then(|channel| self.probes.get(channel as usize)) {
            probe.waived.store(true, Ordering::Relaxed);
        }
    }

    /// Says which publication it is.
    pub fn name_probe(&self, channel: ChannelId, publisher: u32, sequence: u32) {
        if let Some(probe) = self.probes.get(channel as usize) {
            probe.publisher.store(publisher, Ordering::Relaxed);
            probe.sequence.store(sequence, Ordering::Release);
        }
    }

    /// Someone got a publication: if it is the last one, its offset is known.
    pub fn see_probe(&self, channel: ChannelId, offset: u64, stamp: Option<Stamp>) {
        let (Some(probe), Some(stamp)) = (self.probes.get(channel as usize), stamp) else { return };
        if probe.sequence.load(Ordering::Acquire) == stamp.sequence
            && probe.publisher.load(Ordering::Relaxed) == stamp.publisher
        {
            probe.offset.store(offset, Ordering::Relaxed);
        }
    }

    /// Whether a subscription at `offset` has got the channel's last publication; `None`: nothing
    /// can be said of the channel.
    pub fn probe_reached(&self, channel: ChannelId, offset: u64) -> Option<bool> {
        let probe = self.probes.get(channel as usize)?;
        let sent = probe.offset.load(Ordering::Relaxed);
        (!probe.waived.load(Ordering::Relaxed)).then_some(sent > 0 && offset >= sent)
    }
}

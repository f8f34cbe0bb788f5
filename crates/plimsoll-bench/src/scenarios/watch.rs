//! Looks at a run while it runs.

use super::{Bed, troubles};
use crate::clock::now_us;
use crate::fleet::{Counters, Fleet, Load};
use crate::report::{Live, Moment};
use crate::server::Usage;
use crate::topology::Topology;
use std::time::{Duration, Instant};

/// Between two moments.
const SECOND: Duration = Duration::from_secs(1);
/// Connecting goes on as long as something happens within this time.
const STALL: Duration = Duration::from_secs(10);

/// What happened in a part of a run.
#[derive(Clone, Debug)]
pub struct Period {
    /// Of the fleet.
    pub during: Counters,
    /// How long it was.
    pub seconds: f64,
    /// Of the server, at the start and at the end.
    pub used: Option<(Usage, Usage)>,
}

impl Period {
    /// CPU microseconds of the server.
    pub fn server_cpu_us(&self) -> Option<f64> {
        self.used.map(|(before, after)| after.cpu_us.saturating_sub(before.cpu_us) as f64)
    }
}

/// A reading of fleet and server at one time.
#[derive(Clone, Debug)]
pub struct Mark {
    /// Of the fleet.
    pub counters: Counters,
    usage: Option<Usage>,
}

/// Says each second how a run goes, and measures its parts.
#[derive(Debug)]
pub struct Watch<'a> {
    bed: &'a Bed,
    fleet: &'a Fleet,
    live: &'a mut Live,
    started_us: u64,
    last: Mark,
}

impl<'a> Watch<'a> {
    /// From now on.
    pub fn new(bed: &'a Bed, fleet: &'a Fleet, live: &'a mut Live) -> Self {
        let last = Mark { counters: fleet.counters(), usage: bed.usage() };
        Self { bed, fleet, live, started_us: now_us(), last }
    }

    /// A reading.
    pub fn mark(&self) -> Mark {
        Mark { counters: self.fleet.counters(), usage: self.bed.usage() }
    }

    /// What happened since.
    pub fn since(&self, mark: &Mark) -> Period {
        between(mark, &self.mark())
    }

    /// Waits, and says each second how it goes.
    pub fn hold(&mut self, phase: &'static str, length: Duration) -> Period {
        let mark = self.mark();
        self.until(phase, length, &mut |_| false);
        self.since(&mark)
    }

    /// Waits until the condition holds; `false` if it does not in time.
    pub fn until(
        &mut self,
        phase: &'static str,
        patience: Duration,
        condition: &mut dyn FnMut(&Counters) -> bool,
    ) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.fleet.wait(left.min(SECOND), condition) {
                return true;
            }
            self.tell(phase);
            if left.is_zero() {
                return false;
            }
        }
    }

    fn tell(&mut self, phase: &'static str) {
        let now = self.mark();
        let period = between(&self.last, &now);
        if period.seconds < SECOND.as_secs_f64() * 0.5 {
            return;
        }
        self.live.moment(&Moment {
            at_s: (now.counters.at_us.saturating_sub(self.started_us)) as f64 / 1e6,
            phase,
            during: period.during,
            seconds: period.seconds,
            used: period.used,
        });
        self.last = now;
    }

    /// Applies a load and waits until its clients are connected and subscribed. It goes on as
    /// long as something happens.
    pub fn connect(&mut self, load: &Load, topology: &Topology) -> Result<Period, String> {
        let clients = u64::from(load.clients);
        let subscriptions = subscriptions(topology, load.clients);
        let mark = self.mark();
        self.fleet.apply(load);
        let mut reached = 0;
        loop {
            let arrived = self.until("connecting", STALL, &mut |counters| {
                counters.connected >= clients && counters.subscribed >= subscriptions
            });
            if arrived {
                return Ok(self.since(&mark));
            }
            let now = self.fleet.counters();
            if now.connected + now.subscribed <= reached {
                return Err(stalled(&now, clients, subscriptions));
            }
            reached = now.connected + now.subscribed;
        }
    }
}

/// Subscriptions of the first so many clients.
pub fn subscriptions(topology: &Topology, clients: u32) -> u64 {
    (0..clients).map(|client| topology.channels_of(client).len() as u64).sum()
}

fn stalled(now: &Counters, clients: u64, subscriptions: u64) -> String {
    let why = match troubles(now) {
        Some(troubles) => format!(" ({troubles})"),
        None => String::new(),
    };
    let hint = if now.errors.contains_key(&103) || now.errors.contains_key(&102) {
        ". The server does not let clients subscribe there: see the guide on namespaces"
    } else if now.connected == 0 && now.closes.contains_key(&3500) {
        ". The server does not take these tokens: give its secret by --token-secret"
    } else {
        ""
    };
    format!(
        "of {clients} clients {} are connected, of {subscriptions} subscriptions {} stand, and \
         it goes on no more{why}{hint}",
        now.connected, now.subscribed
    )
}

fn between(before: &Mark, after: &Mark) -> Period {
    let span = after.counters.at_us.saturating_sub(before.counters.at_us);
    Period {
        during: after.counters.since(&before.counters),
        seconds: (span as f64 / 1e6).max(1e-6),
        used: before.usage.zip(after.usage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_says_why() {
        let mut now = Counters { connected: 3, subscribed: 4, ..Counters::default() };
        now.errors.insert(103, 2);
        let told = stalled(&now, 10, 20);
        assert!(told.starts_with("of 10 clients 3 are connected, of 20 subscriptions 4"), "{told}");
        assert!(told.contains("error 103: 2") && told.contains("namespaces"), "{told}");
        let mut now = Counters::default();
        now.closes.insert(3500, 9);
        assert!(stalled(&now, 10, 20).contains("--token-secret"));
    }

    #[test]
    fn subscriptions_of_the_first() {
        let topology = Topology::rooms("live:", 2, 3);
        assert_eq!(subscriptions(&topology, 4), 4);
        assert_eq!(subscriptions(&topology, 100), 6);
    }
}

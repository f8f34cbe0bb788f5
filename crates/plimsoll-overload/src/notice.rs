//! Telling clients what does not work now, not too often and not all at once.

use crate::feature::{FEATURES_COUNT, Feature, FeatureState};
use crate::gates::Gates;
use crate::level::Level;
use crate::limits;
use crate::spread;

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    level: Level,
    states: [FeatureState; FEATURES_COUNT],
    until_s: Option<u32>,
}

impl Notice {
    /// The notice for these gates. `until_s` is when, in seconds from now, everything can be as
    /// usual at the earliest.
    pub fn new(gates: &Gates, until_s: Option<u32>) -> Self {
        let states = Feature::ALL.map(|feature| gates.state(feature));
        Self { level: gates.work_level, states, until_s }
    }

    /// Whether a connected client would notice the difference. It is no longer concerned by who
    /// else may connect.
    fn differs(&self, other: &Self) -> bool {
        let connections = Feature::Connections as usize;
        let states = |n: &Self| {
            let mut states = n.states;
            states[connections] = FeatureState::On;
            states
        };
        self.level != other.level || states(self) != states(other)
    }

    /// What a person reads.
    pub fn message(&self) -> &'static str {
        let has = |state| self.states.contains(&state);
        if has(FeatureState::Off) {
            "Some features are temporarily unavailable"
        } else if has(FeatureState::Reduced) {
            "Some features are temporarily slower"
        } else {
            "All features are available"
        }
    }

    /// The payload of the push: one JSON object without line breaks.
    pub fn json(&self) -> String {
        let features: Vec<_> = Feature::ALL
            .iter()
            .zip(self.states)
            .map(|(feature, state)| format!(r#""{}":"{}""#, feature.name(), state.name()))
            .collect();
        let until = self.until_s.map(|s| format!(r#","until_s":{s}"#)).unwrap_or_default();
        // Every text in it is one of ours and needs no escape.
        let (level, name, message) = (self.level.number(), self.level.name(), self.message());
        let features = features.join(",");
        let load = format!(r#""type":"load","level":{level},"level_name":"{name}""#);
        let rest = format!(r#""features":{{{features}}},"message":"{message}"{until}"#);
        format!(r#"{{"plimsoll":{{{load},{rest}}}}}"#)
    }
}

/// A notice for every client, and over which time to spread it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// What to say.
    pub notice: Notice,
    /// Over how many milliseconds to say it.
    pub spread_ms: u64,
}

impl Announcement {
    /// After how many milliseconds this connection is told; the same number for the same
    /// connection, so that the order of two notices holds.
    pub fn delay_ms(&self, connection: u64) -> u64 {
        (spread::unit(spread::mix(connection)) * self.spread_ms as f64) as u64
    }
}

/// Decides when clients are told.
#[derive(Clone, Debug)]
pub struct Notices {
    told: Notice,
    differs_since_ms: Option<u64>,
    /// Until when the last notice is on its way.
    busy_until_ms: u64,
}

impl Default for Notices {
    /// Clients take for granted that everything works.
    fn default() -> Self {
        let told = Notice::new(&Gates::default(), None);
        Self { told, differs_since_ms: None, busy_until_ms: 0 }
    }
}

impl Notices {
    /// Takes the notice of a sample and says whether to tell it.
    ///
    /// Only after something has differed for 5 s, only when the last notice is out, and never in
    /// an Emergency: there is no room for a frame to everybody then, and it is told afterwards.
    pub fn sample(
        &mut self,
        now_ms: u64,
        notice: Notice,
        connections: f64,
    ) -> Option<Announcement> {
        if !notice.differs(&self.told) {
            self.differs_since_ms = None;
            return None;
        }
        let since_ms = *self.differs_since_ms.get_or_insert(now_ms);
        let early = now_ms.saturating_sub(since_ms) < limits::NOTICE_DEBOUNCE_MS;
        if early || now_ms < self.busy_until_ms || notice.level == Level::Emergency {
            return None;
        }
        let spread_ms = spread_ms(connections);
        self.told = notice;
        self.differs_since_ms = None;
        self.busy_until_ms = now_ms.saturating_add(spread_ms);
        Some(Announcement { notice, spread_ms })
    }

    /// What clients were told last: what a client that connects now must be told, if it is not
    /// that all is well.
    pub const fn told(&self) -> &Notice {
        &self.told
    }
}

fn spread_ms(connections: f64) -> u64 {
    let share = (connections / limits::NOTICE_SPREAD_CONNECTIONS).clamp(0.0, 1.0);
    let room_ms = limits::NOTICE_SPREAD_MS_MAX - limits::NOTICE_SPREAD_MS_MIN;
    limits::NOTICE_SPREAD_MS_MIN + (room_ms as f64 * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::{Compression, Strengths};
    use crate::gates::{Inputs, Levels};

    fn notice(levels: Levels) -> Notice {
        let inputs = Inputs {
            levels,
            strengths: Strengths::default(),
            compression: Compression::Configured,
            accepts_per_s: 100.0,
            accepts_per_s_min: 1.0,
            accept_new_connections: true,
            plan: Default::default(),
            storm: false,
        };
        Notice::new(&Gates::new(&inputs), Some(27))
    }

    /// The levels, each for so many seconds; the times in seconds at which something is told.
    fn check(script: &[(Level, u64)], expect: &[(u64, Level)]) {
        let mut notices = Notices::default();
        let mut told = Vec::new();
        let mut now_ms = 0;
        for (level, seconds) in script {
            for _ in 0..seconds * 4 {
                let found = notices.sample(now_ms, notice(Levels::all(*level)), 100.0);
                told.extend(found.map(|a| (now_ms / 1_000, a.notice.level)));
                now_ms += 250;
            }
        }
        assert_eq!(told, expect, "{script:?}");
    }

    use Level::{Critical, Degraded, Emergency, Normal, Warning};

    #[test]
    fn tells_what_lasts_and_never_in_an_emergency() {
        check(&[(Normal, 60)], &[]);
        check(&[(Degraded, 20)], &[(5, Degraded)]);
        check(&[(Degraded, 4), (Normal, 20)], &[]);
        check(&[(Degraded, 4), (Critical, 20)], &[(5, Critical)]);
        check(&[(Degraded, 6), (Critical, 20)], &[(5, Degraded), (11, Critical)]);
        check(&[(Emergency, 60), (Warning, 1), (Normal, 20)], &[(60, Warning), (66, Normal)]);
        // To and fro every second: at most one each 5 s.
        let flapping: Vec<_> = (0..30).flat_map(|_| [(Degraded, 1), (Normal, 1)]).collect();
        check(&flapping, &[]);
    }

    #[test]
    fn who_else_may_connect_is_no_news() {
        let full = Levels { overall: Critical, admission: Critical, work: Normal };
        let mut notices = Notices::default();
        assert!((0..100).all(|n| notices.sample(n * 1_000, notice(full), 1.0).is_none()));
        assert_eq!(notices.told().message(), "All features are available");
    }

    #[test]
    fn the_payload() {
        let json = notice(Levels::all(Degraded)).json();
        let expect = concat!(
            r#"{"plimsoll":{"type":"load","level":2,"level_name":"degraded","features":{"#,
            r#""typing":"off","presence":"reduced","receipts":"reduced","previews":"off","#,
            r#""history":"reduced","connections":"reduced","apis":"off","recovery":"on"},"#,
            r#""message":"Some features are temporarily unavailable","until_s":27}}"#
        );
        assert_eq!(json, expect);
        let calm = Notices::default().told().json();
        assert!(calm.ends_with(r#""message":"All features are available"}}"#), "{calm}");
    }

    #[test]
    fn spread_over_seconds() {
        assert_eq!(spread_ms(0.0), 5_000);
        assert_eq!(spread_ms(50_000.0), 7_500);
        assert_eq!(spread_ms(1e9), 10_000);
        assert_eq!(spread_ms(f64::NAN), 5_000);
        let all = Announcement { notice: notice(Levels::all(Degraded)), spread_ms: 5_000 };
        let mut per_second = [0; 5];
        (0..10_000).for_each(|c| per_second[(all.delay_ms(c) / 1_000) as usize] += 1);
        assert!(per_second.iter().all(|n| (1_800..2_200).contains(n)), "{per_second:?}");
    }
}

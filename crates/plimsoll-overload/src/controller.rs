//! Everything together, once per sample.

use crate::actions::{CompressionSwitch, Strengths};
use crate::alert::{Alert, Alerts};
use crate::emergency::{Emergency, Plan};
use crate::gates::{ADMISSION_RESOURCES, Gates, Inputs, Levels, WORK_RESOURCES};
use crate::level::{Level, Machine, Reading, Thresholds};
use crate::limits;
use crate::notice::{Announcement, Notice, Notices};
use crate::overrides::{Audit, Order, OverrideError, Overrides, Request, Subject};
use crate::score::Score;
use crate::signals::{self, Pressures, Rated, Resource, Signals};
use crate::smooth::{self, Smoother};
use crate::storm::Storm;
use std::fmt;

/// What the controller is told once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// How pressures become a score.
    pub score: Score,
    /// When levels change.
    pub thresholds: Thresholds,
    /// The load that counts as 1.0.
    pub rated: Rated,
    /// Accepts per second while nothing is hot: 0.8 of what was measured.
    pub accepts_per_s: f64,
    /// Accepts per second below which it never goes; above 0.
    pub accepts_per_s_min: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            score: Score::Max,
            thresholds: Thresholds::default(),
            rated: Rated::default(),
            accepts_per_s: 1_000.0,
            accepts_per_s_min: 20.0,
        }
    }
}

/// Why a configuration cannot work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Whether it can work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if let Some(name) = self.rated.wrong() {
            return Err(ConfigError(format!("rated {name} must be a number above 0")));
        }
        if let Some(reason) = self.thresholds.wrong() {
            return Err(ConfigError(reason));
        }
        let (rated, min) = (self.accepts_per_s, self.accepts_per_s_min);
        if !(min > 0.0 && min <= rated && rated.is_finite()) {
            let what = "must be above 0 and at most accepts_per_s";
            return Err(ConfigError(format!("accepts_per_s_min {what}")));
        }
        Ok(())
    }
}

/// Why a level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The load did it.
    Load,
    /// An override began or ended.
    Override,
}

/// A change of the level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Before.
    pub from: Level,
    /// Now.
    pub to: Level,
    /// When, in milliseconds of the caller's clock.
    pub at_ms: u64,
    /// Why.
    pub cause: Cause,
    /// The score at that time.
    pub score: f64,
    /// The resource it came from.
    pub hot_resource: Option<Resource>,
}

/// What a sample led to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The level people see.
    pub level: Level,
    /// The level is pinned by an override.
    pub pinned: bool,
    /// The score; 1.0 = rated load.
    pub score: f64,
    /// The resource with the highest pressure.
    pub hot_resource: Option<Resource>,
    /// The pressures as sampled.
    pub raw: Pressures,
    /// The pressures that decide, smoothed.
    pub pressures: Pressures,
    /// Share of the offered work that is being shed, smoothed, 0–0.9.
    pub shed_ratio: f64,
    /// The strength of each action.
    pub strengths: Strengths,
    /// What may be done now: to be published to the workers.
    pub gates: Gates,
    /// The emergency steps in force.
    pub plan: Plan,
    /// Many come back at once.
    pub storm: bool,
    /// Changes of the level since the start.
    pub transitions_total: u64,
    /// The change this sample made.
    pub changed: Option<Transition>,
    /// What to tell all clients now.
    pub announcement: Option<Announcement>,
    /// What to tell the people on call now.
    pub alert: Option<Alert>,
    /// Overrides that ended by themselves.
    pub expired: Vec<Audit>,
}

/// From samples to outcomes.
#[derive(Clone, Debug)]
pub struct Controller {
    config: Config,
    smoother: Smoother,
    overall: Machine,
    work: Machine,
    admission: Machine,
    compression: CompressionSwitch,
    emergency: Emergency,
    storm: Storm,
    notices: Notices,
    alerts: Alerts,
    overrides: Overrides,
    sampled_ms: Option<u64>,
    outcome: Outcome,
}

impl Controller {
    /// At Normal. The seed is of the node: its times differ a little from those of other nodes.
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.check()?;
        let machine = || Machine::new(config.thresholds, seed);
        Ok(Self {
            smoother: Smoother::default(),
            overall: machine(),
            work: machine(),
            admission: machine(),
            compression: CompressionSwitch::default(),
            emergency: Emergency::new(config.thresholds.enter[3], config.thresholds.exit[3]),
            storm: Storm::default(),
            notices: Notices::default(),
            alerts: Alerts::default(),
            overrides: Overrides::default(),
            sampled_ms: None,
            outcome: Outcome::default(),
            config,
        })
    }

    /// Takes a sample; to be called every [`limits::SAMPLE_INTERVAL_MS`].
    pub fn sample(&mut self, now_ms: u64, signals: &Signals) -> &Outcome {
        let now_ms = self.sampled_ms.map_or(now_ms, |last| last.max(now_ms));
        let passed_ms = self.sampled_ms.map_or(0, |last| now_ms - last);
        self.sampled_ms = Some(now_ms);
        self.outcome.expired = self.overrides.expire(now_ms);
        self.measure(now_ms, passed_ms, signals);
        let levels = self.levels(now_ms, signals);
        self.decide(now_ms, signals, levels);
        self.tell(now_ms, signals);
        &self.outcome
    }

    /// The outcome of the last sample.
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Puts an override into force from the next sample on.
    pub fn set_override(
        &mut self,
        now_ms: u64,
        order: Order,
        request: &Request<'_>,
    ) -> Result<Vec<Audit>, OverrideError> {
        self.overrides.set(now_ms, order, request)
    }

    /// Ends one override, or all, from the next sample on.
    pub fn clear_override(
        &mut self,
        now_ms: u64,
        subject: Option<Subject>,
        author: &str,
    ) -> Vec<Audit> {
        self.overrides.clear(now_ms, subject, author)
    }

    /// The overrides in force.
    pub const fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// What clients were told last.
    pub const fn told(&self) -> &Notice {
        self.notices.told()
    }

    fn measure(&mut self, now_ms: u64, passed_ms: u64, signals: &Signals) {
        let raw = signals::pressures(signals, &self.config.rated);
        let pressures = self.smoother.sample(now_ms, &raw);
        let scored = self.config.score.of(&pressures, &Resource::ALL);
        let mut strengths = Strengths::of(&pressures);
        self.overrides.apply(&mut strengths);
        let shed = signals.shed_ratio.filter(|s| !s.is_nan()).unwrap_or(0.0);
        let shed = shed.clamp(0.0, limits::SHED_RATIO_MAX);
        let out = &mut self.outcome;
        let constant_s = limits::SHED_SMOOTHING_S;
        out.shed_ratio = smooth::step(out.shed_ratio, shed, passed_ms, constant_s);
        out.raw = raw;
        out.pressures = pressures;
        out.score = scored.value;
        out.hot_resource = scored.hot;
        out.strengths = strengths;
    }

    /// The levels of the load, whatever is pinned.
    fn levels(&mut self, now_ms: u64, signals: &Signals) -> Levels {
        let score =
            |resources: &[Resource]| self.config.score.of(&self.outcome.pressures, resources).value;
        let (work, admission) = (score(WORK_RESOURCES), score(ADMISSION_RESOURCES));
        // Without what is shed, the work would press so much.
        let demand = work / (1.0 - self.outcome.shed_ratio);
        let overall = self.outcome.score;
        let reading = |score: f64, demand: f64, resources: &[Resource]| Reading {
            score,
            demand: demand.max(score),
            urgent: signals::urgent(signals, resources),
        };
        let overall = self.overall.sample(now_ms, reading(overall, demand, &Resource::ALL));
        let work = self.work.sample(now_ms, reading(work, demand, WORK_RESOURCES));
        let own = reading(admission, admission, ADMISSION_RESOURCES);
        let admission = self.admission.sample(now_ms, own);
        // A part is never worse off than the whole.
        Levels { overall, work: work.min(overall), admission: admission.min(overall) }
    }

    fn decide(&mut self, now_ms: u64, signals: &Signals, levels: Levels) {
        let pin = self.overrides.level();
        let levels = pin.map_or(levels, |(level, _)| Levels::all(level));
        // Steps are taken in an Emergency only; a lower pinned level takes them back.
        let pressures = match levels.overall {
            Level::Emergency => self.outcome.pressures,
            _ => Pressures::default(),
        };
        let plan = self.emergency.sample(now_ms, &pressures);
        let came = |count: Option<u64>| count.unwrap_or(0);
        let (connects, back) = (came(signals.connects_total), came(signals.connects_back_total));
        let storm = self.storm.sample(now_ms, connects, back);
        let gates = Gates::new(&Inputs {
            levels,
            strengths: self.outcome.strengths,
            compression: self.compression.sample(&self.outcome.strengths),
            accepts_per_s: self.config.accepts_per_s,
            accepts_per_s_min: self.config.accepts_per_s_min,
            accept_new_connections: self.overrides.accept_new_connections(),
            plan,
            storm,
        });
        let out = &mut self.outcome;
        let by_people = pin.is_some() || out.pinned;
        out.changed = (levels.overall != out.level).then_some(Transition {
            from: out.level,
            to: levels.overall,
            at_ms: now_ms,
            cause: if by_people { Cause::Override } else { Cause::Load },
            score: out.score,
            hot_resource: out.hot_resource,
        });
        out.transitions_total += u64::from(out.changed.is_some());
        out.level = levels.overall;
        out.pinned = pin.is_some();
        out.plan = plan;
        out.storm = storm;
        out.gates = gates;
    }

    fn tell(&mut self, now_ms: u64, signals: &Signals) {
        let notice = Notice::new(&self.outcome.gates, self.until_s(now_ms));
        let connections = signals.connections.unwrap_or(0.0);
        self.outcome.announcement = self.notices.sample(now_ms, notice, connections);
        self.outcome.alert = self.alerts.sample(now_ms, self.outcome.level);
    }

    /// When all can be as usual at the earliest, in seconds from now: the end of a pin, or the
    /// time down from this level if the load ended now.
    fn until_s(&self, now_ms: u64) -> Option<u32> {
        let left_ms = match self.overrides.level() {
            Some((Level::Normal, _)) => 0,
            Some((_, until_ms)) => until_ms.saturating_sub(now_ms),
            None => self.config.thresholds.descent_ms(self.outcome.gates.work_level),
        };
        u32::try_from(left_ms.div_ceil(1_000)).ok().filter(|s| *s > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::Action;
    use crate::emergency::Step;
    use crate::feature::Feature;

    const WHY: Request<'static> = Request { ttl_ms: Some(60_000), reason: "drill", author: "ann" };

    fn controller() -> Controller {
        let rated = Rated { connections: Some(100.0), ..Rated::default() };
        Controller::new(Config { rated, ..Config::default() }, 7).expect("valid")
    }

    fn cpu(ratio: f64) -> Signals {
        Signals { cpu_use_ratio: Some(ratio * 0.9), connections: Some(50.0), ..Signals::default() }
    }

    /// Holds the signals for `seconds`, from `from_ms` on.
    fn hold(controller: &mut Controller, from_ms: u64, seconds: u64, signals: &Signals) -> Outcome {
        for n in 0..seconds * 4 {
            controller.sample(from_ms + n * 250, signals);
        }
        controller.outcome().clone()
    }

    #[test]
    fn from_a_sample_to_gates() {
        let mut controller = controller();
        let calm = hold(&mut controller, 0, 10, &cpu(0.6));
        assert_eq!((calm.level, calm.hot_resource), (Level::Normal, Some(Resource::Cpu)));
        let hot = hold(&mut controller, 10_000, 20, &cpu(0.90));
        assert_eq!(hot.level, Level::Degraded);
        assert!((hot.score - 0.90).abs() < 0.01, "{}", hot.score);
        assert!(!hot.gates.allows(Some(Feature::Typing)));
        assert!(hot.strengths.get(Action::WidenBatching) > 0.8);
        assert_eq!(hot.strengths.get(Action::IdleTimeout), 0.0, "the CPU closes nobody");
        let end = hold(&mut controller, 30_000, 60, &cpu(0.5));
        assert_eq!((end.level, end.transitions_total), (Level::Normal, 4));
    }

    #[test]
    fn a_full_table_of_connections_touches_nothing_else() {
        let mut controller = controller();
        let full = Signals { connections: Some(100.0), ..cpu(0.3) };
        let found = hold(&mut controller, 0, 10, &full);
        assert_eq!((found.level, found.gates.work_level), (Level::Emergency, Level::Normal));
        assert!(found.gates.allows(Some(Feature::Typing)));
        assert!(!found.gates.allows(Some(Feature::Connections)));
        assert!(found.gates.accepts_per_s > 0.0);
    }

    #[test]
    fn a_backbone_turns_no_connection_away() {
        let mut controller = controller();
        let state = Some(signals::BackboneState::Down);
        let found = hold(&mut controller, 0, 20, &Signals { backbone_state: state, ..cpu(0.3) });
        assert_eq!((found.level, found.gates.work_level), (Level::Degraded, Level::Degraded));
        assert_eq!(found.gates.admission, crate::gates::AdmissionFloor::All);
    }

    #[test]
    fn people_decide_for_a_while() {
        let mut controller = controller();
        hold(&mut controller, 0, 10, &cpu(0.5));
        let pin = Order::PinLevel(Level::Critical);
        controller.set_override(10_000, pin, &WHY).expect("valid");
        let close = Order::PinAction(Action::IdleTimeout, 0.5);
        controller.set_override(10_000, close, &WHY).expect("valid");
        let pinned = controller.sample(10_000, &cpu(0.5)).clone();
        let change = pinned.changed.expect("a change");
        assert_eq!((change.to, change.cause), (Level::Critical, Cause::Override));
        assert_eq!(pinned.gates.idle_timeout_ms(600_000), 301_000);
        let last = hold(&mut controller, 10_250, 50, &cpu(0.5));
        assert!(last.pinned && last.level == Level::Critical && last.expired.is_empty());
        let after = controller.sample(70_000, &cpu(0.5)).clone();
        assert_eq!((after.level, after.expired.len()), (Level::Normal, 2));
        assert_eq!(after.changed.map(|c| c.cause), Some(Cause::Override));
        controller.set_override(70_000, pin, &WHY).expect("valid");
        assert_eq!(controller.clear_override(70_100, Some(Subject::Level), "bob").len(), 1);
        assert!(controller.sample(70_250, &cpu(0.5)).changed.is_none());
    }

    #[test]
    fn clients_and_people_are_told() {
        let mut controller = controller();
        let (mut told, mut alerts) = (Vec::new(), Vec::new());
        for n in 0..400_u64 {
            let signals = cpu(if n < 120 { 0.9 } else { 0.4 });
            let outcome = controller.sample(n * 250, &signals);
            told.extend(outcome.announcement.map(|a| a.notice.json()));
            alerts.extend(outcome.alert.map(|a| a.to));
        }
        assert!(told[0].contains(r#""typing":"off""#), "{told:?}");
        assert!(told.last().is_some_and(|t| t.contains("All features are available")), "{told:?}");
        assert!(told.len() <= 4, "{told:?}");
        assert_eq!(alerts, [Level::Warning, Level::Degraded, Level::Normal]);
    }

    #[test]
    fn an_emergency_of_the_cpu_closes_nobody() {
        let mut controller = controller();
        for n in 0..400 {
            let outcome = controller.sample(n * 250, &cpu(1.11));
            assert!(!outcome.plan.close_idle);
            assert_eq!(outcome.gates.idle_timeout_ms(300_000), 300_000);
            assert_eq!(outcome.gates.shed_queues, None);
        }
        assert!(controller.outcome().plan.takes(Step::CutPublishing));
        assert_eq!(controller.outcome().gates.publish_factor, 0.2);
    }

    #[test]
    fn a_storm_rations_history_and_nothing_else() {
        let mut controller = controller();
        let mut came = 0;
        let mut sample = |n: u64, per_sample: u64| {
            came += per_sample;
            let counts = (Some(came), Some(came * 9 / 10));
            let (connects_total, connects_back_total) = counts;
            let signals = Signals { connects_total, connects_back_total, ..cpu(0.4) };
            controller.sample(n * 250, &signals).clone()
        };
        let calm = (0..1_000).map(|n| sample(n, 2)).last().expect("some");
        assert_eq!((calm.storm, calm.gates.history_rows), (false, 300));
        let storm = (1_000..1_040).map(|n| sample(n, 500)).last().expect("some");
        assert_eq!((storm.storm, storm.level), (true, Level::Normal));
        assert_eq!(Gates { history_rows: 300, ..storm.gates }, calm.gates);
        assert_eq!(storm.gates.history_rows, 100);
        let after = (1_040..1_200).map(|n| sample(n, 2)).last().expect("some");
        assert_eq!((after.storm, after.gates), (false, calm.gates));
    }

    #[test]
    fn configurations_are_checked() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().is_err()
        };
        assert!(!wrong(|_| ()));
        assert!(wrong(|c| c.accepts_per_s_min = 0.0));
        assert!(wrong(|c| c.accepts_per_s_min = 1e9));
        assert!(wrong(|c| c.accepts_per_s = f64::INFINITY));
        assert!(wrong(|c| c.rated.cpu_use_ratio = 0.0));
        assert!(wrong(|c| c.rated.connections = Some(f64::NAN)));
        assert!(wrong(|c| c.thresholds.enter[0] = 0.9));
    }
}

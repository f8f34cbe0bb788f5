//! Samples the load four times a second, decides, and tells the workers, the clients and the
//! operator.
//!
//! It runs on the thread of the admin listener, which the workers cannot keep from its work.

use super::alerts::{Alerter, Counts};
use super::rated::rated;
use super::signals::{Counted, Gauge};
use super::webhook::Target;
use super::{Configured, Paths, Readings, Sampler};
use crate::config::{Config, OverloadConfig};
use crate::control::capacity::Capacity;
use crate::node::Node;
use crate::telemetry::machine::worker_count;
use crate::worker::core::{LoadLine, Told};
use crate::worker::letter::Order as Letter;
use plimsoll_capacity::headroom::Load;
use plimsoll_core::limits;
use plimsoll_overload::alert::Alert;
use plimsoll_overload::controller::{self, ConfigError, Controller, Outcome, Transition};
use plimsoll_overload::feature::{Feature, FeatureState};
use plimsoll_overload::gates::Gates;
use plimsoll_overload::level::Level;
use plimsoll_overload::limits::SAMPLE_INTERVAL_MS;
use plimsoll_overload::notice::{Announcement, Notice};
use plimsoll_overload::overrides::{
    Audit, Order, Override, OverrideError, Request, Subject, at_start,
};
use plimsoll_overload::signals::Signals;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// Between two attempts to hand a notice to a worker whose mailbox is full.
const HAND_OVER_PAUSE: Duration = Duration::from_millis(250);

/// The load line of a node: what it was told, what it saw, what it decided.
pub struct Watch {
    config: OverloadConfig,
    started: Instant,
    state: Mutex<State>,
    alerts: Arc<Counts>,
}

struct State {
    controller: Controller,
    gauge: Gauge,
    signals: Signals,
    listen_overflows: u64,
    listen_drops: u64,
}

/// The load line at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Whether the workers obey.
    pub enabled: bool,
    /// What the last sample led to.
    pub outcome: Outcome,
    /// The last sample.
    pub signals: Signals,
    /// Overrides in force, or about to be.
    pub overrides: Vec<Override>,
    /// Now, on the clock of the overrides.
    pub now_ms: u64,
    /// Connections that found an accept queue full, in this network namespace since the start.
    pub listen_overflows: u64,
    /// Connections that listeners dropped, overflows among them.
    pub listen_drops: u64,
    /// Alerts by outcome.
    pub alerts: [(&'static str, u64); 4],
}

impl View {
    /// Whether people let new connections in.
    pub fn accepts_new_connections(&self) -> bool {
        !self.overrides.iter().any(|o| o.order == Order::AcceptNewConnections(false))
    }
}

/// What a sample has to say to people.
struct Outbox {
    announcement: Option<Announcement>,
    alert: Option<String>,
}

/// Connects per second and worker where nothing was measured: about what a core does at best, so
/// that a pace is set by pressure and not by a guess.
const ACCEPTS_PER_S_OF_A_WORKER: f64 = 20_000.0;

impl Watch {
    /// At Normal, or at what the environment asks for.
    pub fn new(config: &Config, capacity: &Capacity) -> Result<Self, ConfigError> {
        let overload = config.overload.clone();
        let workers = worker_count(config.server.workers) as f64;
        let accepts_per_s = match overload.accepts_per_second {
            0 => capacity.lines.of(Load::Connects).unwrap_or(workers * ACCEPTS_PER_S_OF_A_WORKER),
            configured => configured as f64,
        };
        let controller = Controller::new(
            controller::Config {
                score: overload.score,
                thresholds: overload.thresholds(),
                rated: rated(capacity, workers as usize, accepts_per_s),
                accepts_per_s,
                accepts_per_s_min: (overload.accepts_per_second_min as f64).min(accepts_per_s),
            },
            fastrand::u64(..),
        )?;
        let watch = Self {
            state: Mutex::new(State {
                controller,
                gauge: Gauge::new(overload.outbound_budget_bytes),
                signals: Signals::default(),
                listen_overflows: 0,
                listen_drops: 0,
            }),
            config: overload,
            started: Instant::now(),
            alerts: Arc::default(),
        };
        watch.order_at_start();
        Ok(watch)
    }

    fn order_at_start(&self) {
        let level = self.config.level_at_start.map(Order::PinLevel);
        let closed = self.config.closed_at_start.then_some(Order::AcceptNewConnections(false));
        for order in level.into_iter().chain(closed) {
            if let Err(error) = self.set_override(order, &at_start()) {
                tracing::error!(%error, %order, "an order of the environment was refused");
            }
        }
    }

    /// Puts what was ordered at the start into force, before the first connection.
    pub fn begin(&self, line: &LoadLine) {
        let mut state = self.lock();
        let outcome = state.controller.sample(self.now_ms(), &Signals::default());
        if let Some(change) = &outcome.changed {
            log_change(change);
        }
        self.tell_workers(&state, line);
    }

    /// The load line now.
    pub fn view(&self) -> View {
        let state = self.lock();
        View {
            enabled: self.config.enabled,
            outcome: state.controller.outcome().clone(),
            signals: state.signals,
            overrides: state.controller.overrides().all().to_vec(),
            now_ms: self.now_ms(),
            listen_overflows: state.listen_overflows,
            listen_drops: state.listen_drops,
            alerts: self.alerts.by_outcome(),
        }
    }

    /// Puts an override into force from the next sample on. The audit lines are logged here.
    pub fn set_override(
        &self,
        order: Order,
        request: &Request<'_>,
    ) -> Result<Vec<Audit>, OverrideError> {
        let audits = self.lock().controller.set_override(self.now_ms(), order, request)?;
        log_audits(&audits);
        Ok(audits)
    }

    /// Ends one override, or all, from the next sample on. The audit lines are logged here.
    pub fn clear_override(&self, subject: Option<Subject>, author: &str) -> Vec<Audit> {
        let audits = self.lock().controller.clear_override(self.now_ms(), subject, author);
        log_audits(&audits);
        audits
    }

    fn sample(&self, node: &Node, readings: &Readings) -> Outbox {
        let now_us = node.started.elapsed().as_micros() as u64;
        let counted = Counted {
            backbone: node.cluster.as_ref().map(|c| c.bridge.pulse()),
            ..Counted::of(&node.stats, node.population.connections(), now_us)
        };
        let mut state = self.lock();
        let signals = state.gauge.signals(readings, &counted);
        let grown = |n: Option<f64>| n.unwrap_or_default() as u64;
        state.signals = signals;
        state.listen_overflows += grown(readings.network.listen_overflows);
        state.listen_drops += grown(readings.network.listen_drops);
        let was_storm = state.controller.outcome().storm;
        state.controller.sample(self.now_ms(), &signals);
        self.tell_workers(&state, &node.shared.line);
        let outcome = state.controller.outcome();
        log_audits(&outcome.expired);
        if let Some(change) = &outcome.changed {
            log_change(change);
        }
        if outcome.storm != was_storm {
            tracing::info!(storm = outcome.storm, "many clients come back at once, or do no more");
        }
        let alert = outcome.alert.map(|alert| alert_json(&node.name, &alert, outcome));
        let page = outcome.plan.page.then(|| page_json(&node.name, outcome));
        Outbox {
            announcement: outcome.announcement.filter(|_| self.config.enabled),
            alert: page.or(alert),
        }
    }

    fn tell_workers(&self, state: &State, line: &LoadLine) {
        if !self.config.enabled {
            return line.tell(Told { line_is_off: true, ..Told::default() });
        }
        let budget = state.signals.outbound_budget_bytes.unwrap_or_default();
        let outcome = state.controller.outcome();
        line.tell(Told {
            gates: outcome.gates,
            outbound_budget_bytes: budget as usize,
            close_idle: outcome.plan.close_idle,
            line_is_off: false,
        });
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches the load of `node` for ever.
pub fn spawn(node: Arc<Node>) {
    let config = &node.watch.config;
    // Checked with the configuration; empty = none.
    let target = Target::parse(&config.alert_webhook).ok();
    let alerter = target.map(|target| Alerter::spawn(target, Arc::clone(&node.watch.alerts)));
    let memory_bytes = Some(config.memory_limit_bytes as u64).filter(|bytes| *bytes > 0);
    let configured = Configured { memory_bytes, cpu_cores: None };
    tokio::spawn(async move {
        let mut sampler = Sampler::new(&Paths::default(), configured);
        let mut ticks = tokio::time::interval(Duration::from_millis(SAMPLE_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let readings = sampler.sample(Instant::now());
            for notice in sampler.take_notices() {
                tracing::info!("a signal of the load is not there: {notice}");
            }
            let told = node.watch.sample(&node, &readings);
            if let Some(announcement) = told.announcement {
                announce(&node, &announcement);
            }
            if let (Some(alerter), Some(json)) = (&alerter, told.alert) {
                alerter.post(json);
            }
        }
    });
}

/// Hands the notice to each worker, without waiting for any.
fn announce(node: &Arc<Node>, announcement: &Announcement) {
    let gates = node.watch.lock().controller.outcome().gates;
    let json: Arc<str> = announcement.notice.json().into();
    let greeting: Option<Arc<str>> = greeting(&gates).map(Into::into);
    for worker in 0..node.stats.len() {
        let (node, json, greeting) = (Arc::clone(node), Arc::clone(&json), greeting.clone());
        let spread_ms = announcement.spread_ms;
        tokio::spawn(async move {
            for _ in 0..limits::NOTICE_HAND_OVERS_MAX {
                let (json, greeting) = (Arc::clone(&json), greeting.clone());
                let order = Letter::Notice { json, greeting, spread_ms };
                if node.order(worker, order).await.is_some() || node.is_stopping() {
                    return;
                }
                tokio::time::sleep(HAND_OVER_PAUSE).await;
            }
            tracing::warn!(worker, "a worker took no notice of the load: its mailbox is full");
        });
    }
}

/// What a client that connects now is told. Nothing where all is well. Without the time until
/// which: that one counts from the announcement.
fn greeting(gates: &Gates) -> Option<String> {
    let all_on = Feature::ALL.iter().all(|f| gates.state(*f) == FeatureState::On);
    let well = all_on && gates.work_level == Level::Normal;
    (!well).then(|| Notice::new(gates, None).json())
}

fn log_audits(audits: &[Audit]) {
    for audit in audits {
        tracing::info!("audit: {audit}");
    }
}

fn log_change(change: &Transition) {
    let cause = match change.cause {
        controller::Cause::Load => "load",
        controller::Cause::Override => "override",
    };
    tracing::info!(
        from = change.from.name(),
        to = change.to.name(),
        score = format!("{:.2}", change.score),
        hot_resource = change.hot_resource.map_or("none", |r| r.name()),
        cause,
        "the level changed"
    );
}

fn alert_json(node: &str, alert: &Alert, outcome: &Outcome) -> String {
    json!({
        "type": "load_level",
        "node": node,
        "from": alert.from.name(),
        "to": alert.to.name(),
        "level": alert.to.number(),
        "score": rounded(outcome.score),
        "hot_resource": outcome.hot_resource.map(|r| r.name()),
        "pinned": outcome.pinned,
        "suppressed": alert.suppressed,
        "storm": outcome.storm,
    })
    .to_string()
}

/// Everything that could be given up is, and it was not enough.
fn page_json(node: &str, outcome: &Outcome) -> String {
    json!({
        "type": "load_page",
        "node": node,
        "level": outcome.level.number(),
        "score": rounded(outcome.score),
        "hot_resource": outcome.hot_resource.map(|r| r.name()),
        "storm": outcome.storm,
    })
    .to_string()
}

/// Three digits behind the point: more is noise.
pub fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::capacity;
    use plimsoll_overload::alert::Alerts;

    fn watch(config: &Config) -> Watch {
        Watch::new(config, &capacity::load(config).unwrap()).unwrap()
    }

    fn told(config: &Config) -> (Told, View) {
        let (watch, line) = (watch(config), LoadLine::default());
        watch.begin(&line);
        (line.told(), watch.view())
    }

    #[test]
    fn orders_of_the_environment_hold_from_the_start() {
        let mut config = Config::default();
        config.overload.level_at_start = Some(Level::Critical);
        config.overload.closed_at_start = true;
        let (told, view) = told(&config);
        assert_eq!((told.gates.level, view.outcome.level), (Level::Critical, Level::Critical));
        assert_eq!((view.overrides.len(), view.accepts_new_connections()), (2, false));
        assert_eq!(view.overrides[0].author, "environment");
    }

    #[test]
    fn switched_off_it_reports_and_does_nothing() {
        let mut config = Config::default();
        config.overload.enabled = false;
        config.overload.level_at_start = Some(Level::Critical);
        let (told, view) = told(&config);
        let off = Told { line_is_off: true, ..Told::default() };
        assert_eq!((told, view.outcome.level), (off, Level::Critical));
        assert!(!view.enabled);
    }

    #[test]
    fn accepts_are_configured_or_the_default() {
        let accepts = |rate, min| {
            let mut config = Config::default();
            config.overload.accepts_per_second = rate;
            config.overload.accepts_per_second_min = min;
            told(&config).0.gates.accepts_per_s
        };
        let unmeasured = worker_count(0) as f64 * ACCEPTS_PER_S_OF_A_WORKER;
        assert_eq!(accepts(0, 20), unmeasured);
        assert_eq!(accepts(0, 5_000), unmeasured);
        assert_eq!(accepts(70, 20), 70.0);
    }

    #[test]
    fn who_comes_is_greeted_unless_all_is_well() {
        assert_eq!(greeting(&Gates::default()), None);
        let mut config = Config::default();
        config.overload.level_at_start = Some(Level::Degraded);
        let text = greeting(&told(&config).0.gates).unwrap();
        assert!(text.contains(r#""typing":"off""#) && !text.contains("until_s"), "{text}");
    }

    #[test]
    fn alerts_are_json() {
        let alert = Alerts::default().sample(1, Level::Critical).unwrap();
        let outcome = Outcome { score: 0.98765, ..Outcome::default() };
        let json = alert_json("a\"b", &alert, &outcome);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["node"], &json["level"]), (&json!("a\"b"), &json!(3)));
        assert_eq!((&json["from"], &json["score"]), (&json!("normal"), &json!(0.988)));
        let page: serde_json::Value = serde_json::from_str(&page_json("n", &outcome)).unwrap();
        assert_eq!((&page["type"], &page["storm"]), (&json!("load_page"), &json!(false)));
        let storm = Outcome { storm: true, ..outcome };
        assert!(alert_json("n", &alert, &storm).contains(r#""storm":true"#));
    }
}

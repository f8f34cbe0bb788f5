//! A circuit breaker for one dependency and one kind of call.
//!
//! Closed: calls go through and are counted. Open: calls are refused at once. Half-open: one probe
//! at a time goes through, and a few good ones close it again.

use crate::feature::Class;
use crate::limits;
use crate::spread;

/// When a breaker opens, and how it comes back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Time over which calls are counted, in milliseconds; in ten slots.
    pub window_ms: u64,
    /// With fewer calls in the window it does not judge.
    pub calls_min: u32,
    /// Share of failed calls that opens it, 0–1.
    pub failed_ratio: f64,
    /// A call that took longer is slow, in milliseconds: twice the budget of its p99.
    pub slow_ms: f64,
    /// Share of slow calls that opens it, 0–1.
    pub slow_ratio: f64,
    /// How long it stays open the first time, in milliseconds, give or take a fifth. It doubles
    /// with each probe that fails.
    pub open_ms: u64,
    /// Longest time it stays open.
    pub open_ms_max: u64,
    /// Good probes in a row that close it.
    pub probes_to_close: u32,
    /// Time between two probes, in milliseconds, give or take a fifth.
    pub probe_gap_ms: u64,
    /// A probe without an answer for so long has failed.
    pub probe_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window_ms: 10_000,
            calls_min: 20,
            failed_ratio: 0.5,
            slow_ms: 200.0,
            slow_ratio: 0.5,
            open_ms: 2_000,
            open_ms_max: 30_000,
            probes_to_close: 3,
            probe_gap_ms: 100,
            probe_timeout_ms: 5_000,
        }
    }
}

/// The state, for metrics and for [`crate::signals::BackboneState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// Single calls are tried.
    HalfOpen,
}

/// The right to make one call. Give it back with [`Breaker::done`].
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    generation: u64,
}

/// The answer to the question whether a call may be made.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Make it.
    Go(Permit),
    /// Do not. Asking again makes sense at this time.
    Refused {
        /// Milliseconds of the caller's clock.
        again_ms: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Inner {
    Closed,
    Open { until_ms: u64 },
    HalfOpen { probe_since_ms: Option<u64>, next_ms: u64, good: u32 },
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: u64,
    calls: u32,
    failed: u32,
    slow: u32,
}

/// The breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    config: Config,
    inner: Inner,
    /// Changes with each change of state: answers to older calls count no more.
    generation: u64,
    slots: [Slot; limits::BREAKER_SLOTS],
    /// How often it opened without closing in between.
    strikes: u32,
    opened_total: u64,
}

impl Breaker {
    /// Closed.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            inner: Inner::Closed,
            generation: 0,
            slots: Default::default(),
            strikes: 0,
            opened_total: 0,
        }
    }

    /// Whether a call may be made. While it is being tried, only calls for control and durable
    /// messages are probes. `random` is any random number; it spreads the probes of a fleet.
    pub fn ask(&mut self, now_ms: u64, class: Class, random: u64) -> Answer {
        match self.inner {
            Inner::Closed => self.go(),
            Inner::Open { until_ms } if now_ms < until_ms => Answer::Refused { again_ms: until_ms },
            Inner::Open { .. } => {
                self.enter(Inner::HalfOpen { probe_since_ms: None, next_ms: now_ms, good: 0 });
                self.probe(now_ms, class, random)
            }
            Inner::HalfOpen { .. } => self.probe(now_ms, class, random),
        }
    }

    /// A call has ended after `took_ms`. `ok` is false if the dependency failed or did not answer;
    /// a refusal that is the caller's own fault is a good answer.
    pub fn done(&mut self, now_ms: u64, permit: Permit, ok: bool, took_ms: f64, random: u64) {
        if permit.generation != self.generation {
            return;
        }
        let slow = took_ms > self.config.slow_ms;
        match self.inner {
            Inner::Closed => self.count(now_ms, ok, slow, random),
            Inner::Open { .. } => (),
            Inner::HalfOpen { .. } if !ok || slow => {
                self.open(now_ms, random);
            }
            Inner::HalfOpen { good, .. } if good + 1 >= self.config.probes_to_close => {
                self.strikes = 0;
                self.slots = Default::default();
                self.enter(Inner::Closed);
            }
            Inner::HalfOpen { good, .. } => {
                let next_ms = now_ms.saturating_add(around(self.config.probe_gap_ms, random));
                // A new generation: the answer to this probe cannot count twice.
                self.enter(Inner::HalfOpen { probe_since_ms: None, next_ms, good: good + 1 });
            }
        }
    }

    /// The state now.
    pub const fn state(&self) -> State {
        match self.inner {
            Inner::Closed => State::Closed,
            Inner::Open { .. } => State::Open,
            Inner::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// How often it has opened.
    pub const fn opened_total(&self) -> u64 {
        self.opened_total
    }

    fn go(&self) -> Answer {
        Answer::Go(Permit { generation: self.generation })
    }

    fn probe(&mut self, now_ms: u64, class: Class, random: u64) -> Answer {
        let Inner::HalfOpen { probe_since_ms, next_ms, .. } = &mut self.inner else {
            return Answer::Refused { again_ms: now_ms };
        };
        if let Some(since_ms) = *probe_since_ms {
            let lost_ms = since_ms.saturating_add(self.config.probe_timeout_ms);
            if now_ms < lost_ms {
                return Answer::Refused { again_ms: lost_ms };
            }
            return Answer::Refused { again_ms: self.open(now_ms, random) };
        }
        let may = matches!(class, Class::Control | Class::Durable);
        if !may || now_ms < *next_ms {
            return Answer::Refused { again_ms: (*next_ms).max(now_ms) };
        }
        *probe_since_ms = Some(now_ms);
        self.go()
    }

    /// Opens, and gives the time until which.
    fn open(&mut self, now_ms: u64, random: u64) -> u64 {
        let doubled = self.config.open_ms.saturating_mul(1 << self.strikes.min(16));
        let until_ms = now_ms.saturating_add(around(doubled.min(self.config.open_ms_max), random));
        self.strikes = self.strikes.saturating_add(1);
        self.opened_total += 1;
        self.enter(Inner::Open { until_ms });
        until_ms
    }

    fn enter(&mut self, inner: Inner) {
        self.inner = inner;
        self.generation += 1;
    }

    fn count(&mut self, now_ms: u64, ok: bool, slow: bool, random: u64) {
        let slots = limits::BREAKER_SLOTS as u64;
        let number = now_ms / (self.config.window_ms / slots).max(1);
        let slot = &mut self.slots[(number % slots) as usize];
        if slot.number != number {
            *slot = Slot { number, ..Slot::default() };
        }
        slot.calls += 1;
        slot.failed += u32::from(!ok);
        slot.slow += u32::from(slow);
        let recent = self.slots.iter().filter(|s| s.number.saturating_add(slots) > number);
        let (calls, failed, slow) = recent.fold((0_u64, 0_u64, 0_u64), |sum, s| {
            (sum.0 + u64::from(s.calls), sum.1 + u64::from(s.failed), sum.2 + u64::from(s.slow))
        });
        let over = |part: u64, ratio: f64| part as f64 >= ratio * calls as f64;
        let bad = over(failed, self.config.failed_ratio) || over(slow, self.config.slow_ratio);
        if calls >= u64::from(self.config.calls_min) && bad {
            self.open(now_ms, random);
        }
    }
}

fn around(time_ms: u64, random: u64) -> u64 {
    (time_ms as f64 * spread::around_one(random, 0.2)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spread::mix;

    fn go(breaker: &mut Breaker, now_ms: u64) -> Permit {
        match breaker.ask(now_ms, Class::Durable, mix(now_ms)) {
            Answer::Go(permit) => permit,
            refused @ Answer::Refused { .. } => panic!("at {now_ms}: {refused:?}"),
        }
    }

    fn call(breaker: &mut Breaker, now_ms: u64, ok: bool, took_ms: f64) {
        let permit = go(breaker, now_ms);
        breaker.done(now_ms, permit, ok, took_ms, mix(now_ms));
    }

    /// `calls` of (failed, slow) in every ten, `apart_ms` from each other.
    fn check(calls: u64, failed: u64, slow: u64, apart_ms: u64, expect: State) {
        let mut breaker = Breaker::new(Config::default());
        for n in 0..calls {
            if breaker.state() == State::Closed {
                let took_ms = if n % 10 < slow { 201.0 } else { 5.0 };
                call(&mut breaker, n * apart_ms, n % 10 >= failed, took_ms);
            }
        }
        assert_eq!(breaker.state(), expect, "{failed} failed and {slow} slow of 10, {calls} calls");
    }

    #[test]
    fn opens_on_half_of_twenty_calls() {
        check(19, 10, 0, 1, State::Closed);
        check(20, 10, 0, 1, State::Open);
        check(20, 5, 0, 1, State::Open);
        check(1_000, 4, 0, 1, State::Open); // 4 of the first 4, 8 of 14, …: 12 of 24 at the 24th
        check(1_000, 3, 0, 1, State::Closed);
        check(20, 0, 5, 1, State::Open);
        check(1_000, 0, 3, 1, State::Closed);
        check(1_000, 10, 0, 600, State::Closed); // never 20 within 10 s
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(Config::default());
        (0..20).for_each(|_| call(&mut breaker, 0, false, 1.0));
        breaker
    }

    #[test]
    fn comes_back_by_single_probes() {
        let mut breaker = opened();
        assert!(matches!(breaker.ask(1_500, Class::Control, 0), Answer::Refused { .. }));
        assert!(matches!(breaker.ask(2_400, Class::Ephemeral, 0), Answer::Refused { .. }));
        let probe = go(&mut breaker, 2_400);
        assert_eq!(
            breaker.ask(2_401, Class::Control, 0),
            Answer::Refused { again_ms: 7_400 },
            "one at a time"
        );
        breaker.done(2_410, probe, true, 10.0, 1);
        assert!(matches!(breaker.ask(2_411, Class::Control, 0), Answer::Refused { .. }), "a gap");
        call(&mut breaker, 2_600, true, 1.0);
        assert_eq!(breaker.state(), State::HalfOpen);
        call(&mut breaker, 2_800, true, 1.0);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.opened_total(), 1);
    }

    #[test]
    fn failed_slow_and_lost_probes_open_it_for_longer() {
        let mut breaker = opened();
        let mut now_ms = 0;
        let mut last_ms = 2_000.0;
        for round in 0..6 {
            let until_ms = match breaker.ask(now_ms, Class::Durable, 7) {
                Answer::Refused { again_ms } => again_ms,
                Answer::Go(_) => panic!("open"),
            };
            let open_ms = (until_ms - now_ms) as f64;
            assert!((last_ms * 0.79..=last_ms * 1.21).contains(&open_ms), "{round}: {open_ms}");
            now_ms = until_ms;
            let probe = go(&mut breaker, now_ms);
            match round % 3 {
                0 => breaker.done(now_ms, probe, false, 1.0, mix(round)),
                1 => breaker.done(now_ms, probe, true, 999.0, mix(round)),
                _ => {
                    now_ms += 5_000;
                    let lost = breaker.ask(now_ms, Class::Durable, mix(round));
                    assert!(matches!(lost, Answer::Refused { .. }));
                    breaker.done(now_ms, probe, true, 1.0, 0);
                }
            }
            assert_eq!(breaker.state(), State::Open);
            last_ms = (last_ms * 2.0_f64).min(30_000.0);
        }
    }

    #[test]
    fn answers_to_old_calls_do_not_count() {
        let mut breaker = Breaker::new(Config::default());
        let old: Vec<_> = (0..5).map(|_| go(&mut breaker, 0)).collect();
        (0..20).for_each(|_| call(&mut breaker, 0, false, 1.0));
        let _probe = go(&mut breaker, 2_400);
        old.into_iter().for_each(|permit| breaker.done(2_401, permit, true, 1.0, 0));
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(matches!(breaker.ask(2_402, Class::Control, 0), Answer::Refused { .. }));
    }

    /// Whatever is asked and answered: half-open, never more than one call is out.
    #[test]
    fn never_two_probes() {
        for seed in 0..500_u64 {
            let mut breaker = opened();
            let mut numbers = (0..).map(|n: u64| mix(seed << 32 | n));
            let mut random = || numbers.next().unwrap_or_default();
            let mut out: Option<(Permit, u64)> = None;
            let mut now_ms = 0;
            for _ in 0..500 {
                now_ms += random() % 300;
                if let Answer::Go(permit) = breaker.ask(now_ms, Class::Durable, random()) {
                    if breaker.state() == State::Closed {
                        breaker.done(now_ms, permit, random() % 3 == 0, 1.0, random());
                        continue;
                    }
                    let lost = |since: u64| now_ms - since >= breaker.config.probe_timeout_ms;
                    assert!(out.as_ref().is_none_or(|o| lost(o.1)), "seed {seed}: two are out");
                    out = Some((permit, now_ms));
                }
                if random() % 4 == 0
                    && let Some((permit, since)) = out.take()
                {
                    breaker.done(
                        now_ms,
                        permit,
                        random() % 2 == 0,
                        (now_ms - since) as f64,
                        random(),
                    );
                }
            }
        }
    }
}

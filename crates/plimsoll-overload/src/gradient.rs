//! How many calls to a dependency may be out at once, found from their latency.
//!
//! Gradient2 of Netflix' concurrency-limits: `gradient = clamp(tolerance × long / short, 0.5, 1)`,
//! `limit' = limit × gradient + queue`, smoothed. When calls get slower than they usually are, the
//! limit shrinks; while they are not and the limit is used, it grows.
//!
//! A piece for what calls out often, as hooks will. The server has no such call yet: alerts are
//! posted one at a time, behind a [`crate::breaker`] and a [`crate::retry`] budget.

/// The constants of the limiter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// Limit at start.
    pub initial: u32,
    /// Smallest limit; at least 1.
    pub min: u32,
    /// Largest limit.
    pub max: u32,
    /// How many times slower than usual is still fine.
    pub tolerance: f64,
    /// Room for growth in each step, in calls.
    pub queue: f64,
    /// Weight of the new limit, 0–1.
    pub smoothing: f64,
    /// Steps over which "usual" is averaged.
    pub long_steps: u32,
    /// Calls that make one step, at least.
    pub window_calls: u32,
    /// Time that makes one step, in milliseconds, at least.
    pub window_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            initial: 20,
            min: 1,
            max: 1_000,
            tolerance: 1.5,
            queue: 4.0,
            smoothing: 0.2,
            long_steps: 600,
            window_calls: 10,
            window_ms: 100,
        }
    }
}

/// Steps whose plain mean is the first idea of "usual".
const WARM_UP_STEPS: u32 = 10;

/// The limiter of one dependency.
#[derive(Clone, Debug)]
pub struct Gradient {
    config: Config,
    limit: f64,
    long_ms: f64,
    steps: u32,
    out: u32,
    /// The step being gathered.
    since_ms: u64,
    calls: u32,
    sum_ms: f64,
    out_max: u32,
}

impl Gradient {
    /// At the initial limit.
    pub fn new(config: Config, now_ms: u64) -> Self {
        let config = Config { min: config.min.max(1), ..config };
        let limit = f64::from(config.initial.max(config.min).min(config.max.max(config.min)));
        Self {
            config,
            limit,
            long_ms: 0.0,
            steps: 0,
            out: 0,
            since_ms: now_ms,
            calls: 0,
            sum_ms: 0.0,
            out_max: 0,
        }
    }

    /// Takes a place for a call, if there is one. Each place is given back by [`Gradient::done`]
    /// or [`Gradient::dropped`].
    #[must_use]
    pub fn start(&mut self) -> bool {
        let free = self.out < self.limit();
        if free {
            self.out += 1;
            self.out_max = self.out_max.max(self.out);
        }
        free
    }

    /// A call was answered after `took_ms`.
    pub fn done(&mut self, now_ms: u64, took_ms: f64) {
        self.out = self.out.saturating_sub(1);
        if !took_ms.is_finite() || took_ms < 0.0 {
            return;
        }
        self.calls += 1;
        self.sum_ms += took_ms;
        let full = self.calls >= self.config.window_calls
            && now_ms.saturating_sub(self.since_ms) >= self.config.window_ms;
        if full {
            self.step();
            self.since_ms = now_ms;
            self.calls = 0;
            self.sum_ms = 0.0;
            self.out_max = self.out;
        }
    }

    /// A call ended in a way that says nothing about latency, for example because its caller left.
    pub fn dropped(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// Calls that may be out at once.
    pub fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Calls that are out.
    pub const fn out(&self) -> u32 {
        self.out
    }

    fn step(&mut self) {
        let short_ms = (self.sum_ms / f64::from(self.calls)).max(1e-3);
        self.steps = self.steps.saturating_add(1);
        // The plain mean of the first steps, then an exponential average.
        let weight = if self.steps <= WARM_UP_STEPS {
            1.0 / f64::from(self.steps)
        } else {
            2.0 / (f64::from(self.config.long_steps) + 1.0).max(2.0)
        };
        let mut long_ms = self.long_ms + (short_ms - self.long_ms) * weight;
        // After a slow time, "usual" must not stay slow for long.
        if long_ms / short_ms > 2.0 {
            long_ms *= 0.95;
        }
        self.long_ms = long_ms;
        // A limit that is not used says nothing: it neither grows nor shrinks.
        if f64::from(self.out_max) < self.limit / 2.0 {
            return;
        }
        let gradient = (self.config.tolerance * long_ms / short_ms).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + self.config.queue;
        let next = self.limit + (wanted - self.limit) * self.config.smoothing;
        let (min, max) = (f64::from(self.config.min), f64::from(self.config.max));
        self.limit = next.max(min).min(max.max(min));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A dependency that works on `capacity` calls at once, 10 ms each; more wait. Always as many
    /// calls as the limit allows. The limit after `rounds` of 100 ms.
    fn run(limiter: &mut Gradient, capacity: f64, rounds: u64) -> u32 {
        let start_ms = limiter.since_ms;
        for now_ms in (1..=rounds).map(|round| start_ms + round * 100) {
            let calls = (0..limiter.limit().max(10)).filter(|_| limiter.start()).count();
            let took_ms = 10.0 * (calls as f64 / capacity).max(1.0);
            // Short windows are filled up by calls one after the other.
            for n in 0..calls.max(10) {
                if n >= calls && !limiter.start() {
                    continue;
                }
                limiter.done(now_ms, took_ms);
            }
        }
        limiter.limit()
    }

    #[test]
    fn grows_while_latency_holds_and_shrinks_when_it_does_not() {
        let mut limiter = Gradient::new(Config::default(), 0);
        let grown = run(&mut limiter, 1e9, 100);
        assert!(grown > 80, "{grown}");
        let before = limiter.limit();
        // Ten times too much for it now.
        let shrunk = run(&mut limiter, f64::from(before) / 10.0, 30);
        assert!(shrunk < before / 2, "{before} -> {shrunk}");
        let back = run(&mut limiter, 1e9, 200);
        assert!(back > before, "{shrunk} -> {back}");
    }

    #[test]
    fn an_unused_limit_stays() {
        let mut limiter = Gradient::new(Config::default(), 0);
        for n in 1..1_000 {
            assert!(limiter.start());
            limiter.done(n * 100, 5.0);
        }
        assert_eq!(limiter.limit(), 20);
    }

    #[test]
    fn keeps_its_bounds_whatever_comes() {
        let mut limiter = Gradient::new(Config { min: 0, max: 50, ..Config::default() }, 0);
        assert!((1..=50).contains(&run(&mut limiter, 0.001, 500)));
        assert!(run(&mut limiter, 1e9, 1_000) <= 50);
        let before = limiter.limit();
        limiter.done(1, f64::NAN);
        limiter.done(1, -1.0);
        limiter.dropped();
        assert_eq!((limiter.limit(), limiter.out()), (before, 0));
        let taken = (0..100).filter(|_| limiter.start()).count() as u32;
        assert_eq!((taken, limiter.out()), (before, before));
    }
}

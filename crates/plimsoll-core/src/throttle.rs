//! How many publications a worker takes when it cannot take all that are offered.
//!
//! Not the length of a queue says that there is too much, but how long everybody has to wait even
//! in the best moment (CoDel's rule): a worker is behind when, over a whole window, it was busy all
//! the time and not one turn of its loop was short. Then it takes less than it managed, the less
//! the longer its turns are; when it keeps up it takes a little more, until nothing has to be
//! refused any longer.
//!
//! To refuse is work as well. A worker that spends most of its time on reading and refusing gets no
//! better by taking less, and does less good: then it takes more, until it delivers for half of its
//! time or its turns become too long.

/// Length of a window, in microseconds.
const WINDOW_US: u64 = 600_000;
/// A turn longer than this is one in which clients wait too long, in microseconds: what comes
/// during one turn is delivered by the end of the next, and half a second is the most a delivery
/// should take. Not less: a full turn gathers many frames into each write, which makes a busy
/// worker cheap; one that writes to ten thousand sockets in each turn needs more than 100 ms for
/// that alone, whatever is published.
const TURN_US: u64 = 250_000;
/// Share of a window in which a worker is behind.
const BUSY_RATIO: f64 = 0.9;
/// Factor on the rate after a window in which the worker was behind, at least and at most: the
/// root of the turn it should have over the turn it had. (The root: what it managed in a long turn
/// is what it can, but for what longer turns save.)
const DOWN_MIN: f64 = 0.5;
const DOWN: f64 = 0.95;
/// Below this share of its time spent on delivering, taking less makes little better, …
const USEFUL_RATIO_MIN: f64 = 0.5;
/// … and is not tried while turns are shorter than this, in microseconds; …
const TURN_US_MAX: u64 = 2 * TURN_US;
/// … while they are shorter than this, it takes more.
const TURN_US_MORE: u64 = TURN_US + TURN_US / 2;
/// Factor on the rate after a good window.
const UP: f64 = 1.1;
/// The same where hardly any of its time goes into delivering: the rate is far too low.
const UP_FAST: f64 = 1.5;
const FAR_BELOW_RATIO: f64 = 0.25;
/// The rate is never lower, so that it can be seen when things get better.
const RATE_MIN: f64 = 20.0;
/// Good windows in a row without a refusal after which there is no limit any more.
const FORGET_WINDOWS: u32 = 8;

/// The limit of one worker. It has none as long as the worker keeps up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// Publications per second; `None` = no limit.
    rate: Option<f64>,
    tokens: f64,
    filled_us: u64,
    window_us: u64,
    busy_us: u64,
    useful_us: u64,
    shortest_us: u64,
    taken: u32,
    refused: u32,
    good_windows: u32,
}

impl Throttle {
    /// Takes a publication, or refuses it. `now_us`: when the turn began.
    pub fn take(&mut self, now_us: u64) -> bool {
        if let Some(rate) = self.rate {
            let passed_s = now_us.saturating_sub(self.filled_us) as f64 / 1e6;
            // A window's worth at once: a turn that gathered much is not a crime.
            let most = (rate * WINDOW_US as f64 / 1e6).max(1.0);
            self.tokens = (self.tokens + passed_s * rate).min(most);
            self.filled_us = self.filled_us.max(now_us);
            if self.tokens < 1.0 {
                self.refused = self.refused.saturating_add(1);
                return false;
            }
            self.tokens -= 1.0;
        }
        self.taken = self.taken.saturating_add(1);
        true
    }

    /// A turn of the loop has ended. `now_us`: now; `turn_us`: how long it took; `useful_us`: how
    /// much of that it spent on delivering.
    pub fn turn_ended(&mut self, now_us: u64, turn_us: u64, useful_us: u64) {
        if self.busy_us == 0 {
            self.shortest_us = u64::MAX;
        }
        self.busy_us += turn_us.max(1);
        self.useful_us += useful_us;
        self.shortest_us = self.shortest_us.min(turn_us);
        let passed_us = now_us.saturating_sub(self.window_us);
        if passed_us < WINDOW_US {
            return;
        }
        let busy = self.busy_us as f64 >= BUSY_RATIO * passed_us as f64;
        if busy && self.shortest_us > TURN_US {
            let managed = f64::from(self.taken) / (passed_us as f64 / 1e6);
            let useful = self.useful_us as f64 >= USEFUL_RATIO_MIN * self.busy_us as f64;
            match self.rate {
                Some(rate) if !useful && self.shortest_us < TURN_US_MORE => {
                    self.rate = Some(rate * UP);
                }
                Some(_) if !useful && self.shortest_us < TURN_US_MAX => {}
                // A backlog of refusals: it passes, and the rate need not fall as far as the turn
                // is long.
                Some(_) if !useful => self.slower(now_us, managed, DOWN),
                _ => self.slower(now_us, managed, self.down()),
            }
        } else {
            self.faster();
        }
        (self.window_us, self.taken, self.refused) = (now_us, 0, 0);
        (self.busy_us, self.useful_us) = (0, 0);
    }

    fn down(&self) -> f64 {
        (TURN_US as f64 / self.shortest_us as f64).sqrt().clamp(DOWN_MIN, DOWN)
    }

    fn slower(&mut self, now_us: u64, managed: f64, factor: f64) {
        let rate = self.rate.map_or(managed, |rate| rate.min(managed.max(rate * DOWN_MIN)));
        if self.rate.is_none() {
            (self.tokens, self.filled_us) = (0.0, now_us);
        }
        self.rate = Some((rate * factor).max(RATE_MIN));
        self.good_windows = 0;
    }

    fn faster(&mut self) {
        let Some(rate) = self.rate else { return };
        self.good_windows = if self.refused == 0 { self.good_windows + 1 } else { 0 };
        let idle = (self.useful_us as f64) < FAR_BELOW_RATIO * self.busy_us as f64;
        let up = if idle { UP_FAST } else { UP };
        self.rate = (self.good_windows < FORGET_WINDOWS).then_some(rate * up);
    }

    /// Publications per second that are taken; `None` = all.
    pub fn rate(&self) -> Option<f64> {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that needs `cost_us` for each publication it takes and is offered `per_s`.
    struct Worker {
        throttle: Throttle,
        now_us: u64,
        owed: f64,
    }

    impl Worker {
        /// Publications taken per second over `seconds`, and the longest turn of the second half.
        fn run(&mut self, per_s: f64, cost_us: f64, seconds: u64) -> (f64, u64) {
            self.run_with(per_s, cost_us, 2.0, seconds)
        }

        /// The same where each refusal costs `refusal_us`.
        fn run_with(
            &mut self,
            per_s: f64,
            cost_us: f64,
            refusal_us: f64,
            seconds: u64,
        ) -> (f64, u64) {
            let start_us = self.now_us;
            let (mut taken, mut longest_us) = (0u64, 0);
            while self.now_us < start_us + seconds * 1_000_000 {
                // What a socket holds is bounded: publishers wait for their answers.
                let waiting = (self.owed as u64).min(20_000);
                self.owed -= waiting as f64;
                let begun_us = self.now_us;
                let mine = (0..waiting).filter(|_| self.throttle.take(begun_us)).count() as u64;
                let useful_us = (mine as f64 * cost_us) as u64;
                let work_us = useful_us + ((waiting - mine) as f64 * refusal_us) as u64;
                self.now_us += work_us.max(100);
                let turn_us = self.now_us - begun_us;
                self.owed = (self.owed + turn_us as f64 / 1e6 * per_s).min(20_000.0);
                let busy_us = if waiting == 0 { 1 } else { turn_us };
                self.throttle.turn_ended(self.now_us, busy_us, useful_us.min(busy_us));
                taken += mine;
                if begun_us > start_us + seconds * 500_000 {
                    longest_us = longest_us.max(turn_us);
                }
            }
            (taken as f64 / seconds as f64, longest_us)
        }
    }

    fn worker() -> Worker {
        Worker { throttle: Throttle::default(), now_us: 0, owed: 0.0 }
    }

    #[test]
    fn what_can_be_carried_is_never_refused() {
        for share in [0.1, 0.5, 0.9] {
            let mut w = worker();
            let (taken, _) = w.run(share * 1_000.0, 1_000.0, 20);
            assert!((taken / (share * 1_000.0) - 1.0).abs() < 0.02, "{share}: {taken}");
            assert_eq!(w.throttle.rate(), None);
        }
    }

    #[test]
    fn overload_keeps_the_goodput_and_the_turns_short() {
        for times in [1.5, 2.0, 5.0, 10.0] {
            let mut w = worker();
            // 1,000 publications a second are what this worker can carry.
            let (taken, longest_us) = w.run(times * 1_000.0, 1_000.0, 30);
            assert!(taken > 850.0, "{times} times: {taken} taken");
            assert!(longest_us < 1_000_000, "{times} times: a turn of {longest_us} us");
            // It ends by itself.
            w.run(300.0, 1_000.0, 20);
            assert_eq!(w.throttle.rate(), None, "{times} times");
        }
    }
    #[test]
    fn refusals_that_cost_much_do_not_end_all_goodput() {
        for times in [2.0, 5.0, 10.0] {
            let mut w = worker();
            // A refusal costs a tenth of a publication: at ten times the load, nine tenths of
            // the worker's time go into refusing.
            let (taken, _) = w.run_with(times * 1_000.0, 1_000.0, 100.0, 60);
            let possible = (1_000.0 - times * 100.0) / 0.9;
            assert!(taken > 0.5 * possible.max(300.0), "{times} times: {taken} of {possible}");
        }
    }
}

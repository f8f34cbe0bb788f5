//! Sums and differences of what happened.

use super::Counters;
use crate::limits;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

impl Default for Counters {
    fn default() -> Self {
        Self {
            at_us: 0,
            connected: 0,
            subscribed: 0,
            attempts: 0,
            connects: 0,
            failures: BTreeMap::new(),
            closes: BTreeMap::new(),
            cuts: 0,
            subscribes: 0,
            recoveries: [0; 2],
            unsubscribes: BTreeMap::new(),
            errors: BTreeMap::new(),
            due: 0,
            published: 0,
            acknowledged: 0,
            unknown: 0,
            deliveries: 0,
            deliveries_due: 0,
            delivery_bytes: 0,
            reads: 0,
            cpu_us: 0,
            latency_us: histogram(),
            ack_us: histogram(),
            connect_us: histogram(),
            back_us: histogram(),
            late_us: histogram(),
        }
    }
}

impl Counters {
    /// What happened after `earlier`. What is counted as of now (`at_us`, `connected`,
    /// `subscribed`) stays as it is.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut made = self.clone();
        for (now, then) in made.sums().into_iter().zip(earlier.clone().sums()) {
            *now = now.saturating_sub(*then);
        }
        subtract(&mut made.failures, &earlier.failures);
        subtract(&mut made.closes, &earlier.closes);
        subtract(&mut made.unsubscribes, &earlier.unsubscribes);
        subtract(&mut made.errors, &earlier.errors);
        for (now, then) in made.histograms().into_iter().zip(earlier.clone().histograms()) {
            // It fails only where `earlier` is not earlier: then the later one stands.
            let _ = now.subtract(&*then);
        }
        made
    }

    /// Adds what another thread or process counted. The later reading gives `at_us`.
    pub fn merge(&mut self, other: &Self) {
        let mut other = other.clone();
        self.at_us = self.at_us.max(other.at_us);
        self.connected += other.connected;
        self.subscribed += other.subscribed;
        for (sum, more) in self.sums().into_iter().zip(other.sums()) {
            *sum += *more;
        }
        add(&mut self.failures, &other.failures);
        add(&mut self.closes, &other.closes);
        add(&mut self.unsubscribes, &other.unsubscribes);
        add(&mut self.errors, &other.errors);
        for (sum, more) in self.histograms().into_iter().zip(other.histograms()) {
            // All grow by themselves, so that everything fits.
            let _ = sum.add(&*more);
        }
    }

    /// The members that only grow.
    pub(super) fn sums(&mut self) -> [&mut u64; 15] {
        let [recovered, lost] = &mut self.recoveries;
        [
            &mut self.attempts,
            &mut self.connects,
            &mut self.cuts,
            &mut self.subscribes,
            recovered,
            lost,
            &mut self.due,
            &mut self.published,
            &mut self.acknowledged,
            &mut self.unknown,
            &mut self.deliveries,
            &mut self.deliveries_due,
            &mut self.delivery_bytes,
            &mut self.reads,
            &mut self.cpu_us,
        ]
    }

    /// Its histograms.
    pub(super) fn histograms(&mut self) -> [&mut Histogram<u64>; 5] {
        [
            &mut self.latency_us,
            &mut self.ack_us,
            &mut self.connect_us,
            &mut self.back_us,
            &mut self.late_us,
        ]
    }
}

/// Adds one to a counter by key.
pub fn count<K: Ord>(map: &mut BTreeMap<K, u64>, key: K) {
    *map.entry(key).or_default() += 1;
}

/// Records a time; what is longer than the bound counts as the bound.
pub fn record(histogram: &mut Histogram<u64>, us: u64) {
    // It grows by itself, so that everything up to the bound fits.
    let _ = histogram.record(us.clamp(1, limits::LATENCY_US_MAX));
}

/// An empty histogram of times in microseconds.
pub fn histogram() -> Histogram<u64> {
    // Three digits are within the library's range; were they not, a coarser one would do.
    let made = Histogram::new(limits::LATENCY_DIGITS).or_else(|_| Histogram::new(1));
    let mut made = match made {
        Ok(made) => made,
        Err(_) => unreachable!("one digit is always allowed"),
    };
    made.auto(true);
    made
}

fn subtract<K: Ord>(from: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, then) in other {
        if let Some(now) = from.get_mut(key) {
            *now = now.saturating_sub(*then);
        }
    }
    from.retain(|_, count| *count > 0);
}

fn add<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, other: &BTreeMap<K, u64>) {
    for (key, more) in other {
        *to.entry(*key).or_default() += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(base: u64) -> Counters {
        let mut made = Counters { at_us: base, connected: base, ..Counters::default() };
        for (at, sum) in made.sums().into_iter().enumerate() {
            *sum = base + at as u64;
        }
        for (at, histogram) in made.histograms().into_iter().enumerate() {
            for _ in 0..base {
                record(histogram, 100 * (at as u64 + 1));
            }
        }
        made.errors.insert(103, base);
        made.failures.insert("refused", base);
        made
    }

    #[test]
    fn since_takes_away_what_merge_adds() {
        let (a, b) = (some(3), some(5));
        let mut sum = a.clone();
        sum.merge(&b);
        let mut back = sum.since(&a);
        let mut expect = b.clone();
        assert_eq!(back.sums(), expect.sums());
        assert_eq!((back.errors, back.failures), (b.errors, b.failures));
        assert_eq!(back.latency_us.len(), 5);
        assert_eq!(back.late_us.max(), b.late_us.max());
        assert_eq!((sum.at_us, sum.connected), (5, 8));
    }

    #[test]
    fn since_itself_nothing_is_left() {
        let mut none = some(4).since(&some(4));
        assert!(none.sums().iter().all(|sum| **sum == 0));
        assert!(none.errors.is_empty());
        assert!(none.ack_us.is_empty());
    }

    #[test]
    fn a_time_beyond_the_bound_counts_as_the_bound() {
        let mut histogram = histogram();
        record(&mut histogram, u64::MAX);
        record(&mut histogram, 0);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.max() <= limits::LATENCY_US_MAX * 101 / 100);
    }
}

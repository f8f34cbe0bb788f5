//! Posts alerts to the operator's webhook, one after the other, and never in anybody's way.

use super::webhook::{PostError, Target};
use plimsoll_core::limits;
use plimsoll_overload::breaker::{Answer, Breaker, Config};
use plimsoll_overload::feature::Class;
use plimsoll_overload::retry::RetryBudget;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Before a second attempt; three times as long before a third.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls are so few that three bad ones are a judgement.
const BREAKER: Config = Config {
    window_ms: 600_000,
    calls_min: 3,
    failed_ratio: 0.5,
    slow_ms: 4_000.0,
    slow_ratio: 0.5,
    open_ms: 30_000,
    open_ms_max: 300_000,
    probes_to_close: 1,
    probe_gap_ms: 1_000,
    probe_timeout_ms: 10_000,
};

/// What became of alerts.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// By outcome. `refused` = not tried because the webhook failed before; `dropped` = too many
    /// were waiting.
    pub fn by_outcome(&self) -> [(&'static str, u64); 4] {
        [
            ("sent", self.sent.load(Relaxed)),
            ("failed", self.failed.load(Relaxed)),
            ("refused", self.refused.load(Relaxed)),
            ("dropped", self.dropped.load(Relaxed)),
        ]
    }
}

/// Takes alerts.
pub struct Alerter {
    queue: mpsc::Sender<String>,
    counts: Arc<Counts>,
}

impl Alerter {
    /// Starts the task that posts to `target`.
    pub fn spawn(target: Target, counts: Arc<Counts>) -> Self {
        let (queue, alerts) = mpsc::channel(limits::ALERTS_WAITING_MAX);
        tokio::spawn(Poster::new(target, Arc::clone(&counts), PAUSE).run(alerts));
        Self { queue, counts }
    }

    /// Hands over one alert. Does not wait.
    pub fn post(&self, json: String) {
        if self.queue.try_send(json).is_err() {
            self.counts.dropped.fetch_add(1, Relaxed);
            tracing::warn!("an alert was dropped: too many are waiting for the webhook");
        }
    }
}

struct Poster {
    target: Target,
    counts: Arc<Counts>,
    pause: Duration,
    breaker: Breaker,
    budget: RetryBudget,
    started: Instant,
}

impl Poster {
    fn new(target: Target, counts: Arc<Counts>, pause: Duration) -> Self {
        let (breaker, budget) = (Breaker::new(BREAKER), RetryBudget::default());
        Self { target, counts, pause, breaker, budget, started: Instant::now() }
    }

    async fn run(mut self, mut alerts: mpsc::Receiver<String>) {
        while let Some(json) = alerts.recv().await {
            self.deliver(&json).await;
        }
    }

    async fn deliver(&mut self, json: &str) {
        self.budget.called();
        let mut pause = self.pause;
        for attempts in 1.. {
            let error = match self.attempt(json).await {
                Some(Ok(())) => {
                    self.counts.sent.fetch_add(1, Relaxed);
                    return;
                }
                Some(Err(error)) => error,
                None => {
                    self.counts.refused.fetch_add(1, Relaxed);
                    tracing::warn!("an alert was not sent: the webhook has failed too often");
                    return;
                }
            };
            if !self.budget.may_retry(attempts) {
                self.counts.failed.fetch_add(1, Relaxed);
                tracing::warn!(%error, attempts, "an alert could not be sent");
                return;
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
    }

    /// One post; `None`: the breaker is open.
    async fn attempt(&mut self, json: &str) -> Option<Result<(), PostError>> {
        let now_ms = |started: Instant| started.elapsed().as_millis() as u64;
        let begin_ms = now_ms(self.started);
        let Answer::Go(permit) = self.breaker.ask(begin_ms, Class::Control, fastrand::u64(..))
        else {
            return None;
        };
        let result = self.target.post(json).await;
        let end_ms = now_ms(self.started);
        let took_ms = end_ms.saturating_sub(begin_ms) as f64;
        self.breaker.done(end_ms, permit, result.is_ok(), took_ms, fastrand::u64(..));
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_webhook_is_tried_a_few_times_and_then_left_alone() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = Target::parse(&format!("http://{closed}/")).unwrap();
        let counts = Arc::<Counts>::default();
        let mut poster = Poster::new(target, Arc::clone(&counts), Duration::ZERO);
        for _ in 0..5 {
            poster.deliver("{}").await;
        }
        // Three attempts at the first one open the breaker.
        let expect = [("sent", 0), ("failed", 1), ("refused", 4), ("dropped", 0)];
        assert_eq!(counts.by_outcome(), expect);
    }

    #[tokio::test]
    async fn more_than_fit_are_dropped_and_counted() {
        let counts = Arc::<Counts>::default();
        let (queue, _kept) = mpsc::channel(limits::ALERTS_WAITING_MAX);
        let alerter = Alerter { queue, counts: Arc::clone(&counts) };
        for _ in 0..limits::ALERTS_WAITING_MAX + 3 {
            alerter.post("{}".into());
        }
        assert_eq!(counts.by_outcome()[3], ("dropped", 3));
    }
}

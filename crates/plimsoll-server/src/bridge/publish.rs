//! Publications on their way out.

use super::{Bridge, begin, unix_ms};
use plimsoll_backbone::{Failure, Keep, Publish, Published};
use plimsoll_core::codes::ClientError;
use plimsoll_core::home::{Answer, PublishRequest};
use plimsoll_core::limits;
use plimsoll_core::link::Asker;
use plimsoll_core::policy::ChannelOptions;
use plimsoll_overload::breaker::Answer as Permission;
use plimsoll_overload::feature::Class;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Publications that wait, in order.
#[derive(Default)]
pub(super) struct Publishing {
    waiting: VecDeque<Outgoing>,
}

struct Outgoing {
    publish: Publish,
    asker: Option<Asker>,
    since: Instant,
}

impl Publishing {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// How a channel's publications are kept.
pub(super) fn keep_of(options: &ChannelOptions) -> Option<Keep> {
    options.has_history().then_some(Keep {
        size: options.history_size,
        ttl_ms: options.history_ttl_ms,
        meta_ttl_ms: options.history_meta_ttl_ms,
    })
}

/// What a client is told. A code of 100 means that nobody knows.
pub(super) fn error_of(failure: Failure) -> ClientError {
    match failure {
        Failure::Down => ClientError::FEATURE_OFF,
        Failure::Busy => ClientError::TOO_MANY_REQUESTS,
        Failure::TooLarge => ClientError::LIMIT_EXCEEDED,
        Failure::Unsupported => ClientError::NOT_AVAILABLE,
        Failure::Unknown | Failure::Refused => ClientError::INTERNAL,
    }
}

impl Bridge {
    pub(super) fn queue_publication(
        &self,
        to: &mut Publishing,
        asker: Asker,
        channel: Arc<str>,
        request: PublishRequest,
    ) {
        let resolved = match self.channels.resolve(&channel) {
            Ok(resolved) => resolved,
            Err(error) => return self.answer(asker, channel, Answer::Error(error)),
        };
        let options = resolved.options;
        let keep = keep_of(options).filter(|_| !request.skip_history);
        let body = self.wire.publication(&channel, &request, options.class, false, unix_ms());
        let capabilities = self.backbone.capabilities();
        let unable = (request.version.is_some() && !capabilities.versions)
            || (request.idempotency_key.is_some() && !capabilities.idempotency);
        if unable {
            return self.answer(asker, channel, Answer::Error(ClientError::NOT_AVAILABLE));
        }
        if body.len() > capabilities.body_bytes_max {
            return self.answer(asker, channel, Answer::Error(ClientError::LIMIT_EXCEEDED));
        }
        let publish = Publish {
            channel,
            body,
            keep,
            idempotency_key: request.idempotency_key,
            version: request.version,
        };
        self.queue(to, publish, Some(asker));
    }

    pub(super) fn queue_mark(&self, to: &mut Publishing, channel: Arc<str>, mark: &PublishRequest) {
        let body = self.wire.publication(&channel, mark, Class::Ephemeral, true, unix_ms());
        let publish = Publish { channel, body, keep: None, idempotency_key: None, version: None };
        self.queue(to, publish, None);
    }

    fn queue(&self, to: &mut Publishing, publish: Publish, asker: Option<Asker>) {
        if to.waiting.len() >= limits::BACKBONE_QUEUE_MAX {
            return self.refuse(publish.channel, asker, Failure::Busy);
        }
        to.waiting.push_back(Outgoing { publish, asker, since: Instant::now() });
    }

    fn refuse(&self, channel: Arc<str>, asker: Option<Asker>, failure: Failure) {
        self.figures.refused.add(1);
        if let Some(asker) = asker {
            self.answer(asker, channel, Answer::Error(error_of(failure)));
        }
    }

    /// Sends what waits, as far as there is room on the way, and refuses what waited too long.
    pub(super) async fn start_publishing(self: &Arc<Self>, from: &mut Publishing) {
        let oldest = Duration::from_millis(limits::BACKBONE_QUEUE_MS);
        while from.waiting.front().is_some_and(|o| o.since.elapsed() > oldest) {
            let Some(late) = from.waiting.pop_front() else { return };
            self.refuse(late.publish.channel, late.asker, Failure::Busy);
        }
        while !from.waiting.is_empty()
            && self.batches.load(Ordering::Relaxed) < limits::BACKBONE_BATCHES_MAX
        {
            let count = from.waiting.len().min(limits::BACKBONE_BATCH_MAX);
            let batch: Vec<Outgoing> = from.waiting.drain(..count).collect();
            let random = fastrand::u64(..);
            let permission = self.breaker.lock().unwrap_or_else(PoisonError::into_inner).ask(
                self.mono_ms(),
                Class::Durable,
                random,
            );
            let Permission::Go(permit) = permission else {
                self.figures.broken.add(count as u64);
                for out in batch {
                    self.refuse(out.publish.channel, out.asker, Failure::Down);
                }
                continue;
            };
            self.send(batch, permit).await;
        }
    }

    async fn send(
        self: &Arc<Self>,
        batch: Vec<Outgoing>,
        permit: plimsoll_overload::breaker::Permit,
    ) {
        self.figures.batch.observe(batch.len() as f64, 1);
        let mut publishes = Vec::with_capacity(batch.len());
        let mut askers = Vec::with_capacity(batch.len());
        for out in batch {
            askers.push((out.asker, Arc::clone(&out.publish.channel)));
            publishes.push(out.publish);
        }
        let began = Instant::now();
        let bridge = Arc::clone(self);
        self.batches.fetch_add(1, Ordering::Relaxed);
        let end = move |results: Vec<Result<Published, Failure>>| {
            bridge.batches.fetch_sub(1, Ordering::Relaxed);
            bridge.end_batch(askers, results, began, permit);
            bridge.bell.notify_one();
        };
        match begin(self.backbone.publish(publishes)).await {
            Ok(results) => end(results),
            Err(later) => {
                let patience = Duration::from_millis(limits::BACKBONE_CALL_MS);
                tokio::spawn(async move {
                    // Adapters answer in time; this is for one that does not.
                    end(tokio::time::timeout(patience, later).await.unwrap_or_default());
                });
            }
        }
    }

    fn end_batch(
        &self,
        askers: Vec<(Option<Asker>, Arc<str>)>,
        results: Vec<Result<Published, Failure>>,
        began: Instant,
        permit: plimsoll_overload::breaker::Permit,
    ) {
        let took_ms = began.elapsed().as_secs_f64() * 1_000.0;
        self.figures.publish_ms.observe(took_ms, askers.len() as u64);
        let mut failed = 0;
        let mut results = results.into_iter();
        for (asker, channel) in askers {
            let answer = match results.next().unwrap_or(Err(Failure::Unknown)) {
                Ok(published) => {
                    self.figures.published.add(1);
                    Answer::Published(published.position)
                }
                Err(failure) => {
                    let is_broken =
                        matches!(failure, Failure::Down | Failure::Busy | Failure::Unknown);
                    failed += usize::from(is_broken);
                    let cell = match failure.is_certain() {
                        true => &self.figures.refused,
                        false => &self.figures.unknown,
                    };
                    cell.add(1);
                    Answer::Error(error_of(failure))
                }
            };
            if let Some(asker) = asker {
                self.answer(asker, channel, answer);
            }
        }
        let random = fastrand::u64(..);
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        breaker.done(self.mono_ms(), permit, failed == 0, took_ms, random);
    }
}

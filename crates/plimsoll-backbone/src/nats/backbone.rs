//! The adapter.

use super::config::{ConnectError, NatsConfig};
use super::deliver::{Subscribed, follow};
use super::presence::{Members, ask};
use super::send::{Sent, body_bytes_max, published, send};
use super::shared::Shared;
use super::streams::Streams;
use crate::contract::*;
use crate::{limits, names};
use async_nats::ConnectOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Commands that wait in the client library for the connection.
const CLIENT_COMMANDS: usize = 16_384;
/// Between two gaps told for slow subscriptions.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// NATS without JetStream: no history, at most once.
pub async fn connect(config: NatsConfig, setup: Setup) -> Result<Arc<dyn Backbone>, ConnectError> {
    Ok(Arc::new(Nats::connect(&config, setup, false).await?))
}

/// NATS with JetStream: histories, recovery, idempotency.
pub async fn connect_jetstream(
    config: NatsConfig,
    setup: Setup,
) -> Result<Arc<dyn Backbone>, ConnectError> {
    let nats = Nats::connect(&config, setup, true).await?;
    nats.streams.is_there().await.map_err(ConnectError::NoJetStream)?;
    Ok(Arc::new(nats))
}

struct Nats {
    shared: Arc<Shared>,
    streams: Arc<Streams>,
    members: Arc<Members>,
    subscribed: Arc<tokio::sync::Mutex<HashMap<Arc<str>, Subscribed>>>,
    /// Whose turn it is to send: publications of two calls do not overtake each other.
    turn: Arc<tokio::sync::Mutex<()>>,
    jetstream: bool,
    loss_window: String,
}

impl Nats {
    async fn connect(
        config: &NatsConfig,
        setup: Setup,
        jetstream: bool,
    ) -> Result<Self, ConnectError> {
        let (events, heard) = tokio::sync::mpsc::channel(64);
        let options = options_of(config, &setup).await?.event_callback(move |event| {
            // When there are too many to be heard, the last states are what counts least: a slow
            // subscription is told again.
            let _ = events.try_send(event);
            async {}
        });
        let client = options
            .connect(config.urls.clone())
            .await
            .map_err(|e| ConnectError::Unreachable(e.to_string()))?;
        let info = client.server_info();
        let shared = Arc::new(Shared {
            client,
            plain: format!("{}.out.n.", setup.prefix),
            prefix: setup.prefix,
            node: setup.node,
            sink: setup.sink,
            broker: format!("{}:{}", info.host, info.port).into(),
            peers: Mutex::default(),
            deliveries: AtomicU64::new(0),
            up: AtomicBool::new(false),
            probes: Mutex::default(),
            next_probe: AtomicU64::new(1),
            reconnects: AtomicU64::new(0),
            resubscribes: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        });
        let members = Arc::new(Members::new(setup.presence_lease_ms));
        let subscribed = Arc::<tokio::sync::Mutex<HashMap<Arc<str>, Subscribed>>>::default();
        listen(&shared, &members).await.map_err(|e| ConnectError::Unreachable(e.to_string()))?;
        shared.round_trip().await.map_err(|e| ConnectError::Unreachable(e.to_string()))?;
        shared.tell_link(true);
        let (replicas, memory) = (config.replicas.clamp(1, 5), config.memory_storage);
        let streams = Arc::new(Streams::new(Arc::clone(&shared), replicas, memory));
        tokio::spawn(watch(Arc::clone(&streams), Arc::clone(&subscribed), heard));
        Ok(Self {
            streams,
            shared,
            members,
            subscribed,
            turn: Arc::default(),
            jetstream,
            loss_window: loss_window(jetstream, replicas, memory),
        })
    }
}

async fn options_of(config: &NatsConfig, setup: &Setup) -> Result<ConnectOptions, ConnectError> {
    let wrong = |e: std::io::Error| ConnectError::Config(format!("credentials: {e}"));
    let mut options = ConnectOptions::new()
        .name(format!("plimsoll {} {}", setup.prefix, setup.node))
        .ping_interval(Duration::from_millis(setup.probe_interval_ms))
        .connection_timeout(Duration::from_millis(limits::CONNECT_MS))
        .request_timeout(Some(Duration::from_millis(limits::CALL_MS)))
        .subscription_capacity(limits::SUBSCRIPTION_MESSAGES_MAX)
        .client_capacity(CLIENT_COMMANDS)
        .reconnect_delay_callback(|attempt| {
            let doubled = limits::RECONNECT_MS_MIN << attempt.min(6);
            let most = doubled.min(limits::RECONNECT_MS_MAX);
            Duration::from_millis(fastrand::u64(most / 2..=most))
        });
    if let (Some(user), Some(password)) = (&config.user, &config.password) {
        options = options.user_and_password(user.clone(), password.clone());
    }
    if let Some(token) = &config.token {
        options = options.token(token.clone());
    }
    if let Some(file) = &config.credentials_file {
        options = options.credentials_file(file).await.map_err(wrong)?;
    }
    if let Some(file) = &config.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    Ok(options)
}

fn loss_window(jetstream: bool, replicas: usize, memory: bool) -> String {
    if !jetstream {
        return "NATS without JetStream delivers at most once: what is published while a node is \
                cut off from the broker is lost to its clients, and nothing is kept"
            .into();
    }
    let kept = if memory { "in memory" } else { "in files" };
    match replicas {
        1 if memory => "JetStream keeps one copy in memory: all of it is lost when that server \
                        ends; channels have new epochs then"
            .into(),
        1 => "JetStream keeps one copy in files, which its server syncs every sync_interval (2 \
              minutes): an end of the machine may lose what came since; an end of the process \
              loses nothing"
            .into(),
        n => format!(
            "JetStream keeps {n} copies {kept}: an acknowledged publication is lost only when \
             most of them are lost at once"
        ),
    }
}

/// What is heard beside channels.
async fn listen(
    shared: &Arc<Shared>,
    members: &Arc<Members>,
) -> Result<(), async_nats::SubscribeError> {
    let own = [shared.subject("ctl"), shared.subject(&format!("node.{}", shared.node))];
    for subject in own {
        let mut told = shared.client.subscribe(subject).await?;
        let sink = Arc::clone(&shared.sink);
        tokio::spawn(async move {
            while let Some(message) = told.next().await {
                sink.take(&mut vec![Event::Told(message.payload)]);
            }
        });
    }
    let mut probes =
        shared.client.subscribe(shared.subject(&format!("probe.{}", shared.node))).await?;
    let weak = Arc::downgrade(shared);
    tokio::spawn(async move {
        while let Some(message) = probes.next().await {
            let Some(shared) = weak.upgrade() else { return };
            let id = std::str::from_utf8(&message.payload).ok().and_then(|t| t.parse().ok());
            let back = id.and_then(|id: u64| shared.probes().remove(&id));
            if let Some(back) = back {
                let _ = back.send(());
            }
        }
    });
    let mut questions = shared.client.subscribe(shared.subject("pq")).await?;
    let (weak, members) = (Arc::downgrade(shared), Arc::clone(members));
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let Some(shared) = weak.upgrade() else { return };
            let Some(to) = question.reply else { continue };
            let Ok(channel) = std::str::from_utf8(&question.payload) else { continue };
            for part in members.answers(shared.node, channel) {
                let _ = shared.client.publish(to.clone(), part).await;
            }
        }
    });
    Ok(())
}

/// Follows the state of the connection.
async fn watch(
    streams: Arc<Streams>,
    subscribed: Arc<tokio::sync::Mutex<HashMap<Arc<str>, Subscribed>>>,
    mut heard: tokio::sync::mpsc::Receiver<async_nats::Event>,
) {
    let shared = Arc::clone(&streams.shared);
    let mut slow_told: Option<Instant> = None;
    let mut was_lost = false;
    while let Some(event) = heard.recv().await {
        match event {
            async_nats::Event::Disconnected => {
                was_lost = true;
                // Before anything comes by the next connection.
                streams.forget();
                shared.tell_link(false);
            }
            async_nats::Event::Connected if std::mem::take(&mut was_lost) => {
                shared.reconnects.fetch_add(1, Ordering::Relaxed);
                // The library has subscribed again; once this is back, so has the server.
                while shared.round_trip().await == Err(Failure::Unknown) {}
                let count = subscribed.lock().await.len() as u64;
                shared.resubscribes.fetch_add(count, Ordering::Relaxed);
                streams.forget();
                shared.tell_link(shared.is_up());
                shared.tell_gap();
            }
            async_nats::Event::SlowConsumer(_) => {
                shared.slow.fetch_add(1, Ordering::Relaxed);
                if slow_told.is_none_or(|at| at.elapsed() >= SLOW_PAUSE) {
                    slow_told = Some(Instant::now());
                    // Not at once: what is being dropped now is part of it.
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        tokio::time::sleep(SLOW_PAUSE).await;
                        shared.tell_gap();
                    });
                }
            }
            other => tracing::debug!(event = %other, "NATS"),
        }
    }
}

impl Backbone for Nats {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            kind: if self.jetstream { "jetstream" } else { "nats" },
            history: self.jetstream,
            idempotency: self.jetstream,
            versions: false,
            body_bytes_max: body_bytes_max(&self.shared),
        }
    }

    fn publish(&self, batch: Vec<Publish>) -> Later<Vec<Result<Published, Failure>>> {
        let (shared, streams) = (Arc::clone(&self.shared), Arc::clone(&self.streams));
        let (turn, jetstream) = (Arc::clone(&self.turn), self.jetstream);
        Box::pin(async move {
            let mut all = Vec::with_capacity(batch.len());
            {
                let _mine = turn.lock().await;
                for publish in batch {
                    all.push(match (shared.is_up(), jetstream || publish.keep.is_none()) {
                        (false, _) => Sent::Not(Failure::Down),
                        (_, false) => Sent::Not(Failure::Unsupported),
                        _ => send(&shared, &streams, publish).await,
                    });
                }
            }
            shared.in_flight.fetch_add(all.len() as u64, Ordering::Relaxed);
            let count = all.len() as u64;
            let any_plain = all.iter().any(|s| matches!(s, Sent::Plain));
            let arrived = match any_plain {
                // Sent already: whatever is wrong now, it may have arrived.
                true => shared.round_trip().await.map_err(|_| Failure::Unknown),
                false => Ok(()),
            };
            let mut results = Vec::with_capacity(all.len());
            for sent in all {
                results.push(match sent {
                    Sent::Not(failure) => Err(failure),
                    Sent::Plain => arrived.map(|()| Published { position: None, is_new: true }),
                    Sent::Asked(Ok(answered)) => published(&streams, answered).await,
                    Sent::Asked(Err(later)) => published(&streams, later.await).await,
                });
            }
            shared.in_flight.fetch_sub(count, Ordering::Relaxed);
            results
        })
    }

    fn subscribe(&self, channels: Vec<Arc<str>>) -> Later<Vec<Result<(), Failure>>> {
        let (shared, streams) = (Arc::clone(&self.shared), Arc::clone(&self.streams));
        let subscribed = Arc::clone(&self.subscribed);
        Box::pin(async move {
            let mut all = subscribed.lock().await;
            let mut new = Vec::new();
            for channel in &channels {
                if all.contains_key(channel) || !shared.is_up() {
                    continue;
                }
                let subject = format!("{}.out.*.{}", shared.prefix, names::to_token(channel));
                if let Ok(subscriber) = shared.client.subscribe(subject).await {
                    let follower = follow(Arc::clone(channel), subscriber, Arc::clone(&streams));
                    all.insert(Arc::clone(channel), follower);
                    new.push(Arc::clone(channel));
                }
            }
            drop(all);
            let confirmed = new.is_empty() || shared.round_trip().await.is_ok();
            let of_cluster = !shared.client.server_info().connect_urls.is_empty();
            if confirmed && of_cluster && !new.is_empty() {
                // The other servers hear of it from this one, and nobody says when they have.
                tokio::time::sleep(Duration::from_millis(limits::INTEREST_MS)).await;
            }
            let mut all = subscribed.lock().await;
            if !confirmed {
                new.iter().for_each(|channel| drop(all.remove(channel)));
            }
            let is_there =
                |c: &Arc<str>| if all.contains_key(c) { Ok(()) } else { Err(Failure::Down) };
            let results = channels.iter().map(is_there).collect();
            drop(all);
            if confirmed && of_cluster && !new.is_empty() {
                tell_later(shared, new);
            }
            results
        })
    }

    fn unsubscribe(&self, channels: Vec<Arc<str>>) -> Later<()> {
        let subscribed = Arc::clone(&self.subscribed);
        Box::pin(async move {
            let mut all = subscribed.lock().await;
            for channel in channels {
                all.remove(&channel);
            }
        })
    }

    fn read(&self, reads: Vec<Read>) -> Later<Vec<Result<Page, Failure>>> {
        let (shared, streams) = (Arc::clone(&self.shared), Arc::clone(&self.streams));
        let jetstream = self.jetstream;
        Box::pin(async move {
            let one = |read: Read| {
                let (shared, streams) = (Arc::clone(&shared), Arc::clone(&streams));
                async move {
                    match (shared.is_up(), jetstream) {
                        (_, false) => Err(Failure::Unsupported),
                        (false, _) => Err(Failure::Down),
                        _ => streams.read(&read).await,
                    }
                }
            };
            futures_util::future::join_all(reads.into_iter().map(one)).await
        })
    }

    fn clear(&self, channel: Arc<str>) -> Later<Result<(), Failure>> {
        let (shared, streams) = (Arc::clone(&self.shared), Arc::clone(&self.streams));
        let jetstream = self.jetstream;
        Box::pin(async move {
            match (shared.is_up(), jetstream) {
                (_, false) => Err(Failure::Unsupported),
                (false, _) => Err(Failure::Down),
                _ => streams.clear(&channel).await,
            }
        })
    }

    fn tell(&self, to: Option<NodeId>, body: Bytes) -> Later<Result<(), Failure>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if body.len() > body_bytes_max(&shared) {
                return Err(Failure::TooLarge);
            }
            if !shared.is_up() {
                return Err(Failure::Down);
            }
            let subject = match to {
                Some(node) => shared.subject(&format!("node.{node}")),
                None => shared.subject("ctl"),
            };
            shared.client.publish(subject, body).await.map_err(|_| Failure::Refused)
        })
    }

    fn note_presence(&self, changes: Vec<PresenceChange>) -> Later<Result<(), Failure>> {
        let (shared, members) = (Arc::clone(&self.shared), Arc::clone(&self.members));
        Box::pin(async move {
            members.note(shared.node, changes);
            Ok(())
        })
    }

    fn keep_presence(&self, channels: Vec<Arc<str>>) -> Later<Result<(), Failure>> {
        let members = Arc::clone(&self.members);
        Box::pin(async move {
            members.keep(&channels);
            Ok(())
        })
    }

    fn presence(&self, channel: Arc<str>, most: usize) -> Later<Result<Vec<Member>, Failure>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            if !shared.is_up() {
                return Err(Failure::Down);
            }
            ask(&shared, &channel, most).await
        })
    }

    fn presence_stats(&self, channel: Arc<str>) -> Later<Result<Tally, Failure>> {
        let all = self.presence(channel, usize::MAX);
        Box::pin(async move {
            let all = all.await?;
            let users: HashSet<&str> = all.iter().map(|m| &*m.user).collect();
            Ok(Tally { clients: all.len(), users: users.len() })
        })
    }

    fn note_peers(&self, nodes: &[NodeId]) {
        *self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner) =
            nodes.iter().copied().collect();
    }

    fn probe(&self) -> Later<Result<(), Failure>> {
        let (shared, streams) = (Arc::clone(&self.shared), Arc::clone(&self.streams));
        let jetstream = self.jetstream;
        Box::pin(async move {
            shared.round_trip().await?;
            match jetstream {
                true => streams.is_there().await.map_err(|_| Failure::Busy),
                false => Ok(()),
            }
        })
    }

    fn status(&self) -> Status {
        let shared = &self.shared;
        let of = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let info = shared.client.server_info();
        Status {
            brokers: vec![BrokerFigures {
                broker: shared.broker.to_string(),
                up: shared.is_up(),
                reconnects: of(&shared.reconnects),
                resubscribes: of(&shared.resubscribes),
                gaps: of(&shared.gaps),
                cut_as_slow: of(&shared.slow),
                deliveries: of(&shared.deliveries),
                in_flight: of(&shared.in_flight),
            }],
            loss_window: self.loss_window.clone(),
            server: format!("nats {}", info.version),
        }
    }

    fn close(&self) -> Later<()> {
        let (shared, subscribed) = (Arc::clone(&self.shared), Arc::clone(&self.subscribed));
        Box::pin(async move {
            subscribed.lock().await.clear();
            let _ = shared.client.drain().await;
        })
    }
}

/// Servers of a cluster learn of a subscription one after the other. What they have passed on
/// meanwhile without it is found by a second reading.
fn tell_later(shared: Arc<Shared>, channels: Vec<Arc<str>>) {
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(limits::STREAM_LOOK_MS)).await;
        shared.sink.take(&mut vec![Event::Gap(Scope::Channels(channels))]);
    });
}

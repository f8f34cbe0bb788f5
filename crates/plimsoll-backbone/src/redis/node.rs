//! One server that we use: its two links and what keeps them up.

use super::commands::{self, Commands, Sort};
use super::config::{Address, ConnectError, RedisConfig};
use super::keys::{Keys, Kind};
use super::net::Dialer;
use super::registry::{Orders, Registry, lock};
use super::script::{self, Script};
use super::sentinel::Sentinels;
use crate::contract::{BrokerFigures, Event, Failure, Link, Role, Setup};
use crate::limits;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

/// What all nodes of one adapter share.
pub(super) struct Shared {
    pub(super) config: RedisConfig,
    pub(super) setup: Setup,
    pub(super) keys: Keys,
    pub(super) registry: Registry,
    pub(super) dialer: Dialer,
    /// Pub/Sub by slot: a Cluster.
    pub(super) sharded: bool,
    /// Something shows that the Cluster is not as we think.
    pub(super) doubt: Notify,
    /// Run ids of the nodes of a Cluster that have slots, as far as they are known.
    pub(super) masters: Mutex<HashMap<String, Option<String>>>,
    closed: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn new(
        config: RedisConfig,
        setup: Setup,
        dialer: Dialer,
        sharded: bool,
    ) -> Arc<Self> {
        let keys = Keys::new(&setup.prefix, config.partitions);
        Arc::new(Self {
            registry: Registry::new(keys.clone()),
            config,
            setup,
            keys,
            dialer,
            sharded,
            doubt: Notify::new(),
            masters: Mutex::default(),
            closed: watch::channel(false).0,
        })
    }

    pub(super) fn close(&self) {
        self.closed.send_replace(true);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    pub(super) async fn wait_closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    pub(super) fn emit(&self, event: Event) {
        self.setup.sink.take(&mut vec![event]);
    }
}

/// How a server is found.
pub(super) enum Place {
    Fixed(Address),
    Sentinel(Arc<Sentinels>),
}

/// One server, or what a Sentinel says is the master.
pub(super) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) broker: Arc<str>,
    place: Place,
    commands: Mutex<Option<Arc<Commands>>>,
    /// What its subscription link has to ask for.
    pub(super) orders: Arc<Orders>,
    /// It ends the subscription link.
    pub(super) kick: Notify,
    /// Where the subscription link is connected to.
    subscribed_at: Mutex<Option<Address>>,
    pub(super) up: watch::Sender<bool>,
    /// The partition in which it is probed: one that it has.
    pub(super) probe_partition: AtomicUsize,
    /// Probes can come back: their channel is subscribed.
    pub(super) probe_ready: AtomicBool,
    probes: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    gone: watch::Sender<bool>,
    pub(super) figures: Figures,
}

/// Counted since the start.
#[derive(Default)]
pub(super) struct Figures {
    pub(super) reconnects: AtomicU64,
    pub(super) resubscribes: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) cut_as_slow: AtomicU64,
    pub(super) deliveries: AtomicU64,
}

/// Pauses between attempts: they double, and each is somewhere between its half and its whole.
pub(super) struct Pause(u64);

impl Pause {
    pub(super) fn new() -> Self {
        Self(limits::RECONNECT_MS_MIN)
    }

    pub(super) fn next(&mut self) -> Duration {
        let ms = fastrand::u64(self.0 / 2..=self.0);
        self.0 = (self.0 * 2).min(limits::RECONNECT_MS_MAX);
        Duration::from_millis(ms)
    }
}

impl Node {
    pub(super) fn new(shared: &Arc<Shared>, broker: &str, place: Place) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            broker: broker.into(),
            place,
            commands: Mutex::default(),
            orders: Orders::new(),
            kick: Notify::new(),
            subscribed_at: Mutex::default(),
            up: watch::channel(false).0,
            probe_partition: AtomicUsize::new(usize::MAX),
            probe_ready: AtomicBool::new(false),
            probes: Mutex::default(),
            gone: watch::channel(false).0,
            figures: Figures::default(),
        })
    }

    /// The command link, if it is there.
    pub(super) fn commands(&self) -> Result<Arc<Commands>, Failure> {
        lock(&self.commands).clone().ok_or(Failure::Down)
    }

    /// Where it is now.
    pub(super) async fn locate(&self) -> Result<Address, ConnectError> {
        match &self.place {
            Place::Fixed(address) => Ok(address.clone()),
            Place::Sentinel(sentinels) => sentinels.master().await,
        }
    }

    /// Puts a command link in its place.
    pub(super) fn set_commands(&self, link: &Arc<Commands>) {
        *lock(&self.commands) = Some(Arc::clone(link));
        self.orders.wake.notify_one();
    }

    /// Until all that is wanted is subscribed for the first time.
    pub(super) async fn wait_up(&self) {
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    /// The subscription link is there, or not any more.
    pub(super) fn set_subscribed(&self, at: Option<Address>) {
        self.orders.set_up(at.is_some());
        *lock(&self.subscribed_at) = at;
    }

    /// All that was wanted when the link came up is subscribed.
    pub(super) fn is_subscribed(&self) -> bool {
        *self.up.borrow()
    }

    fn sort(&self) -> Sort {
        match &self.place {
            Place::Sentinel(_) => Sort::Sentinel,
            Place::Fixed(_) if self.shared.sharded => Sort::Cluster,
            Place::Fixed(_) => Sort::Single,
        }
    }

    /// It is not in use any more.
    pub(super) fn end(&self) {
        self.gone.send_replace(true);
    }

    pub(super) async fn wait_ended(&self) {
        let mut gone = self.gone.subscribe();
        tokio::select! {
            _ = gone.wait_for(|gone| *gone) => {}
            () = self.shared.wait_closed() => {}
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.gone.borrow() || self.shared.is_closed()
    }

    /// Both links go down, and are made anew: wherever the server is now.
    pub(super) fn reconnect(&self) {
        if let Ok(commands) = self.commands() {
            commands.kill();
        }
        self.kick_subscriptions();
    }

    /// The subscription link goes down, if it is there.
    pub(super) fn kick_subscriptions(&self) {
        if lock(&self.subscribed_at).is_some() {
            self.kick.notify_one();
        }
    }

    fn link(&self, role: Role, up: bool) {
        let broker = Arc::clone(&self.broker);
        self.shared.emit(Event::Link(Link { broker, role, up }));
    }

    pub(super) fn tell_link(&self, role: Role, up: bool) {
        tracing::info!(broker = %self.broker, ?role, up, "link to Redis");
        self.link(role, up);
    }

    /// A partition that we thought to be here is not: somebody has to look.
    pub(super) fn misplaced(&self, partition: usize) {
        let registry = &self.shared.registry;
        if registry.is_of(partition, &self.orders) {
            tracing::info!(broker = %self.broker, partition, "a partition is elsewhere");
            registry.lost(partition);
            registry.orphan(partition);
        }
        self.shared.doubt.notify_one();
    }

    /// Partitions that it is in charge of.
    pub(super) fn partitions(&self) -> Vec<usize> {
        let all = 0..self.shared.keys.partitions();
        all.filter(|p| self.shared.registry.is_of(*p, &self.orders)).collect()
    }

    /// A new command link, ready for use.
    pub(super) async fn connect_commands(&self) -> Result<Arc<Commands>, ConnectError> {
        let address = self.locate().await?;
        let shared = &self.shared;
        let link = commands::connect(&shared.dialer, &address, &shared.config, self.sort()).await?;
        if shared.sharded {
            let (broker, run_id) = (self.broker.to_string(), link.facts.run_id.clone());
            if let Some(known) = lock(&shared.masters).get_mut(&broker) {
                *known = Some(run_id);
            }
        }
        let partitions = if shared.sharded { self.partitions() } else { vec![0] };
        if let Err(why) = self.adopt(&link, &partitions).await {
            link.kill();
            let why = format!("the generation was not written: {why}");
            return Err(ConnectError::Refused { broker: address.to_string(), why });
        }
        Ok(link)
    }

    /// Tells the stored generations which process is in charge now.
    pub(super) async fn adopt(&self, link: &Commands, partitions: &[usize]) -> Result<(), Failure> {
        let mut pipeline = redis::pipe();
        // Other masters that are alive: what comes from one of them was moved, not lost.
        let others: Vec<String> = lock(&self.shared.masters).values().flatten().cloned().collect();
        for partition in partitions {
            let mut command =
                Script::Adopt.call(&[self.shared.keys.name(*partition, Kind::Generation, "")]);
            command.arg(&link.process).arg(script::new_epoch().as_str());
            for other in &others {
                command.arg(other);
            }
            pipeline.add_command(command);
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        for value in link.run(&pipeline, false, commands::deadline()).await? {
            match value {
                redis::Value::ServerError(e) if matches!(e.code(), "MOVED" | "ASK") => {
                    self.shared.doubt.notify_one();
                }
                redis::Value::ServerError(e) => {
                    tracing::warn!(broker = %self.broker, error = %e, "a script failed");
                    return Err(commands::failure(e.code()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the command link up until the node ends. `first`: it is there already.
    pub(super) async fn keep_commands(self: Arc<Self>, mut first: Option<Arc<Commands>>) {
        let mut pause = Pause::new();
        let mut warned = false;
        let mut again = false;
        while !self.has_ended() {
            let made = match first.take() {
                Some(link) => Ok(link),
                None => tokio::select! {
                    made = self.connect_commands() => made,
                    () = self.wait_ended() => return,
                },
            };
            match made {
                Ok(link) => {
                    (pause, warned) = (Pause::new(), false);
                    self.figures.reconnects.fetch_add(u64::from(again), Relaxed);
                    again = true;
                    self.set_commands(&link);
                    self.follow(&link.address);
                    self.tell_link(Role::Commands, true);
                    self.watch_commands(&link).await;
                    *lock(&self.commands) = None;
                    link.kill();
                    self.tell_link(Role::Commands, false);
                    self.shared.doubt.notify_one();
                }
                Err(error) => {
                    if !warned {
                        tracing::warn!(broker = %self.broker, %error, "no command link to Redis");
                        warned = true;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(pause.next()) => {}
                        () = self.wait_ended() => return,
                    }
                }
            }
        }
    }

    /// The subscription link must be where the command link is.
    fn follow(&self, address: &Address) {
        if lock(&self.subscribed_at).as_ref().is_some_and(|at| at != address) {
            self.kick_subscriptions();
        }
    }

    /// Until the command link is dead, or its server no master, or not in use.
    async fn watch_commands(&self, link: &Commands) {
        let period = Duration::from_millis(self.shared.setup.probe_interval_ms.max(10));
        loop {
            tokio::select! {
                () = link.wait_dead() => return,
                () = self.wait_ended() => return,
                () = tokio::time::sleep(period) => {
                    if !link.check_role().await {
                        self.kick_subscriptions();
                        return;
                    }
                }
            }
        }
    }

    /// Sends a probe by the command link, to be received by the subscription link.
    pub(super) async fn probe(&self) -> Result<(), Failure> {
        let token = fastrand::u64(..);
        let (done, wait) = oneshot::channel();
        {
            let mut probes = lock(&self.probes);
            if probes.len() >= limits::REDIS_PROBES_MAX {
                return Err(Failure::Busy);
            }
            probes.insert(token, done);
        }
        let result = self.probe_with(token, wait).await;
        lock(&self.probes).remove(&token);
        result
    }

    async fn probe_with(&self, token: u64, wait: oneshot::Receiver<()>) -> Result<(), Failure> {
        let partition = self.probe_partition.load(Relaxed);
        if partition == usize::MAX || !self.probe_ready.load(Relaxed) {
            return Err(Failure::Down);
        }
        let node = self.shared.setup.node.to_string();
        let channel = self.shared.keys.name(partition, Kind::Probe, &node);
        let verb = if self.shared.sharded { "SPUBLISH" } else { "PUBLISH" };
        let mut command = redis::cmd(verb);
        command.arg(channel).arg(format!("{token:016x}"));
        let commands = self.commands()?;
        let work = async {
            match commands.one(command).await? {
                redis::Value::ServerError(e) => Err(commands::failure(e.code())),
                _ => wait.await.map_err(|_| Failure::Unknown),
            }
        };
        let limit = Duration::from_millis(limits::CALL_MS);
        tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::Unknown))
    }

    /// A probe came back.
    pub(super) fn probed(&self, payload: &[u8]) {
        let token = std::str::from_utf8(payload).ok().and_then(|t| u64::from_str_radix(t, 16).ok());
        if let Some(done) = token.and_then(|token| lock(&self.probes).remove(&token)) {
            let _ = done.send(());
        }
    }

    pub(super) fn broker_figures(&self) -> BrokerFigures {
        let commands = self.commands().ok();
        let f = &self.figures;
        BrokerFigures {
            broker: self.broker.to_string(),
            up: commands.is_some() && self.is_subscribed(),
            reconnects: f.reconnects.load(Relaxed),
            resubscribes: f.resubscribes.load(Relaxed),
            gaps: f.gaps.load(Relaxed),
            cut_as_slow: f.cut_as_slow.load(Relaxed),
            deliveries: f.deliveries.load(Relaxed),
            in_flight: commands.map_or(0, |c| c.in_flight()),
        }
    }
}

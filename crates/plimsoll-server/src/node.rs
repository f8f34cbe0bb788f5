//! A running node: what is started where, and what its parts share.

use crate::bridge::{self, Bridge, CallBoxes};
use crate::cluster::{Cluster, Connected};
use crate::config::Config;
use crate::control::capacity::Capacity;
use crate::load::process;
use crate::load::watch::Watch;
use crate::telemetry::live::Live;
use crate::telemetry::stats::WorkerStats;
use crate::worker::core::Shared;
use crate::worker::driver::{self, Setup};
use crate::worker::letter::{Letter, Order, Report};
use crate::worker::mailbox::{Mailbox, Sleeper};
use plimsoll_backbone::NodeId;
use plimsoll_core::limits;
use plimsoll_core::link::Call;
use plimsoll_core::model::home_of;
use plimsoll_overload::signals::descriptors_reserved;
use rustix::fd::OwnedFd;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, oneshot};

/// A socket that is not a WebSocket, with the bytes already read from it.
pub struct HandedOff {
    /// The socket, non-blocking.
    pub stream: TcpStream,
    /// What was read.
    pub read: Vec<u8>,
    /// Its place among the sockets of the node; to be kept as long as the socket.
    pub place: SocketPlace,
}

/// Descriptors that a worker has besides its clients': epoll, alarm, listener, and one to spare.
const DESCRIPTORS_OF_A_WORKER: usize = 4;
/// Descriptors of the rest of the process: two runtimes, the admin listener, standard streams.
const DESCRIPTORS_OF_THE_NODE: usize = 16;

/// How many sockets of clients the process may have, so that descriptors remain for the admin
/// listener and files. Touched when somebody comes or goes.
pub struct SocketRoom {
    open: AtomicUsize,
    most: usize,
}

impl SocketRoom {
    /// Room for what `limit` descriptors (`None`: no limit) leave beside `workers` and the reserve.
    pub fn new(limit: Option<u64>, workers: usize) -> Self {
        let most = limit.map_or(usize::MAX, |limit| {
            let usable = limit as f64 - descriptors_reserved(limit as f64);
            let own = DESCRIPTORS_OF_THE_NODE + workers * DESCRIPTORS_OF_A_WORKER;
            (usable as usize).saturating_sub(own).max(1)
        });
        Self { open: AtomicUsize::new(0), most }
    }

    /// Takes a place; false when there is none.
    pub fn enter(&self) -> bool {
        let fits = self.open.fetch_add(1, Ordering::Relaxed) < self.most;
        if !fits {
            self.leave();
        }
        fits
    }

    /// Gives a place back.
    pub fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The place of one socket, given back when dropped.
pub struct SocketPlace(Arc<SocketRoom>);

impl SocketPlace {
    /// For a socket that has a place already.
    pub fn held(room: &Arc<SocketRoom>) -> Self {
        Self(Arc::clone(room))
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// What every worker holds of the rest of the node.
#[derive(Clone)]
pub struct Links {
    /// To the HTTP server.
    pub handed_off: mpsc::Sender<HandedOff>,
    /// Callers that wait for a worker.
    pub tickets: Arc<Tickets>,
    /// Connections and users of the node.
    pub population: Arc<Population>,
    /// Places for sockets.
    pub room: Arc<SocketRoom>,
    /// Boxes for what workers ask the backbone, by worker; `None` = there is none.
    pub calls: Option<Vec<Arc<Mailbox<Call>>>>,
}

/// Callers of the control runtime that wait for reports.
#[derive(Default)]
pub struct Tickets {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Report>>>,
}

impl Tickets {
    /// A new ticket and where its report arrives.
    fn open(&self) -> (u64, oneshot::Receiver<Report>) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(ticket, sender);
        (ticket, receiver)
    }

    /// Hands a report to who waits for it, if somebody still does.
    pub fn answer(&self, ticket: u64, report: Report) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
        if let Some(sender) = waiting {
            let _ = sender.send(report);
        }
    }
}

const USER_SHARDS: usize = 64;

/// Connections and users of the whole node. Touched when somebody comes or goes, never for a
/// message.
pub struct Population {
    connections: AtomicUsize,
    users: Vec<Mutex<HashMap<Arc<str>, usize>>>,
    hasher: RandomState,
}

impl Default for Population {
    fn default() -> Self {
        let users = (0..USER_SHARDS).map(|_| Mutex::default()).collect();
        Self { connections: AtomicUsize::new(0), users, hasher: RandomState::new() }
    }
}

impl Population {
    /// Counts one connection more, unless `limit` (0: none) is reached.
    pub fn admit(&self, limit: usize) -> bool {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let fits = limit == 0 || before < limit;
        if !fits {
            self.dismiss();
        }
        fits
    }

    /// One connection less.
    pub fn dismiss(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts one connection of a user more, unless `limit` (0: none) is reached.
    pub fn enter(&self, user: &Arc<str>, limit: usize) -> bool {
        let mut users = self.shard(user);
        let count = users.entry(Arc::clone(user)).or_default();
        if limit > 0 && *count >= limit {
            return false;
        }
        *count += 1;
        true
    }

    /// One connection of a user less.
    pub fn leave(&self, user: &Arc<str>) {
        let mut users = self.shard(user);
        if let Some(count) = users.get_mut(user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                users.remove(user);
            }
        }
    }

    /// Distinct users now.
    pub fn users(&self) -> usize {
        let len = |m: &Mutex<HashMap<Arc<str>, usize>>| {
            m.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.users.iter().map(len).sum()
    }

    fn shard(&self, user: &str) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, usize>> {
        let at = self.hasher.hash_one(user) as usize % USER_SHARDS;
        self.users[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node as the control runtime sees it.
pub struct Node {
    /// Checked configuration.
    pub config: Config,
    /// What it can carry, and what it costs.
    pub capacity: Capacity,
    /// Rates, headroom and costs of the last second.
    pub live: Live,
    /// The load line.
    pub watch: Watch,
    /// Figures by worker.
    pub stats: Vec<Arc<WorkerStats>>,
    /// Connections and users.
    pub population: Arc<Population>,
    /// What sessions share.
    pub shared: Arc<Shared>,
    /// Name of the node.
    pub name: String,
    /// A random id of this run.
    pub uid: String,
    /// The other nodes, if there is a backbone.
    pub cluster: Option<Arc<Cluster>>,
    /// Zero of the monotonic clock.
    pub started: Instant,
    /// Unix seconds of the start.
    pub started_unix_s: u64,
    boxes: Vec<Arc<Mailbox<Letter>>>,
    tickets: Arc<Tickets>,
    stopping: AtomicBool,
}

/// Threads and receivers that belong to a node.
pub struct Parts {
    /// Worker threads.
    pub workers: Vec<JoinHandle<io::Result<()>>>,
    /// Sockets for the HTTP server.
    pub handed_off: mpsc::Receiver<HandedOff>,
    /// Boxes of what workers ask the backbone.
    pub calls: Option<CallBoxes>,
}

/// Who this run of a node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// 32 random hexadecimal digits.
    pub uid: String,
    /// Name in `info` and logs.
    pub name: String,
    /// Zero of the monotonic clock.
    pub started: Instant,
}

impl Identity {
    /// A new one. Without a configured name one is made up.
    pub fn new(name: &str) -> Self {
        let uid = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let name = match name {
            "" => format!("plimsoll-{}", uid.get(..8).unwrap_or_default()),
            name => name.to_owned(),
        };
        Self { uid, name, started: Instant::now() }
    }

    /// The id that other nodes know it by: the first half of the digits.
    pub fn node(&self) -> NodeId {
        NodeId::parse(self.uid.get(..16).unwrap_or_default()).unwrap_or_default()
    }
}

/// Boxes by reader and writer; the last writers are the control runtime and the bridge.
fn boxes_of(alarms: &[(Arc<OwnedFd>, Arc<Sleeper>)]) -> Vec<Vec<Arc<Mailbox<Letter>>>> {
    let boxes_of_one = |(_, sleeper): &(Arc<OwnedFd>, Arc<Sleeper>)| {
        let one = || Mailbox::new(limits::MAILBOX_LETTERS_MAX, Arc::clone(sleeper));
        (0..alarms.len() + 2).map(|_| Arc::new(one())).collect()
    };
    alarms.iter().map(boxes_of_one).collect()
}

fn cluster_of(
    connected: Connected,
    bell: Arc<Notify>,
    to_workers: Vec<Arc<Mailbox<Letter>>>,
    config: &Config,
    shared: &Shared,
    tickets: &Arc<Tickets>,
    started: Instant,
) -> Arc<Cluster> {
    let Connected { backbone, inlet, wire } = connected;
    inlet.post.attach(to_workers);
    let client = &config.policy.client;
    let bridge = Bridge::new(bridge::Parts {
        backbone,
        inlet,
        channels: Arc::clone(&shared.channels),
        tickets: Arc::clone(tickets),
        recovery_limit: client.recovery_max_publication_limit,
        history_limit: client.history_max_publication_limit,
        started,
        bell,
    });
    let (kind, lease_ms) = (config.backbone.kind.name(), config.backbone.node_lease_ms);
    Arc::new(Cluster::new(bridge, wire, kind, lease_ms))
}

impl Node {
    /// Starts the workers, each with one of the listeners.
    pub fn start(
        config: Config,
        capacity: Capacity,
        watch: Watch,
        shared: Arc<Shared>,
        listeners: Vec<TcpListener>,
        identity: Identity,
        connected: Option<(Connected, CallBoxes)>,
    ) -> io::Result<(Arc<Self>, Parts)> {
        let count = shared.workers;
        let (handed_off_to, handed_off) = mpsc::channel(limits::HANDOFF_QUEUE_MAX);
        let population = Arc::<Population>::default();
        let tickets = Arc::<Tickets>::default();
        let (connected, calls) = connected.unzip();
        let links = Links {
            handed_off: handed_off_to,
            tickets: Arc::clone(&tickets),
            population: Arc::clone(&population),
            room: Arc::new(SocketRoom::new(process::descriptor_limit(), count)),
            calls: calls.as_ref().map(|calls| calls.boxes.clone()),
        };
        let stats: Vec<_> = (0..count).map(|_| Arc::<WorkerStats>::default()).collect();
        let alarms = (0..count).map(|_| driver::alarm()).collect::<io::Result<Vec<_>>>()?;
        let boxes = boxes_of(&alarms);
        let started = identity.started;
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut workers = Vec::with_capacity(count);
        for (id, (listener, (alarm, sleeper))) in listeners.into_iter().zip(&alarms).enumerate() {
            let setup = Setup {
                id: id as u16,
                listener,
                shared: Arc::clone(&shared),
                stats: Arc::clone(&stats[id]),
                sleeper: Arc::clone(sleeper),
                alarm: Arc::<OwnedFd>::clone(alarm),
                inbox: boxes[id].clone(),
                outbox: boxes.iter().map(|b| Arc::clone(&b[id])).collect(),
                links: links.clone(),
                started,
            };
            let name = format!("worker-{id}");
            workers.push(std::thread::Builder::new().name(name).spawn(|| driver::run(setup))?);
        }
        let cluster = connected.map(|connected| {
            let bell = calls.as_ref().map(|c| Arc::clone(&c.bell)).unwrap_or_default();
            let to_workers = boxes.iter().map(|b| Arc::clone(&b[count + 1])).collect();
            cluster_of(connected, bell, to_workers, &config, &shared, &tickets, started)
        });
        let node = Self {
            capacity,
            live: Live::default(),
            watch,
            stats,
            population,
            shared,
            name: identity.name,
            uid: identity.uid,
            cluster,
            started,
            started_unix_s: unix.as_secs(),
            boxes: boxes.iter().map(|b| Arc::clone(&b[count])).collect(),
            tickets,
            stopping: AtomicBool::new(false),
            config,
        };
        Ok((Arc::new(node), Parts { workers, handed_off, calls }))
    }

    /// Asks the home of a channel.
    pub async fn ask_home(
        &self,
        channel: Arc<str>,
        request: plimsoll_core::home::Request,
    ) -> Option<Report> {
        let home = home_of(&channel, self.boxes.len());
        let received_us = self.started.elapsed().as_micros() as u64;
        self.order(home, Order::Home { channel, request, received_us }).await
    }

    /// Gives an order to one worker. `None`: its mailbox is full, or the node stops.
    pub async fn order(&self, worker: usize, order: Order) -> Option<Report> {
        let (ticket, report) = self.tickets.open();
        let mut batch = vec![Letter::Control { ticket, order }];
        if let Some(mailbox) = self.boxes.get(worker) {
            mailbox.post(&mut batch);
        }
        if !batch.is_empty() {
            self.tickets.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&ticket);
            return None;
        }
        report.await.ok()
    }

    /// Gives an order to all workers and collects their reports.
    pub async fn order_all(&self, make: impl Fn() -> Order) -> Vec<Report> {
        let mut reports = Vec::with_capacity(self.boxes.len());
        for worker in 0..self.boxes.len() {
            reports.extend(self.order(worker, make()).await);
        }
        reports
    }

    /// Closes all connections (3001) and lets the workers end.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.order_all(|| Order::Stop).await;
    }

    /// Does the node stop?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_leave_descriptors_for_the_rest() {
        let most = |limit, workers| SocketRoom::new(limit, workers).most;
        assert_eq!(most(None, 2), usize::MAX);
        assert_eq!(most(Some(256), 2), 256 - 64 - 24);
        assert_eq!(most(Some(1_048_576), 4), 1_048_576 - 10_486 - 32);
        assert_eq!(most(Some(20), 8), 1, "not none: somebody must be able to come");
    }

    #[test]
    fn a_place_is_taken_and_given_back() {
        let room = Arc::new(SocketRoom { open: AtomicUsize::new(0), most: 2 });
        assert!(room.enter() && room.enter() && !room.enter());
        drop(SocketPlace::held(&room));
        assert!(room.enter() && !room.enter());
        room.leave();
        assert!(room.enter());
    }
}

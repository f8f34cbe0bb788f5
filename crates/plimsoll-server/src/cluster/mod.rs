//! The nodes of one cluster: signs of life, what one asks all others to do, and their names.

pub mod connect;
mod message;
mod registry;
mod start;

pub use registry::Registry;
pub use start::{Connected, Running, StartError, Thread, start};

use crate::bridge::{Bridge, Wire};
use crate::control::api;
use crate::node::Node;
use crate::worker::letter::Letter;
use bytes::Bytes;
use message::{Message, Said};
use plimsoll_backbone::NodeId;
use plimsoll_core::limits;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

/// What a call to all other nodes has brought: the JSON of the result, or the code of an error.
pub type Answers = BTreeMap<NodeId, Result<String, u32>>;

/// A node's view of its cluster.
pub struct Cluster {
    /// The way to the backbone.
    pub bridge: Arc<Bridge>,
    /// Which broker.
    pub kind: &'static str,
    wire: Wire,
    registry: Mutex<Registry>,
    surveys: Mutex<HashMap<u64, Survey>>,
    next: AtomicU64,
}

/// A call to all other nodes.
struct Survey {
    missing: Vec<NodeId>,
    answers: Answers,
    done: Option<oneshot::Sender<Answers>>,
}

/// Some nodes have not answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl Cluster {
    /// Knows nobody yet.
    pub fn new(bridge: Arc<Bridge>, wire: Wire, kind: &'static str, lease_ms: u64) -> Self {
        let registry = Mutex::new(Registry::new(wire.node, lease_ms));
        let (surveys, next) = (Mutex::default(), AtomicU64::new(1));
        Self { bridge, kind, wire, registry, surveys, next }
    }

    /// What the other nodes said of themselves: name and JSON object.
    pub fn peers(&self) -> Vec<(NodeId, String, String)> {
        let registry = self.registry();
        registry.peers().map(|(id, p)| (id, p.name.clone(), p.info.clone())).collect()
    }

    /// Serves the cluster until the task is dropped.
    pub async fn run(self: Arc<Self>, node: Arc<Node>, mut told: mpsc::Receiver<Bytes>) {
        let mut beat = tokio::time::interval(Duration::from_millis(limits::HEARTBEAT_MS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                body = told.recv() => match body {
                    Some(body) => self.hear(&body, &node),
                    None => return,
                },
                _ = beat.tick() => self.tick(&node),
            }
        }
    }

    fn tick(&self, node: &Node) {
        let info = api::own_info(node).to_string();
        self.say(None, &Message::Beat { name: &node.name, info: &info, leaves: false });
        let gone = {
            let mut registry = self.registry();
            for node in self.bridge.take_spoken_of() {
                registry.noticed(NodeId(node));
            }
            registry.expired()
        };
        for node in gone {
            tracing::warn!(%node, "a node is silent for too long: its members are taken for gone");
            self.forget(node);
        }
    }

    /// Tells the others that this node goes.
    pub async fn leave(&self, node: &Node) {
        let message = Message::Beat { name: &node.name, info: "", leaves: true };
        let _ = self.bridge.backbone.tell(None, message.seal(&self.wire)).await;
    }

    fn forget(&self, node: NodeId) {
        self.bridge.inlet.post.put_all(|| Letter::NodeGone(node.0));
        self.bridge.inlet.post.flush();
        self.note_peers();
    }

    fn note_peers(&self) {
        let peers: Vec<NodeId> = self.registry().peers().map(|(id, _)| id).collect();
        self.bridge.backbone.note_peers(&peers);
    }

    fn hear(self: &Arc<Self>, body: &[u8], node: &Arc<Node>) {
        let (from, said) = match message::open(&self.wire, body) {
            Ok(heard) => heard,
            Err(why) => return self.bridge.figures.count_garbage(why),
        };
        match said {
            Said::Beat { leaves: true, .. } => {
                if self.registry().left(from) {
                    tracing::info!(node = %from, "a node has left");
                    self.forget(from);
                }
            }
            Said::Beat { name, info, .. } => self.on_beat(from, &name, info, node),
            Said::Hello { name } => {
                if from != self.wire.node && name == node.name {
                    self.say(Some(from), &Message::Taken { name: &name });
                }
            }
            Said::Taken { .. } => {}
            Said::Call { id, method, params } => {
                if from != self.wire.node {
                    self.serve(from, id, method, params, Arc::clone(node));
                }
            }
            Said::Answer { id, result, error } => {
                self.on_answer(from, id, result.ok_or(error.unwrap_or_default()));
            }
        }
    }

    fn on_beat(&self, from: NodeId, name: &str, info: String, node: &Node) {
        let now_ms = node.started.elapsed().as_millis() as u64;
        if from == self.wire.node && self.registry().was_silent(now_ms) {
            // The others may have taken this node for gone, and its members with it: everything is
            // compared again.
            self.bridge.inlet.post.put_all(|| Letter::Gap(None));
        }
        if self.registry().heard(from, name, info, now_ms) {
            tracing::info!(node = %from, name, "a node is there");
            // Names are one node's each: who has it now has taken the place of who had it.
            let before = self.registry().replaced(from, name);
            for gone in before {
                tracing::info!(node = %gone, name, "a node was replaced");
                self.forget(gone);
            }
            if name == node.name {
                tracing::error!(node = %from, name, "another node has this node's name");
            }
            self.note_peers();
        }
    }

    /// Does what another node asks, and tells it the result.
    fn serve(
        self: &Arc<Self>,
        from: NodeId,
        id: u64,
        method: String,
        params: String,
        node: Arc<Node>,
    ) {
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = api::call_here(&method, &params, &node).await;
            let (result, error) = match &outcome {
                Ok(result) => (Some(result.as_str()), None),
                Err(code) => (None, Some(*code)),
            };
            cluster.say(Some(from), &Message::Answer { id, result, error });
        });
    }

    /// Asks all other nodes to do something, and waits for all of them.
    pub async fn call_all(&self, method: &str, params: &str) -> Result<Answers, Incomplete> {
        let missing: Vec<NodeId> = self.registry().peers().map(|(id, _)| id).collect();
        if missing.is_empty() {
            return Ok(Answers::new());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, answers) = oneshot::channel();
        {
            let mut surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
            if surveys.len() >= limits::API_IN_FLIGHT_MAX {
                return Err(Incomplete);
            }
            surveys.insert(id, Survey { missing, answers: Answers::new(), done: Some(done) });
        }
        let message = Message::Call { id, method, params }.seal(&self.wire);
        let said = self.bridge.backbone.tell(None, message).await;
        let patience = Duration::from_millis(limits::SURVEY_MS);
        let answered = match said {
            Ok(()) => tokio::time::timeout(patience, answers).await,
            Err(_) => Ok(Ok(Answers::new())),
        };
        self.surveys.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        match (said, answered) {
            (Ok(()), Ok(Ok(answers))) => Ok(answers),
            _ => Err(Incomplete),
        }
    }

    fn on_answer(&self, from: NodeId, id: u64, answer: Result<String, u32>) {
        let mut surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(survey) = surveys.get_mut(&id) else { return };
        let Some(at) = survey.missing.iter().position(|n| *n == from) else { return };
        survey.missing.swap_remove(at);
        survey.answers.insert(from, answer);
        if survey.missing.is_empty()
            && let Some(done) = survey.done.take()
        {
            let _ = done.send(std::mem::take(&mut survey.answers));
        }
    }

    /// Says something without waiting until it is said.
    fn say(&self, to: Option<NodeId>, message: &Message<'_>) {
        let later = self.bridge.backbone.tell(to, message.seal(&self.wire));
        tokio::spawn(async move {
            // At most once: whoever waits for an answer has a deadline.
            let _ = later.await;
        });
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

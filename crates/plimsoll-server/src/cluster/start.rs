//! From a configuration to a node of a cluster: a thread and runtime of its own for the backbone.

use super::message::{self, Message, Said};
use super::{Cluster, connect};
use crate::bridge::{CallBoxes, Inlet, Wire};
use crate::config::Config;
use crate::node::Node;
use bytes::Bytes;
use plimsoll_backbone::envelope::Codec;
use plimsoll_backbone::{Backbone, NodeId, Setup};
use plimsoll_core::limits;
use std::io;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

/// How long a starting node waits for somebody who has its name.
const NAME_PATIENCE: Duration = Duration::from_millis(1_000);
/// How long a starting node tries to reach the broker.
const START_PATIENCE: Duration = Duration::from_secs(15);
/// Between two attempts.
const START_PAUSE: Duration = Duration::from_millis(500);

/// Why a node did not become part of its cluster.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The broker was not reached, or refused us.
    #[error("backbone: {0}")]
    Connect(String),
    /// Somebody has the name.
    #[error(
        "server.name: a node named `{0}` is running in this cluster already; give each node a \
         name of its own, or none"
    )]
    NameTaken(String),
    /// The system refused a thread.
    #[error("backbone: {0}")]
    System(#[from] io::Error),
}

/// A node that has reached its broker, and has no workers yet.
pub struct Connected {
    /// The adapter.
    pub backbone: Arc<dyn Backbone>,
    /// Where its events arrive.
    pub inlet: Arc<Inlet>,
    /// Seals and opens.
    pub wire: Wire,
}

/// The thread of the backbone, waiting for the rest of the node.
pub struct Thread {
    run: oneshot::Sender<(Arc<Node>, CallBoxes)>,
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Thread {
    /// The node is there: serve it. Call the result to stop.
    pub fn begin(self, node: Arc<Node>, calls: CallBoxes) -> Running {
        let _ = self.run.send((node, calls));
        Running { stop: self.stop, handle: self.handle }
    }
}

/// The thread of the backbone at work.
pub struct Running {
    stop: oneshot::Sender<()>,
    handle: JoinHandle<()>,
}

impl Running {
    /// Ends it: what is left is sent, and the others are told that this node goes.
    pub fn stop(self) -> JoinHandle<()> {
        let _ = self.stop.send(());
        self.handle
    }
}

/// Reaches the broker and makes sure that the name is free.
pub fn start(
    config: &Config,
    node: NodeId,
    name: &str,
    workers: usize,
    started: Instant,
) -> Result<((Connected, CallBoxes), Thread), StartError> {
    let key = config.backbone.signing_key.expose().as_bytes().to_vec();
    let wire = Wire { codec: Codec::new(&key), trusted: !key.is_empty(), node };
    let calls = CallBoxes::new(workers);
    let (told_to, told) = mpsc::channel(limits::CONTROL_WAITING_MAX);
    let inlet = Inlet::new(wire.clone(), told_to, Arc::<Notify>::clone(&calls.bell), started);
    let (run, run_of) = oneshot::channel();
    let (stop, stop_of) = oneshot::channel();
    let (ready, ready_of) = blocking::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (config, name) = (config.clone(), name.to_owned());
    let for_thread = Arc::clone(&inlet);
    let wire_of = wire.clone();
    let main = async move {
        let mut told = told;
        let reached = reach(&config, for_thread, &wire_of, &name, &mut told).await;
        let fine = reached.is_ok();
        let backbone = reached.as_ref().ok().cloned();
        if ready.send(reached).is_err() || !fine {
            return;
        }
        let Ok((node, calls)) = run_of.await else { return };
        serve(node, calls, told, stop_of).await;
        if let Some(backbone) = backbone {
            backbone.close().await;
        }
    };
    let handle = std::thread::Builder::new()
        .name("backbone".into())
        .spawn(move || runtime.block_on(main))?;
    let backbone =
        ready_of.recv().map_err(|_| StartError::Connect("its thread ended".into()))??;
    Ok(((Connected { backbone, inlet, wire }, calls), Thread { run, stop, handle }))
}

async fn reach(
    config: &Config,
    inlet: Arc<Inlet>,
    wire: &Wire,
    name: &str,
    told: &mut mpsc::Receiver<Bytes>,
) -> Result<Arc<dyn Backbone>, StartError> {
    let setup = Setup {
        node: wire.node,
        prefix: config.backbone.prefix.as_str().into(),
        sink: inlet,
        presence_lease_ms: limits::PRESENCE_LEASE_MS,
        probe_interval_ms: config.backbone.probe_interval_ms,
    };
    let until = Instant::now() + START_PATIENCE;
    let backbone = loop {
        match connect::connect(&config.backbone, setup.clone()).await {
            Ok(backbone) => break backbone,
            Err(error) if error.is_final || Instant::now() >= until => {
                return Err(StartError::Connect(error.what));
            }
            Err(error) => {
                tracing::warn!(error = error.what, "the broker is not reached yet");
                tokio::time::sleep(START_PAUSE).await;
            }
        }
    };
    if !config.server.name.is_empty() && is_taken(&*backbone, wire, name, told).await {
        return Err(StartError::NameTaken(name.to_owned()));
    }
    Ok(backbone)
}

/// Asks whether a node of this name is there. Of two that start at once the one with the smaller id
/// goes on.
async fn is_taken(
    backbone: &dyn Backbone,
    wire: &Wire,
    name: &str,
    told: &mut mpsc::Receiver<Bytes>,
) -> bool {
    let _ = backbone.tell(None, Message::Hello { name }.seal(wire)).await;
    let heard = async {
        while let Some(body) = told.recv().await {
            let taken = match message::open(wire, &body) {
                Ok((from, Said::Taken { name: theirs })) => from != wire.node && theirs == name,
                Ok((from, Said::Hello { name: theirs })) => {
                    from != wire.node && theirs == name && from < wire.node
                }
                Ok((from, Said::Beat { name: theirs, leaves: false, .. })) => {
                    from != wire.node && theirs == name
                }
                _ => false,
            };
            if taken {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(NAME_PATIENCE, heard).await.unwrap_or(false)
}

async fn serve(
    node: Arc<Node>,
    calls: CallBoxes,
    told: mpsc::Receiver<Bytes>,
    stop: oneshot::Receiver<()>,
) {
    let Some(cluster) = node.cluster.clone() else { return };
    let bridge = Arc::clone(&cluster.bridge);
    let talk = tokio::spawn(Arc::clone(&cluster).run(Arc::clone(&node), told));
    let work = tokio::spawn(Arc::clone(&bridge).run(calls));
    let _ = stop.await;
    talk.abort();
    bridge.stop();
    let _ = work.await;
    Cluster::leave(&cluster, &node).await;
}

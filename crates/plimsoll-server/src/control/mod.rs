//! Everything that may wait: the HTTP API and demo page on the public port, signals, and (on a
//! thread of its own) the admin listener.

mod admin;
pub(crate) mod api;
pub mod capacity;
mod http;
mod overload;
mod pages;
mod status;

use crate::auth::Verifier;
use crate::cluster;
use crate::config::{BackboneKind, Config};
use crate::load::watch::Watch;
use crate::node::{Identity, Node, Parts};
use crate::telemetry::machine::worker_count;
use crate::worker::accounts::Accounts;
use crate::worker::core::{self, LoadLine, Shared};
use crate::worker::listener::listen;
use plimsoll_backbone::NodeId;
use plimsoll_core::channel::Channels;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Why the node did not start, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A key of the configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// The file of capacities cannot be used.
    #[error("{0}")]
    Capacity(#[from] capacity::CapacityError),
    /// The node did not become part of its cluster.
    #[error(transparent)]
    Cluster(#[from] cluster::StartError),
    /// The system refused something.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// Where a node can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Clients and the HTTP API.
    pub clients: SocketAddr,
    /// Metrics, health, admin calls.
    pub admin: SocketAddr,
}

/// Runs a node until SIGTERM or SIGINT. `development` serves the demo page at `/`; `ready` is
/// called once when everything listens.
pub fn run(
    mut config: Config,
    development: bool,
    ready: impl FnOnce(Addresses),
) -> Result<(), StartError> {
    raise_descriptor_limit();
    let capacity = capacity::load(&config)?;
    if let Some(what) = capacity.source.as_ref().and_then(|source| source.mismatch.as_ref()) {
        tracing::warn!("capacity.file is of another build or machine, and counts: {what}");
    }
    let admin_address = config.server.admin_listen;
    let admin = TcpListener::bind(admin_address)
        .map_err(|source| StartError::Listen { address: admin_address, source })?;
    admin.set_nonblocking(true)?;
    let workers = worker_count(config.server.workers);
    let address = config.server.listen;
    let listeners =
        listen(address, workers).map_err(|source| StartError::Listen { address, source })?;
    if let Some(listener) = listeners.first() {
        config.server.listen = listener.local_addr()?;
    }
    if development && address.port() == 0 {
        // The port was the system's choice: only now is it known which pages are our own.
        config.allow_own_pages();
    }
    let addresses = Addresses { clients: config.server.listen, admin: admin.local_addr()? };
    let identity = Identity::new(&config.server.name);
    let (connected, backbone) = match config.backbone.kind {
        BackboneKind::Memory => (None, None),
        _ => {
            let (node, started) = (identity.node(), identity.started);
            let (c, thread) = cluster::start(&config, node, &identity.name, workers, started)?;
            (Some(c), Some(thread))
        }
    };
    let shared = shared_of(&config, workers, identity.node())?;
    let watch =
        Watch::new(&config, &capacity).map_err(|e| StartError::Config(format!("overload: {e}")))?;
    watch.begin(&shared.line);
    let (node, parts) =
        Node::start(config, capacity, watch, shared, listeners, identity, connected)?;
    spawn_admin(admin, Arc::clone(&node))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    ready(addresses);
    tracing::info!(clients = %addresses.clients, admin = %addresses.admin, node = %node.name,
        workers = node.stats.len(), "started");
    runtime.block_on(until_stopped(node, parts, backbone, development))
}

async fn until_stopped(
    node: Arc<Node>,
    parts: Parts,
    backbone: Option<cluster::Thread>,
    development: bool,
) -> Result<(), StartError> {
    let running = backbone.zip(parts.calls).map(|(b, calls)| b.begin(Arc::clone(&node), calls));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let http = http::serve_handed_off(parts.handed_off, Arc::clone(&node), development);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = http => {}
    }
    tracing::info!("stopping: all connections are closed with 3001");
    node.stop().await;
    for worker in parts.workers {
        match tokio::task::spawn_blocking(|| worker.join()).await {
            Ok(Ok(result)) => result?,
            _ => return Err(io::Error::other("a worker ended by a panic").into()),
        }
    }
    if let Some(running) = running {
        let thread = running.stop();
        let _ = tokio::task::spawn_blocking(|| thread.join()).await;
    }
    tracing::info!("stopped");
    Ok(())
}

fn shared_of(config: &Config, workers: usize, node: NodeId) -> Result<Arc<Shared>, StartError> {
    let tokens = Verifier::new(&config.token).map_err(|e| StartError::Config(e.to_string()))?;
    let channels = Channels::new(config.policy.channel.clone()).map_err(StartError::Config)?;
    Ok(Arc::new(Shared {
        accounts: Accounts::new(config.policy.quotas),
        policy: config.policy.clone(),
        channels: Arc::new(channels),
        tokens: Box::new(tokens),
        workers,
        line: LoadLine::default(),
        cluster: (config.backbone.kind != BackboneKind::Memory)
            .then_some(core::Cluster { node: node.0, linger_ms: config.backbone.linger_ms }),
    }))
}

/// A thread and runtime of its own: it answers while the workers and the API are busy.
fn spawn_admin(listener: TcpListener, node: Arc<Node>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let serve = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => admin::serve(listener, node).await,
                Err(error) => tracing::error!(%error, "the admin listener failed"),
            }
        });
    };
    std::thread::Builder::new().name("admin".into()).spawn(serve)?;
    Ok(())
}

/// Every connection is a descriptor: the soft limit is raised to the hard one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of file descriptors could not be raised");
    }
}

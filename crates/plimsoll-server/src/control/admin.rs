//! The admin listener: metrics, health, readiness, status, the load line and its page.

use super::http::{Reply, json, key_of, reply, serve_connection, text};
use super::{overload, pages, status};
use crate::load::watch;
use crate::node::Node;
use crate::telemetry::{live, metrics};
use crate::worker::letter::{Order, Report};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use plimsoll_core::limits;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// How long a worker may take to show that it is alive.
const READY_PATIENCE: Duration = Duration::from_secs(1);

/// Serves the admin paths for ever.
pub async fn serve(listener: TcpListener, node: Arc<Node>) {
    let room = Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX));
    live::spawn(Arc::clone(&node));
    watch::spawn(Arc::clone(&node));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let handle = |request| {
                let node = Arc::clone(&node);
                async move { answer(request, peer, &node).await }
            };
            serve_connection(stream, handle).await;
            drop(permit);
        });
    }
}

async fn answer(request: Request<Incoming>, peer: IpAddr, node: &Node) -> Reply {
    let path = request.uri().path();
    if path.starts_with("/admin/") && !allowed(&request, node) {
        return text(StatusCode::UNAUTHORIZED, "an admin key is needed\n");
    }
    if path == "/admin/overload" {
        return overload::handle(request, peer, node).await;
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match path {
        "/health" => json(StatusCode::OK, "{}"),
        "/ready" => ready(node).await,
        "/metrics" => {
            reply(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::render(node))
        }
        "/admin/status" => json(StatusCode::OK, status::render(node)),
        _ => pages::admin(path).unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found\n")),
    }
}

fn allowed(request: &Request<Incoming>, node: &Node) -> bool {
    let admin = &node.config.admin;
    let given = key_of(request.headers(), request.uri().query()).unwrap_or_default();
    admin.insecure || admin.key.matches(given)
}

/// Ready means that every worker answers a letter, and that something sent through the backbone
/// comes back; not that a flag is set.
async fn ready(node: &Node) -> Reply {
    if node.is_stopping() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    let all = node.order_all(|| Order::Echo);
    match tokio::time::timeout(READY_PATIENCE, all).await {
        Ok(reports)
            if reports.len() == node.stats.len()
                && reports.iter().all(|r| matches!(r, Report::Echo)) =>
        {
            match &node.cluster {
                Some(cluster) if !cluster.bridge.probe().await => {
                    text(StatusCode::SERVICE_UNAVAILABLE, "the backbone does not answer\n")
                }
                _ => json(StatusCode::OK, "{}"),
            }
        }
        _ => text(StatusCode::SERVICE_UNAVAILABLE, "a worker does not answer\n"),
    }
}

//! The nodes: server processes that stay at their addresses when they are started again.

use super::free_address;
use super::process::send;
use crate::ledger::Judgement;
use crate::report::Summary;
use crate::scrape::Endpoint;
use crate::server::{OwnServer, ServerSetup, Usage};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

/// Which nodes to start.
#[derive(Clone, Debug)]
pub struct NodesSetup {
    /// What all have in common.
    pub server: ServerSetup,
    /// What each has of its own: settings as those of [`ServerSetup`].
    pub each: Vec<Vec<(String, String)>>,
}

/// Server processes, stopped when dropped.
#[derive(Debug)]
pub struct Nodes {
    list: Mutex<Vec<Node>>,
    addresses: Vec<SocketAddr>,
    secret: String,
}

#[derive(Debug)]
struct Node {
    setup: ServerSetup,
    server: Option<OwnServer>,
    /// It was killed by us before, so that its counters began anew.
    was_killed: bool,
}

impl Nodes {
    /// Starts them one after the other.
    pub fn start(setup: &NodesSetup) -> Result<Self, String> {
        let secret = format!("{:032x}{:032x}", fastrand::u128(..), fastrand::u128(..));
        let (mut list, mut addresses) = (Vec::new(), Vec::new());
        for (number, own) in setup.each.iter().enumerate() {
            let (clients, admin) = (free_address()?, free_address()?);
            let mut server = setup.server.clone();
            server.token_secret = Some(secret.clone());
            let at = |key: &str, address| (format!("server.{key}"), format!("\"{address}\""));
            server.settings.push(at("listen", clients));
            server.settings.push(at("admin_listen", admin));
            server.settings.extend(own.iter().cloned());
            let started = OwnServer::start(&server).map_err(|e| format!("node {number}: {e}"))?;
            list.push(Node { setup: server, server: Some(started), was_killed: false });
            addresses.push(clients);
        }
        Ok(Self { list: Mutex::new(list), addresses, secret })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Signs the clients' tokens.
    pub fn token_secret(&self) -> &str {
        &self.secret
    }

    /// Kills a node (SIGKILL).
    pub fn kill(&self, number: usize) {
        let mut list = self.lock();
        if let Some(node) = list.get_mut(number) {
            node.was_killed = true;
            if let Some(mut server) = node.server.take() {
                server.kill();
            }
        }
    }

    /// Starts a killed node again, at its address.
    pub fn start_again(&self, number: usize) -> Result<(), String> {
        let mut list = self.lock();
        let Some(node) = list.get_mut(number) else { return Ok(()) };
        node.server = Some(OwnServer::start(&node.setup)?);
        Ok(())
    }

    /// Stops a node where it is (SIGSTOP), or lets it go on.
    pub fn pause(&self, number: usize, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        send(self.pids().get(number).copied().flatten(), signal);
    }

    /// Their processes; none for one that does not run.
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.lock().iter().map(|node| node.server.as_ref().map(OwnServer::pid)).collect()
    }

    /// What they use together; none while one of them does not run.
    pub fn usage(&self) -> Option<Usage> {
        let used = self.pids().into_iter().map(|pid| Usage::of(pid?).ok());
        crate::server::sum(used)
    }

    /// Where their metrics are; none if a node was killed, since counters began anew then.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let list = self.lock();
        if list.iter().any(|node| node.was_killed) {
            return Vec::new();
        }
        let servers = list.iter().filter_map(|node| node.server.as_ref());
        servers.map(|server| Endpoint::of_admin(server.admin_address())).collect()
    }

    /// Finds it when a node has ended that nobody has killed.
    pub fn look_after(&self, summary: &mut Summary) {
        for (number, node) in self.lock().iter_mut().enumerate() {
            let Some(server) = &mut node.server else { continue };
            if !server.is_alive() {
                let log = server.log_tail();
                let text = format!("node {number} ended before the run did; its log:\n{log}");
                summary.finds(Judgement::Broken, text);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Node>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Broker, nodes and the proxies between them.

use super::ClusterArgs;
use super::fault::Fault;
use crate::cluster::{Broker, BrokerSetup, Nodes, NodesSetup};
use crate::proxy::Proxy;
use crate::server::ServerSetup;
use std::net::SocketAddr;
use std::sync::Arc;

/// See the module. What is declared first ends first.
pub struct Arena {
    /// The nodes.
    pub nodes: Arc<Nodes>,
    /// Between clients and nodes, when connections are to be reset.
    pub to_nodes: Vec<Proxy>,
    /// Between the first node and the broker, when it is to be cut off.
    pub to_broker: Vec<Proxy>,
    /// The broker.
    pub broker: Broker,
}

impl Arena {
    /// Starts everything.
    pub fn start(args: &ClusterArgs, server: ServerSetup) -> Result<Self, String> {
        let fault = args.fault;
        let broker = Broker::start(BrokerSetup {
            kind: args.backbone,
            programs: args.broker_bin.clone(),
            durable: fault.is_some_and(Fault::is_durable),
            servers: fault.map_or(1, Fault::nats_servers),
        })?;
        let to_broker = match fault {
            Some(Fault::Partition(_)) => proxies(&broker.addresses())?,
            _ => Vec::new(),
        };
        let each = (0..args.nodes).map(|number| {
            let addresses = match number == 0 && !to_broker.is_empty() {
                true => to_broker.iter().map(Proxy::address).collect(),
                false => broker.addresses(),
            };
            let mut own = broker.settings(&addresses);
            own.push(("server.name".into(), format!("\"node-{number}\"")));
            own
        });
        let nodes = Nodes::start(&NodesSetup { server, each: each.collect() })?;
        let to_nodes = match fault {
            Some(Fault::ResetHalf) => proxies(nodes.addresses())?,
            _ => Vec::new(),
        };
        Ok(Self { nodes: Arc::new(nodes), to_nodes, to_broker, broker })
    }

    /// Where clients connect.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match self.to_nodes.is_empty() {
            true => self.nodes.addresses().to_vec(),
            false => self.to_nodes.iter().map(Proxy::address).collect(),
        }
    }
}

fn proxies(addresses: &[SocketAddr]) -> Result<Vec<Proxy>, String> {
    let started = addresses.iter().map(|address| Proxy::start(*address));
    started.collect::<Result<_, _>>().map_err(|error| format!("a proxy: {error}"))
}

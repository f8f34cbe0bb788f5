//! A cluster of our own: a broker and nodes, each a process, on loopback.

mod broker;
mod nats;
mod nodes;
mod process;

pub use broker::{Broker, BrokerKind, BrokerSetup};
pub use nodes::{Nodes, NodesSetup};

use crate::limits;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A loopback address that is free now, outside of the ports that outgoing connections take, so
/// that it is still free for a process that comes back after a while.
pub(crate) fn free_address() -> Result<SocketAddr, String> {
    for _ in 0..limits::PORT_TRIES_MAX {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, fastrand::u16(12_000..22_000)));
        // A server of a Redis Cluster takes the port 10,000 above as well.
        let bus = SocketAddr::from((Ipv4Addr::LOCALHOST, address.port() + 10_000));
        if TcpListener::bind(address).is_ok() && TcpListener::bind(bus).is_ok() {
            return Ok(address);
        }
    }
    Err("no port is free between 12000 and 22000".into())
}

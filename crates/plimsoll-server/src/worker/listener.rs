//! Listening sockets: one for each worker on the same port.

use plimsoll_core::limits;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections the kernel completes while a worker is busy.
const BACKLOG: i32 = 4_096;

/// Opens `count` listeners on one address. Port 0: the kernel chooses one for all of them.
///
/// Options set here are inherited by every accepted socket, which saves system calls for each
/// connection: `TCP_NODELAY`, and a bound on unsent bytes so that a reader that stalls costs
/// kilobytes of kernel memory instead of megabytes.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    if address.port() != 0 && count > 1 {
        // With SO_REUSEPORT a second node would share the port without a word: find out first.
        let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        probe.set_reuse_address(true)?;
        probe.bind(&address.into())?;
        probe.listen(1)?;
    }
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // One alone must not share its port with another process by accident.
        if count > 1 {
            socket.set_reuse_port(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_notsent_lowat(limits::NOTSENT_LOWAT_BYTES)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

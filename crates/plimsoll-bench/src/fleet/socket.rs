//! Sockets of clients: opened without waiting, closed without leaving ports behind.

use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Takes as many descriptors as the system lets this process have.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Were it refused, connections above the old limit fail and are counted.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Starts a connection, from 127.0.0.`source` if that is not 0 and the server is on loopback.
///
/// # Errors
///
/// Why it cannot be, in a few fixed words.
pub fn open(address: SocketAddr, source: u8) -> Result<OwnedFd, &'static str> {
    try_open(address, source).map_err(reason)
}

fn try_open(address: SocketAddr, source: u8) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if source > 0 && matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        net::bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0)))?;
    }
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// How the connection went that was started; after it became writable.
///
/// # Errors
///
/// Why there is none.
pub fn opened(socket: impl AsFd) -> Result<(), &'static str> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(reason(errno)),
    }
}

/// Ends a connection at once: the peer sees a reset, and no port waits.
pub fn reset(socket: OwnedFd) {
    // Were it refused, the connection is closed in the ordinary way.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

/// A few fixed words for why there is no connection.
pub fn reason(errno: Errno) -> &'static str {
    match errno {
        Errno::MFILE | Errno::NFILE => "no descriptor left",
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => "no port left",
        Errno::NOBUFS | Errno::NOMEM => "no memory left",
        Errno::CONNREFUSED => "connection refused",
        Errno::CONNRESET | Errno::PIPE | Errno::CONNABORTED => "connection reset",
        Errno::TIMEDOUT => "connection timed out",
        Errno::HOSTUNREACH | Errno::NETUNREACH => "no route",
        _ => "connection failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn clients_leave_from_their_source_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        for source in [3, 9] {
            let _socket = open(address, source).unwrap();
            let (_, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), IpAddr::V4(Ipv4Addr::new(127, 0, 0, source)));
        }
    }

    #[test]
    fn a_reset_is_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = open(listener.local_addr().unwrap(), 0).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        reset(socket);
        let read = std::io::Read::read(&mut stream, &mut [0; 8]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

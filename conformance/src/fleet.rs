//! Thousands of idle connections, each no more than a socket here.

use crate::raw;
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

/// Connections whose handshakes are on their way together.
const BATCH: usize = 128;
/// For one connection to be subscribed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens `count` connections, each connected and subscribed to a channel of its own choosing.
///
/// The upgrade and the commands leave in one segment. Source addresses vary, so that the ports
/// of closed connections do not run out.
pub fn open(
    address: SocketAddr,
    count: usize,
    channel: impl Fn(usize) -> String,
) -> Result<Vec<TcpStream>, String> {
    let mut all = Vec::with_capacity(count);
    let mut at = 0;
    while at < count {
        let until = count.min(at + BATCH);
        let mut batch = Vec::with_capacity(until - at);
        for index in at..until {
            let mut stream = connect(address, index).map_err(|e| format!("{index}: {e}"))?;
            let mut bytes = raw::upgrade_request("");
            let subscribe = format!(r#"{{"id":2,"subscribe":{{"channel":"{}"}}}}"#, channel(index));
            bytes.extend(raw::text(&format!("{{\"id\":1,\"connect\":{{}}}}\n{subscribe}")));
            stream.write_all(&bytes).map_err(|e| format!("{index}: {e}"))?;
            batch.push(stream);
        }
        for (index, stream) in (at..until).zip(&mut batch) {
            subscribed(stream).map_err(|e| format!("{index}: {e}"))?;
        }
        all.append(&mut batch);
        at = until;
    }
    Ok(all)
}

/// Ends all: every other one by RST, the others by FIN.
pub fn close(fleet: Vec<TcpStream>) {
    for (index, stream) in fleet.into_iter().enumerate() {
        if index % 2 == 0 {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

fn connect(address: SocketAddr, index: usize) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let last = u8::try_from(1 + index % 16).unwrap_or(1);
    let source = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0);
    // Else a port is taken for all destinations, and there are too few.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::V4(source).into())?;
    socket.connect(&address.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until the reply to the subscribe has come.
fn subscribed(stream: &mut TcpStream) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let mut received = Vec::new();
    let mut piece = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no subscription within {PATIENCE:?}"));
        }
        stream.set_read_timeout(Some(left)).map_err(|e| e.to_string())?;
        match stream.read(&mut piece) {
            Ok(0) => return Err(format!("closed: {}", String::from_utf8_lossy(&received))),
            Ok(n) => received.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
        let text = String::from_utf8_lossy(&received);
        if text.contains("\"subscribe\":") {
            return Ok(());
        }
        if text.contains("\"error\":") {
            return Err(text.into_owned());
        }
    }
}

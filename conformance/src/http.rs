//! One HTTP request on one connection, written out by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// Body, as far as it came.
    pub body: Vec<u8>,
}

impl Response {
    /// Reads a response; `None` when `bytes` does not hold a whole head.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: bytes[end + 4..].to_vec() })
    }

    /// A header's value; names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }

    /// The body as text, chunks put together.
    pub fn text(&self) -> String {
        let chunked = self.header("transfer-encoding").is_some_and(|v| v.contains("chunked"));
        let bytes = if chunked { join_chunks(&self.body) } else { self.body.clone() };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// GET, without any header but `Host`.
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n"), b"")
}

/// POST of JSON.
pub fn post(address: SocketAddr, path: &str, body: &str) -> Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    request(address, &head, body.as_bytes())
}

/// Any request: `head` without the empty line. The connection is closed after it.
pub fn request(address: SocketAddr, head: &str, body: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).expect("the server takes a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit is set");
    let mut bytes = format!("{head}Connection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).expect("a request is taken");
    let answer = read_to_end(&mut stream, PATIENCE);
    Response::parse(&answer).unwrap_or_else(|| {
        panic!("no HTTP response to {head:?}, but {:?}", String::from_utf8_lossy(&answer))
    })
}

/// Everything until the peer closes, resets, or the time is over.
pub fn read_to_end(stream: &mut TcpStream, within: Duration) -> Vec<u8> {
    let deadline = Instant::now() + within;
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return all;
        }
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(n) => all.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return all,
        }
    }
}

fn join_chunks(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(line) = body.windows(2).position(|w| w == b"\r\n") {
        let size = String::from_utf8_lossy(&body[..line]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16);
        let (Ok(size), rest) = (size, &body[line + 2..]) else { break };
        if size == 0 || rest.len() < size + 2 {
            break;
        }
        all.extend_from_slice(&rest[..size]);
        body = &rest[size + 2..];
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_read() {
        let r = Response::parse(b"HTTP/1.1 426 Upgrade Required\r\nA: b\r\n\r\nbody").unwrap();
        assert_eq!((r.status, r.header("a"), r.text().as_str()), (426, Some("b"), "body"));
        assert!(Response::parse(b"HTTP/1.1 200 OK\r\nA: b\r\n").is_none());
        assert!(Response::parse(b"\x88\x02\x03\xe8\r\n\r\n").is_none());
    }

    #[test]
    fn chunks_are_joined() {
        let r =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n";
        assert_eq!(Response::parse(r).unwrap().text(), "abcde");
    }
}

//! A client that sends bytes: no library hides what goes over the wire.

use crate::http::Response;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longer than any answer may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// First byte of a whole text message, a whole binary message, a close.
pub const TEXT: u8 = 0x81;
/// First byte of a whole binary message.
pub const BINARY: u8 = 0x82;
/// First byte of a close frame.
pub const CLOSE: u8 = 0x88;
/// First byte of a ping frame.
pub const PING: u8 = 0x89;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By a close frame with this code.
    Code(u16),
    /// By a close frame without a code.
    NoCode,
    /// Without a close frame.
    Plain,
    /// Not at all, in the time given.
    Open,
}

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, RSV and opcode.
    pub first: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// One TCP connection and what it has received.
pub struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    ended: bool,
}

impl Raw {
    /// A bare connection.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server takes a connection");
        stream.set_nodelay(true).expect("TCP_NODELAY is set");
        Self { stream, buffer: Vec::new(), ended: false }
    }

    /// A connection upgraded to WebSocket; `headers` is whole lines.
    pub fn upgraded(address: SocketAddr, headers: &str) -> Self {
        let mut raw = Self::connect(address);
        raw.send(&upgrade_request(headers));
        let response = raw.response(PATIENCE).expect("an upgrade is answered");
        assert_eq!(response.status, 101, "{}", response.head);
        raw
    }

    /// Upgraded, and connected as an anonymous client.
    pub fn connected(address: SocketAddr) -> Self {
        let mut raw = Self::upgraded(address, "");
        raw.send(&text(r#"{"id":1,"connect":{}}"#));
        let frame = raw.frame(PATIENCE).expect("connect is answered");
        let reply = String::from_utf8_lossy(&frame.payload).into_owned();
        assert!(reply.contains("\"connect\""), "connect was answered by {reply}");
        raw
    }

    /// Sends all of it, or as much as the peer takes before it closes.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.set_write_timeout(Some(PATIENCE));
        let _ = self.stream.write_all(bytes);
    }

    /// Sends all of it; false when the peer does not take it.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        let _ = self.stream.set_write_timeout(Some(PATIENCE));
        self.stream.write_all(bytes).is_ok()
    }

    /// The head of an HTTP response. What follows it stays to be read (frames after a 101).
    pub fn response(&mut self, within: Duration) -> Option<Response> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let response = Response::parse(&self.buffer[..end + 4]);
                self.buffer.drain(..end + 4);
                return response;
            }
            if !self.fill(deadline) {
                return None;
            }
        }
    }

    /// The next frame; `None` when the peer closes or the time is over.
    pub fn frame(&mut self, within: Duration) -> Option<Frame> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            if !self.fill(deadline) {
                return None;
            }
        }
    }

    /// Reads on until the connection ends, and says how. Data frames are passed over.
    pub fn ending(&mut self, within: Duration) -> Ending {
        self.ending_after(within, |_| {})
    }

    /// Like [`Raw::ending`]; every data frame is shown.
    pub fn ending_after(&mut self, within: Duration, mut see: impl FnMut(&Frame)) -> Ending {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.frame(left) {
                Some(frame) if frame.first == CLOSE => {
                    return match frame.payload.get(..2) {
                        Some(code) => Ending::Code(u16::from_be_bytes([code[0], code[1]])),
                        None => Ending::NoCode,
                    };
                }
                Some(frame) => see(&frame),
                None if self.ended => return Ending::Plain,
                None => return Ending::Open,
            }
        }
    }

    /// Does the peer close the TCP connection in time?
    pub fn closes(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while self.fill(deadline) {}
        self.ended
    }

    /// Takes what has arrived without waiting. False once the peer has closed.
    pub fn pump(&mut self) -> bool {
        let _ = self.stream.set_nonblocking(true);
        let mut piece = [0; 16 * 1024];
        while !self.ended {
            match self.stream.read(&mut piece) {
                Ok(0) => self.ended = true,
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
        let _ = self.stream.set_nonblocking(false);
        !self.ended
    }

    /// Has anything been received and not been read?
    pub fn has_received(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// What was received and not read.
    pub fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if self.ended || left.is_zero() {
            return false;
        }
        let _ = self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => self.ended = true,
        }
        !self.ended
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let b = &self.buffer;
        let (first, short) = (*b.first()?, *b.get(1)?);
        assert_eq!(short & 0x80, 0, "a server never masks");
        let (length, head) = match short {
            126 => (u64::from(u16::from_be_bytes(b.get(2..4)?.try_into().ok()?)), 4),
            127 => (u64::from_be_bytes(b.get(2..10)?.try_into().ok()?), 10),
            n => (u64::from(n), 2),
        };
        let end = head + usize::try_from(length).ok()?;
        let payload = b.get(head..end)?.to_vec();
        self.buffer.drain(..end);
        Some(Frame { first, payload })
    }
}

/// A good request for an upgrade, with more header lines.
pub fn upgrade_request(headers: &str) -> Vec<u8> {
    format!(
        "GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// A whole text message.
pub fn text(payload: &str) -> Vec<u8> {
    frame(TEXT, payload.as_bytes())
}

/// A correct frame of a client: masked, length in the shortest form.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    match payload.len() {
        n @ 0..=125 => masked(vec![first, 0x80 | u8::try_from(n).unwrap_or(0)], payload),
        n @ 126..=65_535 => with_length16(first, u16::try_from(n).unwrap_or(0), payload),
        n => with_length64(first, u64::try_from(n).unwrap_or(u64::MAX), payload),
    }
}

/// A masked frame whose length is written in 16 bits, and may be a lie.
pub fn with_length16(first: u8, length: u16, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![first, 0x80 | 126];
    head.extend_from_slice(&length.to_be_bytes());
    masked(head, payload)
}

/// A masked frame whose length is written in 64 bits, and may be a lie.
pub fn with_length64(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut head = vec![first, 0x80 | 127];
    head.extend_from_slice(&length.to_be_bytes());
    masked(head, payload)
}

/// A frame as only a server may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, u8::try_from(payload.len()).expect("a short frame")];
    bytes.extend_from_slice(payload);
    bytes
}

/// A close frame with a code and a reason.
pub fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason);
    frame(CLOSE, &payload)
}

fn masked(mut head: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    head.extend_from_slice(&MASK);
    head.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_bytes_of_the_rfc() {
        // RFC 6455, 5.7: a masked "Hello".
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(text("Hello"), hello);
        assert_eq!(unmasked(TEXT, b"Hello")[..2], [0x81, 5]);
        assert_eq!(frame(BINARY, &[0; 256])[..4], [0x82, 0xfe, 1, 0]);
        assert_eq!(frame(BINARY, &[0; 65_536])[..10], [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]);
    }
}

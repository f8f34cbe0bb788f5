//! A blocking WebSocket connection whose text messages hold lines.

use crate::fleet::Target;
use crate::limits;
use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::ws::{ClientDecoder, Event, Limits, Opcode, encode_client};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::Duration;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The connection.
pub struct Line {
    stream: TcpStream,
    decoder: ClientDecoder,
    inflater: Inflater,
    buffer: Vec<u8>,
    lines: VecDeque<String>,
    closed: bool,
}

impl Line {
    /// Connects and upgrades.
    pub fn open(target: &Target) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{}: {error}", target.host);
        let mut stream = TcpStream::connect_timeout(&target.address, TIMEOUT).map_err(told)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(told)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        // The key is that of RFC 6455's example: nothing here depends on it.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            target.path, target.host
        );
        stream.write_all(request.as_bytes()).map_err(told)?;
        let rest = upgraded(&mut stream)?;
        let mut made = Self {
            stream,
            decoder: ClientDecoder::default(),
            inflater: Inflater::default(),
            buffer: vec![0; 64 * 1024],
            lines: VecDeque::new(),
            closed: false,
        };
        made.take(rest)?;
        Ok(made)
    }

    /// A second handle to send by, for a thread of its own.
    pub fn sender(&self) -> Result<Sender, String> {
        let stream = self.stream.try_clone().map_err(|error| error.to_string())?;
        Ok(Sender { stream })
    }

    /// Makes the kernel's receive buffer so small.
    pub fn shrink(&self, bytes: usize) -> Result<(), String> {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_recv_buffer_size(bytes).map_err(|error| error.to_string())
    }

    /// Sends a text message.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        send(&mut self.stream, text)
    }

    /// The next line.
    pub fn next(&mut self) -> Result<String, String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(line);
            }
            if self.closed {
                return Err("the server closed the connection".into());
            }
            let read = self.stream.read(&mut self.buffer);
            let n = read.map_err(|error| format!("no answer came: {error}"))?;
            if n == 0 {
                self.closed = true;
            }
            let bytes = self.buffer.get(..n).unwrap_or_default().to_vec();
            self.take(bytes)?;
        }
    }

    fn take(&mut self, mut bytes: Vec<u8>) -> Result<(), String> {
        let limits = Limits {
            message_bytes_max: limits::HISTORY_MESSAGE_BYTES_MAX,
            fragments_max: 1_024,
            compression: false,
        };
        let Self { decoder, inflater, lines, closed, .. } = self;
        let mut pongs = Vec::new();
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Text(text) => {
                    let some = text.lines().filter(|line| !line.is_empty());
                    lines.extend(some.map(str::to_owned));
                }
                Event::Close { .. } => *closed = true,
                Event::Ping(payload) => {
                    encode_client(&mut pongs, Opcode::Pong, [0x5a; 4], payload);
                }
                Event::Binary(_) | Event::Pong(_) => {}
            }
            ControlFlow::Continue(())
        };
        decoder
            .decode(&mut bytes, &limits, inflater, &mut on_event)
            .map_err(|violation| format!("the server breaks the protocol: {violation}"))?;
        if pongs.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&pongs).map_err(|error| format!("the connection broke: {error}"))
    }
}

/// Sends on a connection that another thread reads.
pub struct Sender {
    stream: TcpStream,
}

impl Sender {
    /// Sends a text message.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        send(&mut self.stream, text)
    }
}

fn send(stream: &mut TcpStream, text: &str) -> Result<(), String> {
    let mut frame = Vec::with_capacity(text.len() + 14);
    encode_client(&mut frame, Opcode::Text, [0x5a; 4], text.as_bytes());
    stream.write_all(&frame).map_err(|error| format!("the connection broke: {error}"))
}

/// Reads the answer to the upgrade; what follows its head belongs to the first message.
fn upgraded(stream: &mut TcpStream) -> Result<Vec<u8>, String> {
    let mut head = Vec::new();
    let mut chunk = [0; 1_024];
    loop {
        let n = stream.read(&mut chunk).map_err(|error| format!("no answer came: {error}"))?;
        head.extend_from_slice(chunk.get(..n).unwrap_or_default());
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).into_owned();
            let status = text.split(' ').nth(1).unwrap_or_default();
            if status != "101" {
                return Err(format!("the upgrade was answered by {status}"));
            }
            return Ok(head.split_off(end + 4));
        }
        if n == 0 || head.len() > limits::ANSWER_HEAD_BYTES_MAX {
            return Err("the upgrade was not answered".into());
        }
    }
}

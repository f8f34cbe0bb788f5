//! A WebSocket client that echoes what it is sent, for conformance suites that play the server.
//!
//! It is the client's half of the codec, which load generators and tests rely on.
//!
//! `ws_client HOST:PORT` asks for the number of cases, runs each, and asks for the report.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_macros,
    reason = "the crate does no I/O; this program around it does"
)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::time::Duration;

use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::handshake::accept_for;
use plimsoll_transport::ws::{ClientDecoder, Event, Limits, Opcode, encode_client};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const LIMITS: Limits =
    Limits { message_bytes_max: 16 << 20, fragments_max: 65_537, compression: false };

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).ok_or("usage: ws_client HOST:PORT")?;
    let mut count = String::new();
    visit(&address, "/getCaseCount", &mut |event, _| {
        if let Event::Text(text) = event {
            text.clone_into(&mut count);
        }
    })?;
    let count: u32 = count.parse()?;
    for case in 1..=count {
        // A case may end as it likes: the other side judges.
        let _ = visit(&address, &format!("/runCase?case={case}&agent=plimsoll"), &mut echo);
    }
    visit(&address, "/updateReports?agent=plimsoll", &mut |_, _| {})?;
    println!("{count} cases");
    Ok(())
}

fn echo(event: Event<'_>, out: &mut Vec<u8>) {
    match event {
        Event::Text(text) => send(out, Opcode::Text, text.as_bytes()),
        Event::Binary(bytes) => send(out, Opcode::Binary, bytes),
        Event::Ping(payload) => send(out, Opcode::Pong, payload),
        Event::Pong(_) | Event::Close { .. } => {}
    }
}

fn send(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    encode_client(out, opcode, [0x5a, 0x01, 0xc3, 0x7e], payload);
}

/// Opens one connection and serves it to its end.
fn visit(
    address: &str,
    target: &str,
    on_event: &mut dyn FnMut(Event<'_>, &mut Vec<u8>),
) -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut input = open(&mut stream, address, target)?;
    let (mut decoder, mut inflater) = (ClientDecoder::default(), Inflater::default());
    let mut buf = vec![0; 64 * 1024];
    let mut closing = false;
    loop {
        let mut out = Vec::new();
        let end = decoder.decode(&mut input, &LIMITS, &mut inflater, &mut |event| {
            if let Event::Close { code, .. } = event {
                closing = true;
                let payload = code.map(u16::to_be_bytes);
                send(&mut out, Opcode::Close, payload.as_ref().map_or(&[], |code| code));
            }
            on_event(event, &mut out);
            ControlFlow::Continue(())
        });
        if let Err(violation) = end {
            closing = true;
            send(&mut out, Opcode::Close, &violation.code.to_be_bytes());
        }
        let n = match stream.write_all(&out).and_then(|()| stream.read(&mut buf)) {
            Ok(0) => return Ok(()),
            Ok(n) => n,
            // A server may drop the connection as soon as it has said goodbye.
            Err(_) if closing => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        input.clear();
        if !closing {
            input.extend_from_slice(buf.get(..n).unwrap_or_default());
        }
    }
}

/// Performs the handshake; what came after the response is returned.
fn open(stream: &mut TcpStream, host: &str, target: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err("the server closed during the handshake".into());
        }
        head.extend_from_slice(chunk.get(..n).unwrap_or_default());
        let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let rest = head.split_off(end + 4);
        let accept = accept_for(KEY.as_bytes());
        let accepted = head.windows(accept.len()).any(|part| part == accept);
        return match head.starts_with(b"HTTP/1.1 101 ") && accepted {
            true => Ok(rest),
            false => Err("the server refused the handshake".into()),
        };
    }
}

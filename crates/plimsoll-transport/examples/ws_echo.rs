//! A WebSocket echo server on the production codec, for conformance suites.
//!
//! One blocking thread per connection around the same head parser, handshake, decoder and
//! compressor that the server uses, so that a verdict on it is a verdict on them.
//!
//! `ws_echo [--port N] [--deflate | --deflate-always] [--message-bytes-max N] [--fragments-max N]`
//! prints its port. `--deflate-always` also compresses what compression makes longer: one suite
//! cannot take plain messages on a connection that agreed upon compression.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "the crate does no I/O; this program around it does"
)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::time::Duration;

use plimsoll_transport::deflate::{Deflater, Inflater};
use plimsoll_transport::handshake::{self, Request};
use plimsoll_transport::head::{HeadLimits, HeadParse, Refusal, parse_head};
use plimsoll_transport::ws::{
    Decoder, Event, Limits, Opcode, append_close, append_frame, frame_header,
};

#[derive(Clone, Copy)]
struct Options {
    port: u16,
    deflate: bool,
    always: bool,
    message_bytes_max: usize,
    fragments_max: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options(std::env::args().skip(1))?;
    let listener = TcpListener::bind(("127.0.0.1", options.port))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || {
            // A peer that goes away is no news.
            let _ = serve(stream, options);
        });
    }
    Ok(())
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, Box<dyn std::error::Error>> {
    let mut options = Options {
        port: 0,
        deflate: false,
        always: false,
        message_bytes_max: 64 * 1024,
        fragments_max: 1024,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--port" => options.port = value()?.parse()?,
            "--deflate" => options.deflate = true,
            "--deflate-always" => (options.deflate, options.always) = (true, true),
            "--message-bytes-max" => options.message_bytes_max = value()?.parse()?,
            "--fragments-max" => options.fragments_max = value()?.parse()?,
            _ => return Err(format!("unknown argument {arg}").into()),
        }
    }
    Ok(options)
}

fn serve(mut stream: TcpStream, options: Options) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let Some((compression, mut early)) = open(&mut stream, options)? else { return Ok(()) };
    let limits = Limits {
        message_bytes_max: options.message_bytes_max,
        fragments_max: options.fragments_max,
        compression,
    };
    let deflater = compression.then(Deflater::default);
    let mut echo = Echo { deflater, always: options.always, out: Vec::new(), closed: false };
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
    let mut buf = vec![0; 64 * 1024];
    let mut closing = false;
    while !closing {
        let input = match early.is_empty() {
            false => early.as_mut_slice(),
            true => match stream.read(&mut buf)? {
                0 => return Ok(()),
                n => buf.get_mut(..n).unwrap_or_default(),
            },
        };
        let end = decoder.decode(input, &limits, &mut inflater, &mut |event| echo.on_event(event));
        early.clear();
        closing = echo.closed;
        if let Err(violation) = end {
            append_close(&mut echo.out, violation.code, violation.reason);
            closing = true;
        }
        stream.write_all(&echo.out)?;
        echo.out.clear();
    }
    linger(&mut stream, &mut buf)
}

/// Reads on for a while after the close frame: closing a socket with unread bytes resets it, and
/// the peer would lose the frame.
fn linger(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    for _ in 0..1_000 {
        if stream.read(buf)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Answers the handshake: whether messages are compressed, and the bytes that followed the head.
fn open(stream: &mut TcpStream, options: Options) -> io::Result<Option<(bool, Vec<u8>)>> {
    let limits = HeadLimits { bytes_max: 8 * 1024, count_max: 64 };
    let mut buf = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let mut out = Vec::new();
        let refusal = match parse_head(&buf, &limits) {
            HeadParse::Incomplete => {
                let n = stream.read(&mut chunk)?;
                if n == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                buf.extend_from_slice(chunk.get(..n).unwrap_or_default());
                continue;
            }
            HeadParse::Complete { head, len } => match handshake::classify(&head) {
                Request::Upgrade(upgrade) => {
                    let subprotocol = handshake::subprotocols(&head).next();
                    upgrade.write_response(subprotocol, options.deflate, &mut out);
                    stream.write_all(&out)?;
                    let compression = options.deflate && upgrade.deflate.is_some();
                    return Ok(Some((compression, buf.split_off(len))));
                }
                Request::Plain => Refusal { status: 426, reason: "This is a WebSocket endpoint." },
                Request::Refuse(refusal) => refusal,
            },
            HeadParse::Bad(refusal) => refusal,
        };
        refusal.write_to(&mut out);
        stream.write_all(&out)?;
        linger(stream, &mut chunk)?;
        return Ok(None);
    }
}

struct Echo {
    deflater: Option<Deflater>,
    always: bool,
    out: Vec<u8>,
    closed: bool,
}

impl Echo {
    fn on_event(&mut self, event: Event<'_>) -> ControlFlow<()> {
        self.closed |= matches!(event, Event::Close { .. });
        match event {
            Event::Text(text) => self.message(Opcode::Text, text.as_bytes()),
            Event::Binary(bytes) => self.message(Opcode::Binary, bytes),
            Event::Ping(payload) => append_frame(&mut self.out, Opcode::Pong, payload),
            Event::Pong(_) => {}
            Event::Close { code: Some(code), reason } => append_close(&mut self.out, code, reason),
            Event::Close { code: None, .. } => append_frame(&mut self.out, Opcode::Close, b""),
        }
        ControlFlow::Continue(())
    }

    fn message(&mut self, opcode: Opcode, payload: &[u8]) {
        match &mut self.deflater {
            Some(deflater) if self.always => {
                let data = deflater.compress(payload).unwrap_or_default();
                let (header, len) = frame_header(opcode, data.len(), true);
                self.out.extend_from_slice(header.get(..len).unwrap_or_default());
                self.out.extend_from_slice(data);
            }
            Some(deflater) => deflater.append_frame(&mut self.out, opcode, payload),
            None => append_frame(&mut self.out, opcode, payload),
        }
    }
}

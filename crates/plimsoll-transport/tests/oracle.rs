//! Against tungstenite: each side reads what the other writes, the handshake included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;

use std::io::{self, Cursor, Read, Write};
use std::ops::ControlFlow;

use common::{LIMITS, Owned, Reader};
use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::handshake::{Request, classify, subprotocols};
use plimsoll_transport::head::{HeadLimits, HeadParse, parse_head};
use plimsoll_transport::ws::{
    ClientDecoder, Event, Opcode, append_close, append_frame, encode_client,
};
use proptest::prelude::*;
use tungstenite::client::IntoClientRequest;
use tungstenite::protocol::{CloseFrame, Role, WebSocket};
use tungstenite::{HandshakeError, Message};

/// A stream of bytes that stand ready, and a place for those written.
#[derive(Default)]
struct Pipe {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buf)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn peer(role: Role, input: Vec<u8>) -> WebSocket<Pipe> {
    let pipe = Pipe { input: Cursor::new(input), output: Vec::new() };
    WebSocket::from_raw_socket(pipe, role, None)
}

fn message(event: &Owned) -> Message {
    match event {
        Owned::Text(text) => Message::text(text.clone()),
        Owned::Binary(bytes) => Message::binary(bytes.clone()),
        Owned::Ping(bytes) => Message::Ping(bytes.clone().into()),
        Owned::Pong(bytes) => Message::Pong(bytes.clone().into()),
        Owned::Close(code, reason) => Message::Close(
            code.map(|code| CloseFrame { code: code.into(), reason: reason.clone().into() }),
        ),
    }
}

fn payload(event: &Owned) -> (Opcode, Vec<u8>) {
    match event {
        Owned::Text(text) => (Opcode::Text, text.clone().into_bytes()),
        Owned::Binary(bytes) => (Opcode::Binary, bytes.clone()),
        Owned::Ping(bytes) => (Opcode::Ping, bytes.clone()),
        Owned::Pong(bytes) => (Opcode::Pong, bytes.clone()),
        Owned::Close(..) => panic!("only at the end"),
    }
}

fn event() -> impl Strategy<Value = Owned> {
    prop_oneof![
        "[ -~\u{e9}\u{1f409}]{0,200}".prop_map(Owned::Text),
        (0..70_000_usize, any::<u8>()).prop_map(|(len, byte)| Owned::Binary(vec![byte; len])),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Owned::Binary),
        prop::collection::vec(any::<u8>(), 0..126).prop_map(Owned::Ping),
        prop::collection::vec(any::<u8>(), 0..126).prop_map(Owned::Pong),
    ]
}

fn limits() -> plimsoll_transport::ws::Limits {
    plimsoll_transport::ws::Limits { message_bytes_max: 1 << 20, ..LIMITS }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn we_read_what_it_writes(
        events in prop::collection::vec(event(), 0..8),
        step in 1..9000_usize,
    ) {
        let close = Owned::Close(Some(4000), "enough".to_owned());
        let mut events = events;
        events.push(close);

        let mut client = peer(Role::Client, Vec::new());
        events.iter().for_each(|event| {
            client.send(message(event)).unwrap();
        });
        let mut reader = Reader::default();
        client.get_ref().output.chunks(step).for_each(|part| {
            reader.feed(part, &limits()).unwrap();
        });
        prop_assert_eq!(&reader.events, &events);

        let mut server = peer(Role::Server, Vec::new());
        events.iter().for_each(|event| {
            server.send(message(event)).unwrap();
        });
        let mut read: Vec<Owned> = Vec::new();
        let mut decoder = ClientDecoder::default();
        for part in server.get_mut().output.chunks_mut(step) {
            let mut on_event = |event: Event<'_>| {
                read.push(event.into());
                ControlFlow::Continue(())
            };
            decoder.decode(part, &limits(), &mut Inflater::default(), &mut on_event).unwrap();
        }
        prop_assert_eq!(&read, &events);
    }

    #[test]
    fn it_reads_what_we_write(
        events in prop::collection::vec(event(), 0..8),
        mask in any::<[u8; 4]>(),
    ) {
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        for event in &events {
            let (opcode, payload) = payload(event);
            append_frame(&mut to_client, opcode, &payload);
            encode_client(&mut to_server, opcode, mask, &payload);
        }
        append_close(&mut to_client, 4000, "enough");
        encode_client(&mut to_server, Opcode::Close, mask, b"\x0f\xa0enough");
        let close = message(&Owned::Close(Some(4000), "enough".to_owned()));
        for mut reader in [peer(Role::Client, to_client), peer(Role::Server, to_server)] {
            for event in &events {
                prop_assert_eq!(reader.read().unwrap(), message(event));
            }
            prop_assert_eq!(reader.read().unwrap(), close.clone());
        }
    }
}

#[test]
fn its_client_takes_our_handshake() {
    let mut request = "ws://example.com/ws?x=1".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "a, b".parse().unwrap());
    let Err(HandshakeError::Interrupted(mid)) = tungstenite::client(request, Pipe::default())
    else {
        panic!("there is no answer yet");
    };
    let mut mid = mid;
    let sent = mid.get_ref().get_ref().output.clone();
    let limits = HeadLimits { bytes_max: 8192, count_max: 64 };
    let HeadParse::Complete { head, len } = parse_head(&sent, &limits) else { panic!() };
    assert_eq!((head.path(), len), ("/ws", sent.len()));
    let Request::Upgrade(upgrade) = classify(&head) else { panic!() };
    let mut answer = Vec::new();
    upgrade.write_response(subprotocols(&head).nth(1), true, &mut answer);
    // The first message in the same segment as the answer.
    append_frame(&mut answer, Opcode::Text, b"hello");
    mid.get_mut().get_mut().input = Cursor::new(answer);
    let (mut socket, response) = mid.handshake().unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "b");
    assert_eq!(socket.read().unwrap(), Message::text("hello"));
}

//! A small server of the Centrifugo protocol, with good manners and bad ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may panic")]
#![allow(dead_code, reason = "each test needs a part of it")]

use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::handshake::accept_for;
use plimsoll_transport::ws::{self, Decoder, Event, Opcode, append_close, append_frame};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How it treats its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// As it should: with history, so that clients recover.
    Good,
    /// The same, but each byte by itself and every message in two frames.
    Trickle,
    /// Answers the request with these bytes.
    Answer(&'static [u8]),
    /// Upgrades with a wrong proof.
    WrongProof,
    /// Upgrades, then sends these bytes.
    UpgradeThen(&'static [u8]),
    /// Answers the connect with this error.
    ConnectError(u32, bool),
    /// Closes after the connect reply.
    Close(u16),
    /// Ends the connection after the connect reply, without a close frame.
    Hang,
    /// Sends these bytes after the connect reply.
    ConnectThen(&'static [u8]),
    /// Upgrades and says nothing.
    Silent,
    /// Never answers a publish.
    NoAnswers,
    /// Refuses every publish.
    Refuse(u32),
    /// Sleeps so many milliseconds at the first publish.
    Stall(u64),
    /// Ends the subscription with this code at the first publish.
    Unsubscribe(u32),
}

#[derive(Default)]
struct Channel {
    publications: Vec<String>,
    members: HashMap<u64, TcpStream>,
}

/// What it has seen.
#[derive(Default)]
pub struct Seen {
    pub requests: AtomicU64,
    pub goodbyes: AtomicU64,
    pub pongs: AtomicU64,
    pub pong_frames: AtomicU64,
    pub unsubscribes: AtomicU64,
    pub recovers: AtomicU64,
}

struct State {
    manner: Mutex<Manner>,
    channels: Mutex<HashMap<String, Channel>>,
    seen: Seen,
    once: Mutex<bool>,
}

#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    pub fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            manner: Mutex::new(manner),
            channels: Mutex::default(),
            seen: Seen::default(),
            once: Mutex::new(true),
        });
        let made = Self { address: listener.local_addr().unwrap(), state: Arc::clone(&state) };
        std::thread::spawn(move || {
            for (id, stream) in listener.incoming().enumerate() {
                let (state, stream) = (Arc::clone(&state), stream.unwrap());
                std::thread::spawn(move || {
                    // A connection that breaks is part of the play.
                    let _ = Connection::new(id as u64, stream, state).serve();
                });
            }
        });
        made
    }

    pub fn behave(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    pub fn seen(&self) -> &Seen {
        &self.state.seen
    }

    /// Sends a message to all members of a channel.
    pub fn push(&self, channel: &str, message: &str) {
        let mut frame = Vec::new();
        append_frame(&mut frame, Opcode::Text, message.as_bytes());
        self.push_frame(channel, &frame);
    }

    pub fn push_frame(&self, channel: &str, frame: &[u8]) {
        let channels = self.state.channels.lock().unwrap();
        for mut member in channels.get(channel).unwrap().members.values() {
            let _ = member.write_all(frame);
        }
    }
}

struct Connection {
    id: u64,
    stream: TcpStream,
    state: Arc<State>,
}

impl Connection {
    fn new(id: u64, stream: TcpStream, state: Arc<State>) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { id, stream, state }
    }

    fn manner(&self) -> Manner {
        *self.state.manner.lock().unwrap()
    }

    fn serve(mut self) -> std::io::Result<()> {
        self.upgrade()?;
        let limits =
            ws::Limits { message_bytes_max: 1 << 20, fragments_max: 9, compression: false };
        let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let len = self.stream.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            let mut over = false;
            let read = decoder.decode(&mut buffer[..len], &limits, &mut inflater, &mut |event| {
                over = self.on_event(event).is_err();
                if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(read, Ok(()), "the fleet broke the protocol");
            if over {
                break;
            }
        }
        for channel in self.state.channels.lock().unwrap().values_mut() {
            channel.members.remove(&self.id);
        }
        self.stream.shutdown(Shutdown::Both)
    }

    fn upgrade(&mut self) -> std::io::Result<()> {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        self.state.seen.requests.fetch_add(1, Ordering::Relaxed);
        let head = String::from_utf8(head).unwrap();
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
        let manner = self.manner();
        if let Manner::Answer(bytes) = manner {
            self.stream.write_all(bytes)?;
            return Err(std::io::ErrorKind::Other.into());
        }
        let key = if manner == Manner::WrongProof { "x" } else { key };
        let proof = String::from_utf8(accept_for(key.as_bytes()).to_vec()).unwrap();
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {proof}\r\n\r\n"
        );
        self.write(response.as_bytes())?;
        match manner {
            Manner::UpgradeThen(bytes) => self.stream.write_all(bytes),
            _ => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.manner() {
            Manner::Trickle => bytes.iter().try_for_each(|byte| self.stream.write_all(&[*byte])),
            _ => self.stream.write_all(bytes),
        }
    }

    fn say(&mut self, message: &str) -> std::io::Result<()> {
        let frame = self.frame(message);
        self.write(&frame)
    }

    fn frame(&self, message: &str) -> Vec<u8> {
        let mut frame = Vec::new();
        if self.manner() == Manner::Trickle && message.len() > 2 && message.is_ascii() {
            let (a, b) = message.split_at(message.len() / 2);
            append_frame(&mut frame, Opcode::Text, a.as_bytes());
            let second = frame.len();
            append_frame(&mut frame, Opcode::Continuation, b.as_bytes());
            // A first frame is not the last.
            frame[0] &= 0x7f;
            assert_eq!(frame[second] & 0x80, 0x80);
        } else {
            append_frame(&mut frame, Opcode::Text, message.as_bytes());
        }
        frame
    }

    fn on_event(&mut self, event: Event<'_>) -> std::io::Result<()> {
        let over = || Err(std::io::ErrorKind::Other.into());
        match event {
            Event::Text(text) => {
                for line in text.split('\n') {
                    let command: Value = serde_json::from_str(line).unwrap();
                    self.on_command(&command)?;
                }
                Ok(())
            }
            Event::Close { code, .. } => {
                if code == Some(1000) {
                    self.state.seen.goodbyes.fetch_add(1, Ordering::Relaxed);
                }
                let mut frame = Vec::new();
                append_close(&mut frame, code.unwrap_or(1000), "");
                self.write(&frame)?;
                over()
            }
            Event::Pong(_) => {
                self.state.seen.pong_frames.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => over(),
        }
    }

    fn on_command(&mut self, command: &Value) -> std::io::Result<()> {
        let id = &command["id"];
        let channel = |what: &str| command[what]["channel"].as_str().map(str::to_owned);
        if command.get("connect").is_some() {
            return self.on_connect(id);
        }
        if let Some(channel) = channel("subscribe") {
            return self.on_subscribe(id, &channel, &command["subscribe"]);
        }
        if let Some(channel) = channel("unsubscribe") {
            self.state.seen.unsubscribes.fetch_add(1, Ordering::Relaxed);
            let mut channels = self.state.channels.lock().unwrap();
            channels.get_mut(&channel).unwrap().members.remove(&self.id);
            drop(channels);
            return self.say(&json!({"id": id, "unsubscribe": {}}).to_string());
        }
        if let Some(channel) = channel("publish") {
            return self.on_publish(id, &channel, &command["publish"]["data"]);
        }
        assert_eq!(*command, json!({}), "a command that the fleet should not send");
        self.state.seen.pongs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn on_connect(&mut self, id: &Value) -> std::io::Result<()> {
        let over = || Err(std::io::ErrorKind::Other.into());
        let welcome = json!({"id": id, "connect": {"client": "c", "ping": 25, "pong": true}});
        match self.manner() {
            Manner::Silent => Ok(()),
            Manner::ConnectError(code, temporary) => {
                let error = json!({"code": code, "message": "no", "temporary": temporary});
                self.say(&json!({"id": id, "error": error}).to_string())?;
                over()
            }
            Manner::Close(code) => {
                self.say(&welcome.to_string())?;
                let mut frame = Vec::new();
                append_close(&mut frame, code, "go");
                self.write(&frame)?;
                over()
            }
            Manner::Hang => {
                self.say(&welcome.to_string())?;
                over()
            }
            Manner::ConnectThen(bytes) => {
                self.say(&welcome.to_string())?;
                self.stream.write_all(bytes)
            }
            _ => self.say(&welcome.to_string()),
        }
    }

    fn on_subscribe(&mut self, id: &Value, name: &str, asked: &Value) -> std::io::Result<()> {
        if self.manner() == Manner::Silent {
            return Ok(());
        }
        let state = Arc::clone(&self.state);
        let mut channels = state.channels.lock().unwrap();
        let channel = channels.entry(name.to_owned()).or_default();
        let top = channel.publications.len();
        let mut reply =
            json!({"recoverable": true, "positioned": true, "epoch": "e", "offset": top});
        if asked["recover"] == json!(true) {
            self.state.seen.recovers.fetch_add(1, Ordering::Relaxed);
            assert_eq!(asked["epoch"], "e");
            let from = asked["offset"].as_u64().unwrap() as usize;
            let missed = channel.publications[from..].iter().enumerate();
            let missed: Vec<Value> = missed
                .map(|(at, data)| {
                    json!({"data": serde_json::from_str::<Value>(data).unwrap(),
                        "offset": from + at + 1})
                })
                .collect();
            reply["was_recovering"] = json!(true);
            reply["recovered"] = json!(true);
            reply["offset"] = json!(from);
            reply["publications"] = json!(missed);
        }
        self.say(&json!({"id": id, "subscribe": reply}).to_string())?;
        channel.members.insert(self.id, self.stream.try_clone()?);
        Ok(())
    }

    fn on_publish(&mut self, id: &Value, name: &str, data: &Value) -> std::io::Result<()> {
        let manner = self.manner();
        let first = std::mem::take(&mut *self.state.once.lock().unwrap());
        match manner {
            Manner::Stall(ms) if first => std::thread::sleep(Duration::from_millis(ms)),
            Manner::NoAnswers => return Ok(()),
            Manner::Refuse(code) => {
                let error = json!({"code": code, "message": "no"});
                return self.say(&json!({"id": id, "error": error}).to_string());
            }
            Manner::Unsubscribe(code) if first => {
                let push = json!({"channel": name, "unsubscribe": {"code": code, "reason": "x"}});
                let frame = self.frame(&json!({"push": push}).to_string());
                let mut channels = self.state.channels.lock().unwrap();
                for (_, mut member) in channels.get_mut(name).unwrap().members.drain() {
                    let _ = member.write_all(&frame);
                }
            }
            _ => {}
        }
        let state = Arc::clone(&self.state);
        let mut channels = state.channels.lock().unwrap();
        let channel = channels.entry(name.to_owned()).or_default();
        // The payload as it came: the members of an object keep their order in this crate's use
        // only if nobody sorts them, so it is written by hand.
        let text = format!(r#"{{"stamp":{},"fill":{}}}"#, data["stamp"], data["fill"]);
        channel.publications.push(text.clone());
        let offset = channel.publications.len();
        let push = format!(
            r#"{{"push":{{"channel":"{name}","pub":{{"data":{text},"offset":{offset}}}}}}}"#
        );
        let frame = self.frame(&push);
        for mut member in channel.members.values() {
            let _ = match manner {
                Manner::Trickle => frame.iter().try_for_each(|byte| member.write_all(&[*byte])),
                _ => member.write_all(&frame),
            };
        }
        // Under the lock, so that frames do not mix.
        self.say(&json!({"id": id, "publish": {}}).to_string())
    }
}

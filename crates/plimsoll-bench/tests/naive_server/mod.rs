//! A naive WebSocket server: two threads for each connection, everything under one lock, and just
//! enough of the protocol. It has nothing of ours but frames and handshake, so that what the
//! ledger says of it does not depend on our server; and it can be told to lie.

use plimsoll_transport::deflate::Inflater;
use plimsoll_transport::handshake::accept_for;
use plimsoll_transport::ws::{Decoder, Event, Limits, Opcode, append_frame};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// What the server does wrong. The victim is the first subscriber of `room:0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Every so many publications the victim does not get one.
    Loses(u64),
    /// Every so many publications the victim gets one twice.
    Doubles(u64),
    /// Every so many publications one is acknowledged and delivered to nobody, and not kept.
    Forgets(u64),
    /// Says that everything was recovered, and brings nothing.
    LiesOfRecovery,
}

#[derive(Default)]
struct Room {
    /// Payloads; the first has offset 1.
    kept: Vec<Arc<str>>,
    subscribers: Vec<u64>,
}

struct Hub {
    fault: Fault,
    rooms: HashMap<String, Room>,
    outboxes: HashMap<u64, Sender<String>>,
    victim: Option<u64>,
    publications: u64,
}

/// Starts a server on a free port and returns its URL. It ends with the process.
pub fn start(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/connection/websocket", listener.local_addr().unwrap());
    let hub = Hub {
        fault,
        rooms: HashMap::new(),
        outboxes: HashMap::new(),
        victim: None,
        publications: 0,
    };
    let hub = Arc::new(Mutex::new(hub));
    thread::spawn(move || {
        for (id, stream) in (1..).zip(listener.incoming()) {
            let hub = Arc::clone(&hub);
            thread::spawn(move || {
                if let Ok(stream) = stream {
                    serve(id, stream, &hub);
                }
            });
        }
    });
    url
}

fn serve(id: u64, mut stream: TcpStream, hub: &Arc<Mutex<Hub>>) {
    let _ = stream.set_nodelay(true);
    let Some(mut rest) = upgrade(&mut stream) else { return };
    let (outbox, lines) = channel();
    lock(hub).outboxes.insert(id, outbox);
    let writer = stream.try_clone().map(|stream| thread::spawn(move || write(stream, &lines)));
    let mut decoder = Decoder::default();
    let mut inflater = Inflater::default();
    let limits = Limits { message_bytes_max: 1 << 20, fragments_max: 64, compression: false };
    let mut buffer = vec![0; 16_384];
    'connection: loop {
        let mut open = true;
        let mut on_event = |event: Event<'_>| {
            match event {
                Event::Text(text) => {
                    for line in text.lines().filter(|line| *line != "{}" && !line.is_empty()) {
                        lock(hub).command(id, line);
                    }
                }
                Event::Close { .. } => open = false,
                _ => {}
            }
            ControlFlow::Continue(())
        };
        if decoder.decode(&mut rest, &limits, &mut inflater, &mut on_event).is_err() || !open {
            break 'connection;
        }
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => rest = buffer[..n].to_vec(),
            _ => break 'connection,
        }
    }
    lock(hub).leave(id);
    if let Ok(writer) = writer {
        let _ = writer.join();
    }
}

fn lock(hub: &Mutex<Hub>) -> MutexGuard<'_, Hub> {
    hub.lock().unwrap()
}

fn upgrade(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1_024];
    let end = loop {
        let n = stream.read(&mut chunk).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&chunk[..n]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let key = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    })?;
    let accept = String::from_utf8_lossy(&accept_for(key.as_bytes())).into_owned();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).ok()?;
    Some(head.split_off(end))
}

fn write(mut stream: TcpStream, lines: &Receiver<String>) {
    for line in lines {
        let mut frame = Vec::new();
        append_frame(&mut frame, Opcode::Text, line.as_bytes());
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

impl Hub {
    fn say(&self, id: u64, line: String) {
        if let Some(outbox) = self.outboxes.get(&id) {
            let _ = outbox.send(line);
        }
    }

    fn command(&mut self, id: u64, line: &str) {
        let command: HashMap<String, &RawValue> = serde_json::from_str(line).unwrap();
        let number: u64 = command["id"].get().parse().unwrap();
        let body = |name: &str| -> Option<Value> {
            command.get(name).map(|body| serde_json::from_str(body.get()).unwrap())
        };
        let answer = if body("connect").is_some() {
            format!(r#""connect":{{"client":"{id}","version":"naive","ping":0}}"#)
        } else if let Some(body) = body("subscribe") {
            self.subscribe(id, &body)
        } else if let Some(body) = body("unsubscribe") {
            let name = body["channel"].as_str().unwrap();
            self.rooms.entry(name.into()).or_default().subscribers.retain(|other| *other != id);
            r#""unsubscribe":{}"#.into()
        } else if let Some(body) = body("history") {
            self.history(&body)
        } else {
            let publish: HashMap<String, &RawValue> =
                serde_json::from_str(command["publish"].get()).unwrap();
            let name: String = serde_json::from_str(publish["channel"].get()).unwrap();
            self.publish(&name, publish["data"].get());
            r#""publish":{}"#.into()
        };
        self.say(id, format!(r#"{{"id":{number},{answer}}}"#));
    }

    fn subscribe(&mut self, id: u64, body: &Value) -> String {
        let name = body["channel"].as_str().unwrap();
        let room = self.rooms.entry(name.into()).or_default();
        room.subscribers.push(id);
        if name == "room:0" && self.victim.is_none() {
            self.victim = Some(id);
        }
        if !name.starts_with("room:") {
            return r#""subscribe":{}"#.into();
        }
        let recover = body["recover"] == true;
        let from = if recover { body["offset"].as_u64().unwrap_or(0) as usize } else { usize::MAX };
        let missed = room.kept.iter().enumerate().skip(from);
        let missed: Vec<String> = match self.fault {
            Fault::LiesOfRecovery => Vec::new(),
            _ => missed.map(|(at, data)| publication(at, data)).collect(),
        };
        let (top, missed) = (room.kept.len(), missed.join(","));
        format!(
            r#""subscribe":{{"recoverable":true,"positioned":true,"epoch":"naive","offset":{top},
            "recovered":{recover},"was_recovering":{recover},"publications":[{missed}]}}"#
        )
        .replace('\n', "")
    }

    fn history(&self, body: &Value) -> String {
        let name = body["channel"].as_str().unwrap();
        let kept = self.rooms.get(name).map_or(&[][..], |room| &room.kept[..]);
        let since = body["since"]["offset"].as_u64().unwrap_or(0) as usize;
        let limit = body["limit"].as_u64().unwrap_or(0) as usize;
        let page = kept.iter().enumerate().skip(since).take(limit);
        let page: Vec<String> = page.map(|(at, data)| publication(at, data)).collect();
        let (top, page) = (kept.len(), page.join(","));
        format!(r#""history":{{"publications":[{page}],"epoch":"naive","offset":{top}}}"#)
    }

    fn publish(&mut self, name: &str, data: &str) {
        self.publications += 1;
        let nth = |every: u64| self.publications.is_multiple_of(every);
        if matches!(self.fault, Fault::Forgets(every) if nth(every)) {
            return;
        }
        let room = self.rooms.entry(name.into()).or_default();
        let what = match name.starts_with("room:") {
            true => {
                room.kept.push(data.into());
                publication(room.kept.len() - 1, data)
            }
            false => format!(r#"{{"data":{data}}}"#),
        };
        let line = format!(r#"{{"push":{{"channel":"{name}","pub":{what}}}}}"#);
        let is_victims = name == "room:0";
        let subscribers = self.rooms[name].subscribers.clone();
        for id in subscribers {
            let offset = self.rooms[name].kept.len() as u64;
            let hit =
                |every: u64| is_victims && self.victim == Some(id) && offset.is_multiple_of(every);
            let times = match self.fault {
                Fault::Loses(every) if hit(every) => 0,
                Fault::Doubles(every) if hit(every) => 2,
                _ => 1,
            };
            (0..times).for_each(|_| self.say(id, line.clone()));
        }
    }

    fn leave(&mut self, id: u64) {
        self.outboxes.remove(&id);
        self.rooms.values_mut().for_each(|room| room.subscribers.retain(|other| *other != id));
        // The next one who comes suffers.
        if self.victim == Some(id) {
            self.victim =
                self.rooms.get("room:0").and_then(|room| room.subscribers.first().copied());
        }
    }
}

/// Payloads stay text: were they read and written again, they would not be the same bytes.
fn publication(at: usize, data: &str) -> String {
    format!(r#"{{"offset":{},"data":{data}}}"#, at + 1)
}

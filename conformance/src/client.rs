//! A JSON client of the Centrifugo protocol, over tungstenite.

use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::{Error, Message, WebSocket};

/// Longer than any answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What comes next from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// One JSON object (frames that hold several are taken apart).
    Line(String),
    /// The end, with the code of the close frame if there was one.
    Closed(Option<u16>),
    /// Nothing in the time given.
    Silence,
}

/// A WebSocket connection to the server.
pub struct Client {
    socket: WebSocket<TcpStream>,
    lines: VecDeque<String>,
    kept: VecDeque<Value>,
    next_id: u32,
    last_close: Option<u16>,
}

impl Client {
    /// TCP and upgrade, no command yet.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|e| format!("connect: {e}"))?;
        Self::over(stream, address)
    }

    /// The upgrade over a TCP connection made by the caller.
    pub fn over(stream: TcpStream, address: SocketAddr) -> Result<Self, String> {
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|e| e.to_string())?;
        let url = format!("ws://{address}/connection/websocket");
        let (socket, _) = tungstenite::client(url, stream).map_err(|e| format!("upgrade: {e}"))?;
        Ok(Self {
            socket,
            lines: VecDeque::new(),
            kept: VecDeque::new(),
            next_id: 1,
            last_close: None,
        })
    }

    /// Open, and connected with these parameters; the reply has to be a success.
    pub fn connect(address: SocketAddr, params: &Value) -> Result<Self, String> {
        let mut client = Self::open(address)?;
        let reply = client.call("connect", params)?;
        match reply.get("connect") {
            Some(_) => Ok(client),
            None => Err(format!("connect was answered by {reply}")),
        }
    }

    /// Connected as an anonymous client.
    pub fn anonymous(address: SocketAddr) -> Self {
        Self::connect(address, &json!({})).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Subscribes and returns the result; an error fails the test.
    pub fn subscribe(&mut self, channel: &str) -> Value {
        let reply = self.call("subscribe", &json!({ "channel": channel }));
        let reply = reply.unwrap_or_else(|e| panic!("subscribe {channel}: {e}"));
        let result = reply.get("subscribe").cloned();
        result.unwrap_or_else(|| panic!("subscribe {channel} was answered by {reply}"))
    }

    /// Sends one command and waits for its reply; what comes in between is kept.
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        let id = self.next_id();
        self.send(&json!({ "id": id, method: params }).to_string())?;
        self.reply(id, PATIENCE)
    }

    /// The code of the error that this command is answered by.
    pub fn call_error(&mut self, method: &str, params: &Value) -> u64 {
        let reply = self.call(method, params).unwrap_or_else(|e| panic!("{method} {params}: {e}"));
        let code = reply.pointer("/error/code").and_then(Value::as_u64);
        code.unwrap_or_else(|| panic!("{method} {params} was answered by {reply}"))
    }

    /// The reply with this id; replies may come in any order.
    pub fn reply(&mut self, id: u32, within: Duration) -> Result<Value, String> {
        let has_id = |value: &Value| value.get("id").and_then(Value::as_u64) == Some(id.into());
        if let Some(kept) = self.kept.iter().position(has_id) {
            return self.kept.remove(kept).ok_or_else(|| "nothing kept".to_owned());
        }
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left) {
                Event::Line(line) => {
                    let value: Value =
                        serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
                    if has_id(&value) {
                        return Ok(value);
                    }
                    self.kept.push_back(value);
                }
                Event::Closed(code) => return Err(format!("closed with {code:?}")),
                Event::Silence => return Err(format!("no reply to {id} within {within:?}")),
            }
        }
    }

    /// The next push, also one that came while a reply was awaited.
    pub fn push(&mut self, within: Duration) -> Option<Value> {
        let is_push = |value: &Value| value.get("push").is_some();
        if let Some(kept) = self.kept.iter().position(is_push) {
            return self.kept.remove(kept);
        }
        match self.next_line(within) {
            Event::Line(line) => serde_json::from_str(&line).ok(),
            _ => None,
        }
    }

    /// A fresh command id.
    pub fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Sends a text message as it is.
    pub fn send(&mut self, text: &str) -> Result<(), String> {
        self.socket.send(Message::text(text)).map_err(|e| format!("send: {e}"))
    }

    /// The next object from the server. Its pings are answered and not shown.
    pub fn next_line(&mut self, within: Duration) -> Event {
        let deadline = Instant::now() + within;
        loop {
            while let Some(line) = self.lines.pop_front() {
                if line != "{}" {
                    return Event::Line(line);
                }
                if self.send("{}").is_err() {
                    return Event::Closed(None);
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.max(Duration::from_millis(1));
            if self.socket.get_ref().set_read_timeout(Some(left)).is_err() {
                return Event::Closed(None);
            }
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let lines = text.split('\n').filter(|l| !l.is_empty());
                    self.lines.extend(lines.map(str::to_owned));
                }
                Ok(Message::Close(frame)) => {
                    self.last_close = frame.map(|f| u16::from(f.code));
                    return Event::Closed(self.last_close);
                }
                Ok(_) => {}
                Err(Error::Io(e)) if is_timeout(e.kind()) => {
                    if Instant::now() >= deadline {
                        return Event::Silence;
                    }
                }
                Err(_) => return Event::Closed(None),
            }
        }
    }

    /// The code of the close frame that was read, if one was.
    pub fn last_close(&self) -> Option<u16> {
        self.last_close
    }

    /// Reads until the end and returns the code; `None` when it is not closed in time.
    pub fn closing_code(&mut self, within: Duration) -> Option<u16> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_line(left) {
                Event::Line(_) if Instant::now() < deadline => {}
                Event::Closed(code) => return code,
                _ => return None,
            }
        }
    }

    /// The TCP connection.
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Ends the connection by RST instead of FIN.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(self.socket.get_ref()).set_linger(Some(Duration::ZERO));
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

//! As much of the NATS protocol as calls of the JetStream API need.

use crate::limits;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For connecting, and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);
const INBOX: &str = "_INBOX.plimsoll-bench";

/// A connection.
pub struct Client {
    reader: BufReader<TcpStream>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    error: Option<serde_json::Value>,
    streams: Option<Vec<String>>,
}

impl Client {
    /// Connects, and subscribes to its inbox.
    pub fn open(address: SocketAddr) -> Result<Self, String> {
        let told = |error: std::io::Error| format!("{address}: {error}");
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(told)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(told)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(told)?;
        let mut made = Self { reader: BufReader::new(stream) };
        let connect = r#"{"verbose":false,"pedantic":false,"lang":"rust","version":"0"}"#;
        made.send(format!("CONNECT {connect}\r\nSUB {INBOX} 1\r\nPING\r\n").as_bytes())?;
        while made.line()?.trim_end() != "PONG" {}
        Ok(made)
    }

    /// The names of all streams.
    pub fn streams(&mut self) -> Result<Vec<String>, String> {
        Ok(self.call("$JS.API.STREAM.NAMES", b"")?.streams.unwrap_or_default())
    }

    /// Calls the API; an error if it answers with one.
    pub fn ask(&mut self, subject: &str, body: &[u8]) -> Result<(), String> {
        self.call(subject, body).map(drop)
    }

    fn call(&mut self, subject: &str, body: &[u8]) -> Result<Answer, String> {
        let mut text = format!("PUB {subject} {INBOX} {}\r\n", body.len()).into_bytes();
        text.extend_from_slice(body);
        text.extend_from_slice(b"\r\n");
        self.send(&text)?;
        let answer = self.message()?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| format!("{subject}: {error}"))?;
        match answer.error {
            Some(error) => Err(format!("{subject}: {error}")),
            None => Ok(answer),
        }
    }

    fn message(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let line = self.line()?;
            if line.starts_with("PING") {
                self.send(b"PONG\r\n")?;
            } else if let Some(words) = line.strip_prefix("MSG ") {
                let len = words.split_whitespace().last().and_then(|len| len.parse::<usize>().ok());
                let len = len.filter(|len| *len <= limits::METRICS_BYTES_MAX as usize);
                let mut body = vec![0; len.ok_or("a message of NATS is not understood")? + 2];
                self.reader.read_exact(&mut body).map_err(|e| format!("NATS: {e}"))?;
                body.truncate(body.len() - 2);
                return Ok(body);
            } else if line.starts_with("-ERR") {
                return Err(format!("NATS: {}", line.trim_end()));
            }
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let mut reader = (&mut self.reader).take(limits::METRICS_BYTES_MAX);
        match reader.read_line(&mut line) {
            Ok(0) => Err("NATS has closed the connection".into()),
            Ok(_) => Ok(line),
            Err(error) => Err(format!("NATS: {error}")),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.get_mut().write_all(bytes).map_err(|error| format!("NATS: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn it_asks_and_is_answered() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"INFO {}\r\n").unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            assert!(lines.by_ref().any(|line| line.unwrap() == "PING"));
            stream.write_all(b"PONG\r\nPING\r\n").unwrap();
            for answer in [r#"{"streams":["A","B"]}"#, r#"{"error":{"code":404}}"#] {
                assert!(lines.by_ref().any(|line| line.unwrap().starts_with("PUB $JS.API.")));
                let text = format!("MSG {INBOX} 1 {}\r\n{answer}\r\n", answer.len());
                stream.write_all(text.as_bytes()).unwrap();
            }
        });
        let mut client = Client::open(address).unwrap();
        assert_eq!(client.streams().unwrap(), ["A", "B"]);
        assert!(client.ask("$JS.API.STREAM.PURGE.X", b"").unwrap_err().contains("404"));
        server.join().unwrap();
    }
}

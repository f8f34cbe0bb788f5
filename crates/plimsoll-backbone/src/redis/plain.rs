//! A connection for a question now and then: to Sentinels, and to any node of a Cluster.

use super::config::{Address, ConnectError};
use super::net::{Dialer, Stream};
use super::wire::{self, Scan};
use crate::contract::Failure;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A connection that has greeted.
pub(super) struct Plain {
    pub(super) stream: Box<dyn Stream>,
    pub(super) buffer: BytesMut,
    pub(super) address: Address,
}

impl Plain {
    /// Connects and greets. The caller bounds the time.
    pub(super) async fn open(
        dialer: &Dialer,
        address: &Address,
        user: Option<&str>,
        password: Option<&str>,
    ) -> Result<Self, ConnectError> {
        let stream = dialer.open(address).await.map_err(|e| unreachable(address, &e))?;
        let mut plain = Self { stream, buffer: BytesMut::new(), address: address.clone() };
        let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
        if let Some(password) = password {
            let user = user.unwrap_or("default");
            hello.extend([b"AUTH", user.as_bytes(), password.as_bytes()]);
        }
        plain.send(hello).await?;
        plain.answer().await?;
        Ok(plain)
    }

    pub(super) async fn send<'a>(
        &mut self,
        words: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), ConnectError> {
        let mut out = Vec::new();
        wire::command(&mut out, words);
        self.stream.write_all(&out).await.map_err(|e| unreachable(&self.address, &e))
    }

    /// The next frame, and its bytes.
    pub(super) async fn frame(&mut self) -> Result<(Bytes, wire::Frame), ConnectError> {
        loop {
            match wire::scan(&self.buffer) {
                Scan::Frame(frame) => {
                    return Ok((self.buffer.split_to(frame.len).freeze(), frame));
                }
                Scan::More => {}
                Scan::Skip(..) | Scan::Broken => {
                    return Err(unreachable(&self.address, &"it is no Redis"));
                }
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => return Err(unreachable(&self.address, &"it closed the connection")),
                Ok(_) => {}
                Err(e) => return Err(unreachable(&self.address, &e)),
            }
        }
    }

    /// The value, or the first element, of the next answer.
    pub(super) async fn answer(&mut self) -> Result<Bytes, ConnectError> {
        let (bytes, frame) = self.frame().await?;
        let part = bytes.slice(frame.part(0));
        if frame.kind != b'-' {
            return Ok(part);
        }
        let why = String::from_utf8_lossy(&part).into_owned();
        let code = why.split(' ').next().unwrap_or_default();
        if super::commands::failure(code) == Failure::Busy {
            return Err(unreachable(&self.address, &why));
        }
        Err(ConnectError::Refused { broker: self.address.to_string(), why })
    }
}

pub(super) fn unreachable(address: &Address, why: &dyn std::fmt::Display) -> ConnectError {
    ConnectError::Unreachable { broker: address.to_string(), why: why.to_string() }
}

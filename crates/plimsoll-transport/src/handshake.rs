//! The opening handshake of RFC 6455.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::extensions;
use crate::head::{Head, Refusal, refuse};

pub use crate::extensions::DeflateOffer;
pub use crate::origin::origin_allowed;

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What a request head asks for.
#[derive(Debug)]
pub enum Request {
    /// No WebSocket: for the HTTP server, which reads all bytes again.
    Plain,
    /// A valid upgrade to WebSocket.
    Upgrade(Upgrade),
    /// To be answered and closed.
    Refuse(Refusal),
}

/// A valid request for a WebSocket.
#[derive(Clone, Copy, Debug)]
pub struct Upgrade {
    accept: [u8; 28],
    /// The first `permessage-deflate` offer that can be taken, if there is one.
    pub deflate: Option<DeflateOffer>,
}

/// Sorts a request.
pub fn classify(head: &Head<'_>) -> Request {
    let checked = match check_any(head) {
        Ok(()) if !head.has_token("upgrade", "websocket") => return Request::Plain,
        Ok(()) => check_upgrade(head),
        Err(refusal) => Err(refusal),
    };
    match checked {
        Ok(upgrade) => Request::Upgrade(upgrade),
        Err(refusal) => Request::Refuse(refusal),
    }
}

/// What may split two parsers in two opinions is refused for plain requests too.
fn check_any(head: &Head<'_>) -> Result<(), Refusal> {
    if head.method().bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(refuse(400, "Methods are written in capitals."));
    }
    if head.count("host") > 1 {
        return Err(refuse(400, "The request has more than one Host."));
    }
    let lengths = head.count("content-length");
    if lengths > 1 || (lengths == 1 && head.count("transfer-encoding") > 0) {
        return Err(refuse(400, "The request has more than one length."));
    }
    match head.header("content-length") {
        Some(value) if value.is_empty() || !value.iter().all(u8::is_ascii_digit) => {
            Err(refuse(400, "Content-Length is not a number."))
        }
        _ => Ok(()),
    }
}

fn check_upgrade(head: &Head<'_>) -> Result<Upgrade, Refusal> {
    if head.method() != "GET" {
        return Err(refuse(400, "A WebSocket is opened by GET."));
    }
    if head.minor_version() != 1 {
        return Err(refuse(400, "A WebSocket needs HTTP/1.1."));
    }
    let length = head.header("content-length").unwrap_or(b"0");
    if head.count("transfer-encoding") > 0 || length.iter().any(|byte| *byte != b'0') {
        return Err(refuse(400, "A request for a WebSocket has no body."));
    }
    if head.header("host").is_none_or(<[u8]>::is_empty) {
        return Err(refuse(400, "The request has no Host."));
    }
    if !head.has_token("connection", "upgrade") {
        return Err(refuse(400, "Connection must name Upgrade."));
    }
    if head.count("origin") > 1 {
        return Err(refuse(400, "The request has more than one Origin."));
    }
    if head.count("sec-websocket-version") > 1 {
        return Err(refuse(400, "The request has more than one Sec-WebSocket-Version."));
    }
    if head.header("sec-websocket-version") != Some(b"13") {
        return Err(refuse(426, "Only version 13 of WebSocket is spoken here."));
    }
    let key = head.header("sec-websocket-key").filter(|key| is_key(key));
    let key = key.filter(|_| head.count("sec-websocket-key") == 1);
    let key = key.ok_or(refuse(400, "Sec-WebSocket-Key must be 16 bytes in base64, once."))?;
    let deflate = extensions::choose(head.values("sec-websocket-extensions"));
    Ok(Upgrade { accept: accept_of(key), deflate })
}

/// 22 letters of the alphabet and the padding: what 16 bytes look like. The last letter's spare
/// bits are not looked at: some clients draw letters, not bytes.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.strip_suffix(b"==").is_some_and(|letters| {
            letters.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        })
}

fn accept_of(key: &[u8]) -> [u8; 28] {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key);
    hash.update(GUID);
    let mut accept = [0; 28];
    // 20 bytes always make 28 letters.
    let written = STANDARD.encode_slice(hash.digest().bytes(), &mut accept);
    debug_assert!(written == Ok(28));
    accept
}

/// The value of `Sec-WebSocket-Accept` for a key, for clients that check it.
pub fn accept_for(key: &[u8]) -> [u8; 28] {
    accept_of(key)
}

/// The subprotocols offered, in the client's order of preference.
pub fn subprotocols<'b>(head: &Head<'b>) -> impl Iterator<Item = &'b str> {
    head.values("sec-websocket-protocol")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .filter_map(|item| std::str::from_utf8(item.trim_ascii()).ok())
        .filter(|item| extensions::is_token(item.as_bytes()))
}

impl Upgrade {
    /// Appends the `101` response. The extension is named when it was offered and is accepted.
    ///
    /// `subprotocol` must be one of those offered: a client closes when it is not.
    pub fn write_response(
        &self,
        subprotocol: Option<&str>,
        accept_deflate: bool,
        out: &mut Vec<u8>,
    ) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if let Some(subprotocol) = subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(subprotocol.as_bytes());
        }
        if let Some(offer) = self.deflate.filter(|_| accept_deflate) {
            out.extend_from_slice(b"\r\nSec-WebSocket-Extensions: ");
            out.extend_from_slice(offer.response().as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

//! What nodes write to each other about a channel: a versioned binary envelope around a payload.
//!
//! ```text
//! 0      'P'
//! 1      version, 1
//! 2      kind
//! 3      class
//! 4      flags: bit 0 = signed
//! 5..13  node, big endian
//! 13..21 publication time, Unix milliseconds, big endian
//! 21..   fields: tag (one byte), length (LEB128), bytes; the payload is one of them
//! last 16, when signed: HMAC-SHA256 over the channel's name and everything before
//! ```
//!
//! A node refuses a version it does not know, and a tag above 127 that it does not know; other
//! unknown tags it leaves out. So a newer node can add what older ones may ignore, or make sure
//! that they refuse.

use crate::contract::NodeId;
use crate::limits;
use aws_lc_rs::hmac;
use bytes::{BufMut, Bytes, BytesMut};
use plimsoll_core::model::ClientId;

/// The only version there is.
pub const VERSION: u8 = 1;
const MAGIC: u8 = b'P';
const HEAD_BYTES: usize = 21;
const MAC_BYTES: usize = 16;
const SIGNED: u8 = 1;
/// Tags from here on must be understood.
const CRITICAL: u8 = 128;

/// What it is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A publication.
    #[default]
    Publication,
    /// A member came.
    Join,
    /// A member left.
    Leave,
    /// A user has read up to an offset.
    Mark,
}

/// How precious it is; the numbers are those of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Never left out.
    #[default]
    Durable,
    /// A newer one replaces an older one.
    State,
    /// May be left out.
    Ephemeral,
}

/// An opened envelope. Texts are checked to be UTF-8, nothing more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// What it is about.
    pub kind: Kind,
    /// How precious it is.
    pub class: Class,
    /// Who published it.
    pub node: NodeId,
    /// When, in Unix milliseconds of that node's clock.
    pub published_ms: u64,
    /// The payload.
    pub data: &'a str,
    /// Raw JSON object of strings.
    pub tags: Option<&'a str>,
    /// Who did it, if it was a client.
    pub client: Option<Client<'a>>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// W3C trace state.
    pub tracestate: Option<&'a str>,
    /// An offset that the message is about.
    pub about_offset: Option<u64>,
}

/// A client within an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client<'a> {
    /// Connection id.
    pub id: ClientId,
    /// User id.
    pub user: &'a str,
    /// Raw JSON.
    pub conn_info: Option<&'a str>,
    /// Raw JSON.
    pub chan_info: Option<&'a str>,
}

/// Why an envelope was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Not an envelope, or cut.
    #[error("not an envelope")]
    Malformed,
    /// Of a version that this node does not know.
    #[error("an envelope of another version")]
    Version,
    /// It has a field that this node would have to understand.
    #[error("an envelope with an unknown field")]
    Field,
    /// Signed wrongly, or not signed where that is needed.
    #[error("an envelope with a wrong signature")]
    Signature,
    /// Too long.
    #[error("an envelope that is too long")]
    TooLarge,
}

impl Unreadable {
    /// A word for a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Field => "field",
            Self::Signature => "signature",
            Self::TooLarge => "too_large",
        }
    }
}

mod tag {
    pub const DATA: u8 = 1;
    pub const TAGS: u8 = 2;
    pub const USER: u8 = 3;
    pub const CLIENT: u8 = 4;
    pub const CONN_INFO: u8 = 5;
    pub const CHAN_INFO: u8 = 6;
    pub const TRACEPARENT: u8 = 7;
    pub const TRACESTATE: u8 = 8;
    pub const ABOUT_OFFSET: u8 = 9;
}

/// Seals and opens. With a key, only envelopes signed with it are opened: whoever may write to the
/// broker but has no key can repeat what was said in a channel, not say anything new.
#[derive(Clone, Default)]
pub struct Codec {
    key: Option<hmac::Key>,
}

impl Codec {
    /// `key`: what all nodes of the cluster share; empty = nothing is signed.
    pub fn new(key: &[u8]) -> Self {
        Self { key: (!key.is_empty()).then(|| hmac::Key::new(hmac::HMAC_SHA256, key)) }
    }

    /// Writes an envelope for a channel.
    pub fn seal(&self, channel: &str, e: &Envelope<'_>) -> Bytes {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + e.data.len() + 64);
        out.put_u8(MAGIC);
        out.put_u8(VERSION);
        out.put_u8(e.kind as u8);
        out.put_u8(e.class as u8);
        out.put_u8(if self.key.is_some() { SIGNED } else { 0 });
        out.put_u64(e.node.0);
        out.put_u64(e.published_ms);
        put(&mut out, tag::DATA, e.data.as_bytes());
        put_text(&mut out, tag::TAGS, e.tags);
        if let Some(client) = &e.client {
            put(&mut out, tag::CLIENT, &client.id.0);
            put(&mut out, tag::USER, client.user.as_bytes());
            put_text(&mut out, tag::CONN_INFO, client.conn_info);
            put_text(&mut out, tag::CHAN_INFO, client.chan_info);
        }
        put_text(&mut out, tag::TRACEPARENT, e.traceparent);
        put_text(&mut out, tag::TRACESTATE, e.tracestate);
        if let Some(offset) = e.about_offset {
            put(&mut out, tag::ABOUT_OFFSET, &offset.to_be_bytes());
        }
        if let Some(key) = &self.key {
            let mac = sign(key, channel, &out);
            out.put_slice(mac.as_ref().get(..MAC_BYTES).unwrap_or_default());
        }
        out.freeze()
    }

    /// Opens an envelope that came in a channel.
    pub fn open<'a>(&self, channel: &str, bytes: &'a [u8]) -> Result<Envelope<'a>, Unreadable> {
        if bytes.len() > limits::ENVELOPE_BYTES_MAX {
            return Err(Unreadable::TooLarge);
        }
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Unreadable::Malformed)?;
        let [MAGIC, version, kind, class, flags, times @ ..] = *head else {
            return Err(Unreadable::Malformed);
        };
        if version != VERSION {
            return Err(Unreadable::Version);
        }
        let fields = match (flags, &self.key) {
            (0, None) => rest,
            (SIGNED, None) => rest.split_last_chunk::<MAC_BYTES>().ok_or(Unreadable::Malformed)?.0,
            (SIGNED, Some(key)) => verified(key, channel, bytes, rest)?,
            (0, Some(_)) => return Err(Unreadable::Signature),
            _ => return Err(Unreadable::Field),
        };
        let (node, published) = times.split_at(8);
        let mut e = Envelope {
            kind: kind_of(kind)?,
            class: class_of(class)?,
            node: NodeId(number(node)?),
            published_ms: number(published)?,
            ..Envelope::default()
        };
        read_fields(fields, &mut e)?;
        Ok(e)
    }
}

fn sign(key: &hmac::Key, channel: &str, bytes: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(&(channel.len() as u64).to_be_bytes());
    context.update(channel.as_bytes());
    context.update(bytes);
    context.sign()
}

/// The fields, when the signature is right. The comparison takes the same time for any signature.
fn verified<'a>(
    key: &hmac::Key,
    channel: &str,
    bytes: &[u8],
    rest: &'a [u8],
) -> Result<&'a [u8], Unreadable> {
    let (fields, given) = rest.split_last_chunk::<MAC_BYTES>().ok_or(Unreadable::Malformed)?;
    let signed = bytes.get(..bytes.len() - MAC_BYTES).ok_or(Unreadable::Malformed)?;
    let expected = sign(key, channel, signed);
    let expected = expected.as_ref().get(..MAC_BYTES).unwrap_or_default();
    aws_lc_rs::constant_time::verify_slices_are_equal(expected, given)
        .map_err(|_| Unreadable::Signature)?;
    Ok(fields)
}

fn kind_of(byte: u8) -> Result<Kind, Unreadable> {
    [Kind::Publication, Kind::Join, Kind::Leave, Kind::Mark]
        .into_iter()
        .find(|k| *k as u8 == byte)
        .ok_or(Unreadable::Field)
}

fn class_of(byte: u8) -> Result<Class, Unreadable> {
    [Class::Durable, Class::State, Class::Ephemeral]
        .into_iter()
        .find(|c| *c as u8 == byte)
        .ok_or(Unreadable::Field)
}

fn number(bytes: &[u8]) -> Result<u64, Unreadable> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| Unreadable::Malformed)
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::Malformed)
}

fn put(out: &mut BytesMut, tag: u8, bytes: &[u8]) {
    out.put_u8(tag);
    let mut n = bytes.len();
    while n >= 0x80 {
        out.put_u8((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
    out.put_slice(bytes);
}

fn put_text(out: &mut BytesMut, tag: u8, text: Option<&str>) {
    if let Some(text) = text {
        put(out, tag, text.as_bytes());
    }
}

/// A length of at most four bytes, and so many bytes after it.
fn take_field(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0usize;
    for (at, byte) in rest.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return rest.get(at + 1..)?.split_at_checked(length);
        }
    }
    None
}

fn read_fields<'a>(mut rest: &'a [u8], e: &mut Envelope<'a>) -> Result<(), Unreadable> {
    let mut count = 0;
    let mut client = None;
    let mut who = Client::default();
    while let Some((tag, after)) = rest.split_first() {
        count += 1;
        let (bytes, after) = take_field(after).ok_or(Unreadable::Malformed)?;
        rest = after;
        let long = *tag != tag::DATA && bytes.len() > limits::FIELD_BYTES_MAX;
        if long || count > limits::FIELDS_MAX {
            return Err(Unreadable::TooLarge);
        }
        match *tag {
            tag::DATA => e.data = text(bytes)?,
            tag::TAGS => e.tags = Some(text(bytes)?),
            tag::USER => who.user = text(bytes)?,
            tag::CLIENT => {
                client = Some(ClientId(bytes.try_into().map_err(|_| Unreadable::Malformed)?));
            }
            tag::CONN_INFO => who.conn_info = Some(text(bytes)?),
            tag::CHAN_INFO => who.chan_info = Some(text(bytes)?),
            tag::TRACEPARENT => e.traceparent = Some(text(bytes)?),
            tag::TRACESTATE => e.tracestate = Some(text(bytes)?),
            tag::ABOUT_OFFSET => e.about_offset = Some(number(bytes)?),
            CRITICAL.. => return Err(Unreadable::Field),
            _ => {}
        }
    }
    e.client = client.map(|id| Client { id, ..who });
    Ok(())
}

#[cfg(test)]
mod tests;

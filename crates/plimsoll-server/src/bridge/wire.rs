//! Between publications as the home knows them and envelopes as the backbone carries them.

use bytes::Bytes;
use plimsoll_backbone::envelope::{Class, Client, Codec, Envelope, Kind, Unreadable};
use plimsoll_backbone::{Delivery, NodeId, Stamp};
use plimsoll_core::home::PublishRequest;
use plimsoll_core::link::Arrival;
use plimsoll_core::model::{ClientInfo, Publication};
use plimsoll_overload::feature;
use plimsoll_protocol::json::compact;
use std::sync::Arc;

/// What `data` says in the envelope of a join or leave that subscribers are to be told.
const ANNOUNCED: &str = "announced";

/// Seals and opens for one node.
#[derive(Clone)]
pub struct Wire {
    /// Signs and checks.
    pub codec: Codec,
    /// With a key nobody else can have made an envelope: payloads were checked by who sealed them.
    pub trusted: bool,
    /// Who we are.
    pub node: NodeId,
}

/// A delivery that was opened.
pub struct Opened {
    /// What it is.
    pub arrival: Arrival,
    /// What it is about.
    pub kind: Kind,
    /// W3C trace context.
    pub traceparent: Option<Box<str>>,
    /// Who published it.
    pub node: NodeId,
    /// When, in Unix milliseconds of that node's clock.
    pub published_ms: u64,
}

impl Wire {
    /// Seals a publication, or (with `mark`) a read mark.
    pub fn publication(
        &self,
        channel: &str,
        request: &PublishRequest,
        class: feature::Class,
        mark: bool,
        unix_ms: u64,
    ) -> Bytes {
        let trace = request.trace.as_deref();
        let envelope = Envelope {
            kind: if mark { Kind::Mark } else { Kind::Publication },
            class: match class {
                feature::Class::Control | feature::Class::Durable => Class::Durable,
                feature::Class::State => Class::State,
                feature::Class::Ephemeral => Class::Ephemeral,
            },
            node: self.node,
            published_ms: unix_ms,
            data: &request.data,
            tags: request.tags.as_deref(),
            client: request.info.as_ref().map(client),
            traceparent: trace.map(|t| &*t.parent),
            tracestate: trace.and_then(|t| t.state.as_deref()),
            about_offset: None,
        };
        self.codec.seal(channel, &envelope)
    }

    /// Seals a join or leave.
    pub fn member(
        &self,
        channel: &str,
        info: &ClientInfo,
        here: bool,
        announce: bool,
        unix_ms: u64,
    ) -> Bytes {
        let envelope = Envelope {
            kind: if here { Kind::Join } else { Kind::Leave },
            node: self.node,
            published_ms: unix_ms,
            data: if announce { ANNOUNCED } else { "" },
            client: Some(client(info)),
            ..Envelope::default()
        };
        self.codec.seal(channel, &envelope)
    }

    /// Opens what came in a channel.
    pub fn open(&self, delivery: &Delivery) -> Result<Opened, Unreadable> {
        let e = self.codec.open(&delivery.channel, &delivery.body)?;
        let info = e.client.map(|client| self.info(&client)).transpose()?;
        let arrival = match (e.kind, info) {
            (Kind::Publication, info) => Arrival::Publication {
                publication: self.read(&e, info, delivery.stamp)?,
                epoch: delivery.stamp.map(|s| s.position.epoch),
            },
            (Kind::Mark, info) => {
                let (data, tags) = (e.data.into(), None);
                Arrival::Mark(PublishRequest { data, info, tags, ..PublishRequest::default() })
            }
            (Kind::Join, Some(info)) => {
                let announce = e.data == ANNOUNCED;
                Arrival::Join { info, node: e.node.0, announce }
            }
            (Kind::Leave, Some(info)) => {
                Arrival::Leave { client: info.client, announce: e.data == ANNOUNCED }
            }
            (Kind::Join | Kind::Leave, None) => return Err(Unreadable::Malformed),
        };
        let traceparent = e.traceparent.map(Into::into);
        let (kind, node, published_ms) = (e.kind, e.node, e.published_ms);
        Ok(Opened { arrival, kind, traceparent, node, published_ms })
    }

    /// Opens a stored publication.
    pub fn stored(
        &self,
        channel: &str,
        body: &[u8],
        stamp: Stamp,
    ) -> Result<Publication, Unreadable> {
        let e = self.codec.open(channel, body)?;
        let info = e.client.map(|client| self.info(&client)).transpose()?;
        match e.kind {
            Kind::Publication => self.read(&e, info, Some(stamp)),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// The info that presence keeps of a member.
    pub fn presence_info(&self, channel: &str, info: &ClientInfo) -> Bytes {
        self.member(channel, info, true, false, 0)
    }

    /// Opens it.
    pub fn presence_of(&self, channel: &str, body: &[u8]) -> Result<(ClientInfo, u64), Unreadable> {
        let e = self.codec.open(channel, body)?;
        let client = e.client.ok_or(Unreadable::Malformed)?;
        Ok((self.info(&client)?, e.node.0))
    }

    fn read(
        &self,
        e: &Envelope<'_>,
        info: Option<ClientInfo>,
        stamp: Option<Stamp>,
    ) -> Result<Publication, Unreadable> {
        Ok(Publication {
            offset: stamp.map_or(0, |s| s.position.offset),
            previous: stamp.map_or(0, |s| s.previous),
            epoch: None,
            data: self.json(e.data)?,
            tags: e.tags.map(|tags| self.json(tags)).transpose()?,
            info,
            appended_ms: 0,
        })
    }

    fn info(&self, client: &Client<'_>) -> Result<ClientInfo, Unreadable> {
        let json = |text: Option<&str>| text.map(|t| self.json(t).map(Arc::from)).transpose();
        Ok(ClientInfo {
            user: client.user.into(),
            client: client.id,
            conn_info: json(client.conn_info)?,
            chan_info: json(client.chan_info)?,
        })
    }

    /// What goes into messages of clients must be one value of JSON.
    fn json(&self, text: &str) -> Result<Box<str>, Unreadable> {
        if self.trusted {
            return Ok(text.into());
        }
        compact(text).map(Box::from).map_err(|_| Unreadable::Malformed)
    }
}

fn client(info: &ClientInfo) -> Client<'_> {
    Client {
        id: info.client,
        user: &info.user,
        conn_info: info.conn_info.as_deref(),
        chan_info: info.chan_info.as_deref(),
    }
}

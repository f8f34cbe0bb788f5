//! What nodes say to each other, as JSON in a sealed envelope.

use crate::bridge::{Wire, unix_ms};
use bytes::Bytes;
use plimsoll_backbone::NodeId;
use plimsoll_backbone::envelope::{Envelope, Kind};
use serde::{Deserialize, Serialize};

/// Stands for the name of a channel in signatures; no channel has an empty name.
const CONTROL: &str = "";

/// On its way out.
#[derive(Serialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Message<'a> {
    /// A sign of life.
    Beat {
        /// Name of the node.
        name: &'a str,
        /// A JSON object about it.
        info: &'a str,
        /// It goes.
        leaves: bool,
    },
    /// A node wants to start under this name.
    Hello {
        /// The name.
        name: &'a str,
    },
    /// The name is taken.
    Taken {
        /// The name.
        name: &'a str,
    },
    /// Do this.
    Call {
        /// Names the call.
        id: u64,
        /// A method of the API.
        method: &'a str,
        /// Its parameters.
        params: &'a str,
    },
    /// It was done.
    Answer {
        /// Which call.
        id: u64,
        /// JSON of the result.
        result: Option<&'a str>,
        /// Code of the error, when there is no result.
        error: Option<u32>,
    },
}

/// The same, as it was heard. Fields that a newer node adds are left out; something new to say is
/// not understood, and counted.
#[derive(Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum Said {
    Beat {
        name: String,
        info: String,
        #[serde(default)]
        leaves: bool,
    },
    Hello {
        name: String,
    },
    Taken {
        name: String,
    },
    Call {
        id: u64,
        method: String,
        params: String,
    },
    Answer {
        id: u64,
        result: Option<String>,
        error: Option<u32>,
    },
}

impl Message<'_> {
    /// Seals it.
    pub fn seal(&self, wire: &Wire) -> Bytes {
        let json = serde_json::to_string(self).unwrap_or_default();
        let envelope = Envelope {
            kind: Kind::Publication,
            node: wire.node,
            published_ms: unix_ms(),
            data: &json,
            ..Envelope::default()
        };
        wire.codec.seal(CONTROL, &envelope)
    }
}

/// Opens what was heard, or says in a word why not.
pub fn open(wire: &Wire, body: &[u8]) -> Result<(NodeId, Said), &'static str> {
    let envelope = wire.codec.open(CONTROL, body).map_err(|e| e.label())?;
    let said = serde_json::from_str(envelope.data).map_err(|_| "malformed")?;
    Ok((envelope.node, said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_backbone::envelope::Codec;

    fn wire(key: &[u8]) -> Wire {
        Wire { codec: Codec::new(key), trusted: !key.is_empty(), node: NodeId(7) }
    }

    #[test]
    fn what_is_said_is_heard() {
        let (ours, others) = (wire(b"key"), wire(b"other"));
        let body = Message::Call { id: 3, method: "channels", params: "{}" }.seal(&ours);
        let Ok((NodeId(7), Said::Call { id: 3, method, params })) = open(&ours, &body) else {
            panic!("not heard")
        };
        assert_eq!((&*method, &*params), ("channels", "{}"));
        assert_eq!(open(&others, &body).err(), Some("signature"));
        assert_eq!(open(&ours, &body[..9]).err(), Some("malformed"));
    }

    #[test]
    fn a_newer_node_may_say_more() {
        let wire = wire(b"");
        let say = |json: &str| {
            let envelope = Envelope { data: json, ..Envelope::default() };
            open(&wire, &wire.codec.seal(CONTROL, &envelope)).map(|_| ())
        };
        assert_eq!(say(r#"{"say":"hello","name":"a","more":1}"#), Ok(()));
        assert_eq!(say(r#"{"say":"something new"}"#), Err("malformed"));
        assert_eq!(say("nonsense"), Err("malformed"));
    }
}

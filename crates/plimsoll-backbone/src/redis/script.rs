//! The scripts, and what they take and answer.

use crate::contract::{Entry, Failure, Page, Publish, Published};
use crate::limits;
use bytes::Bytes;
use plimsoll_core::model::{Epoch, StreamPosition};
use redis::Value;
use std::sync::OnceLock;

/// One of the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    Adopt,
    Publish,
    PublishSharded,
    Read,
    PresenceNote,
    PresenceKeep,
    PresenceRead,
}

const ALL: [Script; 7] = [
    Script::Adopt,
    Script::Publish,
    Script::PublishSharded,
    Script::Read,
    Script::PresenceNote,
    Script::PresenceKeep,
    Script::PresenceRead,
];

impl Script {
    fn text(self) -> String {
        let publish = include_str!("scripts/publish.lua");
        match self {
            Self::Adopt => include_str!("scripts/adopt.lua").into(),
            Self::Publish => publish.replace("@PUBLISH@", "PUBLISH"),
            Self::PublishSharded => publish.replace("@PUBLISH@", "SPUBLISH"),
            Self::Read => include_str!("scripts/read.lua").into(),
            Self::PresenceNote => include_str!("scripts/presence_note.lua").into(),
            Self::PresenceKeep => include_str!("scripts/presence_keep.lua").into(),
            Self::PresenceRead => include_str!("scripts/presence_read.lua").into(),
        }
    }

    /// SHA-1 of its text, which is its name at the server.
    pub(super) fn sha(self) -> &'static str {
        static SHAS: OnceLock<[String; 7]> = OnceLock::new();
        &SHAS.get_or_init(|| {
            ALL.map(|script| {
                use aws_lc_rs::digest;
                let text = script.text();
                let sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
                sum.as_ref().iter().map(|b| format!("{b:02x}")).collect()
            })
        })[self as usize]
    }
}

/// The commands that load them all.
pub(super) fn load() -> redis::Pipeline {
    let mut out = redis::pipe();
    for script in ALL {
        out.cmd("SCRIPT").arg("LOAD").arg(script.text());
    }
    out
}

/// A new epoch.
pub(super) fn new_epoch() -> Epoch {
    Epoch::from_random(fastrand::u64(..))
}

/// Epoch (8 bytes) and offset (decimal).
pub(super) fn position(bytes: &[u8]) -> Option<StreamPosition> {
    let (epoch, offset) = bytes.split_at_checked(8)?;
    Some(StreamPosition { epoch: epoch_of(epoch)?, offset: offset_of(offset)? })
}

pub(super) fn epoch_of(bytes: &[u8]) -> Option<Epoch> {
    Epoch::parse(std::str::from_utf8(bytes).ok()?)
}

pub(super) fn offset_of(bytes: &[u8]) -> Option<u64> {
    let digits = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(bytes).ok()?.parse().ok()).flatten()
}

/// Arguments of `publish.lua` for one publication, after its keys.
pub(super) fn publication(command: &mut redis::Cmd, p: &Publish, pubsub_channel: &[u8]) {
    let mut flags = String::new();
    for (flag, is_on) in
        [('k', p.keep.is_some()), ('i', p.idempotency_key.is_some()), ('v', p.version.is_some())]
    {
        if is_on {
            flags.push(flag);
        }
    }
    command.arg(flags).arg(pubsub_channel).arg(&p.body[..]);
    if let Some(keep) = &p.keep {
        command
            .arg(keep.size.max(1))
            .arg(keep.ttl_ms.max(1))
            .arg(keep.meta_ttl_ms.max(keep.ttl_ms));
    }
    if let Some((number, epoch)) = &p.version {
        let ttl = p.keep.map_or(limits::EMPTY_STREAM_MS, |k| k.meta_ttl_ms.max(1));
        command.arg(format!("{number:020}")).arg(&epoch[..]).arg(ttl);
    }
}

/// Reads one answer of `publish.lua`.
pub(super) fn published(answer: &Value, keeps: bool) -> Result<Published, Failure> {
    let Value::BulkString(bytes) = answer else { return Err(Failure::Refused) };
    let (kind, rest) = bytes.split_first().ok_or(Failure::Refused)?;
    let is_new = match kind {
        b'1' => true,
        b'0' => false,
        _ if rest.starts_with(b"@") => return Err(Failure::Unknown),
        _ => {
            let code = rest.split(|b| *b == b' ').next().unwrap_or_default();
            return Err(super::commands::failure(std::str::from_utf8(code).unwrap_or_default()));
        }
    };
    let position = if keeps && !rest.is_empty() {
        Some(position(rest).ok_or(Failure::Refused)?)
    } else {
        None
    };
    Ok(Published { position, is_new })
}

/// Reads an answer of `read.lua`.
pub(super) fn page(answer: Value) -> Result<Page, Failure> {
    let parts = match answer {
        Value::Array(parts) => parts,
        Value::ServerError(e) => return Err(super::commands::failure(e.code())),
        _ => return Err(Failure::Refused),
    };
    let mut parts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    });
    let mut next = || parts.next().flatten();
    let head = (|| {
        let epoch = epoch_of(&next()?)?;
        let offset = offset_of(&next()?)?;
        Some((StreamPosition { epoch, offset }, offset_of(&next()?)?))
    })();
    let (position, floor) = head.ok_or(Failure::Refused)?;
    let mut entries = Vec::new();
    while let Some(offset) = next() {
        let offset = offset_of(&offset).ok_or(Failure::Refused)?;
        let body = Bytes::from(next().ok_or(Failure::Refused)?);
        entries.push(Entry { offset, body });
    }
    Ok(Page { position, floor, entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_checked() {
        let value = |t: &str| Value::BulkString(t.into());
        let epoch = new_epoch();
        let good = published(&value(&format!("1{}42", epoch.as_str())), true).unwrap();
        assert_eq!(good.position, Some(StreamPosition { epoch, offset: 42 }));
        assert!(good.is_new);
        let old = published(&value("0"), false).unwrap();
        assert_eq!((old.position, old.is_new), (None, false));
        assert_eq!(published(&value("EOOM no memory"), true), Err(Failure::Busy));
        assert_eq!(published(&value("EWRONGTYPE x"), true), Err(Failure::Refused));
        assert_eq!(published(&value("E@NOPERM x"), true), Err(Failure::Unknown));
        for bad in ["1short", "1aaaaaaaa", "1aaaaaaaa-5", "1aaaaaaaa+5", "", "1aaaa\naaa5"] {
            assert_eq!(published(&value(bad), true), Err(Failure::Refused), "{bad}");
        }
        assert_eq!(page(Value::Array(vec![value("x")])), Err(Failure::Refused));
        assert_eq!(Script::Read.sha().len(), 40);
    }
}

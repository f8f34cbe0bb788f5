//! Reads the histories of all channels after a run, over one connection: what the server has kept
//! is what the ledger compares acknowledgements and deliveries with (C3, C5).

use super::line::Line;
use crate::fleet::Target;
use crate::ledger::Stored;
use crate::limits;
use crate::payload;
use crate::topology::{ChannelId, Topology};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Feature off, or not allowed: the server has no history to read.
const NO_HISTORY: [u32; 2] = [103, 108];
/// How long the reader's token is good for.
const TOKEN: Duration = Duration::from_secs(3_600);

/// What a server has kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histories {
    /// Of each channel that has any.
    pub stored: Vec<Stored>,
    /// Channels whose history cannot be read.
    pub refused: u64,
    /// Not all was read: a bound was reached.
    pub cut_short: bool,
}

#[derive(Debug, Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    id: u32,
    error: Option<Refusal>,
    #[serde(borrow)]
    history: Option<Page<'a>>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    code: u32,
}

#[derive(Debug, Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    publications: Vec<Publication<'a>>,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    offset: u64,
}

#[derive(Debug, Deserialize)]
struct Publication<'a> {
    #[serde(default)]
    offset: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Reads the histories of `channels`. `secret` signs the reader's token; none: it brings none.
pub fn read(
    target: &Target,
    secret: Option<&str>,
    topology: &Topology,
    channels: Range<ChannelId>,
) -> Result<Histories, String> {
    let mut reader = Reader { line: Line::open(target)?, id: 0 };
    let connect = match secret {
        Some(secret) => json!({"token": token(secret)?}),
        None => json!({}),
    };
    let answer = reader.ask("connect", &connect)?;
    if let Some(refusal) = parsed(&answer)?.error {
        return Err(format!("the reader is not let in: error {}", refusal.code));
    }
    let mut made = Histories::default();
    let mut publications = 0;
    for channel in channels {
        match reader.channel(topology.name(channel), channel, &mut made.cut_short)? {
            Some(stored) => {
                publications += stored.publications.len();
                made.stored.push(stored);
            }
            None => made.refused += 1,
        }
        if publications > limits::HISTORY_PUBLICATIONS_MAX {
            made.cut_short = true;
            break;
        }
    }
    Ok(made)
}

struct Reader {
    line: Line,
    id: u32,
}

impl Reader {
    /// All pages of a channel, from its first publication; none if there is no history.
    fn channel(
        &mut self,
        name: &str,
        channel: ChannelId,
        cut_short: &mut bool,
    ) -> Result<Option<Stored>, String> {
        let (epoch, top) = match self.page(name, &json!({"channel": name, "limit": 0}))? {
            Ok(page) => page.head(),
            Err(code) if NO_HISTORY.contains(&code) => return Ok(None),
            Err(code) => return Err(format!("the history of {name}: error {code}")),
        };
        let mut made = Stored { channel, epoch: epoch.into(), top, publications: Vec::new() };
        // Nothing is read beyond what was there at first: others may go on publishing.
        let mut since = 0;
        for _ in 0..limits::HISTORY_PAGES_MAX {
            let query = json!({
                "channel": name,
                "limit": limits::HISTORY_PAGE,
                "since": {"offset": since, "epoch": &*made.epoch},
            });
            let page = match self.page(name, &query)? {
                Ok(page) => page,
                Err(code) => return Err(format!("the history of {name}: error {code}")),
            };
            let before = since;
            for (offset, stamp) in page.publications {
                since = since.max(offset);
                if offset <= top {
                    made.publications.push((offset, stamp));
                }
            }
            if since >= top || since == before {
                return Ok(Some(made));
            }
        }
        *cut_short = true;
        Ok(Some(made))
    }

    fn page(&mut self, name: &str, query: &serde_json::Value) -> Result<Result<Read, u32>, String> {
        let answer = self.ask("history", query)?;
        let reply = parsed(&answer)?;
        if let Some(refusal) = reply.error {
            return Ok(Err(refusal.code));
        }
        let page = reply.history.ok_or_else(|| format!("the history of {name}: no answer"))?;
        Ok(Ok(Read {
            epoch: page.epoch,
            top: page.offset,
            publications: page
                .publications
                .iter()
                .map(|p| (p.offset, payload::read(p.data.get().as_bytes())))
                .collect(),
        }))
    }

    /// The reply to a command: the text of its line.
    fn ask(&mut self, method: &str, body: &serde_json::Value) -> Result<String, String> {
        self.id += 1;
        self.line.send(&json!({"id": self.id, method: body}).to_string())?;
        loop {
            let line = self.line.next()?;
            if line == "{}" {
                self.line.send("{}")?;
            } else if parsed(&line)?.id == self.id {
                return Ok(line);
            }
        }
    }
}

/// A page whose payloads were read.
struct Read {
    epoch: String,
    top: u64,
    publications: Vec<(u64, Option<crate::ledger::Stamp>)>,
}

impl Read {
    fn head(self) -> (String, u64) {
        (self.epoch, self.top)
    }
}

fn parsed(line: &str) -> Result<Reply<'_>, String> {
    serde_json::from_str(line).map_err(|error| format!("a reply is not understood: {error}"))
}

pub(super) fn token(secret: &str) -> Result<String, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = json!({"sub": "reader", "exp": (now + TOKEN).as_secs()});
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
        .map_err(|error| format!("the reader's token: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        let reply = parsed(r#"{"id":3,"error":{"code":108,"message":"x"}}"#).unwrap();
        assert_eq!((reply.id, reply.error.map(|e| e.code)), (3, Some(108)));
        let text = r#"{"id":4,"history":{"publications":[{"data":{"a":1},"offset":7}],
            "epoch":"e","offset":9}}"#;
        let page = parsed(text).unwrap().history.unwrap();
        assert_eq!((page.epoch.as_str(), page.offset), ("e", 9));
        let one = &page.publications[0];
        assert_eq!((one.offset, one.data.get()), (7, r#"{"a":1}"#));
        assert!(parsed("nonsense").is_err());
    }

    #[test]
    fn tokens_have_a_user_and_an_end() {
        let made = token("a secret of some length").unwrap();
        assert_eq!(made.split('.').count(), 3);
    }
}

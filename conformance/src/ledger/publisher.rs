//! A publisher and its book.

use super::{Outcome, PubId, Published, crc32, payload};
use crate::client::{Client, PATIENCE};
use crate::wait::Pace;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Commands in one frame.
const BATCH: u64 = 4;
/// Every so many batches one publication goes where publishing is not allowed.
const FORBIDDEN_EVERY: u64 = 20;
/// A channel that these publishers may not publish to.
pub(super) const FORBIDDEN: &str = "forbidden:0";

pub(super) struct Job {
    pub address: SocketAddr,
    pub number: u32,
    pub channels: Vec<Arc<str>>,
    pub per_second: u64,
    pub stop: Arc<AtomicBool>,
}

/// Publishes until told to stop. All is written down, also what was refused.
pub(super) fn publish(job: &Job) -> Result<Vec<Published>, String> {
    let mut client = Client::connect(job.address, &json!({}))?;
    let mut book = Vec::new();
    let mut pace = Pace::new(Duration::from_nanos(BATCH * 1_000_000_000 / job.per_second));
    let (mut sequence, mut batch) = (0, 0);
    while !job.stop.load(Ordering::Acquire) {
        pace.turn();
        let mut lines = Vec::new();
        let first = book.len();
        let mut ids = Vec::new();
        for within in 0..BATCH {
            let forbidden = within == 0 && batch % FORBIDDEN_EVERY == 0;
            // Publishers begin at different channels, and all come to all of them.
            let at = usize::try_from(sequence + u64::from(job.number)).unwrap_or(0);
            let channel = match forbidden {
                true => Arc::from(FORBIDDEN),
                false => Arc::clone(&job.channels[at % job.channels.len()]),
            };
            let id = PubId { publisher: job.number, sequence };
            let data = payload(id);
            let (command, body) = (client.next_id(), crc32(data.as_bytes()));
            lines.push(format!(
                r#"{{"id":{command},"publish":{{"channel":"{channel}","data":{data}}}}}"#
            ));
            ids.push(command);
            book.push(Published { channel, id, body, outcome: Outcome::Unknown });
            sequence += 1;
        }
        batch += 1;
        client.send(&lines.join("\n"))?;
        for (index, command) in ids.into_iter().enumerate() {
            let reply = client.reply(command, PATIENCE)?;
            book[first + index].outcome = outcome(&reply)?;
        }
    }
    Ok(book)
}

fn outcome(reply: &Value) -> Result<Outcome, String> {
    match (reply.get("publish"), reply.pointer("/error/code").and_then(Value::as_u64)) {
        (Some(_), None) => Ok(Outcome::Acknowledged),
        (None, Some(code)) => Ok(Outcome::Refused(code)),
        _ => Err(format!("a publish was answered by {reply}")),
    }
}

//! Histories in streams of JetStream: one stream for each way of keeping, one subject for each
//! channel. Offsets are sequences of the stream, so those of a channel have holes.

use super::deliver::CLEARED;
use super::failure;
use super::shared::Shared;
use crate::contract::*;
use crate::limits;
use crate::names;
use async_nats::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use plimsoll_core::model::{Epoch, StreamPosition};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The code of an error of JetStream: a stream of this name exists, and is another one.
const NAME_IN_USE: u64 = 10_058;
/// No message found.
const NO_MESSAGE: u64 = 10_037;

/// What is known of a stream.
struct Known {
    epoch: Epoch,
    /// Highest sequence seen.
    last: u64,
    looked: Instant,
    /// It may not be there any more.
    is_doubtful: bool,
}

/// The streams of this cluster.
pub(super) struct Streams {
    pub(super) shared: Arc<Shared>,
    replicas: usize,
    memory: bool,
    known: Mutex<HashMap<String, Known>>,
}

/// A stored message.
struct Stored {
    seq: u64,
    body: Bytes,
    /// It only says that what was up to there was cleared.
    cleared: Option<u64>,
}

/// A stream at one moment.
struct Info {
    epoch: Epoch,
    first: u64,
    last: u64,
    /// Messages of the subject that was asked for.
    count: u64,
}

impl Streams {
    pub(super) fn new(shared: Arc<Shared>, replicas: usize, memory: bool) -> Self {
        Self { shared, replicas, memory, known: Mutex::default() }
    }

    /// The subject to publish to. The stream is made when there is none.
    pub(super) async fn subject(&self, channel: &str, keep: Keep) -> Result<String, Failure> {
        let class = self.ensure(keep).await?;
        Ok(format!("{}.in.{class}.{}", self.shared.prefix, names::to_token(channel)))
    }

    /// Where something was appended.
    pub(super) async fn position(&self, stream: &str, offset: u64) -> Option<StreamPosition> {
        let epoch = self.epoch_of(stream, offset).await?;
        Some(StreamPosition { epoch, offset })
    }

    /// The epoch that an offset of a stream belongs to. Sequences that go back may mean that the
    /// stream was made anew: then there is a new epoch, and everybody has missed something.
    pub(super) async fn epoch_of(&self, stream: &str, offset: u64) -> Option<Epoch> {
        let look = Duration::from_millis(limits::STREAM_LOOK_MS);
        {
            let mut known = self.known();
            if let Some(k) = known.get_mut(stream) {
                let went_back = offset < k.last && k.looked.elapsed() >= look;
                let suspicious = went_back || k.is_doubtful;
                k.last = k.last.max(offset);
                if !suspicious {
                    return Some(k.epoch);
                }
                k.looked = Instant::now();
            }
        }
        if !stream.starts_with(&*self.shared.prefix) {
            return None;
        }
        self.info(stream, None).await.ok().map(|info| info.epoch)
    }

    /// What was known of streams may not be so any more.
    pub(super) fn forget(&self) {
        self.known().values_mut().for_each(|k| k.is_doubtful = true);
    }

    fn doubt(&self, name: &str) {
        if let Some(known) = self.known().get_mut(name) {
            known.is_doubtful = true;
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self, class: &str) -> String {
        format!("{}_{class}", self.shared.prefix)
    }

    async fn ensure(&self, keep: Keep) -> Result<String, Failure> {
        let class = format!("{}-{}", keep.size, keep.ttl_ms);
        let name = self.name(&class);
        {
            let known = self.known();
            if known.get(&name).is_some_and(|k| !k.is_doubtful) {
                return Ok(class);
            }
            if !known.contains_key(&name) && known.len() >= limits::STREAMS_MAX {
                return Err(Failure::Refused);
            }
        }
        let prefix = &self.shared.prefix;
        let subjects = format!("{prefix}.in.{class}.>");
        let window_ms = limits::IDEMPOTENCY_MS.min(keep.ttl_ms.max(100));
        let config = json!({
            "name": name,
            "subjects": [subjects],
            "retention": "limits",
            "storage": if self.memory { "memory" } else { "file" },
            "discard": "old",
            "num_replicas": self.replicas,
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msg_size": -1,
            "max_age": keep.ttl_ms.max(100).saturating_mul(1_000_000),
            // One more than asked for: it shows that what comes after it was not trimmed.
            "max_msgs_per_subject": keep.size + 1,
            "duplicate_window": window_ms.saturating_mul(1_000_000),
            "allow_direct": true,
            "allow_rollup_hdrs": true,
            "republish": { "src": subjects, "dest": format!("{prefix}.out.{class}.>") },
        });
        match self.api(&format!("STREAM.CREATE.{name}"), config).await? {
            // Made now, made before, made by hand or by a version that makes it in another way:
            // taken as it is. When it was made only its own answer says the same to everybody.
            Ok(_) | Err(NAME_IN_USE) => self.info(&name, None).await?,
            Err(_) => return Err(Failure::Busy),
        };
        if let Err(failure) = self.warm_up(&class).await {
            self.doubt(&name);
            return Err(failure);
        }
        Ok(class)
    }

    /// A stream that was just made has no leader for a moment, and the servers of a cluster have
    /// not heard of it: waits until something of no channel is taken.
    async fn warm_up(&self, class: &str) -> Result<(), Failure> {
        // No name becomes this token.
        let subject = format!("{}.in.{class}.=", self.shared.prefix);
        let deadline = Instant::now() + Duration::from_millis(limits::STREAM_READY_MS);
        loop {
            let asked = self.shared.client.request(subject.clone(), Bytes::new()).await;
            let taken =
                asked.as_ref().is_ok_and(|m| !m.payload.windows(7).any(|w| w == b"\"error\""));
            if taken {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure::Busy);
            }
            tokio::time::sleep(Duration::from_millis(limits::RECONNECT_MS_MIN)).await;
        }
    }

    /// Asks JetStream something: its answer, or the code of its error.
    async fn api(&self, what: &str, question: Value) -> Result<Result<Value, u64>, Failure> {
        let client = &self.shared.client;
        let question = Bytes::from(question.to_string());
        let answer =
            client.request(format!("$JS.API.{what}"), question).await.map_err(|e| failure(&e))?;
        let answer: Value =
            serde_json::from_slice(&answer.payload).map_err(|_| Failure::Refused)?;
        match &answer["error"] {
            Value::Null => Ok(Ok(answer)),
            error => {
                let code = error["err_code"].as_u64().or(error["code"].as_u64());
                Ok(Err(code.unwrap_or_default()))
            }
        }
    }

    async fn info(&self, name: &str, subject: Option<&str>) -> Result<Info, Failure> {
        let question = match subject {
            Some(subject) => json!({ "subjects_filter": subject }),
            None => json!({}),
        };
        match self.api(&format!("STREAM.INFO.{name}"), question).await? {
            Ok(answer) => {
                let epoch = self.learn(name, &answer);
                let state = &answer["state"];
                let number = |name: &str| state[name].as_u64().unwrap_or_default();
                let count = subject.and_then(|s| state["subjects"][s].as_u64());
                Ok(Info {
                    epoch,
                    first: number("first_seq"),
                    last: number("last_seq"),
                    count: count.unwrap_or_default(),
                })
            }
            Err(_) => {
                // Deleted: the next use makes it anew.
                self.doubt(name);
                Err(Failure::Busy)
            }
        }
    }

    /// A stream is the one that was made at this moment.
    fn learn(&self, name: &str, answer: &Value) -> Epoch {
        let created = answer["created"].as_str().unwrap_or_default();
        let hash = name.bytes().chain(created.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let epoch = Epoch::from_random(hash ^ (hash >> 29));
        let last = answer["state"]["last_seq"].as_u64().unwrap_or_default();
        let known = Known { epoch, last, looked: Instant::now(), is_doubtful: false };
        let before = self.known().insert(name.to_owned(), known);
        if before.is_some_and(|b| b.epoch != epoch) {
            self.shared.tell_gap();
        }
        epoch
    }

    /// Is JetStream there, and for us?
    pub(super) async fn is_there(&self) -> Result<(), String> {
        match self.api("INFO", json!({})).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(code)) => Err(format!("error {code}")),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Reads one history.
    pub(super) async fn read(&self, read: &Read) -> Result<Page, Failure> {
        let subject = self.subject(&read.channel, read.keep).await?;
        let name = self.name(&format!("{}-{}", read.keep.size, read.keep.ttl_ms));
        for _ in 0..limits::READ_ATTEMPTS {
            match self.try_read(read, &name, &subject).await {
                Ok(Some(page)) => return Ok(page),
                Ok(None) => {}
                // The stream is gone, or has no leader: it is made again, if that is it.
                Err(Failure::Busy) => {
                    self.subject(&read.channel, read.keep).await?;
                }
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy)
    }

    /// `None`: the stream changed under the reader.
    async fn try_read(
        &self,
        read: &Read,
        name: &str,
        subject: &str,
    ) -> Result<Option<Page>, Failure> {
        let epoch = self.known().get(name).map(|k| k.epoch);
        let last = self.get(name, json!({ "last_by_subj": subject })).await?;
        let (from, below, limit, newest) = match read.want {
            Want::After { offset, limit } => (offset.saturating_add(1), u64::MAX, limit, false),
            Want::Before { offset, limit } => (1, offset, limit, true),
        };
        let top = last.as_ref().map_or(0, |l| l.seq);
        let mut entries = Vec::new();
        if limit > 0 && from <= top {
            let most = if newest { read.keep.size + 1 } else { limit + 1 };
            entries = self.range(name, subject, from, top, most).await?;
        }
        // What is stored is looked at last: what is above its floor was stored all the time.
        let info = self.info(name, Some(subject)).await?;
        if epoch.is_some_and(|e| e != info.epoch) || (last.is_none() && info.count > 0) {
            return Ok(None);
        }
        let mut floor = info.first.saturating_sub(1);
        if info.count > 0 {
            let oldest = json!({ "seq": 1, "next_by_subj": subject });
            let Some(oldest) = self.get(name, oldest).await? else { return Ok(None) };
            floor = match oldest.cleared {
                Some(before) => before,
                None if info.count > read.keep.size as u64 => oldest.seq,
                None => floor,
            };
        }
        let offset = last.map_or(info.last, |l| l.cleared.unwrap_or(l.seq));
        let floor = floor.min(offset);
        let wanted = |e: &Stored| e.cleared.is_none() && e.seq > floor && e.seq < below;
        let mut entries: Vec<Entry> = entries
            .into_iter()
            .filter(wanted)
            .map(|e| Entry { offset: e.seq, body: e.body })
            .collect();
        if newest {
            entries.drain(..entries.len().saturating_sub(limit));
        } else {
            entries.truncate(limit);
        }
        let position = StreamPosition { epoch: info.epoch, offset };
        Ok(Some(Page { position, floor, entries }))
    }

    /// Messages of a subject between two sequences, both included.
    async fn range(
        &self,
        name: &str,
        subject: &str,
        from: u64,
        to: u64,
        most: usize,
    ) -> Result<Vec<Stored>, Failure> {
        let mut all = Vec::new();
        let mut next = from;
        // Copies of a stream may lag behind: what is read there may not have the newest.
        let batched = self.replicas == 1 && self.shared.has_batches();
        while next <= to && all.len() < most {
            let some = match batched {
                true => self.batch(name, subject, next, most - all.len()).await?,
                false => {
                    let one = json!({ "seq": next, "next_by_subj": subject });
                    self.get(name, one).await?.into_iter().collect()
                }
            };
            let Some(last) = some.last() else { break };
            next = last.seq + 1;
            all.extend(some.into_iter().filter(|s| s.seq <= to));
        }
        Ok(all)
    }

    /// One message, of the stream's leader.
    async fn get(&self, name: &str, question: Value) -> Result<Option<Stored>, Failure> {
        let answer = match self.api(&format!("STREAM.MSG.GET.{name}"), question).await? {
            Ok(answer) => answer,
            Err(NO_MESSAGE | 404) => return Ok(None),
            Err(_) => {
                self.doubt(name);
                return Err(Failure::Busy);
            }
        };
        let message = &answer["message"];
        let bytes = |name: &str| {
            let text = message[name].as_str().unwrap_or_default();
            STANDARD.decode(text).map_err(|_| Failure::Refused)
        };
        let (body, headers) = (bytes("data")?, bytes("hdrs")?);
        let headers = String::from_utf8_lossy(&headers).into_owned();
        let cleared = headers
            .lines()
            .find_map(|line| line.strip_prefix(CLEARED)?.strip_prefix(':')?.trim().parse().ok());
        let seq = message["seq"].as_u64().ok_or(Failure::Refused)?;
        Ok(Some(Stored { seq, body: body.into(), cleared }))
    }

    /// Several messages in one answer (2.11 and later).
    async fn batch(
        &self,
        name: &str,
        subject: &str,
        from: u64,
        most: usize,
    ) -> Result<Vec<Stored>, Failure> {
        let client = &self.shared.client;
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|_| Failure::Down)?;
        let question =
            json!({ "seq": from, "next_by_subj": subject, "batch": most.min(limits::BATCH_MAX) });
        client
            .publish_with_reply(
                format!("$JS.API.DIRECT.GET.{name}"),
                inbox,
                Bytes::from(question.to_string()),
            )
            .await
            .map_err(|_| Failure::Down)?;
        let mut some = Vec::new();
        let deadline = tokio::time::Instant::now() + Duration::from_millis(limits::CALL_MS);
        loop {
            let Ok(Some(message)) = tokio::time::timeout_at(deadline, answers.next()).await else {
                return Err(Failure::Unknown);
            };
            match message.status {
                None | Some(StatusCode::OK) => {}
                Some(StatusCode::NO_RESPONDERS) => return Err(Failure::Busy),
                // The end, or nothing found.
                Some(_) => return Ok(some),
            }
            let header = |name: &str| message.headers.as_ref().and_then(|h| h.get(name));
            let number = |name: &str| header(name).and_then(|v| v.as_str().parse::<u64>().ok());
            let Some(seq) = number("Nats-Sequence") else { return Ok(some) };
            some.push(Stored { seq, cleared: number(CLEARED), body: message.payload.clone() });
        }
    }

    /// Drops a channel's publications in all streams that have some.
    pub(super) async fn clear(&self, channel: &str) -> Result<(), Failure> {
        let token = names::to_token(channel);
        let subjects = format!("{}.in.*.{token}", self.shared.prefix);
        let names = match self.api("STREAM.NAMES", json!({ "subject": subjects })).await? {
            Ok(answer) => answer["streams"].as_array().cloned().unwrap_or_default(),
            Err(_) => return Err(Failure::Busy),
        };
        let prefix = format!("{}_", self.shared.prefix);
        for name in names.iter().filter_map(Value::as_str) {
            let Some(class) = name.strip_prefix(&prefix) else { continue };
            let subject = format!("{}.in.{class}.{token}", self.shared.prefix);
            let Some(last) = self.get(name, json!({ "last_by_subj": subject })).await? else {
                continue;
            };
            let mut headers = HeaderMap::new();
            // Replaces all messages of the subject, and says where they ended.
            headers.insert("Nats-Rollup", "sub");
            headers.insert(CLEARED, last.cleared.unwrap_or(last.seq).to_string().as_str());
            self.shared
                .client
                .request_with_headers(subject, headers, Bytes::new())
                .await
                .map_err(|e| failure(&e))?;
        }
        Ok(())
    }
}

//! Presence without a store: every node knows its own members and answers for them.

use super::shared::Shared;
use crate::contract::{Failure, Member, NodeId, PresenceChange};
use crate::limits;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use plimsoll_core::model::ClientId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Members of one channel, and how long they are vouched for.
struct Here {
    members: BTreeMap<ClientId, Member>,
    until: Instant,
}

/// Members of this node.
pub(super) struct Members {
    lease: Duration,
    by_channel: Mutex<HashMap<Arc<str>, Here>>,
}

impl Members {
    pub(super) fn new(lease_ms: u64) -> Self {
        Self { lease: Duration::from_millis(lease_ms), by_channel: Mutex::default() }
    }

    /// Notes who came and went here. What is said of members of other nodes is theirs to say.
    pub(super) fn note(&self, own: NodeId, changes: Vec<PresenceChange>) {
        let mut all = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + self.lease;
        for change in changes {
            match change {
                PresenceChange::Add(channel, member) if member.node == own => {
                    let here = all
                        .entry(channel)
                        .or_insert_with(|| Here { members: BTreeMap::new(), until });
                    here.until = until;
                    here.members.insert(member.client, member);
                }
                PresenceChange::Remove(channel, client, node) if node == own => {
                    if let Some(here) = all.get_mut(&channel) {
                        here.members.remove(&client);
                        if here.members.is_empty() {
                            all.remove(&channel);
                        }
                    }
                }
                PresenceChange::Add(..) | PresenceChange::Remove(..) => {}
            }
        }
    }

    /// They are still there.
    pub(super) fn keep(&self, channels: &[Arc<str>]) {
        let mut all = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + self.lease;
        for channel in channels {
            if let Some(here) = all.get_mut(channel) {
                here.until = until;
            }
        }
    }

    /// Who is here, as others are told.
    pub(super) fn answers(&self, own: NodeId, channel: &str) -> Vec<Bytes> {
        let mut all = self.by_channel.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, here| here.until > now);
        let none = BTreeMap::new();
        let members = all.get(channel).map_or(&none, |here| &here.members);
        let mut parts = Vec::new();
        let mut part = begin(own);
        for member in members.values() {
            let size = 16 + 4 + member.user.len() + 4 + member.info.len();
            if part.len() + size > limits::PRESENCE_PART_BYTES {
                parts.push(std::mem::replace(&mut part, begin(own)));
            }
            part.put_slice(&member.client.0);
            put(&mut part, member.user.as_bytes());
            put(&mut part, &member.info);
        }
        parts.push(part);
        if let Some(last) = parts.last_mut()
            && let Some(flag) = last.first_mut()
        {
            *flag = 1;
        }
        parts.into_iter().map(BytesMut::freeze).collect()
    }
}

/// The last part of an answer begins with 1, others with 0; then the node.
fn begin(own: NodeId) -> BytesMut {
    let mut part = BytesMut::new();
    part.put_u8(0);
    part.put_u64(own.0);
    part
}

fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(bytes.len() as u32);
    out.put_slice(bytes);
}

fn take(from: &mut Bytes) -> Option<Bytes> {
    let length = from.try_get_u32().ok()? as usize;
    (from.len() >= length).then(|| from.split_to(length))
}

/// One part: whether it is the node's last one, the node, its members.
fn read(mut part: Bytes) -> Option<(bool, NodeId, Vec<Member>)> {
    let last = part.try_get_u8().ok()? == 1;
    let node = NodeId(part.try_get_u64().ok()?);
    let mut members = Vec::new();
    while !part.is_empty() {
        let mut client = [0; 16];
        part.try_copy_to_slice(&mut client).ok()?;
        let (user, info) = (take(&mut part)?, take(&mut part)?);
        let user = std::str::from_utf8(&user).ok()?.into();
        members.push(Member { client: ClientId(client), user, node, info });
    }
    Some((last, node, members))
}

/// Asks all nodes and waits for those that are known to be there.
pub(super) async fn ask(
    shared: &Shared,
    channel: &str,
    most: usize,
) -> Result<Vec<Member>, Failure> {
    let mut missing: HashSet<NodeId> =
        shared.peers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    missing.insert(shared.node);
    let inbox = shared.client.new_inbox();
    let mut answers = shared.client.subscribe(inbox.clone()).await.map_err(|_| Failure::Down)?;
    let question = Bytes::copy_from_slice(channel.as_bytes());
    shared
        .client
        .publish_with_reply(shared.subject("pq"), inbox, question)
        .await
        .map_err(|_| Failure::Down)?;
    let mut members = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_millis(limits::CALL_MS);
    while !missing.is_empty() {
        let part = tokio::time::timeout_at(deadline, answers.next()).await;
        // Somebody who is said to be there does not answer: an incomplete roster is none.
        let Ok(Some(message)) = part else { return Err(Failure::Unknown) };
        let Some((last, node, some)) = read(message.payload) else { continue };
        members.extend(some);
        if members.len() > most {
            return Err(Failure::TooLarge);
        }
        if last {
            missing.remove(&node);
        }
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(n: u8, info: usize) -> Member {
        let info = Bytes::from(vec![n; info]);
        Member { client: ClientId([n; 16]), user: "u".into(), node: NodeId(7), info }
    }

    #[test]
    fn long_answers_come_in_parts() {
        let here = Members::new(60_000);
        let channel: Arc<str> = "c".into();
        let size = limits::PRESENCE_PART_BYTES / 3;
        let all: Vec<Member> = (0..10).map(|n| member(n, size)).collect();
        let add = |m: &Member| PresenceChange::Add(Arc::clone(&channel), m.clone());
        here.note(NodeId(7), all.iter().map(add).collect());
        let parts: Vec<_> =
            here.answers(NodeId(7), "c").into_iter().map(|p| read(p).unwrap()).collect();
        assert_eq!(parts.len(), 5);
        assert!(parts.iter().enumerate().all(|(i, (last, ..))| *last == (i == 4)));
        let got: Vec<Member> = parts.into_iter().flat_map(|(.., members)| members).collect();
        assert_eq!(got, all);
        assert_eq!(read(here.answers(NodeId(7), "d").remove(0)), Some((true, NodeId(7), vec![])));
    }

    proptest! {
        #[test]
        fn anything_can_be_answered(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(bytes.into());
        }
    }
}

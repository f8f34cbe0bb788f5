//! Who is present: three hashes for each channel, changed by scripts.

use super::backbone::{Plan, Redis, Step, fill};
use super::commands;
use super::keys::Kind;
use super::script::Script;
use crate::contract::*;
use crate::limits;
use bytes::Bytes;
use plimsoll_core::model::ClientId;
use redis::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Redis {
    /// Presence scripts over many channels: `command` gets the keys and the items.
    async fn presence_scripts(
        &self,
        channels: &[Arc<str>],
        command: impl Fn(&[Vec<u8>], &[usize]) -> redis::Cmd,
    ) -> Result<(), Failure> {
        let view = self.view();
        let keys = &self.shared.keys;
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, channel) in channels.iter().enumerate() {
            groups.entry(self.group(keys.partition(channel))).or_default().push(index);
        }
        let mut plan = Plan::new();
        for (group, items) in groups {
            let node = view.node(group).ok_or(Failure::Down)?;
            for items in items.chunks(limits::REDIS_PRESENCE_MAX) {
                let names: Vec<_> =
                    items.iter().flat_map(|i| self.presence_keys(&channels[*i])).collect();
                let command = command(&names, items);
                plan.entry(node).or_default().push(Step { command, items: items.to_vec() });
            }
        }
        let mut results = vec![Err(Failure::Down); channels.len()];
        let read = |value: Value, items: &[usize], results: &mut [Result<(), Failure>]| {
            let result = match value {
                Value::ServerError(e) => Err(commands::failure(e.code())),
                _ => Ok(()),
            };
            fill(items, result, results);
        };
        self.run(&view, plan, false, &mut results, read).await;
        results.into_iter().collect()
    }

    fn presence_keys(&self, channel: &str) -> [Vec<u8>; 3] {
        let keys = &self.shared.keys;
        let partition = keys.partition(channel);
        [Kind::Members, Kind::Users, Kind::Leases].map(|kind| keys.name(partition, kind, channel))
    }

    pub(super) async fn note_presence(self, changes: Vec<PresenceChange>) -> Result<(), Failure> {
        let mut channels = Vec::with_capacity(changes.len());
        for change in &changes {
            match change {
                PresenceChange::Add(_, m) if m.user.len() > limits::REDIS_USER_BYTES_MAX => {
                    return Err(Failure::TooLarge);
                }
                PresenceChange::Add(channel, _) | PresenceChange::Remove(channel, ..) => {
                    channels.push(Arc::clone(channel));
                }
            }
        }
        let lease_ms = self.shared.setup.presence_lease_ms.max(1);
        self.presence_scripts(&channels, |names, items| {
            let mut command = Script::PresenceNote.call(names);
            command.arg(lease_ms);
            for change in items.iter().filter_map(|i| changes.get(*i)) {
                match change {
                    PresenceChange::Add(_, m) => {
                        command.arg("+").arg(&m.client.0[..]).arg(member_bytes(m));
                    }
                    PresenceChange::Remove(_, client, node) => {
                        command.arg("-").arg(&client.0[..]).arg(node.to_string());
                    }
                }
            }
            command
        })
        .await
    }

    pub(super) async fn keep_presence(self, channels: Vec<Arc<str>>) -> Result<(), Failure> {
        let lease_ms = self.shared.setup.presence_lease_ms.max(1);
        let node = self.shared.setup.node.to_string();
        self.presence_scripts(&channels, |names, _| {
            let mut command = Script::PresenceKeep.call(names);
            command.arg(lease_ms).arg(&node);
            command
        })
        .await
    }

    /// How many there are, and if they are at most so many, who.
    pub(super) async fn count(
        &self,
        channel: &str,
        most: Option<usize>,
    ) -> Result<(Tally, Vec<Value>), Failure> {
        let mut command = Script::PresenceRead.call(&self.presence_keys(channel));
        command.arg(most.map_or_else(String::new, |n| n.to_string()));
        let Value::Array(mut values) =
            self.one(self.shared.keys.partition(channel), command).await?
        else {
            return Err(Failure::Refused);
        };
        let rest = values.split_off(values.len().min(2));
        match values[..] {
            [Value::Int(clients), Value::Int(users)] => {
                let number = |n| usize::try_from(n).unwrap_or(0);
                Ok((Tally { clients: number(clients), users: number(users) }, rest))
            }
            _ => Err(Failure::Refused),
        }
    }

    /// Who is present.
    pub(super) async fn members(
        &self,
        channel: &Arc<str>,
        most: usize,
    ) -> Result<Vec<Member>, Failure> {
        let (tally, values) = self.count(channel, Some(most)).await?;
        if tally.clients > most {
            return Err(Failure::TooLarge);
        }
        let mut members = Vec::with_capacity(tally.clients);
        let mut values = values.into_iter();
        while let (Some(client), Some(member)) = (values.next(), values.next()) {
            match member_of(&client, member) {
                Some(member) => members.push(member),
                None => self.shared.emit(Event::Garbage {
                    channel: Some(Arc::clone(channel)),
                    why: "not a presence entry",
                }),
            }
        }
        Ok(members)
    }
}

/// Node (16), length of the user (4 hexadecimal digits), user, info.
fn member_bytes(m: &Member) -> Vec<u8> {
    let mut out = format!("{}{:04x}{}", m.node, m.user.len(), m.user).into_bytes();
    out.extend_from_slice(&m.info);
    out
}

fn member_of(client: &Value, member: Value) -> Option<Member> {
    let (Value::BulkString(client), Value::BulkString(member)) = (client, member) else {
        return None;
    };
    let client = ClientId(client[..].try_into().ok()?);
    let member = Bytes::from(member);
    let head = std::str::from_utf8(member.get(..20)?).ok()?;
    let node = NodeId::parse(head.get(..16)?)?;
    let end = 20 + usize::from(u16::from_str_radix(head.get(16..)?, 16).ok()?);
    let user = std::str::from_utf8(member.get(20..end)?).ok()?.into();
    Some(Member { client, user, node, info: member.slice(end..) })
}

//! Names of keys and Pub/Sub channels.
//!
//! ```text
//! <prefix>:{<tag>}:<kind>:<channel>
//! ```
//!
//! A channel belongs to a *partition*, and a partition has a tag, so that all keys of a channel lie
//! in one slot of a Redis Cluster and all channels of a partition can be subscribed to with one
//! command. The tag comes first: braces in a channel's name change nothing. A single Redis uses the
//! same names, so that a move to a Cluster keeps them.

use std::collections::HashMap;
use std::sync::Arc;

/// Slots of a Redis Cluster.
pub(super) const SLOTS: usize = 16_384;

/// What a key or Pub/Sub channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Hash: epoch, offset, generation, when to renew the expiry.
    Meta = b'm' as isize,
    /// Stream of publications.
    Stream = b's' as isize,
    /// String: the result of a publication with an idempotency key.
    Idempotency = b'i' as isize,
    /// String: the last version.
    Version = b'v' as isize,
    /// Hash: client -> member.
    Members = b'p' as isize,
    /// Hash: user -> clients.
    Users = b'u' as isize,
    /// Hash: node -> end of its lease.
    Leases = b'l' as isize,
    /// String: the server process that writes here, and its generation.
    Generation = b'g' as isize,
    /// Pub/Sub: publications of a channel.
    Channel = b'c' as isize,
    /// Pub/Sub: what nodes tell each other.
    Node = b'n' as isize,
    /// Pub/Sub: a node's probes.
    Probe = b'q' as isize,
}

/// Makes names; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// `<prefix>:{<tag>}:` by partition.
    heads: Arc<[Box<str>]>,
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str, partitions: usize) -> Self {
        let heads = tags(partitions).into_iter().map(|t| format!("{prefix}:{{{t}}}:").into());
        Self { heads: heads.collect(), prefix: prefix.into() }
    }

    pub(super) fn partitions(&self) -> usize {
        self.heads.len()
    }

    /// The partition of a channel.
    pub(super) fn partition(&self, channel: &str) -> usize {
        usize::from(crc16(channel.as_bytes())) % self.heads.len()
    }

    /// The slot of a partition.
    pub(super) fn slot(&self, partition: usize) -> u16 {
        slot(self.head(partition).as_bytes())
    }

    fn head(&self, partition: usize) -> &str {
        self.heads.get(partition).map_or("", |h| h)
    }

    pub(super) fn name(&self, partition: usize, kind: Kind, rest: &str) -> Vec<u8> {
        let head = self.head(partition);
        let mut out = Vec::with_capacity(head.len() + 2 + rest.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&[kind as u8, b':']);
        out.extend_from_slice(rest.as_bytes());
        out
    }

    /// The key of an idempotency key; the length keeps channel and key apart.
    pub(super) fn idempotency(&self, partition: usize, channel: &str, key: &str) -> Vec<u8> {
        self.name(partition, Kind::Idempotency, &format!("{}:{channel}{key}", channel.len()))
    }

    /// Reads the name of a Pub/Sub channel.
    pub(super) fn read<'a>(&self, name: &'a [u8]) -> Option<(Kind, &'a str)> {
        let rest = name.strip_prefix(self.prefix.as_bytes())?.strip_prefix(b":{")?;
        let end = rest.iter().position(|b| *b == b'}')?;
        let (kind, rest) = match rest.get(end..)? {
            [b'}', b':', kind, b':', rest @ ..] => (*kind, rest),
            _ => return None,
        };
        let kind = [Kind::Channel, Kind::Node, Kind::Probe].into_iter().find(|k| *k as u8 == kind);
        Some((kind?, std::str::from_utf8(rest).ok()?))
    }
}

/// CRC16-XMODEM, which Redis Cluster uses.
pub(super) fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = {
        let mut table = [0u16; 256];
        let mut i = 0;
        while i < 256 {
            let mut crc = (i as u16) << 8;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };
    bytes.iter().fold(0, |crc, b| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ b)])
}

/// The slot of a key: of what stands between the first `{` and the next `}`, if anything does.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        let close = rest.iter().position(|b| *b == b'}').filter(|n| *n > 0)?;
        rest.get(..close)
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// One tag for each partition: that of partition `i` of `n` has the slot in the middle of the `i`th
/// of `n` equal parts. Masters own contiguous parts of the slots, so each gets its share to within
/// one partition. With the tags 0..127, six masters have 15 to 27 of them. Some 200,000 sums.
fn tags(partitions: usize) -> Vec<String> {
    let mut wanted: HashMap<usize, usize> =
        (0..partitions).map(|part| ((2 * part + 1) * SLOTS / (2 * partitions), part)).collect();
    let mut tags = vec![String::new(); partitions];
    let mut n = 0u64;
    while !wanted.is_empty() {
        let tag = n.to_string();
        if let Some(part) = wanted.remove(&(usize::from(crc16(tag.as_bytes())) % SLOTS))
            && let Some(slot) = tags.get_mut(part)
        {
            *slot = tag;
        }
        n += 1;
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn crc16_and_slots_are_those_of_redis() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // From the specification of Redis Cluster.
        assert_eq!(slot(b"{user1000}.following"), slot(b"{user1000}.followers"));
        assert_eq!(slot(b"foo{}{bar}"), crc16(b"foo{}{bar}") % 16_384);
        assert_eq!(slot(b"foo{{bar}}zap"), crc16(b"{bar") % 16_384);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn partitions_are_spread_evenly_over_any_number_of_masters() {
        for partitions in [1, 16, 128, 1_000, 4_096] {
            let keys = Keys::new("p", partitions);
            for masters in 1..=32 {
                let mut counts = vec![0usize; masters];
                for p in 0..partitions {
                    counts[usize::from(keys.slot(p)) * masters / SLOTS] += 1;
                }
                let most = counts.iter().max().unwrap();
                let least = counts.iter().min().unwrap();
                assert!(most - least <= 1, "{partitions} over {masters}: {counts:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_name_never_changes_the_slot(name in "[{}a:\\PC]{0,40}") {
            let keys = Keys::new("prefix", 128);
            let p = keys.partition(&name);
            for kind in [Kind::Meta, Kind::Stream, Kind::Channel] {
                prop_assert_eq!(slot(&keys.name(p, kind, &name)), keys.slot(p));
            }
            prop_assert_eq!(slot(&keys.idempotency(p, &name, "}{k")), keys.slot(p));
            let full = keys.name(p, Kind::Channel, &name);
            prop_assert_eq!(keys.read(&full), Some((Kind::Channel, &*name)));
        }
    }
}

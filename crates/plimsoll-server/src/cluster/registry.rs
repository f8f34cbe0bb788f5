//! Which nodes there are. Pure: time is an argument.
//!
//! No clock of another node is looked at, and silence counts only while our own signs of life come
//! back through the backbone: when the backbone stands still nobody is taken for gone.

use plimsoll_backbone::NodeId;
use plimsoll_core::limits;
use std::collections::BTreeMap;

/// A node that was heard.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its name; empty while only its members are known.
    pub name: String,
    /// What it says of itself: a JSON object, or nothing yet.
    pub info: String,
    heard_ms: u64,
}

/// The nodes of the cluster but ourselves.
#[derive(Debug)]
pub struct Registry {
    own: NodeId,
    lease_ms: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// Time for which our own signs of life came back.
    live_ms: u64,
    /// When the last one did, of the caller's clock.
    own_ms: Option<u64>,
}

impl Registry {
    /// Alone. A peer that is silent for `lease_ms` is gone.
    pub fn new(own: NodeId, lease_ms: u64) -> Self {
        Self { own, lease_ms, peers: BTreeMap::new(), live_ms: 0, own_ms: None }
    }

    /// A sign of life was heard. True when the node is new.
    pub fn heard(&mut self, node: NodeId, name: &str, info: String, now_ms: u64) -> bool {
        if node == self.own {
            let since = self.own_ms.replace(now_ms);
            let passed = since.map_or(0, |at| now_ms.saturating_sub(at));
            // After a silence of our own, the others have the time of two beats to be heard.
            self.live_ms += passed.min(2 * limits::HEARTBEAT_MS);
            return false;
        }
        let known = self.peers.contains_key(&node);
        if !known && self.peers.len() >= limits::NODES_MAX {
            return false;
        }
        let peer = Peer { name: name.to_owned(), info, heard_ms: self.live_ms };
        self.peers.insert(node, peer).is_none_or(|before| before.info.is_empty())
    }

    /// A node is spoken of, and perhaps was never heard: it has a lease from now on.
    pub fn noticed(&mut self, node: NodeId) {
        if node != self.own && self.peers.len() < limits::NODES_MAX {
            let (name, info, heard_ms) = (String::new(), String::new(), self.live_ms);
            self.peers.entry(node).or_insert(Peer { name, info, heard_ms });
        }
    }

    /// Did our own signs of life stay away for so long that others may have given us up?
    pub fn was_silent(&self, now_ms: u64) -> bool {
        self.own_ms.is_some_and(|at| now_ms.saturating_sub(at) >= self.lease_ms / 2)
    }

    /// Removes other nodes of this name that are silent.
    pub fn replaced(&mut self, node: NodeId, name: &str) -> Vec<NodeId> {
        let silent = |p: &Peer| self.live_ms.saturating_sub(p.heard_ms) >= 2 * limits::HEARTBEAT_MS;
        let same = |(id, p): &(&NodeId, &Peer)| **id != node && p.name == name && silent(p);
        let others = self.peers.iter().filter(same);
        let others: Vec<NodeId> = others.map(|(id, _)| *id).collect();
        for other in &others {
            self.peers.remove(other);
        }
        others
    }

    /// A node says that it goes.
    pub fn left(&mut self, node: NodeId) -> bool {
        self.peers.remove(&node).is_some()
    }

    /// Removes those that were silent for too long.
    pub fn expired(&mut self) -> Vec<NodeId> {
        let gone: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, p)| self.live_ms.saturating_sub(p.heard_ms) >= self.lease_ms)
            .map(|(node, _)| *node)
            .collect();
        for node in &gone {
            self.peers.remove(node);
        }
        gone
    }

    /// Nodes that were heard, ourselves left out.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.peers.iter().filter(|(_, p)| !p.info.is_empty()).map(|(node, p)| (*node, p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const YOU: NodeId = NodeId(2);

    fn beat(r: &mut Registry, node: NodeId, now_ms: u64) -> bool {
        r.heard(node, "n", "{}".into(), now_ms)
    }

    #[test]
    fn a_silent_node_is_gone_after_its_lease() {
        let mut r = Registry::new(ME, 10_000);
        assert!(beat(&mut r, YOU, 0) && !beat(&mut r, YOU, 1));
        for at in 0..=9 {
            beat(&mut r, ME, at * 1_000);
            assert_eq!(r.expired(), []);
        }
        beat(&mut r, ME, 10_000);
        assert_eq!(r.expired(), [YOU]);
        assert_eq!(r.peers().count(), 0);
        assert!(beat(&mut r, YOU, 11_000), "back again");
    }

    #[test]
    fn while_the_backbone_stands_still_nobody_is_gone() {
        let mut r = Registry::new(ME, 10_000);
        beat(&mut r, ME, 0);
        beat(&mut r, YOU, 0);
        // Forty seconds without anything, then ours comes first.
        beat(&mut r, ME, 40_000);
        assert_eq!(r.expired(), []);
        beat(&mut r, YOU, 40_100);
        beat(&mut r, ME, 42_000);
        assert_eq!(r.expired(), []);
    }

    #[test]
    fn who_is_only_spoken_of_has_a_lease_too() {
        let mut r = Registry::new(ME, 4_000);
        beat(&mut r, ME, 0);
        r.noticed(YOU);
        r.noticed(ME);
        assert_eq!(r.peers().count(), 0, "not heard yet");
        beat(&mut r, ME, 4_000);
        assert_eq!(r.expired(), [YOU]);
        assert!(!r.left(YOU));
    }

    #[test]
    fn no_more_nodes_than_the_bound() {
        let mut r = Registry::new(ME, 1);
        for n in 0..2 * limits::NODES_MAX as u64 {
            beat(&mut r, NodeId(10 + n), 0);
        }
        r.noticed(NodeId(9));
        assert_eq!(r.peers().count(), limits::NODES_MAX);
    }
}

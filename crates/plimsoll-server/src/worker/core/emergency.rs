//! The steps of an emergency that a worker takes itself; the others are gates.

use super::Core;
use super::conn::Own;
use plimsoll_core::limits;
use plimsoll_transport::deflate::Deflater;

impl Core {
    /// Gives back memory that can be had again. At a turn's end, where nothing is in use; once a
    /// second while it is ordered.
    pub(super) fn give_back(&mut self) {
        let gates = &self.gates;
        let ordered = gates.drop_caches || gates.shrink_read_buffers;
        if !ordered || self.now.mono_ms < self.next_give_back_ms {
            return;
        }
        self.next_give_back_ms = self.now.mono_ms + limits::GIVE_BACK_INTERVAL_MS;
        self.stats.memory_given_back.add(1);
        if gates.shrink_read_buffers {
            // Quiet connections own no buffer. These are what reading and writing share.
            self.inflater = None;
            self.deflater = Deflater::new(self.shared.policy.websocket.compression_level);
        }
        if gates.drop_caches {
            self.hub.drop_spare();
            self.hot.drop_spare();
            self.scratch = Vec::new();
            self.due = Vec::new();
            self.spare_effects = Vec::new();
            if self.own.entries.is_empty() && self.own.slots.is_empty() {
                self.own = Own::default();
            }
        }
    }
}

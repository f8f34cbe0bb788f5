//! A channel's stream: epoch, offsets, the publications still kept, and recovery from them.

use crate::codes::ClientError;
use crate::limits;
use crate::model::{Epoch, Publication, Since, StreamPosition};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a namespace says of history, as far as the stream needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Publications kept.
    pub size: usize,
    /// Milliseconds a publication is kept.
    pub ttl_ms: u64,
    /// Milliseconds that epoch and offset outlive the last use.
    pub meta_ttl_ms: u64,
}

/// The publications of one channel in the order of their offsets. Its own offsets have no holes;
/// those of a broker may.
#[derive(Debug)]
pub struct Stream {
    epoch: Epoch,
    top: u64,
    /// Every publication above this offset is kept.
    floor: u64,
    kept: VecDeque<Arc<Publication>>,
    /// When the stream itself is forgotten, unless it is used before.
    forget_ms: u64,
}

/// Answer to a recovering subscription.
#[derive(Clone, Debug, PartialEq)]
pub struct Recovery {
    /// Nothing is missing between the client's position and the live stream.
    pub recovered: bool,
    /// What was missed, ascending; empty unless recovered.
    pub publications: Vec<Arc<Publication>>,
}

/// A page of history.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Ascending, or descending when asked for.
    pub publications: Vec<Arc<Publication>>,
    /// The stream's top.
    pub position: StreamPosition,
}

impl Stream {
    /// A new life of the stream.
    pub fn new(epoch: Epoch, now_ms: u64, keep: Retention) -> Self {
        let forget_ms = now_ms.saturating_add(keep.meta_ttl_ms.min(limits::EMPTY_STREAM_MS));
        Self { epoch, top: 0, floor: 0, kept: VecDeque::new(), forget_ms }
    }

    /// The copy of a stream that a broker keeps: everything above `floor` is in `publications`,
    /// which have their offsets, ascending.
    pub fn copy(
        position: StreamPosition,
        floor: u64,
        publications: Vec<Publication>,
        now_ms: u64,
        keep: Retention,
    ) -> Self {
        let mut stream = Self::new(position.epoch, now_ms, keep);
        (stream.top, stream.floor) = (floor.min(position.offset), floor.min(position.offset));
        for publication in publications {
            stream.extend(publication, now_ms, keep);
        }
        stream.top = stream.top.max(position.offset);
        stream
    }

    /// Where the stream stands.
    pub fn position(&self) -> StreamPosition {
        StreamPosition { epoch: self.epoch, offset: self.top }
    }

    /// Gives the publication the next offset and keeps it.
    pub fn append(&mut self, mut p: Publication, now_ms: u64, keep: Retention) -> Arc<Publication> {
        (p.previous, p.offset) = (self.top, self.top + 1);
        self.extend(p, now_ms, keep)
    }

    /// Keeps the publication that comes next. It has its offset, and the one before it, already.
    pub fn extend(&mut self, mut p: Publication, now_ms: u64, keep: Retention) -> Arc<Publication> {
        p.epoch = (self.top == 0).then_some(self.epoch);
        p.appended_ms = now_ms;
        self.top = p.offset;
        let p = Arc::new(p);
        self.expire(now_ms, keep);
        while self.kept.len() >= keep.size.min(limits::HISTORY_SIZE_MAX) {
            if !self.drop_oldest() {
                break;
            }
        }
        self.kept.push_back(Arc::clone(&p));
        self.forget_ms = now_ms.saturating_add(keep.meta_ttl_ms.max(keep.ttl_ms));
        p
    }

    /// Stands higher than its last publication, in the same epoch.
    pub fn rise(&mut self, to: StreamPosition) {
        if to.epoch == self.epoch {
            self.top = self.top.max(to.offset);
        }
    }

    /// Drops what is older than the time to live.
    pub fn expire(&mut self, now_ms: u64, keep: Retention) {
        while let Some(oldest) = self.kept.front()
            && oldest.appended_ms.saturating_add(keep.ttl_ms) <= now_ms
        {
            self.drop_oldest();
        }
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = VecDeque::new();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let oldest = self.kept.pop_front();
        self.floor = oldest.as_ref().map_or(self.floor, |p| p.offset);
        oldest.is_some()
    }

    /// When something of this stream expires next, in monotonic milliseconds.
    pub fn next_expiry_ms(&self, keep: Retention) -> u64 {
        match self.kept.front() {
            Some(oldest) => oldest.appended_ms.saturating_add(keep.ttl_ms),
            None => self.forget_ms,
        }
    }

    /// Keeps the stream's epoch alive because somebody uses it.
    pub fn touch(&mut self, now_ms: u64, keep: Retention) {
        let keep_ms = match self.top {
            0 => keep.meta_ttl_ms.min(limits::EMPTY_STREAM_MS),
            _ => keep.meta_ttl_ms,
        };
        self.forget_ms = self.forget_ms.max(now_ms.saturating_add(keep_ms));
    }

    /// May the stream, epoch included, be forgotten?
    pub fn is_forgotten(&self, now_ms: u64) -> bool {
        self.kept.is_empty() && self.forget_ms <= now_ms
    }

    /// Drops all publications; epoch and offset go on.
    pub fn clear(&mut self) {
        self.kept = VecDeque::new();
        self.floor = self.top;
    }

    /// Everything since the client's position, or nothing: recovered when the epoch fits (empty
    /// fits any) and everything above `since.offset` is kept, within
    /// `limit` and [`limits::RECOVERY_BYTES_MAX`].
    pub fn recover(&self, since: &Since, limit: usize) -> Recovery {
        let refused = Recovery { recovered: false, publications: Vec::new() };
        if !since.epoch.is_empty() && *since.epoch != *self.epoch.as_str() {
            return refused;
        }
        if since.offset > self.top || since.offset < self.floor {
            return refused;
        }
        let seen = self.kept.partition_point(|p| p.offset <= since.offset);
        if self.kept.len() - seen > limit {
            return refused;
        }
        let missed = self.kept.iter().skip(seen);
        if missed.clone().map(|p| p.data.len()).sum::<usize>() > limits::RECOVERY_BYTES_MAX {
            return refused;
        }
        Recovery { recovered: true, publications: missed.cloned().collect() }
    }

    /// The latest publication only: recovered when it is the stream's top, or when the client
    /// has that position already.
    pub fn recover_cache(&self, since: &Since) -> Recovery {
        let same_epoch = since.epoch.is_empty() || *since.epoch == *self.epoch.as_str();
        if same_epoch && since.offset == self.top && self.top > 0 {
            return Recovery { recovered: true, publications: Vec::new() };
        }
        let publications: Vec<_> = self.kept.back().cloned().into_iter().collect();
        Recovery { recovered: !publications.is_empty(), publications }
    }

    /// A page. 112 when `since` names another epoch.
    pub fn page(
        &self,
        since: Option<&Since>,
        limit: usize,
        reverse: bool,
    ) -> Result<Page, ClientError> {
        if let Some(s) = since
            && !s.epoch.is_empty()
            && *s.epoch != *self.epoch.as_str()
        {
            return Err(ClientError::UNRECOVERABLE_POSITION);
        }
        let publications = match (since, reverse) {
            (None, false) => self.kept.iter().take(limit).cloned().collect(),
            (None, true) => self.kept.iter().rev().take(limit).cloned().collect(),
            (Some(s), false) => {
                self.kept.iter().filter(|p| p.offset > s.offset).take(limit).cloned().collect()
            }
            (Some(s), true) => self
                .kept
                .iter()
                .rev()
                .filter(|p| p.offset < s.offset)
                .take(limit)
                .cloned()
                .collect(),
        };
        Ok(Page { publications: within_bytes(publications), position: self.position() })
    }
}

/// A page is cut where its payloads pass the bound; the next one begins there. One publication
/// is always in it.
pub fn within_bytes(mut publications: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    let mut bytes = 0;
    let fits = publications.iter().take_while(|p| {
        bytes += p.data.len();
        bytes <= limits::RECOVERY_BYTES_MAX
    });
    let fits = fits.count().max(1);
    publications.truncate(fits);
    publications
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEEP: Retention = Retention { size: 5, ttl_ms: 1_000, meta_ttl_ms: 10_000 };

    fn publication(n: u64) -> Publication {
        let data = n.to_string().into_boxed_str();
        let (epoch, tags, info) = (None, None, None);
        Publication { offset: 0, previous: 0, epoch, data, tags, info, appended_ms: 0 }
    }

    fn since(offset: u64, epoch: &str) -> Since {
        Since { offset, epoch: epoch.into() }
    }

    fn stream(count: u64) -> Stream {
        let mut s = Stream::new(Epoch::from_random(7), 0, KEEP);
        for n in 1..=count {
            assert_eq!(s.append(publication(n), n, KEEP).offset, n);
        }
        s
    }

    #[test]
    fn recovery_is_exact_at_every_edge() {
        let s = stream(8); // 4..=8 are kept
        let epoch = s.position().epoch;
        for (offset, limit, recovered, first) in [
            (8, 10, true, None),
            (7, 10, true, Some(8)),
            (3, 5, true, Some(4)),
            (3, 4, false, None),  // one more than the limit
            (2, 10, false, None), // trimmed
            (0, 10, false, None),
            (9, 10, false, None), // from the future
            (u64::MAX, 10, false, None),
        ] {
            for (text, fits) in [(epoch.as_str(), true), ("", true), ("other", false)] {
                let r = s.recover(&since(offset, text), limit);
                assert_eq!(r.recovered, recovered && fits, "{offset} {limit} {text}");
                let want = if fits { first } else { None };
                assert_eq!(r.publications.first().map(|p| p.offset), want);
            }
        }
        assert!(stream(3).recover(&since(0, ""), 10).recovered, "from the very beginning");
        assert!(stream(0).recover(&since(0, ""), 10).recovered, "nothing was published yet");
    }

    #[test]
    fn publications_expire_one_by_one_and_the_stream_last() {
        let mut s = stream(3); // appended at 1, 2, 3
        s.expire(1_001, KEEP);
        assert!(!s.recover(&since(0, ""), 10).recovered);
        assert!(s.recover(&since(1, ""), 10).recovered);
        s.expire(1_003, KEEP);
        assert!(s.recover(&since(3, ""), 10).recovered, "the position outlives the publications");
        assert!(!s.is_forgotten(10_002));
        assert!(s.is_forgotten(10_003));
    }

    #[test]
    fn cache_mode_gives_the_latest() {
        let s = stream(8);
        let r = s.recover_cache(&since(2, "other"));
        assert!(r.recovered && r.publications.len() == 1 && r.publications[0].offset == 8);
        assert!(s.recover_cache(&since(8, "")).publications.is_empty());
        let mut empty = stream(2);
        empty.clear();
        assert!(!empty.recover_cache(&since(1, "")).recovered);
    }

    proptest! {
        /// Against a plain list of everything ever published.
        #[test]
        fn pages_and_recovery_match_a_list(
            steps in proptest::collection::vec((0u64..400, any::<bool>()), 0..40),
            offset in 0u64..50, limit in 0usize..10, reverse in any::<bool>(),
        ) {
            let mut s = Stream::new(Epoch::from_random(1), 0, KEEP);
            let mut all: Vec<(u64, u64)> = Vec::new(); // (offset, appended)
            let mut now = 0;
            for (step, publish) in steps {
                now += step;
                if publish {
                    s.append(publication(0), now, KEEP);
                    all.push((all.len() as u64 + 1, now));
                }
            }
            s.expire(now, KEEP);
            let kept: Vec<u64> = all.iter().rev().take(KEEP.size).rev()
                .filter(|(_, at)| at + KEEP.ttl_ms > now).map(|(o, _)| *o).collect();
            let top = all.len() as u64;
            let missed: Vec<u64> = (offset + 1..=top).collect();
            let held = missed.iter().all(|o| kept.contains(o));
            let can = offset <= top && missed.len() <= limit && held;
            let r = s.recover(&since(offset, ""), limit);
            prop_assert_eq!(r.recovered, can);
            if can {
                let got: Vec<u64> = r.publications.iter().map(|p| p.offset).collect();
                prop_assert_eq!(got, missed);
            }
            let page = s.page(Some(&since(offset, "")), limit, reverse).unwrap();
            let mut want: Vec<u64> = kept.iter().copied()
                .filter(|o| if reverse { *o < offset } else { *o > offset }).collect();
            if reverse { want.reverse(); }
            want.truncate(limit);
            let got: Vec<u64> = page.publications.iter().map(|p| p.offset).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(page.position.offset, top);
        }
    }
}

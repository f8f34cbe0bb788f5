//! Channels that are opened, and holes that are filled.

use super::publish::keep_of;
use super::{Bridge, begin};
use crate::worker::letter::Letter;
use plimsoll_backbone::{Failure, Later, Page, Read, Stamp, Want};
use plimsoll_core::limits;
use plimsoll_core::link::{Members, News, Opened, Replica, Unavailable};
use plimsoll_core::model::{StreamPosition, home_of};
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

/// Openings and readings that wait for their turn.
#[derive(Default)]
pub(super) struct Jobs {
    opens: VecDeque<Arc<str>>,
    reads: VecDeque<(Arc<str>, Option<StreamPosition>)>,
    rosters: VecDeque<Arc<str>>,
}

impl Jobs {
    pub(super) fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.reads.is_empty() && self.rosters.is_empty()
    }
}

impl Bridge {
    pub(super) fn queue_open(&self, jobs: &mut Jobs, channel: Arc<str>) {
        self.figures.opens.add(1);
        if jobs.opens.len() >= limits::BACKBONE_OPENS_WAITING_MAX {
            return self.tell(channel, News::Opened(Err(Unavailable)));
        }
        jobs.opens.push_back(channel);
    }

    pub(super) fn queue_read(
        &self,
        jobs: &mut Jobs,
        channel: Arc<str>,
        since: Option<StreamPosition>,
    ) {
        self.figures.reads.add(1);
        if jobs.reads.len() >= limits::BACKBONE_OPENS_WAITING_MAX {
            return self.tell(channel, News::Read(Err(Unavailable)));
        }
        jobs.reads.push_back((channel, since));
    }

    pub(super) fn queue_roster(&self, jobs: &mut Jobs, channel: Arc<str>) {
        if jobs.rosters.len() >= limits::BACKBONE_OPENS_WAITING_MAX {
            return self.tell(channel, News::Roster(Err(Unavailable)));
        }
        jobs.rosters.push_back(channel);
    }

    /// Begins as many as may be on their way.
    pub(super) async fn start_jobs(self: &Arc<Self>, jobs: &mut Jobs) {
        let room = || self.jobs.load(Ordering::Relaxed) < limits::BACKBONE_READS_MAX;
        while room() && !jobs.opens.is_empty() {
            let count = jobs.opens.len().min(limits::BACKBONE_OPENS_MAX);
            let channels: Vec<_> = jobs.opens.drain(..count).collect();
            self.jobs.fetch_add(1, Ordering::Relaxed);
            // Begun here, so that it is in order with what is given back.
            let subscribed = begin(self.backbone.subscribe(channels.clone())).await;
            let bridge = Arc::clone(self);
            tokio::spawn(async move {
                let results = match subscribed {
                    Ok(results) => results,
                    Err(later) => later.await,
                };
                bridge.open(channels, results).await;
                bridge.end_job();
            });
        }
        while room() && !jobs.reads.is_empty() {
            let count = jobs.reads.len().min(limits::BACKBONE_READS_PER_CALL);
            let batch: Vec<_> = jobs.reads.drain(..count).collect();
            self.jobs.fetch_add(1, Ordering::Relaxed);
            let bridge = Arc::clone(self);
            tokio::spawn(async move {
                bridge.read_again(batch).await;
                bridge.end_job();
            });
        }
        while room() && !jobs.rosters.is_empty() {
            let count = jobs.rosters.len().min(limits::BACKBONE_OPENS_MAX);
            let channels: Vec<_> = jobs.rosters.drain(..count).collect();
            self.jobs.fetch_add(1, Ordering::Relaxed);
            let bridge = Arc::clone(self);
            tokio::spawn(async move {
                bridge.rosters(channels).await;
                bridge.end_job();
            });
        }
    }

    /// Who is there, of channels that are open.
    async fn rosters(&self, channels: Vec<Arc<str>>) {
        let mut begun = Vec::with_capacity(channels.len());
        for channel in channels {
            let later = begin(self.roster(&channel)).await;
            begun.push((channel, later));
        }
        for (channel, later) in begun {
            let members = self.members_of(&channel, end(later).await);
            self.tell(channel, News::Roster(members));
        }
    }

    fn end_job(&self) {
        self.jobs.fetch_sub(1, Ordering::Relaxed);
        self.bell.notify_one();
    }

    fn tell(&self, channel: Arc<str>, news: News) {
        let worker = home_of(&channel, self.post.workers()) as u16;
        let received_us = self.started.elapsed().as_micros() as u64;
        self.post.put(worker, Letter::News { channel, news, received_us });
    }

    /// Channels are subscribed, or not: reads how those stand that are.
    async fn open(&self, channels: Vec<Arc<str>>, results: Vec<Result<(), Failure>>) {
        let mut fine = Vec::with_capacity(channels.len());
        let mut results = results.into_iter();
        for channel in channels {
            match results.next().unwrap_or(Err(Failure::Unknown)) {
                Ok(()) => fine.push(channel),
                Err(_) => self.cannot_open(channel),
            }
        }
        // Both are on their way at the same time.
        let with_history = |c: &&Arc<str>| self.newest(c).is_some();
        let reads = fine.iter().filter(with_history).filter_map(|c| self.newest(c)).collect();
        let reading = begin(self.read_in_parts(reads)).await;
        let mut rosters = Vec::with_capacity(fine.len());
        for channel in &fine {
            rosters.push(match self.has_presence(channel) {
                true => Some(begin(self.roster(channel)).await),
                false => None,
            });
        }
        let mut pages = end(reading).await.into_iter();
        for (channel, roster) in fine.into_iter().zip(rosters) {
            let replica = match self.newest(&channel).is_some() {
                true => match pages.next() {
                    Some(Ok(page)) => Ok(Some(self.newest_of(&channel, page))),
                    _ => Err(Unavailable),
                },
                false => Ok(None),
            };
            let members = match roster {
                Some(begun) => self.members_of(&channel, end(begun).await),
                None => Ok(Members::default()),
            };
            match (replica, members) {
                (Ok(replica), Ok(members)) => {
                    self.tell(channel, News::Opened(Ok(Opened { replica, members })));
                }
                _ => {
                    self.backbone.unsubscribe(vec![Arc::clone(&channel)]).await;
                    self.cannot_open(channel);
                }
            }
        }
    }

    fn cannot_open(&self, channel: Arc<str>) {
        self.figures.opens_failed.add(1);
        self.tell(channel, News::Opened(Err(Unavailable)));
    }

    fn has_presence(&self, channel: &str) -> bool {
        self.channels.resolve(channel).is_ok_and(|r| r.options.presence || r.options.join_leave)
    }

    /// The reading that gives the newest publications: as many as a recovery may have.
    fn newest(&self, channel: &Arc<str>) -> Option<Read> {
        let options = self.channels.resolve(channel).ok()?.options;
        let want = Want::Before { offset: u64::MAX, limit: self.recovery_limit };
        keep_of(options).map(|keep| Read { channel: Arc::clone(channel), keep, want })
    }

    /// Reads some channels at a time: an answer must not be so large that it comes too late.
    fn read_in_parts(&self, reads: Vec<Read>) -> Later<Vec<Result<Page, Failure>>> {
        let backbone = Arc::clone(&self.backbone);
        Box::pin(async move {
            let mut pages = Vec::with_capacity(reads.len());
            for some in reads.chunks(limits::BACKBONE_READS_PER_CALL) {
                pages.extend(backbone.read(some.to_vec()).await);
            }
            pages
        })
    }

    /// What was read of the newest publications.
    fn newest_of(&self, channel: &str, page: Page) -> Replica {
        let first = page.entries.first().map_or(page.position.offset, |e| e.offset - 1);
        let whole = page.entries.len() < self.recovery_limit;
        let floor = if whole { page.floor } else { page.floor.max(first) };
        self.replica(channel, Page { floor, ..page }, true)
    }

    /// What cannot be read any more, or not by this node, is missing.
    fn replica(&self, channel: &str, page: Page, whole: bool) -> Replica {
        let mut replica =
            Replica { position: page.position, floor: page.floor, publications: Vec::new(), whole };
        let mut previous = page.floor;
        for entry in page.entries {
            let position = StreamPosition { offset: entry.offset, ..page.position };
            let stamp = Stamp { position, previous };
            previous = entry.offset;
            match self.wire.stored(channel, &entry.body, stamp) {
                Ok(publication) => replica.publications.push(publication),
                Err(unreadable) => {
                    self.figures.count_garbage(unreadable.label());
                    replica.publications.clear();
                    replica.floor = entry.offset;
                }
            }
        }
        replica
    }

    /// Fills holes: what follows where the copy stands, or, where that does not join on, the
    /// newest.
    async fn read_again(&self, batch: Vec<(Arc<str>, Option<StreamPosition>)>) {
        let mut wanted = Vec::with_capacity(batch.len());
        let mut reads = Vec::with_capacity(batch.len());
        for (channel, since) in batch {
            let Some(mut read) = self.newest(&channel) else { continue };
            if let Some(since) = since {
                read.want = Want::After { offset: since.offset, limit: limits::BACKBONE_PAGE_MAX };
            }
            reads.push(read);
            wanted.push((channel, since));
        }
        let pages = self.backbone.read(reads).await;
        let mut again = Vec::new();
        let mut pages = pages.into_iter();
        for (channel, since) in wanted {
            match (pages.next(), since) {
                (Some(Ok(page)), Some(since)) if joins(&page, since) => {
                    let whole = page.entries.len() < limits::BACKBONE_PAGE_MAX;
                    let replica = self.replica(&channel, page, whole);
                    if replica.floor > since.offset {
                        // Something in it cannot be read: it does not join on after all.
                        again.push(channel);
                        continue;
                    }
                    self.tell(channel, News::Read(Ok(replica)));
                }
                (Some(Ok(_)), Some(_)) => again.push(channel),
                (Some(Ok(page)), None) => {
                    let replica = self.newest_of(&channel, page);
                    self.tell(channel, News::Read(Ok(replica)));
                }
                _ => self.tell(channel, News::Read(Err(Unavailable))),
            }
        }
        if again.is_empty() {
            return;
        }
        let reads = again.iter().filter_map(|c| self.newest(c)).collect();
        let mut pages = self.backbone.read(reads).await.into_iter();
        for channel in again {
            let read = match pages.next() {
                Some(Ok(page)) => Ok(self.newest_of(&channel, page)),
                _ => Err(Unavailable),
            };
            self.tell(channel, News::Read(read));
        }
    }

    pub(super) fn roster(
        &self,
        channel: &Arc<str>,
    ) -> Later<Result<Vec<plimsoll_backbone::Member>, Failure>> {
        self.backbone.presence(Arc::clone(channel), limits::PRESENCE_ENTRIES_MAX)
    }

    /// Members as the home knows them. What is no member of ours is left out.
    pub(super) fn members_of(
        &self,
        channel: &str,
        members: Result<Vec<plimsoll_backbone::Member>, Failure>,
    ) -> Result<Members, Unavailable> {
        let members = match members {
            Ok(members) => members,
            Err(Failure::TooLarge) => {
                return Ok(Members { list: Vec::new(), too_many: true });
            }
            Err(_) => return Err(Unavailable),
        };
        let read = |m: plimsoll_backbone::Member| {
            self.wire
                .presence_of(channel, &m.info)
                .inspect_err(|e| self.figures.count_garbage(e.label()))
                .ok()
                .map(|(info, _)| (info, m.node.0))
                .inspect(|(_, node)| self.speak_of(*node))
        };
        let list = members.into_iter().filter_map(read).collect();
        Ok(Members { list, too_many: false })
    }
}

/// Does what was read join on to where the copy stands?
fn joins(page: &Page, since: StreamPosition) -> bool {
    page.position.epoch == since.epoch
        && (page.floor..=page.position.offset).contains(&since.offset)
}

impl Bridge {
    /// A node is said to have members: whether it is there is for the cluster to find out.
    fn speak_of(&self, node: u64) {
        let mut spoken = self.spoken_of.lock().unwrap_or_else(PoisonError::into_inner);
        if spoken.len() < limits::NODES_MAX {
            spoken.insert(node);
        }
    }

    /// Nodes that were spoken of since the last time.
    pub fn take_spoken_of(&self) -> HashSet<u64> {
        std::mem::take(&mut *self.spoken_of.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn end<T>(begun: Result<T, Later<T>>) -> T {
    match begun {
        Ok(done) => done,
        Err(later) => later.await,
    }
}

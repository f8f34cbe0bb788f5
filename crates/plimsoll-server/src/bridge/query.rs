//! Questions that the backbone answers: histories and members of channels that are not open here.

use super::Bridge;
use super::publish::{error_of, keep_of};
use plimsoll_backbone::{Entry, Failure, Page, Read, Stamp, Want};
use plimsoll_core::codes::ClientError;
use plimsoll_core::history;
use plimsoll_core::home::Answer;
use plimsoll_core::limits;
use plimsoll_core::link::{Asker, Call};
use plimsoll_core::model::{Since, StreamPosition};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Bridge {
    /// Asks in a task of its own.
    pub(super) fn query(self: &Arc<Self>, call: Call) {
        let many = self.queries.fetch_add(1, Ordering::Relaxed) >= limits::BACKBONE_QUERIES_MAX;
        let bridge = Arc::clone(self);
        if many {
            self.end_query();
            return self.refuse_query(call);
        }
        tokio::spawn(async move {
            bridge.ask(call).await;
            bridge.end_query();
        });
    }

    fn end_query(&self) {
        self.queries.fetch_sub(1, Ordering::Relaxed);
        self.bell.notify_one();
    }

    fn refuse_query(&self, call: Call) {
        let busy = Answer::Error(ClientError::TOO_MANY_REQUESTS);
        match call {
            Call::Presence { asker, channel }
            | Call::Stats { asker, channel }
            | Call::History { asker, channel, .. }
            | Call::Clear { asker, channel } => self.answer(asker, channel, busy),
            _ => {}
        }
    }

    async fn ask(&self, call: Call) {
        let failed = |failure| Answer::Error(error_of(failure));
        match call {
            Call::Presence { asker, channel } => {
                let answer = match self.roster(&channel).await {
                    Err(Failure::TooLarge) => Answer::Error(ClientError::LIMIT_EXCEEDED),
                    Err(failure) => failed(failure),
                    Ok(members) => {
                        let members = self.members_of(&channel, Ok(members)).unwrap_or_default();
                        Answer::Presence(members.list.into_iter().map(|(info, _)| info).collect())
                    }
                };
                self.answer(asker, channel, answer);
            }
            Call::Stats { asker, channel } => {
                let answer = match self.backbone.presence_stats(Arc::clone(&channel)).await {
                    Ok(tally) => Answer::Stats { clients: tally.clients, users: tally.users },
                    Err(failure) => failed(failure),
                };
                self.answer(asker, channel, answer);
            }
            Call::History { asker, channel, since, limit, reverse } => {
                self.history(asker, channel, since, limit, reverse).await;
            }
            Call::Clear { asker, channel } => {
                let answer = match self.backbone.clear(Arc::clone(&channel)).await {
                    Ok(()) => Answer::Done,
                    Err(failure) => failed(failure),
                };
                self.answer(asker, channel, answer);
            }
            _ => {}
        }
    }

    async fn history(
        &self,
        asker: Asker,
        channel: Arc<str>,
        since: Option<Since>,
        limit: usize,
        reverse: bool,
    ) {
        let keep = self.channels.resolve(&channel).ok().and_then(|r| keep_of(r.options));
        let Some(keep) = keep else {
            return self.answer(asker, channel, Answer::Error(ClientError::NOT_AVAILABLE));
        };
        let limit = limit.min(self.history_limit);
        let want = match (&since, reverse) {
            (_, _) if limit == 0 => Want::Before { offset: u64::MAX, limit: 0 },
            (None, false) => Want::After { offset: 0, limit },
            (None, true) => Want::Before { offset: u64::MAX, limit },
            (Some(s), false) => Want::After { offset: s.offset, limit },
            (Some(s), true) => Want::Before { offset: s.offset, limit },
        };
        let read = Read { channel: Arc::clone(&channel), keep, want };
        let page = self.backbone.read(vec![read]).await.pop();
        let answer = match page.unwrap_or(Err(Failure::Unknown)) {
            Err(failure) => Answer::Error(error_of(failure)),
            Ok(page) if is_of_another_epoch(&page, since.as_ref()) => {
                Answer::Error(ClientError::UNRECOVERABLE_POSITION)
            }
            Ok(page) => Answer::History(self.page(&channel, page, reverse)),
        };
        self.answer(asker, channel, answer);
    }

    /// A page for clients: within their bound of bytes, in the order they asked for.
    fn page(&self, channel: &str, page: Page, reverse: bool) -> history::Page {
        let position = page.position;
        let read = |entry: Entry| {
            let position = StreamPosition { offset: entry.offset, ..position };
            let stored = self.wire.stored(channel, &entry.body, Stamp { position, previous: 0 });
            stored.inspect_err(|e| self.figures.count_garbage(e.label())).ok().map(Arc::new)
        };
        let mut publications: Vec<_> = page.entries.into_iter().filter_map(read).collect();
        if reverse {
            publications.reverse();
        }
        history::Page { publications: history::within_bytes(publications), position }
    }
}

fn is_of_another_epoch(page: &Page, since: Option<&Since>) -> bool {
    since.is_some_and(|s| !s.epoch.is_empty() && *s.epoch != *page.position.epoch.as_str())
}

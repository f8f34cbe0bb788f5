//! Letters from the bridge to the workers.

use crate::worker::letter::Letter;
use crate::worker::mailbox::Mailbox;
use plimsoll_core::limits;
use plimsoll_core::model::home_of;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Posts in batches. What does not fit waits here, up to a bound; beyond it deliveries are dropped,
/// and the homes of their channels are told.
#[derive(Default)]
pub struct Post {
    boxes: OnceLock<Vec<Arc<Mailbox<Letter>>>>,
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    letters: Vec<Letter>,
    /// Channels of which deliveries were dropped.
    missed: HashSet<Arc<str>>,
    /// More than can be remembered.
    missed_all: bool,
}

impl Post {
    /// The workers are there: what waited goes to them.
    pub fn attach(&self, boxes: Vec<Arc<Mailbox<Letter>>>) {
        let waiting = boxes.iter().map(|_| Waiting::default()).collect();
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        let _ = self.boxes.set(boxes);
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.boxes.get().map_or(0, Vec::len)
    }

    /// A letter that is not left out: an answer, or what comes once.
    pub fn put(&self, worker: u16, letter: Letter) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(to) = waiting.get_mut(usize::from(worker)) {
            to.letters.push(letter);
        }
    }

    /// The same letter for all.
    pub fn put_all(&self, make: impl Fn() -> Letter) {
        for worker in 0..self.workers() {
            self.put(worker as u16, make());
        }
    }

    /// Deliveries for the homes of their channels. Returns how many were dropped.
    pub fn deliver(&self, news: &mut Vec<(Arc<str>, Letter)>) -> u64 {
        let mut dropped = 0;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = waiting.len();
        for (channel, letter) in news.drain(..) {
            let Some(to) = waiting.get_mut(home_of(&channel, workers)) else { continue };
            if to.letters.len() < limits::MAIL_BACKLOG_MAX {
                to.letters.push(letter);
                continue;
            }
            dropped += 1;
            if to.missed.len() < limits::MISSED_CHANNELS_MAX {
                to.missed.insert(channel);
            } else {
                to.missed_all = true;
            }
        }
        dropped
    }

    /// Moves what waits into the mailboxes. True when some of it still waits.
    pub fn flush(&self) -> bool {
        let Some(boxes) = self.boxes.get() else { return false };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut some = false;
        for (to, mailbox) in waiting.iter_mut().zip(boxes) {
            if to.letters.len() < limits::MAIL_BACKLOG_MAX / 2 {
                if std::mem::take(&mut to.missed_all) {
                    to.missed.clear();
                    to.letters.push(Letter::Gap(None));
                } else if !to.missed.is_empty() {
                    let missed: Vec<_> = to.missed.drain().collect();
                    to.letters.push(Letter::Gap(Some(missed.into())));
                }
            }
            mailbox.post(&mut to.letters);
            some |= !to.letters.is_empty() || !to.missed.is_empty() || to.missed_all;
        }
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::mailbox::{Sleeper, Wake};
    use plimsoll_core::link::{Arrival, News};
    use plimsoll_core::model::ClientId;

    struct Nobody;
    impl Wake for Nobody {
        fn wake(&self) {}
    }

    fn news(channel: &str) -> (Arc<str>, Letter) {
        let channel: Arc<str> = channel.into();
        let arrival = Arrival::Leave { client: ClientId::default(), announce: false };
        let news = News::Arrived(arrival);
        (Arc::clone(&channel), Letter::News { channel, news, received_us: 0 })
    }

    #[test]
    fn what_is_dropped_is_told() {
        let mailbox = Arc::new(Mailbox::new(10, Sleeper::new(Box::new(Nobody))));
        let post = Post::default();
        post.attach(vec![Arc::clone(&mailbox)]);
        let mut many: Vec<_> = (0..limits::MAIL_BACKLOG_MAX).map(|_| news("a")).collect();
        many.extend([news("b"), news("b"), news("c")]);
        assert_eq!(post.deliver(&mut many), 3);
        let (mut got, mut told) = (Vec::new(), Vec::new());
        while post.flush() {
            mailbox.take(&mut got);
            told.extend(got.drain(..).filter(|l| !matches!(l, Letter::News { .. })));
        }
        mailbox.take(&mut got);
        told.append(&mut got);
        let gaps: Vec<_> = told
            .iter()
            .filter_map(|l| match l {
                Letter::Gap(Some(channels)) => Some(channels.iter().map(|c| &**c).collect()),
                _ => None,
            })
            .collect::<Vec<HashSet<_>>>();
        assert_eq!(gaps, [HashSet::from(["b", "c"])]);
    }
}

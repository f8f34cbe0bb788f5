//! A sink that remembers everything.

use super::within;
use crate::contract::*;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Remembers every event, in order.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    changed: Notify,
}

impl Sink for Recorder {
    fn take(&self, events: &mut Vec<Event>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).append(events);
        self.changed.notify_waiters();
    }
}

impl Recorder {
    /// Looks at all events so far.
    pub fn look<T>(&self, f: impl FnOnce(&[Event]) -> T) -> T {
        f(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Forgets all events so far.
    pub fn forget(&self) {
        self.look(|_| ());
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits until the events so far fulfil something.
    pub async fn until(&self, time: Duration, what: &str, f: impl Fn(&[Event]) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if self.look(&f) {
                    return;
                }
                changed.await;
            }
        };
        let shown = format!("waiting for {what}");
        within(time, &shown, wait).await;
    }

    /// The deliveries of a channel so far, in order.
    pub fn deliveries(&self, channel: &str) -> Vec<Delivery> {
        self.look(|events| of(events, channel).cloned().collect())
    }

    /// The bodies of a channel's deliveries so far.
    pub fn bodies(&self, channel: &str) -> Vec<String> {
        let text = |d: Delivery| String::from_utf8_lossy(&d.body).into_owned();
        self.deliveries(channel).into_iter().map(text).collect()
    }

    /// Waits until a channel has had a delivery with this body.
    pub async fn until_body(&self, channel: &str, body: &str) {
        let what = format!("{body:?} in {channel:?}");
        let is_there = |events: &[Event]| of(events, channel).any(|d| d.body == body.as_bytes());
        self.until(Duration::from_secs(10), &what, is_there).await;
    }

    /// Waits until a gap of a channel is told.
    pub async fn until_gap(&self, time: Duration, channel: &str) {
        self.until(time, "a gap", |events| {
            events.iter().any(|e| match e {
                Event::Gap(Scope::All) => true,
                Event::Gap(Scope::Channels(all)) => all.iter().any(|c| &**c == channel),
                _ => false,
            })
        })
        .await;
    }
}

fn of<'a>(events: &'a [Event], channel: &'a str) -> impl Iterator<Item = &'a Delivery> {
    events.iter().filter_map(move |e| match e {
        Event::Delivery(d) if &*d.channel == channel => Some(d),
        _ => None,
    })
}

//! A mailbox loses nothing, keeps the order and never lets its reader oversleep.

use crate::mailbox::{Mailbox, Sleeper, Wake};
use loom::sync::Notify;
use loom::thread;
use std::sync::Arc;

/// What an eventfd does: a wake before the wait counts too.
#[derive(Clone)]
pub struct Alarm(Arc<Notify>);

impl Alarm {
    pub fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }

    /// Waits without a time limit: a lost wake is a deadlock, which loom reports.
    pub fn wait(&self) {
        self.0.wait();
    }
}

impl Wake for Alarm {
    fn wake(&self) {
        self.0.notify();
    }
}

/// Waits as the worker's loop does: look, announce the sleep, look again, sleep.
pub fn next_batch<T>(boxes: &[Arc<Mailbox<T>>], sleeper: &Sleeper, alarm: &Alarm) -> Vec<T> {
    loop {
        let mut got = Vec::new();
        for mailbox in boxes {
            let mut letters = Vec::new();
            mailbox.take(&mut letters);
            got.append(&mut letters);
        }
        if !got.is_empty() {
            return got;
        }
        sleeper.about_to_sleep();
        if boxes.iter().all(|b| b.is_empty()) {
            alarm.wait();
        }
        sleeper.awake();
    }
}

/// All orders with at most so many preemptions: most faults need one or two.
pub fn model() -> loom::model::Builder {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model
}

#[test]
fn nothing_is_lost_and_nobody_oversleeps() {
    model().check(|| {
        let alarm = Alarm::new();
        let sleeper = Sleeper::new(Box::new(alarm.clone()));
        let mailbox = Arc::new(Mailbox::new(8, Arc::clone(&sleeper)));
        let writer = Arc::clone(&mailbox);
        let posting = thread::spawn(move || {
            writer.post(&mut vec![1, 2]);
            writer.post(&mut vec![3]);
        });
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(next_batch(&[Arc::clone(&mailbox)], &sleeper, &alarm));
        }
        assert_eq!(got, [1, 2, 3]);
        posting.join().unwrap();
    });
}

#[test]
fn a_full_box_keeps_the_order() {
    model().check(|| {
        let alarm = Alarm::new();
        let sleeper = Sleeper::new(Box::new(alarm.clone()));
        let mailbox = Arc::new(Mailbox::new(1, Arc::clone(&sleeper)));
        let writer = Arc::clone(&mailbox);
        let posting = thread::spawn(move || {
            let mut batch = vec![1, 2];
            writer.post(&mut batch);
            writer.post(&mut batch);
            batch
        });
        let got = next_batch(&[Arc::clone(&mailbox)], &sleeper, &alarm);
        let kept = posting.join().unwrap();
        let mut rest = Vec::new();
        mailbox.take(&mut rest);
        let all: Vec<i32> = got.into_iter().chain(rest).chain(kept).collect();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn two_writers_one_reader() {
    model().check(|| {
        let alarm = Alarm::new();
        let sleeper = Sleeper::new(Box::new(alarm.clone()));
        let boxes: Vec<_> =
            (0..2).map(|_| Arc::new(Mailbox::new(8, Arc::clone(&sleeper)))).collect();
        let posting: Vec<_> = boxes
            .iter()
            .enumerate()
            .map(|(i, b)| {
                let b = Arc::clone(b);
                thread::spawn(move || b.post(&mut vec![i]))
            })
            .collect();
        let mut got = Vec::new();
        while got.len() < 2 {
            got.extend(next_batch(&boxes, &sleeper, &alarm));
        }
        got.sort_unstable();
        assert_eq!(got, [0, 1]);
        posting.into_iter().for_each(|p| p.join().unwrap());
    });
}

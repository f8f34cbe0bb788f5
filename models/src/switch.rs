//! A recovering subscriber on one worker, the channel's home on another, a publisher on a third
//! thread: whatever the order of their steps, the subscriber sees each publication exactly once
//! and in order, by recovery or live.
//!
//! The home is the real one; the loop around it does what the worker does with letters: the
//! answer and then the event go into the asking worker's one box.

use crate::mailbox::{Mailbox, Sleeper};
use crate::mailboxes::{Alarm, model, next_batch};
use loom::thread;
use plimsoll_core::channel::Channels;
use plimsoll_core::home::{Answer, Event, Home, PublishRequest, Request, SubscribeRequest};
use plimsoll_core::model::Since;
use plimsoll_core::policy::{ChannelOptions, ChannelPolicy};
use std::sync::Arc;

enum ToHome {
    Subscribe,
    Publish,
}

enum ToSubscriber {
    Granted { recovered: Vec<u64>, top: u64 },
    Live(u64),
}

const SUBSCRIBER: u16 = 0;

fn home() -> Home {
    let without_namespace =
        ChannelOptions { history_size: 10, history_ttl_ms: 1_000, ..Default::default() };
    let rules = Channels::new(ChannelPolicy { without_namespace, ..Default::default() }).unwrap();
    Home::new(Arc::new(rules), 10, 1)
}

/// One letter at the home; returns what goes to the subscriber's worker, in order.
fn at_home(home: &mut Home, letter: &ToHome) -> Vec<ToSubscriber> {
    let channel: Arc<str> = "c".into();
    let request = match letter {
        ToHome::Subscribe => Request::Subscribe(SubscribeRequest {
            positioned: true,
            recover: Some(Since { offset: 0, epoch: "".into() }),
            ..Default::default()
        }),
        ToHome::Publish => {
            Request::Publish(PublishRequest { data: "1".into(), ..Default::default() })
        }
    };
    let outcome = home.handle(Some(SUBSCRIBER), &channel, request, 0);
    let mut letters = Vec::new();
    if let Answer::Subscribed(s) = outcome.answer {
        let recovery = s.recovery.expect("asked for");
        assert!(recovery.recovered);
        let recovered = recovery.publications.iter().map(|p| p.offset).collect();
        letters.push(ToSubscriber::Granted { recovered, top: s.position.expect("asked").offset });
    }
    if let Some(Event::Publication(p)) = outcome.event
        && home.interested("c").contains(&SUBSCRIBER)
    {
        letters.push(ToSubscriber::Live(p.offset));
    }
    letters
}

#[test]
fn recovery_joins_on_to_live() {
    const PUBLICATIONS: u64 = 2;
    model().check(|| {
        let (home_alarm, sub_alarm) = (Alarm::new(), Alarm::new());
        let home_sleeper = Sleeper::new(Box::new(home_alarm.clone()));
        let sub_sleeper = Sleeper::new(Box::new(sub_alarm.clone()));
        let from_sub = Arc::new(Mailbox::new(8, Arc::clone(&home_sleeper)));
        let from_pub = Arc::new(Mailbox::new(8, Arc::clone(&home_sleeper)));
        let to_sub = Arc::new(Mailbox::new(8, Arc::clone(&sub_sleeper)));

        let publisher = Arc::clone(&from_pub);
        let publishing = thread::spawn(move || {
            for _ in 0..PUBLICATIONS {
                publisher.post(&mut vec![ToHome::Publish]);
            }
        });
        let (boxes, out) = ([Arc::clone(&from_sub), from_pub], Arc::clone(&to_sub));
        let serving = thread::spawn(move || {
            let mut home = home();
            let mut handled = 0;
            while handled < PUBLICATIONS + 1 {
                for letter in next_batch(&boxes, &home_sleeper, &home_alarm) {
                    out.post(&mut at_home(&mut home, &letter));
                    handled += 1;
                }
            }
        });

        from_sub.post(&mut vec![ToHome::Subscribe]);
        let mut seen: Vec<u64> = Vec::new();
        let mut granted = false;
        while !granted || seen.len() < PUBLICATIONS as usize {
            for letter in next_batch(&[Arc::clone(&to_sub)], &sub_sleeper, &sub_alarm) {
                match letter {
                    ToSubscriber::Granted { recovered, top } => {
                        assert!(!granted && seen.is_empty(), "nothing live before the answer");
                        assert_eq!(recovered.last().copied().unwrap_or(0), top);
                        seen = recovered;
                        granted = true;
                    }
                    ToSubscriber::Live(offset) => seen.push(offset),
                }
            }
        }
        assert_eq!(seen, (1..=PUBLICATIONS).collect::<Vec<_>>());
        publishing.join().unwrap();
        serving.join().unwrap();
    });
}

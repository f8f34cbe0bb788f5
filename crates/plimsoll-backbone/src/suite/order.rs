//! Order, positions, repetitions, subscriptions.

use super::*;
use std::collections::HashMap;

/// Several nodes publish into one channel at once: all see one order, without a hole.
pub async fn all_nodes_see_one_order(bed: &dyn Bed) -> Outcome {
    const EACH: usize = 100;
    let nodes = [node(bed).await, node(bed).await, node(bed).await];
    let keep = nodes[0].keep();
    let channel = fresh("order");
    for n in &nodes {
        n.subscribe(&channel).await;
    }
    let publishers: Vec<_> = nodes
        .iter()
        .map(|n| {
            let (b, id, channel) = (n.b.clone(), n.id, channel.clone());
            tokio::spawn(async move {
                for first in (0..EACH).step_by(10) {
                    let body = |i| publish(&channel, &format!("{id} {i:04}"), keep);
                    let answers = b.publish((first..first + 10).map(body).collect()).await;
                    assert!(answers.iter().all(|a| a.is_ok_and(|p| p.is_new)), "{answers:?}");
                }
            })
        })
        .collect();
    for p in publishers {
        p.await.expect("a publisher");
    }
    let total = EACH * nodes.len();
    for n in &nodes {
        let seen = |events: &[Event]| {
            events.iter().filter(|e| matches!(e, Event::Delivery(_))).count() >= total
        };
        n.heard.until(Duration::from_secs(20), "all deliveries", seen).await;
    }
    let heard: Vec<_> = nodes.iter().map(|n| n.heard.deliveries(&channel)).collect();
    for seen in &heard {
        assert_eq!(seen.len(), total);
        if keep.is_some() {
            assert_eq!(seen, &heard[0], "all see the same");
            assert_linked(seen, 0);
        }
        for n in &nodes {
            let prefix = n.id.to_string();
            let own = |d: &&Delivery| d.body.starts_with(prefix.as_bytes());
            let bodies: Vec<_> = seen.iter().filter(own).map(|d| d.body.clone()).collect();
            assert_eq!(bodies.len(), EACH);
            assert!(bodies.is_sorted(), "each publisher's order is kept");
        }
    }
    close(nodes).await;
    Outcome::Done
}

/// Each delivery follows the one before it, in one epoch.
pub(crate) fn assert_linked(seen: &[Delivery], mut previous: u64) {
    let epoch = seen.first().and_then(|d| d.stamp).map(|s| s.position.epoch);
    for d in seen {
        let stamp = d.stamp.expect("a stamp");
        assert_eq!(stamp.previous, previous, "{:?}", d.body);
        assert!(stamp.position.offset > previous);
        assert_eq!(Some(stamp.position.epoch), epoch);
        previous = stamp.position.offset;
    }
}

/// Calls polled one after the other are published in that order, though none was waited for.
pub async fn one_publisher_is_fifo(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("fifo");
    b.subscribe(&channel).await;
    let bodies: Vec<String> = (0..200).map(|i| format!("{i:04}")).collect();
    let mut calls: Vec<_> =
        bodies.iter().map(|body| a.b.publish(vec![publish(&channel, body, a.keep())])).collect();
    let mut done: Vec<Option<Vec<Result<Published, Failure>>>> =
        calls.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (call, done) in calls.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(answer) = call.as_mut().poll(cx)
            {
                *done = Some(answer);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    assert!(done.iter().flatten().flatten().all(Result::is_ok), "{done:?}");
    b.heard.until_body(&channel, "0199").await;
    assert_eq!(b.heard.bodies(&channel), bodies);
    close([a, b]).await;
    Outcome::Done
}

/// The answer says the position that subscribers and readers see.
pub async fn an_ack_is_what_is_delivered(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    if !a.has_history() {
        close([a, b]).await;
        return Outcome::NotOffered("history");
    }
    let (channel, other) = (fresh("ack"), fresh("ack"));
    b.subscribe(&channel).await;
    let mut acks = Vec::new();
    let mut batch = Vec::new();
    for i in 0..20 {
        batch.push(publish(&channel, &format!("{i}"), Some(LONG)));
        batch.push(publish(&other, "elsewhere", Some(LONG)));
    }
    for answer in a.b.publish(batch).await.into_iter().step_by(2) {
        acks.push(answer.expect("published").position.expect("a position"));
    }
    b.heard.until_body(&channel, "19").await;
    let seen = b.heard.deliveries(&channel);
    let positions: Vec<_> = seen.iter().map(|d| d.stamp.expect("a stamp").position).collect();
    assert_eq!(positions, acks);
    assert_linked(&seen, 0);
    if bed.is_contiguous() {
        assert!(acks.iter().map(|p| p.offset).eq(1..=20), "{acks:?}");
    }
    let page = b.all(&channel, LONG).await;
    assert_eq!(Some(&page.position), acks.last());
    let stored: Vec<_> = page.entries.iter().map(|e| (e.offset, e.body.clone())).collect();
    let delivered: Vec<_> =
        seen.iter().map(|d| (d.stamp.map_or(0, |s| s.position.offset), d.body.clone())).collect();
    assert_eq!(stored, delivered);
    close([a, b]).await;
    Outcome::Done
}

fn keyed(channel: &Arc<str>, body: &str, key: &str, keep: Option<Keep>) -> Publish {
    Publish { idempotency_key: Some(key.into()), ..publish(channel, body, keep) }
}

/// The same key again is the first publication; another key or channel is another one.
pub async fn an_idempotent_retry_is_one_publication(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    if !a.b.capabilities().idempotency {
        close([a, b]).await;
        return Outcome::NotOffered("idempotency");
    }
    let (channel, other) = (fresh("idem"), fresh("idem"));
    b.subscribe(&channel).await;
    let first = a.publish(keyed(&channel, "first", "k", Some(LONG))).await.expect("published");
    let again = a.publish(keyed(&channel, "again", "k", Some(LONG))).await.expect("answered");
    let there = b.publish(keyed(&channel, "there", "k", Some(LONG))).await.expect("answered");
    assert!(first.is_new && !again.is_new && !there.is_new);
    assert_eq!((again.position, there.position), (first.position, first.position));
    let elsewhere = a.publish(keyed(&other, "other", "k", Some(LONG))).await.expect("published");
    let odd = a.publish(keyed(&channel, "odd key", "k \r\n:/é", Some(LONG))).await;
    assert!(elsewhere.is_new && odd.expect("published").is_new);
    let mut batch = vec![keyed(&channel, "twice", "t", Some(LONG)); 2];
    batch.push(publish(&channel, "end", Some(LONG)));
    let answers = a.b.publish(batch).await;
    let new: Vec<bool> = answers.iter().map(|p| p.expect("answered").is_new).collect();
    assert_eq!(new, [true, false, true]);
    b.heard.until_body(&channel, "end").await;
    assert_eq!(b.heard.bodies(&channel), ["first", "odd key", "twice", "end"]);
    assert_eq!(a.all(&channel, LONG).await.entries.len(), 4);
    close([a, b]).await;
    Outcome::Done
}

/// The same key on two nodes at once: one of them is new, and both say the same position.
pub async fn an_idempotent_retry_on_two_nodes_is_one_publication(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    if !a.b.capabilities().idempotency {
        close([a, b]).await;
        return Outcome::NotOffered("idempotency");
    }
    let channel = fresh("idem2");
    b.subscribe(&channel).await;
    for i in 0..30 {
        let key = format!("k{i}");
        let p = keyed(&channel, &key, &key, Some(LONG));
        let (x, y) = tokio::join!(a.publish(p.clone()), b.publish(p));
        let (x, y) = (x.expect("answered"), y.expect("answered"));
        assert!(x.is_new != y.is_new, "{x:?} {y:?}");
        assert_eq!(x.position, y.position);
    }
    a.append(&channel, "end", LONG).await;
    b.heard.until_body(&channel, "end").await;
    assert_eq!(b.heard.bodies(&channel).len(), 31);
    close([a, b]).await;
    Outcome::Done
}

/// Only a higher number is published; another epoch begins anew.
pub async fn an_old_version_is_not_published(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    if !a.b.capabilities().versions {
        close([a, b]).await;
        return Outcome::NotOffered("versions");
    }
    let channel = fresh("version");
    b.subscribe(&channel).await;
    let v = |number: u64, epoch: &str| Publish {
        version: Some((number, epoch.into())),
        ..publish(&channel, &format!("{epoch}{number}"), Some(LONG))
    };
    let expected = [(5, "x", true), (5, "x", false), (4, "x", false), (6, "x", true)];
    for (number, epoch, is_new) in expected {
        let done = a.publish(v(number, epoch)).await.expect("answered");
        assert_eq!(done.is_new, is_new, "{epoch}{number}");
        assert!(done.position.is_some());
    }
    let (x, y) = tokio::join!(a.publish(v(7, "x")), b.publish(v(7, "x")));
    assert!(x.expect("answered").is_new != y.expect("answered").is_new);
    assert!(b.publish(v(1, "y")).await.expect("answered").is_new);
    a.append(&channel, "end", LONG).await;
    b.heard.until_body(&channel, "end").await;
    assert_eq!(b.heard.bodies(&channel), ["x5", "x6", "x7", "y1", "end"]);
    close([a, b]).await;
    Outcome::Done
}

/// After the answer of `unsubscribe`, and what was under way, nothing comes any more.
pub async fn unsubscribed_is_unsubscribed(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let (left, kept) = (fresh("left"), fresh("kept"));
    b.subscribe(&left).await;
    b.subscribe(&kept).await;
    a.publish(publish(&left, "before", a.keep())).await.expect("published");
    b.heard.until_body(&left, "before").await;
    b.b.unsubscribe(vec![left.clone()]).await;
    // What follows in a channel that is still subscribed: the broker knows of it by then.
    b.healthy(bed.heals_within()).await;
    b.heard.forget();
    for _ in 0..3 {
        a.publish(publish(&left, "after", a.keep())).await.expect("published");
    }
    a.publish(publish(&kept, "end", a.keep())).await.expect("published");
    b.heard.until_body(&kept, "end").await;
    b.healthy(bed.heals_within()).await;
    assert_eq!(b.heard.bodies(&left), Vec::<String>::new());
    close([a, b]).await;
    Outcome::Done
}

/// However often a channel was subscribed and left, each publication comes once.
pub async fn subscribing_again_and_again_doubles_nothing(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let channels: Vec<Arc<str>> = (0..50).map(|i| fresh(&format!("cycle{i}"))).collect();
    for _ in 0..20 {
        let answers = b.b.subscribe(channels.clone()).await;
        assert!(answers.iter().all(Result::is_ok) && answers.len() == channels.len());
        b.b.unsubscribe(channels.clone()).await;
    }
    for _ in 0..3 {
        assert!(b.b.subscribe(channels.clone()).await.iter().all(Result::is_ok));
    }
    // Given without waiting in between, they take effect in the order of the first polls.
    let (leave, join) = (b.b.unsubscribe(channels.clone()), b.b.subscribe(channels.clone()));
    let ((), answers) = tokio::join!(biased; leave, join);
    assert!(answers.iter().all(Result::is_ok));
    let batch = channels.iter().map(|c| publish(c, "once", a.keep())).collect();
    assert!(a.b.publish(batch).await.iter().all(Result::is_ok));
    for c in &channels {
        b.heard.until_body(c, "once").await;
    }
    b.healthy(bed.heals_within()).await;
    let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
    b.heard.look(|events| {
        for e in events {
            if let Event::Delivery(d) = e {
                *counts.entry(d.channel.clone()).or_default() += 1;
            }
        }
    });
    assert_eq!(counts.len(), channels.len());
    assert!(counts.values().all(|n| *n == 1), "{counts:?}");
    close([a, b]).await;
    Outcome::Done
}

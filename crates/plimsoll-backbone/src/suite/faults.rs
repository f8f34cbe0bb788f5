//! Links that break, freeze and heal; a broker that forgot.

use super::*;
use std::collections::HashMap;

/// A publisher is told within a second; the machine may be slow beside.
const TOLD_WITHIN: Duration = Duration::from_millis(1_000 + 500);

/// After a cut a gap is told; what was missed is exactly what stands above the last delivery.
pub async fn a_cut_is_a_gap(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::Cut) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("cut");
    b.subscribe(&channel).await;
    a.publish(publish(&channel, "before", a.keep())).await.expect("published");
    b.heard.until_body(&channel, "before").await;
    bed.inject(Fault::Cut, b.id, &channel, true).await;
    let is_down = |e: &Event| is_down(e, Role::Subscriptions);
    let down = |events: &[Event]| events.iter().any(is_down);
    b.heard.until(Duration::from_secs(5), "the link to be down", down).await;
    for i in 0..5 {
        let p = publish(&channel, &format!("missed {i}"), a.keep());
        a.publish(p).await.expect("published");
    }
    bed.inject(Fault::Cut, b.id, &channel, false).await;
    b.heard.until_gap(bed.heals_within(), &channel).await;
    let is_up =
        |e: &Event| matches!(e, Event::Link(Link { up: true, role: Role::Subscriptions, .. }));
    let up = |events: &[Event]| {
        let last_down = events.iter().rposition(is_down);
        events.iter().rposition(is_up) > last_down
    };
    b.heard.until(bed.heals_within(), "the link to be up", up).await;
    a.publish(publish(&channel, "after", a.keep())).await.expect("published");
    b.heard.until_body(&channel, "after").await;
    assert_eq!(b.heard.bodies(&channel), ["before", "after"]);
    if a.has_history() {
        let seen = b.heard.deliveries(&channel);
        let [before, after] = [&seen[0], &seen[1]].map(|d| d.stamp.expect("a stamp"));
        let offset = before.position.offset;
        let missed = b.read(&channel, LONG, Want::After { offset, limit: 5 }).await;
        let bodies: Vec<String> =
            missed.entries.iter().map(|e| String::from_utf8_lossy(&e.body).into()).collect();
        assert_eq!(bodies, (0..5).map(|i| format!("missed {i}")).collect::<Vec<_>>());
        assert!(missed.floor <= offset);
        assert_eq!(missed.entries[4].offset, after.previous);
    }
    close([a, b]).await;
    Outcome::Done
}

/// A link may be down before the other of the same node is: a case waits for the one it is about.
fn is_down(event: &Event, role: Role) -> bool {
    matches!(event, Event::Link(link) if link.role == role && !link.up)
}

/// Without a link everything certainly fails within a second, and is not done later.
pub async fn down_is_told_and_nothing_comes_later(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::Cut) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("down");
    b.subscribe(&channel).await;
    bed.inject(Fault::Cut, a.id, &channel, true).await;
    let down = |events: &[Event]| events.iter().any(|e| is_down(e, Role::Commands));
    a.heard.until(Duration::from_secs(5), "the link to be down", down).await;
    for i in 0..20 {
        let start = Instant::now();
        let failed = a.publish(publish(&channel, &format!("down {i}"), a.keep())).await;
        assert!(failed.is_err_and(Failure::is_certain), "{failed:?}");
        assert!(start.elapsed() < TOLD_WITHIN, "{:?}", start.elapsed());
    }
    let failed = a.b.subscribe(vec![fresh("down")]).await;
    assert!(failed[0].is_err());
    assert!(a.b.tell(None, Bytes::from_static(b"down")).await.is_err());
    bed.inject(Fault::Cut, a.id, &channel, false).await;
    a.healthy(bed.heals_within()).await;
    a.publish(publish(&channel, "end", a.keep())).await.expect("published");
    b.heard.until_body(&channel, "end").await;
    assert_eq!(b.heard.bodies(&channel), ["end"]);
    if a.has_history() {
        assert_eq!(a.all(&channel, LONG).await.entries.len(), 1);
    }
    close([a, b]).await;
    Outcome::Done
}

/// On a frozen link an answer comes within a second, and a certain failure never happens later.
pub async fn a_stalled_link_is_never_a_false_answer(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::Stall) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("stall");
    b.subscribe(&channel).await;
    bed.inject(Fault::Stall, a.id, &channel, true).await;
    let mut certain = Vec::new();
    for i in 0..3 {
        let (body, start) = (format!("stalled {i}"), Instant::now());
        let failed = a.publish(publish(&channel, &body, a.keep())).await;
        assert!(start.elapsed() < TOLD_WITHIN, "{:?}", start.elapsed());
        if failed.expect_err("nothing answers").is_certain() {
            certain.push(body);
        }
    }
    bed.inject(Fault::Stall, a.id, &channel, false).await;
    a.healthy(bed.heals_within()).await;
    a.publish(publish(&channel, "end", a.keep())).await.expect("published");
    b.heard.until_body(&channel, "end").await;
    let mut bodies = b.heard.bodies(&channel);
    assert!(bodies.iter().all(|body| !certain.contains(body)), "{bodies:?} {certain:?}");
    let count = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), count, "nothing came twice");
    close([a, b]).await;
    Outcome::Done
}

/// A probe fails within its deadline while nothing passes, and works when it does.
pub async fn a_probe_says_whether_it_works(bed: &dyn Bed) -> Outcome {
    let (a, probing) = (node(bed).await, Duration::from_secs(3));
    assert_eq!(within(probing, "a probe", a.b.probe()).await, Ok(()));
    for fault in [Fault::Stall, Fault::Cut] {
        if let Some(outcome) = cannot(bed, fault) {
            close([a]).await;
            return outcome;
        }
        bed.inject(fault, a.id, "", true).await;
        assert!(within(probing, "a probe", a.b.probe()).await.is_err(), "{fault:?}");
        bed.inject(fault, a.id, "", false).await;
        a.healthy(bed.heals_within()).await;
    }
    close([a]).await;
    Outcome::Done
}

/// Many channels are all subscribed again after a cut, and each gets each publication once.
pub async fn many_channels_are_restored(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::Cut) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let run = fastrand::u32(..);
    let channels: Vec<Arc<str>> =
        (0..bed.many()).map(|i| Arc::from(format!("many:{run:08x}:{i}"))).collect();
    for some in channels.chunks(512) {
        assert!(b.b.subscribe(some.to_vec()).await.iter().all(Result::is_ok));
    }
    for round in ["first", "second"] {
        for some in channels.chunks(256) {
            let batch = some.iter().map(|c| publish(c, round, None)).collect();
            let answers = a.b.publish(batch).await;
            assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|a| a.is_err()));
        }
        let all_there = |events: &[Event]| {
            events.iter().filter(|e| matches!(e, Event::Delivery(_))).count() >= channels.len()
        };
        b.heard.until(Duration::from_secs(20), "each delivery", all_there).await;
        b.healthy(bed.heals_within()).await;
        let mut counts: HashMap<Arc<str>, usize> = HashMap::new();
        b.heard.look(|events| {
            for e in events {
                if let Event::Delivery(d) = e {
                    assert_eq!(d.body, round.as_bytes());
                    *counts.entry(d.channel.clone()).or_default() += 1;
                }
            }
        });
        assert_eq!(counts.len(), channels.len());
        assert!(counts.values().all(|n| *n == 1));
        b.heard.forget();
        if round == "first" {
            bed.inject(Fault::Cut, b.id, "", true).await;
            let is_down = |e: &Event| is_down(e, Role::Subscriptions);
            let down = |events: &[Event]| events.iter().any(is_down);
            b.heard.until(Duration::from_secs(5), "the link to be down", down).await;
            bed.inject(Fault::Cut, b.id, "", false).await;
            b.heard.until_gap(bed.heals_within(), &channels[0]).await;
            b.healthy(bed.heals_within()).await;
            b.heard.forget();
        }
    }
    b.b.unsubscribe(channels).await;
    close([a, b]).await;
    Outcome::Done
}

/// A broker that lost what it had stored gives its channels new epochs, and says that there is a
/// gap.
pub async fn an_emptied_broker_has_new_epochs(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::RestartEmpty) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("epoch");
    b.subscribe(&channel).await;
    for i in 0..3 {
        a.publish(publish(&channel, &format!("old {i}"), a.keep())).await.expect("published");
    }
    b.heard.until_body(&channel, "old 2").await;
    let old = if a.has_history() { Some(a.all(&channel, LONG).await) } else { None };
    b.heard.forget();
    bed.inject(Fault::RestartEmpty, b.id, &channel, true).await;
    b.heard.until_gap(bed.heals_within(), &channel).await;
    for n in [&a, &b] {
        n.healthy(bed.heals_within()).await;
    }
    // The publisher may have to find out first: certain failures are allowed, false acks are not.
    let end = Instant::now() + bed.heals_within();
    let mut tries = 0;
    let published = loop {
        tries += 1;
        match a.publish(publish(&channel, &format!("new {tries}"), a.keep())).await {
            Ok(published) => break published,
            Err(failure) => assert!(Instant::now() < end, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    b.heard.until_body(&channel, &format!("new {tries}")).await;
    if let Some(old) = old {
        let position = published.position.expect("a position");
        assert_ne!(position.epoch, old.position.epoch);
        let page = b.all(&channel, LONG).await;
        assert_eq!(page.position, position);
        assert!(page.entries.iter().all(|e| e.body.starts_with(b"new")));
        let seen = b.heard.deliveries(&channel);
        assert_eq!(seen.last().and_then(|d| d.stamp).map(|s| s.position), Some(position));
        assert!(seen.iter().all(|d| d.body.starts_with(b"new")));
    }
    close([a, b]).await;
    Outcome::Done
}

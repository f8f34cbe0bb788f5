//! Names, sizes, messages between nodes, and what is not ours.

use super::*;

fn odd_names() -> Vec<Arc<str>> {
    let mut names: Vec<Arc<str>> = [
        "a",
        "A",
        "a.b",
        "a.>",
        "a.*",
        "*",
        ">",
        ".",
        "..",
        "a b",
        " a",
        "a ",
        "a\r\nPING\r\n",
        "\r\n",
        "a\0b",
        "\0",
        "{a}b",
        "{b}a",
        "{}",
        "a}{b",
        "a:b",
        "a/b",
        "a\\b",
        "a=2e",
        "a=2eb",
        "a%2Eb",
        "😀",
        "é",
        "e\u{301}",
        "$JS.API.>",
        "_INBOX.x",
        "'; --",
        "\"",
        "\t",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
    ]
    .into_iter()
    .map(Arc::from)
    .collect();
    names.push("x".repeat(255).into());
    names.push(format!("{}y", "x".repeat(254)).into());
    names.push(".".repeat(255).into());
    names.push("😀".repeat(63).into());
    names
}

/// Whatever a name is made of, it is its own channel, and comes back as it was.
pub async fn odd_names_are_kept_apart(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let names = odd_names();
    let answers = b.b.subscribe(names.clone()).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    b.heard.forget();
    // Every run of the suite on one broker meets the same channels: the bodies are its own.
    let run = fastrand::u64(..);
    let body = |i: usize| format!("{run} {i}");
    let batch: Vec<Publish> =
        names.iter().enumerate().map(|(i, n)| publish(n, &body(i), a.keep())).collect();
    let answers = a.b.publish(batch).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for (i, name) in names.iter().enumerate() {
        b.heard.until_body(name, &body(i)).await;
    }
    b.healthy(bed.heals_within()).await;
    for (i, name) in names.iter().enumerate() {
        assert_eq!(b.heard.bodies(name), [body(i)], "{name:?}");
        if a.has_history() {
            let want = Want::Before { offset: u64::MAX, limit: 1 };
            let page = a.read(name, LONG, want).await;
            assert_eq!(page.entries[0].body, body(i), "{name:?}");
        }
    }
    b.b.unsubscribe(names).await;
    close([a, b]).await;
    Outcome::Done
}

/// The largest body that the adapter tells of passes; one byte more certainly does not.
pub async fn the_largest_body_and_one_more(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("large");
    b.subscribe(&channel).await;
    let max = a.b.capabilities().body_bytes_max;
    assert!(max >= 64 * 1024, "{max}");
    let large = Publish {
        body: vec![b'x'; max].into(),
        idempotency_key: a.b.capabilities().idempotency.then(|| "k".repeat(36).into()),
        ..publish(&channel, "", a.keep())
    };
    let too_large = Publish { body: vec![b'y'; max + 1].into(), ..large.clone() };
    let mut batch = vec![publish(&channel, "first", a.keep()), large, too_large];
    batch.push(publish(&channel, "last", a.keep()));
    let answers = a.b.publish(batch).await;
    let failures: Vec<_> = answers.iter().map(|answer| answer.err()).collect();
    assert_eq!(failures, [None, None, Some(Failure::TooLarge), None]);
    b.heard.until_body(&channel, "last").await;
    let sizes: Vec<usize> = b.heard.deliveries(&channel).iter().map(|d| d.body.len()).collect();
    assert_eq!(sizes, [5, max, 4]);
    let zero = Publish { body: Bytes::new(), ..publish(&channel, "", a.keep()) };
    assert!(a.publish(zero).await.is_ok());
    b.heard.until_body(&channel, "").await;
    close([a, b]).await;
    Outcome::Done
}

/// To all, the teller included; to one, and to nobody else.
pub async fn messages_to_nodes(bed: &dyn Bed) -> Outcome {
    let (a, b, c) = (node(bed).await, node(bed).await, node(bed).await);
    let told = |n: &Node| -> Vec<String> {
        n.heard.look(|events| {
            let text = |e: &Event| match e {
                Event::Told(body) => Some(String::from_utf8_lossy(body).into_owned()),
                _ => None,
            };
            events.iter().filter_map(text).filter(|t| t.starts_with("suite ")).collect()
        })
    };
    let body = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(a.b.tell(Some(b.id), body("suite one")).await, Ok(()));
    assert_eq!(a.b.tell(Some(NodeId(0)), body("suite nobody")).await, Ok(()));
    assert_eq!(a.b.tell(None, body("suite all \0\r\n")).await, Ok(()));
    let expected: [(&Node, &[&str]); 3] = [
        (&a, &["suite all \0\r\n"]),
        (&b, &["suite all \0\r\n", "suite one"]),
        (&c, &["suite all \0\r\n"]),
    ];
    for (n, texts) in expected {
        let count = texts.len();
        let told_so_many = |events: &[Event]| {
            events.iter().filter(|e| matches!(e, Event::Told(_))).count() >= count
        };
        n.heard.until(Duration::from_secs(5), "messages", told_so_many).await;
        n.healthy(bed.heals_within()).await;
        let mut all = told(n);
        all.sort();
        assert_eq!(all, texts);
    }
    close([a, b, c]).await;
    Outcome::Done
}

/// What is not ours is told as garbage, and what comes after it is delivered.
pub async fn garbage_is_dropped(bed: &dyn Bed) -> Outcome {
    if let Some(outcome) = cannot(bed, Fault::Garbage) {
        return outcome;
    }
    let (a, b) = (node(bed).await, node(bed).await);
    let (channel, other) = (fresh("garbage"), fresh("garbage"));
    b.subscribe(&channel).await;
    b.subscribe(&other).await;
    a.publish(publish(&channel, "before", a.keep())).await.expect("published");
    bed.inject(Fault::Garbage, b.id, &channel, true).await;
    let is_garbage = |events: &[Event]| {
        events.iter().any(|e| match e {
            Event::Garbage { channel: Some(c), .. } => *c == channel,
            Event::Garbage { channel: None, .. } => true,
            _ => false,
        })
    };
    b.heard.until(Duration::from_secs(5), "garbage", is_garbage).await;
    for c in [&channel, &other] {
        a.publish(publish(c, "after", a.keep())).await.expect("published");
        b.heard.until_body(c, "after").await;
    }
    assert_eq!(b.heard.bodies(&channel), ["before", "after"]);
    close([a, b]).await;
    Outcome::Done
}

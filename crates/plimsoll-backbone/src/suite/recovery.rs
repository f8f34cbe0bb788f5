//! What can be read again, and what is said about the rest.

use super::*;

const FEW: Keep = Keep { size: 5, ttl_ms: 300_000, meta_ttl_ms: 600_000 };
const SHORT: Keep = Keep { size: 100, ttl_ms: 1_000, meta_ttl_ms: 600_000 };

/// Everything above the floor is read, and the floor is as low as what was promised.
fn assert_page(page: &Page, published: &[u64], asked: usize, kept: usize) {
    let above: Vec<u64> = published.iter().copied().filter(|o| *o > page.floor).collect();
    let read: Vec<u64> = page.entries.iter().map(|e| e.offset).collect();
    let read_above: Vec<u64> = read.iter().copied().filter(|o| *o > page.floor).collect();
    assert_eq!(read_above, above, "all above the floor {} is stored", page.floor);
    assert!(read.is_sorted() && read.iter().all(|o| published.contains(o)), "{read:?}");
    assert_eq!(Some(&page.position.offset), published.last());
    let before_last = |n: usize| published.len().checked_sub(n + 1).map_or(0, |i| published[i]);
    assert!(page.floor <= before_last(asked), "the last {asked} are stored: {page:?}");
    assert!(page.floor >= before_last(kept), "not more than {kept} are stored: {page:?}");
}

/// One publication after the other, over the edge of what is kept.
pub async fn everything_above_the_floor_is_stored(bed: &dyn Bed) -> Outcome {
    let a = node(bed).await;
    if !a.has_history() {
        close([a]).await;
        return Outcome::NotOffered("history");
    }
    let channel = fresh("floor");
    let kept = bed.keeps(FEW).size;
    let mut published = Vec::new();
    for i in 0..kept + 4 {
        published.push(a.append(&channel, &format!("{i}"), FEW).await);
        if i < 12 || i >= kept - 2 {
            assert_page(&a.all(&channel, FEW).await, &published, FEW.size, kept);
        }
    }
    close([a]).await;
    Outcome::Done
}

/// Empty; at the top; in the future; trimmed right before and right after.
pub async fn recovery_at_every_edge(bed: &dyn Bed) -> Outcome {
    let a = node(bed).await;
    if !a.has_history() {
        close([a]).await;
        return Outcome::NotOffered("history");
    }
    let channel = fresh("edge");
    let empty = a.all(&channel, FEW).await;
    assert!(empty.entries.is_empty());
    assert!(empty.floor <= empty.position.offset, "whoever stands there has all");
    assert!(!bed.is_contiguous() || empty.position.offset == 0);
    let again = a.read(&channel, FEW, Want::Before { offset: u64::MAX, limit: 0 }).await;
    assert_eq!(again.position.epoch, empty.position.epoch, "reading made the epoch");
    let mut published = Vec::new();
    for i in 0..bed.keeps(FEW).size + 2 {
        published.push(a.append(&channel, &format!("{i}"), FEW).await);
    }
    let page = a.all(&channel, FEW).await;
    assert_eq!(page.position.epoch, empty.position.epoch, "publishing kept the epoch");
    assert!(empty.position.offset < page.floor, "who stood at the start has missed something");
    let top = page.position.offset;
    for at in published.iter().copied().filter(|o| *o >= page.floor) {
        let rest = a.read(&channel, FEW, Want::After { offset: at, limit: 100 }).await;
        let read: Vec<u64> = rest.entries.iter().map(|e| e.offset).collect();
        let expected: Vec<u64> = published.iter().copied().filter(|o| *o > at).collect();
        assert_eq!(read, expected, "after {at}");
        assert_eq!((rest.position, rest.floor), (page.position, page.floor));
    }
    assert!(published.iter().any(|o| *o < page.floor), "something was trimmed");
    for offset in [top, top + 1, top + 1000, 1 << 53, u64::MAX - 1, u64::MAX] {
        let future = a.read(&channel, FEW, Want::After { offset, limit: 100 }).await;
        assert!(future.entries.is_empty(), "after {offset}");
        assert_eq!(future.position.offset, top);
    }
    close([a]).await;
    Outcome::Done
}

/// When all has expired, the floor is the position, and later publications go on from there.
pub async fn what_expired_is_told_by_the_floor(bed: &dyn Bed) -> Outcome {
    let a = node(bed).await;
    if !a.has_history() {
        close([a]).await;
        return Outcome::NotOffered("history");
    }
    let channel = fresh("ttl");
    let mut published = Vec::new();
    for i in 0..3 {
        published.push(a.append(&channel, &format!("{i}"), SHORT).await);
    }
    let first = a.all(&channel, SHORT).await;
    assert_page(&first, &published, 3, 100);
    let patience = Duration::from_millis(bed.keeps(SHORT).ttl_ms + 10_000);
    let end = Instant::now() + patience;
    let empty = loop {
        let page = a.all(&channel, SHORT).await;
        assert_eq!(page.position.epoch, first.position.epoch);
        let above = published.iter().filter(|o| **o > page.floor).count();
        assert!(page.entries.iter().filter(|e| e.offset > page.floor).count() >= above);
        if page.entries.is_empty() {
            break page;
        }
        assert!(Instant::now() < end, "nothing expired");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(empty.position.offset >= published[2]);
    assert!((published[2]..=empty.position.offset).contains(&empty.floor), "{empty:?}");
    assert!(!bed.is_contiguous() || empty.position.offset == published[2]);
    let next = a.append(&channel, "next", SHORT).await;
    assert!(next > empty.position.offset);
    let page = a.all(&channel, SHORT).await;
    assert!(page.floor <= empty.position.offset, "who stood at the end has missed nothing else");
    close([a]).await;
    Outcome::Done
}

/// A cleared channel has no publications, its old epoch, and goes on above its old offsets.
pub async fn clearing_keeps_the_epoch(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    if !a.has_history() {
        close([a, b]).await;
        return Outcome::NotOffered("history");
    }
    let (channel, other) = (fresh("clear"), fresh("clear"));
    b.subscribe(&channel).await;
    let mut last = 0;
    for i in 0..4 {
        last = a.append(&channel, &format!("{i}"), LONG).await;
        a.append(&other, "other", LONG).await;
    }
    let before = a.all(&channel, LONG).await;
    assert_eq!(a.b.clear(channel.clone()).await, Ok(()));
    let after = b.all(&channel, LONG).await;
    assert_eq!((after.position, after.floor), (before.position, last));
    assert!(after.entries.is_empty());
    assert_eq!(a.all(&other, LONG).await.entries.len(), 4);
    let next = a.append(&channel, "next", LONG).await;
    assert!(next > last);
    let page = a.all(&channel, LONG).await;
    assert_eq!(page.entries.iter().map(|e| e.offset).collect::<Vec<_>>(), [next]);
    assert_eq!((page.floor, page.position.epoch), (last, before.position.epoch));
    b.heard.until_body(&channel, "next").await;
    let seen = b.heard.deliveries(&channel);
    assert_eq!(seen.len(), 5);
    assert_linked(&seen, 0);
    let never = fresh("clear");
    assert_eq!(a.b.clear(never.clone()).await, Ok(()));
    assert!(a.all(&never, LONG).await.entries.is_empty());
    close([a, b]).await;
    Outcome::Done
}

/// Limits and directions of readings; several in one call.
pub async fn pages_of_history(bed: &dyn Bed) -> Outcome {
    let a = node(bed).await;
    if !a.has_history() {
        close([a]).await;
        return Outcome::NotOffered("history");
    }
    let (channel, other) = (fresh("pages"), fresh("pages"));
    let mut o = Vec::new();
    for i in 0..10 {
        o.push(a.append(&channel, &format!("{i}"), LONG).await);
        a.append(&other, "other", LONG).await;
    }
    let max = u64::MAX;
    let cases = [
        (Want::After { offset: 0, limit: 3 }, &o[..3]),
        (Want::After { offset: o[2], limit: 3 }, &o[3..6]),
        (Want::After { offset: o[7], limit: 3 }, &o[8..]),
        (Want::After { offset: 0, limit: 0 }, &o[..0]),
        (Want::Before { offset: max, limit: 0 }, &o[..0]),
        (Want::Before { offset: max, limit: 4 }, &o[6..]),
        (Want::Before { offset: o[6], limit: 4 }, &o[2..6]),
        (Want::Before { offset: o[2], limit: 4 }, &o[..2]),
        (Want::Before { offset: o[0], limit: 4 }, &o[..0]),
        (Want::Before { offset: max, limit: 100 }, &o[..]),
    ];
    let reads =
        cases.iter().map(|(want, _)| Read { channel: channel.clone(), keep: LONG, want: *want });
    let mut reads: Vec<Read> = reads.collect();
    reads.push(Read { channel: fresh("never"), ..reads[0].clone() });
    let pages = a.b.read(reads).await;
    assert_eq!(pages.len(), cases.len() + 1);
    for ((want, expected), page) in cases.iter().zip(&pages) {
        let page = page.as_ref().expect("a page");
        let read: Vec<u64> = page.entries.iter().map(|e| e.offset).collect();
        assert_eq!(&read, expected, "{want:?}");
        assert_eq!(page.position.offset, o[9]);
    }
    let never = pages[cases.len()].as_ref().expect("a page");
    assert!(never.entries.is_empty());
    close([a]).await;
    Outcome::Done
}

/// A publication without history is delivered without a stamp and moves nothing.
pub async fn without_history_nothing_is_stored(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    let channel = fresh("plain");
    b.subscribe(&channel).await;
    let done = a.publish(publish(&channel, "plain", None)).await.expect("published");
    assert_eq!(done, Published { position: None, is_new: true });
    b.heard.until_body(&channel, "plain").await;
    assert_eq!(b.heard.deliveries(&channel)[0].stamp, None);
    if a.has_history() {
        assert!(a.all(&channel, LONG).await.entries.is_empty());
        a.append(&channel, "kept", LONG).await;
        b.heard.until_body(&channel, "kept").await;
        assert_eq!(b.heard.deliveries(&channel)[1].stamp.expect("a stamp").previous, 0);
    } else {
        let failed = a.publish(publish(&channel, "kept", Some(LONG))).await;
        assert_eq!(failed, Err(Failure::Unsupported));
    }
    close([a, b]).await;
    Outcome::Done
}

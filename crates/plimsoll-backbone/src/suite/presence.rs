//! Who is present.

use super::*;
use plimsoll_core::model::ClientId;

fn member(node: &Node, client: u8, user: &str) -> Member {
    let info = Bytes::copy_from_slice(format!("info\0{client}").as_bytes());
    Member { client: ClientId([client; 16]), user: user.into(), node: node.id, info }
}

async fn add(n: &Node, channel: &Arc<str>, m: Member) {
    let noted = n.b.note_presence(vec![PresenceChange::Add(channel.clone(), m)]).await;
    assert_eq!(noted, Ok(()));
}

async fn remove(n: &Node, channel: &Arc<str>, client: u8, of: NodeId) {
    let change = PresenceChange::Remove(channel.clone(), ClientId([client; 16]), of);
    assert_eq!(n.b.note_presence(vec![change]).await, Ok(()));
}

async fn present(n: &Node, channel: &Arc<str>) -> Vec<Member> {
    let mut all = n.b.presence(channel.clone(), 100).await.expect("presence");
    all.sort_by_key(|m| m.client);
    all
}

async fn tally(n: &Node, channel: &Arc<str>) -> (usize, usize) {
    let t = n.b.presence_stats(channel.clone()).await.expect("stats");
    (t.clients, t.users)
}

fn know(nodes: &[&Node]) {
    let ids: Vec<NodeId> = nodes.iter().map(|n| n.id).collect();
    for n in nodes {
        n.b.note_peers(&ids);
    }
}

/// Added, replaced, removed; on two nodes; a user twice; nobody removes another node's entry.
pub async fn presence_of_two_nodes(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    know(&[&a, &b]);
    let channel = fresh("presence");
    assert_eq!(tally(&a, &channel).await, (0, 0));
    add(&a, &channel, member(&a, 1, "ann")).await;
    add(&b, &channel, member(&b, 2, "bob")).await;
    add(&b, &channel, member(&b, 3, "ann")).await;
    add(&b, &fresh("presence"), member(&b, 4, "elsewhere")).await;
    let all = [member(&a, 1, "ann"), member(&b, 2, "bob"), member(&b, 3, "ann")];
    for n in [&a, &b] {
        assert_eq!(present(n, &channel).await, all);
        assert_eq!(tally(n, &channel).await, (3, 2));
    }
    let mut other = member(&b, 2, "bobby");
    other.info = Bytes::from_static(b"\r\n*>\xff");
    add(&b, &channel, other.clone()).await;
    add(&b, &channel, other.clone()).await;
    assert_eq!(present(&a, &channel).await[1], other);
    assert_eq!(tally(&a, &channel).await, (3, 2));
    remove(&a, &channel, 3, a.id).await;
    assert_eq!(tally(&a, &channel).await, (3, 2), "an entry of another node is left alone");
    remove(&b, &channel, 3, b.id).await;
    remove(&b, &channel, 3, b.id).await;
    assert_eq!(tally(&a, &channel).await, (2, 2));
    remove(&a, &channel, 1, a.id).await;
    remove(&b, &channel, 2, b.id).await;
    assert_eq!(present(&b, &channel).await, []);
    assert_eq!(tally(&b, &channel).await, (0, 0));
    close([a, b]).await;
    Outcome::Done
}

/// Entries that nobody keeps are gone after the lease; kept ones stay.
pub async fn presence_ends_with_the_lease(bed: &dyn Bed) -> Outcome {
    let (a, b) = (node(bed).await, node(bed).await);
    know(&[&a, &b]);
    let (kept, left) = (fresh("lease"), fresh("lease"));
    add(&a, &kept, member(&a, 1, "ann")).await;
    add(&a, &left, member(&a, 1, "ann")).await;
    let start = Instant::now();
    let end = start + Duration::from_millis(3 * LEASE_MS + 2_000);
    loop {
        assert_eq!(a.b.keep_presence(vec![kept.clone()]).await, Ok(()));
        assert_eq!(tally(&b, &kept).await, (1, 1), "a kept entry stays");
        if tally(&b, &left).await == (0, 0) {
            break;
        }
        assert!(Instant::now() < end, "an entry that nobody keeps stays");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(LEASE_MS - 200), "it ended too early");
    assert_eq!(present(&b, &left).await, []);
    close([a, b]).await;
    Outcome::Done
}

/// More than asked for is an error, not a part of the truth.
pub async fn presence_has_a_bound(bed: &dyn Bed) -> Outcome {
    let a = node(bed).await;
    know(&[&a]);
    let channel = fresh("bound");
    let joins = (0..5).map(|i| PresenceChange::Add(channel.clone(), member(&a, i, "u")));
    assert_eq!(a.b.note_presence(joins.collect()).await, Ok(()));
    assert_eq!(a.b.presence(channel.clone(), 5).await.map(|all| all.len()), Ok(5));
    assert_eq!(a.b.presence(channel.clone(), 4).await, Err(Failure::TooLarge));
    assert_eq!(tally(&a, &channel).await, (5, 1));
    close([a]).await;
    Outcome::Done
}

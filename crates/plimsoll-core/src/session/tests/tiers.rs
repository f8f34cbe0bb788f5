//! Tiers: what a token makes of a connection.

use super::*;
use crate::quota::{Quota, QuotaPolicy, Rate};
use crate::tier::TierPolicy;

/// Connected as user 42, of the free tier.
fn open_as(policy: Policy) -> Desk {
    let mut d = Desk::new(policy);
    assert_eq!(d.told(1, connect("user=42")), "tier free; 1 connect");
    d
}

/// What is due now.
fn due(d: &mut Desk) -> String {
    d.run(|s, cx, fx| s.on_deadline(cx, fx));
    d.look()
}

fn tiers(change: impl FnOnce(&mut TierPolicy)) -> Policy {
    let mut p = policy();
    p.tiers.enabled = true;
    change(&mut p.tiers);
    p
}

#[test]
fn a_token_says_the_tier_and_the_tier_says_the_ping() {
    for (token, tier, ping_s) in [
        ("user=42", "tier free", 60),
        ("user=42;tier=pro", "tier pro", 30),
        ("user=42;tier=enterprise", "tier enterprise", 15),
        ("user=42;tier=gold", "tier free (mistaken)", 60),
        ("tier=", "tier pro (mistaken)", 30),
        ("user=", "tier pro", 30),
    ] {
        let mut d = Desk::new(tiers(|t| t.anonymous = Tier::Pro));
        assert_eq!(d.told(1, connect(token)), format!("{tier}; 1 connect"), "{token}");
        // The first ping comes after half an interval or more, the second a whole one later.
        let first = d.session.deadline_ms(&d.policy);
        assert_eq!(first, ping_s * 1_000, "{token}: no jitter here");
        assert_eq!(d.deadline(), format!("{first} ping"), "{token}");
        assert_eq!(d.told(0, Body::Pong), "");
        assert_eq!(d.session.deadline_ms(&d.policy), 2 * first, "{token}");
    }
    let mut d = Desk::open(policy());
    assert_eq!(d.session.tier(), None, "tiers are off");
    assert_eq!(d.told(2, refresh("user=42;tier=pro")), "2 refresh");
    let mut d = Desk::new(tiers(|_| {}));
    d.told(1, connect("user=42;tier=pro"));
    assert_eq!(d.told(2, refresh("user=42;tier=pro")), "2 refresh");
    assert_eq!(d.told(3, refresh("user=42;tier=free")), "close 3011", "it comes back as another");
}

#[test]
fn only_what_a_person_does_keeps_a_connection_alive() {
    let idle = || {
        tiers(|t| {
            t.options[0].idle_timeout_ms = 2_000;
            t.options[0].ping_interval_ms = 0;
        })
    };
    let acts = [
        subscribe("a"),
        unsubscribe("a"),
        publish("a", "1"),
        history("a", 1),
        Body::Presence { channel: "a".into() },
        Body::PresenceStats { channel: "a".into() },
        Body::Rpc,
        Body::Send { active: true },
    ];
    for body in acts {
        let mut d = open_as(idle());
        assert_eq!(d.session.deadline_ms(&d.policy), 2_000);
        d.ms = 1_550;
        let shown = format!("{body:?}");
        d.told(if matches!(body, Body::Send { .. }) { 0 } else { 2 }, body);
        // A tenth of a second late at most, and never early.
        assert_eq!(d.session.deadline_ms(&d.policy), 3_600, "{shown}");
        d.ms = 3_599;
        assert_eq!(due(&mut d), "", "{shown}");
        assert_eq!(d.deadline(), "3600 close 4501", "{shown}");
    }
    let mut d = open_as(idle());
    d.ms = 1_999;
    d.told(2, refresh("user=42"));
    d.told(3, Body::Ping);
    assert_eq!(d.session.deadline_ms(&d.policy), 2_000, "libraries do that by themselves");
    let mut d = Desk::open(policy());
    d.ms = 1_000_000_000;
    assert!(!due(&mut d).contains("4501"), "without tiers nobody is closed for being idle");
}

/// Publications taken of ten at once, and of ten more a second later.
fn taken(d: &mut Desk) -> (usize, usize) {
    let burst = |d: &mut Desk| {
        let replies: Vec<String> = (2..12).map(|id| d.told(id, publish("a", "1"))).collect();
        let limited = replies.iter().filter(|r| r.ends_with(" limited by PublishRate")).count();
        let taken = replies.iter().filter(|r| r.ends_with(" publish")).count();
        assert_eq!(limited + taken, 10, "{replies:?}");
        taken
    };
    let first = burst(d);
    d.ms += 1_000;
    (first, burst(d))
}

#[test]
fn publications_have_a_limit_that_the_load_lowers() {
    let open = || {
        let mut p = plain(ChannelOptions { allow_publish_for_client: true, ..Default::default() });
        p.tiers.enabled = true;
        p.tiers.options[0].publish_rate_limit = 4;
        p.tiers.options[0].publish_rate_burst = 6;
        p
    };
    for (factor, expect) in [(1.0, (6, 4)), (0.5, (3, 2)), (0.2, (2, 1)), (0.01, (1, 1))] {
        let mut d = open_as(open());
        d.gates.publish_factor = factor;
        assert_eq!(taken(&mut d), expect, "{factor}");
    }
    // Without tiers the rule for all clients counts, and without one nothing is refused.
    let mut p = open();
    p.tiers.enabled = false;
    let mut d = Desk::open(p.clone());
    d.gates.publish_factor = 0.2;
    assert_eq!(taken(&mut d), (10, 10));
    (p.client.publish_rate_limit, p.client.publish_rate_burst) = (3, 5);
    assert_eq!(taken(&mut Desk::open(p)), (5, 3));
}

#[test]
fn who_is_over_a_quota_is_refused_and_may_try_again() {
    let rate = |per_second, burst| Rate { per_second, burst };
    let quota = Quota { connects: rate(1, 2), publishes: rate(2, 3), ..Quota::default() };
    let mut p = plain(ChannelOptions { allow_publish_for_client: true, ..Default::default() });
    p.quotas = QuotaPolicy { tenant: quota, user: Quota::default() };
    let payer = Arc::new(Payer { tenant: Some(Arc::default()), user: None });
    let desk = |ms| {
        let mut d = Desk::new(p.clone());
        (d.purse, d.ms) = (Purse(Some(Arc::clone(&payer))), ms);
        d
    };
    let (mut a, mut b, mut c) = (desk(0), desk(0), desk(0));
    assert_eq!(a.told(1, connect("user=1")), "1 connect");
    assert_eq!(b.told(1, connect("user=2")), "1 connect");
    assert_eq!(c.told(1, connect("user=3")), "1 limited by TenantConnects");
    assert_eq!(c.deadline(), "5000 close 3502", "it should come again by another connection");
    assert_eq!(desk(0).told(1, connect("bad")), "close 3500", "that is no connect of the tenant");
    assert_eq!(desk(1_000).told(1, connect("user=3")), "1 connect");
    // Both connections pay from one account.
    assert_eq!(a.told(2, publish("a", "1")), "2 publish");
    assert_eq!(b.told(2, publish("a", "1")), "2 publish");
    assert_eq!(b.told(3, publish("a", "1")), "3 publish");
    assert_eq!(a.told(3, publish("a", "1")), "3 limited by TenantPublishes");
    // Under load a share is left; without it everything, whatever the factor.
    let taken = |d: &mut Desk, level, publish_factor| {
        (d.gates.work_level, d.gates.publish_factor) = (level, publish_factor);
        d.ms += 60_000;
        let replies = (4..14).map(|id| d.told(id, publish("a", "1")));
        replies.filter(|r| r.ends_with(" publish")).count()
    };
    assert_eq!(taken(&mut a, Level::Warning, 0.34), 3);
    assert_eq!(taken(&mut a, Level::Degraded, 0.34), 1);
    assert_eq!(taken(&mut a, Level::Degraded, 0.67), 2);
}

//! Publishers, subscribers that are cut and come back, and the books of all of them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::ledger::{Limits, Plan, check, run};
use plimsoll_conformance::server::Server;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// One run at a time: each of them is to have the machine's processors.
static TURN: Mutex<()> = Mutex::new(());

fn config(history_size: u64) -> String {
    format!(
        r#"
[server]
workers = 2

[client]
allow_anonymous_connect_without_token = true
message_rate_limit = 0

[http_api]
insecure = true

[admin]
insecure = true

[[channel.namespaces]]
name = "ledger"
presence = true
history_size = {history_size}
history_ttl = "300s"
force_recovery = true
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true

[[channel.namespaces]]
name = "forbidden"
history_size = 10
history_ttl = "300s"
"#
    )
}

/// Runs, judges, and returns how many recoveries were refused.
fn keep(name: &str, history_size: u64, plan: &Plan, recoveries: u64) -> u64 {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start(&config(history_size));
    let ledger = run(&server, plan);
    let verdict = check(&ledger, Limits { history_size, recovery_max: 300 });
    verdict.require(name, plan.deliveries, recoveries);
    // C9: the server has counted the same. Nobody is cut before the reply to a subscribe has
    // come, and no publish is without an answer, so the figures are exact.
    let metrics = server.metrics();
    let recoveries = |recovered: &str| {
        metrics.labelled("plimsoll_recoveries_total", &format!("recovered=\"{recovered}\""))
    };
    assert_eq!(recoveries("true"), Some(verdict.recoveries as f64), "{name}: C9");
    assert_eq!(recoveries("false"), Some(verdict.failed_recoveries as f64), "{name}: C9");
    let publications = metrics.sum("plimsoll_publications_total");
    assert_eq!(publications, Some(verdict.outcomes[0] as f64), "{name}: C9");
    assert_eq!(metrics.sum("plimsoll_error_replies_total"), Some(verdict.outcomes[1] as f64));
    assert_eq!(metrics.sum("plimsoll_panics_total"), Some(0.0));
    assert!(verdict.outcomes[1] > 0, "{name}: void: nothing was refused");
    verdict.failed_recoveries
}

#[test]
fn the_ledger_is_kept_while_subscribers_are_cut() {
    let plan = Plan {
        channels: 20,
        subscribers: 200,
        publishers: 4,
        per_second: 160,
        time: Duration::from_secs(20),
        deliveries: 100_000,
        cut: 10,
        churn: 0,
        away_max: Duration::from_millis(1_500),
    };
    keep("ledger", 1_000, &plan, 300);
}

#[test]
fn recovery_that_fails_is_told() {
    // A channel gets 100 publications a second and keeps 100: whoever is away for more than a
    // second cannot recover.
    let plan = Plan {
        channels: 4,
        subscribers: 60,
        publishers: 4,
        per_second: 100,
        time: Duration::from_secs(8),
        deliveries: 20_000,
        cut: 25,
        churn: 0,
        away_max: Duration::from_millis(2_000),
    };
    let failed = keep("ledger at the edge of history", 100, &plan, 20);
    assert!(failed >= 20, "void: only {failed} recoveries failed");
}

#[test]
fn all_agree_on_one_channel_of_many_publishers() {
    let plan = Plan {
        channels: 1,
        subscribers: 40,
        publishers: 4,
        per_second: 150,
        time: Duration::from_secs(6),
        deliveries: 50_000,
        cut: 20,
        churn: 0,
        away_max: Duration::from_millis(300),
    };
    keep("ledger of one channel", 1_000, &plan, 20);
}

#[test]
fn subscribing_and_unsubscribing_loses_nothing() {
    let plan = Plan {
        channels: 5,
        subscribers: 60,
        publishers: 4,
        per_second: 150,
        time: Duration::from_secs(6),
        deliveries: 20_000,
        cut: 2,
        churn: 200,
        away_max: Duration::from_millis(300),
    };
    keep("ledger with churn", 1_000, &plan, 300);
}

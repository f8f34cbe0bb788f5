//! Runs against a server that is not ours, and that lies when it is told to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod naive_server;

use clap::Parser;
use naive_server::{Fault, start};
use plimsoll_bench::ledger::Judgement;
use plimsoll_bench::report::{Summary, exit_code};
use plimsoll_bench::scenarios::connect::ConnectArgs;
use plimsoll_bench::scenarios::fanout::FanoutArgs;
use plimsoll_bench::scenarios::idle::IdleArgs;
use plimsoll_bench::scenarios::run::RunArgs;
use plimsoll_bench::scenarios::storm::StormArgs;
use plimsoll_bench::scenarios::verify::VerifyArgs;
use std::process::ExitCode;

#[derive(Debug, Parser)]
struct Cli<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn args<A: clap::Args>(url: &str, flags: &str) -> A {
    let line = format!("bench --quiet --url {url} {flags}");
    Cli::try_parse_from(line.split_whitespace()).unwrap().args
}

/// Twenty people in rooms of ten who talk a lot.
const PEOPLE: &str = "--clients 20 --duration 3s --avg-users-per-room 10 --room-sizes equal \
    --msgs-per-user-per-minute 120 --peak-multiplier 1 --session-minutes 0 --leaves-ratio 0 \
    --receipts off";

fn run(fault: Fault, flags: &str) -> Summary {
    args::<RunArgs>(&start(fault), &format!("{PEOPLE} {flags}")).execute().unwrap()
}

/// The first thing that was found, which has to hold all these words.
fn broken(summary: &Summary, words: &[&str]) {
    assert_eq!(summary.verdict, Judgement::Broken, "{summary:?}");
    assert_eq!(exit_code(summary.verdict), ExitCode::from(1));
    let first = summary.because.first().unwrap();
    for word in words {
        assert!(first.contains(word), "{first:?} lacks {word:?}\n{}", summary.text());
    }
}

#[test]
fn an_honest_server_keeps_its_promises() {
    let summary = run(Fault::None, "--cuts-per-s 3 --resubscribes-per-s 2 --reconnect paced:100");
    assert_eq!(summary.verdict, Judgement::Kept, "{}", summary.text());
    assert_eq!(summary.text().lines().last(), Some("verdict: kept"));
    let counts = &summary.ledger.as_ref().unwrap()["counts"];
    assert!(counts["deliveries"].as_u64() > Some(500), "{counts}");
    assert!(counts["recoveries"].as_u64() > Some(0), "{counts}");
}

#[test]
fn a_planted_loss_is_named() {
    let summary = run(Fault::Loses(7), "--cuts-per-s 0");
    broken(&summary, &["C1", "room:0", "7"]);
}

#[test]
fn a_planted_duplicate_is_named() {
    let summary = run(Fault::Doubles(7), "--cuts-per-s 0");
    broken(&summary, &["C2", "room:0", "7"]);
}

#[test]
fn a_publication_that_was_acknowledged_and_forgotten_is_named() {
    broken(&run(Fault::Forgets(9), "--cuts-per-s 0"), &["C5"]);
}

#[test]
fn a_lie_about_recovery_is_named() {
    let summary = run(Fault::LiesOfRecovery, "--cuts-per-s 5 --reconnect paced:500");
    broken(&summary, &["room:"]);
    assert!(summary.because.iter().any(|text| text.contains("C6") || text.contains("C1")));
}

#[test]
fn a_dead_server_is_void_and_says_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("ws://{free}");
    let told = args::<RunArgs>(&url, PEOPLE).execute().unwrap_err();
    assert!(told.contains("nobody answers") && told.contains("Is the server running?"), "{told}");
    let summary = Summary::void("run", told);
    assert_eq!(exit_code(summary.verdict), ExitCode::from(2));
    assert_eq!(summary.json()["verdict"], "void");
}

#[test]
fn a_server_of_another_machine_is_left_alone() {
    let told = args::<RunArgs>("ws://192.0.2.1:8000", PEOPLE).execute().unwrap_err();
    assert!(told.contains("--allow-remote"), "{told}");
}

#[test]
fn stored_books_are_judged_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books");
    let flags = format!("--cuts-per-s 0 --ledger {}", file.display());
    let summary = run(Fault::Loses(7), &flags);
    let again = VerifyArgs { file, json: false }.execute().unwrap();
    broken(&again, &["C1", "room:0"]);
    assert_eq!(again.because, summary.because);
}

#[test]
fn the_other_runs_close_their_counts() {
    let url = start(Fault::None);
    let kept = |summary: Result<Summary, String>| {
        let summary = summary.unwrap();
        assert_eq!(summary.verdict, Judgement::Kept, "{}", summary.text());
        summary
    };
    kept(args::<ConnectArgs>(&url, "--clients 30 --room-size 10").execute());
    let fanout = "--rooms 2 --subscribers 10 --rates 500 --duration 1s";
    let summary = kept(args::<FanoutArgs>(&url, fanout).execute());
    let step = &summary.steps[0];
    assert!(step.get("deliveries").is_some_and(|n| n > 0.0), "{step:?}");
    assert_eq!(step.get("deliveries"), step.get("deliveries_due"));
    let storm = "--clients 20 --rounds 2 --reconnect paced:200 --patience 20s";
    let summary = kept(args::<StormArgs>(&url, storm).execute());
    assert_eq!(summary.steps[1].get("back"), Some(20.0));
    kept(args::<IdleArgs>(&url, "--steps 5,20 --hold 1s").execute());
}

#[test]
fn a_fanout_that_loses_is_broken() {
    let url = start(Fault::Loses(5));
    let flags = "--rooms 1 --subscribers 10 --rates 500 --duration 1s --prefix room:";
    let summary = args::<FanoutArgs>(&url, flags).execute().unwrap();
    broken(&summary, &["lost"]);
}

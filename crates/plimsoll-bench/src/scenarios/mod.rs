//! The runs of `plimsoll bench`.
//!
//! Every run has a [`Bed`] (a server and how it is watched), a fleet, and a [`Watch`] that says how
//! it goes; it ends with a [`Summary`] and its verdict.

pub mod backbone;
mod bed;
pub mod cluster;
pub mod common;
pub mod connect;
pub mod fanout;
pub mod history;
pub mod idle;
mod line;
mod node;
pub mod overload;
pub mod run;
pub mod slow;
pub mod storm;
pub mod verify;
mod watch;

pub use bed::Bed;
pub use common::Common;
pub use watch::{Period, Watch};

use crate::fleet::Counters;
use crate::ledger::Judgement;
use crate::report::Summary;
use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Prints what a run came to; its last line is the verdict. A run that could not be made is void.
pub fn conclude(scenario: &'static str, json: bool, result: Result<Summary, String>) -> ExitCode {
    let summary = result.unwrap_or_else(|why| Summary::void(scenario, why));
    let mut out = std::io::stdout().lock();
    // A reader that has gone away is no reason to fail: the exit code tells as well.
    let _ = match json {
        true => writeln!(out, "{}", summary.json()),
        false => write!(out, "{}", summary.text()),
    };
    crate::report::exit_code(summary.verdict)
}

/// What went wrong in words, most frequent first: `refused 12, error 103: 5, closed 3008: 1`.
pub fn troubles(counters: &Counters) -> Option<String> {
    let mut all: Vec<(String, u64)> = Vec::new();
    all.extend(counters.failures.iter().map(|(why, n)| ((*why).to_owned(), *n)));
    all.extend(counters.errors.iter().map(|(code, n)| (format!("error {code}"), *n)));
    all.extend(counters.closes.iter().map(|(code, n)| (format!("closed {code}"), *n)));
    all.extend(counters.unsubscribes.iter().map(|(code, n)| (format!("unsubscribed {code}"), *n)));
    all.retain(|(_, n)| *n > 0);
    all.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let words: Vec<String> = all.iter().map(|(what, n)| format!("{what}: {n}")).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// Finds whatever went wrong in a run in which nothing may.
pub fn expect_quiet(summary: &mut Summary, counters: &Counters) {
    if let Some(troubles) = troubles(counters) {
        summary.finds(Judgement::Broken, format!("something failed: {troubles}"));
    }
}

/// Finds that two counts which must agree do not.
pub fn expect_equal(summary: &mut Summary, what: &str, expected: u64, found: u64) {
    if expected != found {
        let text = format!("{what}: {expected} expected, {found} found");
        summary.finds(Judgement::Broken, text);
    }
}

/// An error with what it is about.
pub fn about<E: Display>(what: impl Display) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_told_in_order() {
        let mut counters = Counters::default();
        assert_eq!(troubles(&counters), None);
        counters.failures.insert("refused", 2);
        counters.errors.insert(103, 5);
        counters.closes.insert(3008, 1);
        counters.unsubscribes.insert(2500, 0);
        assert_eq!(
            troubles(&counters).as_deref(),
            Some("error 103: 5, refused: 2, closed 3008: 1")
        );
        let mut summary = Summary::of("idle");
        expect_equal(&mut summary, "connections", 3, 3);
        assert_eq!(summary.verdict, Judgement::Kept);
        expect_equal(&mut summary, "connections", 3, 2);
        expect_quiet(&mut summary, &counters);
        assert_eq!(summary.verdict, Judgement::Broken);
        assert_eq!(summary.because[0], "connections: 3 expected, 2 found");
    }
}

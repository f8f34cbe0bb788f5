//! What a judge says.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A rule of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[allow(missing_docs, reason = "the module's documentation names them")]
pub enum Rule {
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    C9,
    C10,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Judgement {
    /// No rule was broken, and enough happened for that to mean something.
    Kept,
    /// A rule was broken.
    Broken,
    /// Nothing can be said.
    Void,
}

/// A rule was broken. Times are microseconds from the run's beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// When it was noticed.
    pub at_us: u64,
    /// Where.
    pub channel: Option<String>,
    /// In which life of the stream.
    pub epoch: Option<String>,
    /// At which offset.
    pub offset: Option<u64>,
    /// By which client.
    pub client: Option<u32>,
    /// Which publication, as `publisher#sequence`.
    pub publication: Option<String>,
    /// When it was sent.
    pub published_us: Option<u64>,
    /// When its answer came.
    pub answered_us: Option<u64>,
    /// When somebody received it first.
    pub received_us: Option<u64>,
    /// Who.
    pub received_by: Option<u32>,
    /// All of it in a sentence.
    pub text: String,
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Publications sent.
    pub published: u64,
    /// Of them: acknowledged.
    pub acknowledged: u64,
    /// Of them: answered by an error.
    pub refused: u64,
    /// Of them: never answered.
    pub unknown: u64,
    /// Publications received, live or recovered.
    pub deliveries: u64,
    /// Of them: in subscribe replies.
    pub recovered_deliveries: u64,
    /// Requests to recover that were answered by `recovered: true`.
    pub recoveries: u64,
    /// Requests to recover that were answered by `recovered: false`.
    pub failed_recoveries: u64,
    /// Publications that a subscription received again.
    pub duplicates: u64,
    /// Publications that came after a later one.
    pub reorders: u64,
    /// Places where offsets were left out and nothing was told.
    pub holes: u64,
    /// Offsets that subscriptions did not get, and were not told of.
    pub lost: u64,
    /// Deliveries, and publications in histories, that were not the bytes that were sent.
    pub corrupted: u64,
    /// Deliveries, and publications in histories, that nobody sent there.
    pub invented: u64,
    /// Deliveries to somebody who was not subscribed.
    pub strays: u64,
    /// Connections that clients ended.
    pub cuts: u64,
    /// Connections that ended otherwise, by close code (1006: without one).
    pub closes: BTreeMap<u16, u64>,
    /// Subscriptions that ended, by code (0: by the client).
    pub unsubscribes: BTreeMap<u32, u64>,
    /// Without history: acknowledged publications that certainly did not reach a subscription.
    pub lost_without_history: u64,
    /// Acknowledged publications of which nothing is known since their epoch ended.
    pub acks_lost_with_epoch: u64,
    /// When the first and the last of them was acknowledged, microseconds from the run's beginning.
    pub acks_lost_us: Option<(u64, u64)>,
    /// Acknowledged publications that stand where nobody looked, or stood there and were trimmed.
    pub acks_unseen: u64,
    /// Bytes of the logs' records.
    pub log_bytes: u64,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In a word.
    pub verdict: Judgement,
    /// Why nothing can be said.
    pub void: Vec<String>,
    /// The first by time, and some more.
    pub violations: Vec<Violation>,
    /// How many there were, by rule.
    pub broken: BTreeMap<Rule, u64>,
    /// What happened.
    pub counts: Counts,
}

impl Verdict {
    /// For the shell: 0 kept, 1 broken, 2 void.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Judgement::Kept => 0,
            Judgement::Broken => 1,
            Judgement::Void => 2,
        }
    }

    /// The first violation by time.
    pub fn first(&self) -> Option<&Violation> {
        self.violations.first()
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
            Self::Void => "void",
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.counts;
        let rows = [
            ("published", vec![("", c.published)]),
            (
                "",
                vec![
                    ("acknowledged", c.acknowledged),
                    ("refused", c.refused),
                    ("unanswered", c.unknown),
                ],
            ),
            ("deliveries", vec![("", c.deliveries), ("recovered", c.recovered_deliveries)]),
            ("recoveries", vec![("", c.recoveries), ("could not be", c.failed_recoveries)]),
            (
                "faults",
                vec![
                    ("lost", c.lost),
                    ("holes", c.holes),
                    ("duplicates", c.duplicates),
                    ("reorders", c.reorders),
                    ("corrupted", c.corrupted),
                    ("invented", c.invented),
                    ("strays", c.strays),
                ],
            ),
            (
                "told or allowed",
                vec![
                    ("lost without history", c.lost_without_history),
                    ("acks lost with an epoch", c.acks_lost_with_epoch),
                    ("acks unseen", c.acks_unseen),
                ],
            ),
            ("cuts", vec![("", c.cuts)]),
        ];
        for (name, cells) in rows {
            let cells: Vec<String> =
                cells.iter().map(|(what, n)| format!("{n} {what}").trim_end().to_owned()).collect();
            writeln!(f, "{name:<16} {}", cells.join(", "))?;
        }
        codes(f, "closes by code", &c.closes)?;
        codes(f, "ends by code", &c.unsubscribes)?;
        for reason in &self.void {
            writeln!(f, "{:<16} {reason}", "void because")?;
        }
        for (rule, count) in &self.broken {
            writeln!(f, "{:<16} {rule:?}: {count} times", "broken")?;
        }
        for violation in &self.violations {
            writeln!(f, "  {}", violation.text)?;
        }
        write!(f, "verdict: {}", self.verdict)
    }
}

fn codes<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    counts: &BTreeMap<K, u64>,
) -> fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    let cells: Vec<String> = counts.iter().map(|(code, n)| format!("{code}: {n}")).collect();
    writeln!(f, "{name:<16} {}", cells.join(", "))
}

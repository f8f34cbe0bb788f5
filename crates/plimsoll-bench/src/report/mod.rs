//! What a run tells: one line each second, and a summary with its verdict at the end.

mod live;
mod table;

pub use live::{Live, Moment};

use crate::fleet::Counters;
use crate::ledger::Judgement;
use crate::server::Usage;
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::process::ExitCode;

/// For the shell: 0 kept, 1 broken, 2 void.
pub fn exit_code(judgement: Judgement) -> ExitCode {
    ExitCode::from(match judgement {
        Judgement::Kept => 0,
        Judgement::Broken => 1,
        Judgement::Void => 2,
    })
}

/// A measured value. Its key ends with its unit, where it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Name in JSON.
    pub key: &'static str,
    /// What it is, for people.
    pub label: &'static str,
    /// Its value.
    pub value: f64,
}

/// A part of a run with its figures: a phase, a rate, a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What was measured in it.
    pub figures: Vec<Figure>,
}

impl Step {
    /// A step without figures.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Vec::new() }
    }

    /// Adds a figure; one that could not be measured is left out.
    pub fn add(&mut self, key: &'static str, label: &'static str, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into().filter(|value| value.is_finite()) {
            self.figures.push(Figure { key, label, value });
        }
    }

    /// Adds a count.
    pub fn count(&mut self, key: &'static str, label: &'static str, value: u64) {
        self.add(key, label, value as f64);
    }

    /// A figure's value.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.key == key).map(|figure| figure.value)
    }

    fn json(&self) -> Value {
        let mut object = Map::from_iter([("step".to_owned(), json!(self.name))]);
        for figure in &self.figures {
            object.insert(figure.key.into(), rounded(figure.value));
        }
        Value::Object(object)
    }
}

/// A number with as many digits as make sense; whole numbers stay whole.
fn rounded(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return json!(value as i64);
    }
    json!((value * 1_000.0).round() / 1_000.0)
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Name of the subcommand.
    pub scenario: &'static str,
    /// What came of it.
    pub verdict: Judgement,
    /// Why it is not kept; the first is the first that was found.
    pub because: Vec<String>,
    /// The parts of the run.
    pub steps: Vec<Step>,
    /// What one should know to read the figures.
    pub notes: Vec<String>,
    /// What the ledger says, when there was one: for machines, …
    pub ledger: Option<Value>,
    /// … and for people.
    pub books: Option<String>,
}

impl Summary {
    /// A run that is kept until something is found.
    pub fn of(scenario: &'static str) -> Self {
        Self {
            scenario,
            verdict: Judgement::Kept,
            because: Vec::new(),
            steps: Vec::new(),
            notes: Vec::new(),
            ledger: None,
            books: None,
        }
    }

    /// A run in which nothing could be judged.
    pub fn void(scenario: &'static str, because: impl Into<String>) -> Self {
        let mut made = Self::of(scenario);
        made.finds(Judgement::Void, because);
        made
    }

    /// Finds something. A broken promise stays one, whatever else is found.
    pub fn finds(&mut self, verdict: Judgement, because: impl Into<String>) {
        let worse = match (self.verdict, verdict) {
            (Judgement::Broken, _) | (_, Judgement::Broken) => Judgement::Broken,
            (Judgement::Void, _) | (_, Judgement::Void) => Judgement::Void,
            (Judgement::Kept, Judgement::Kept) => Judgement::Kept,
        };
        self.verdict = worse;
        self.because.push(because.into());
    }

    /// The last line for machines.
    pub fn json(&self) -> Value {
        let mut object = json!({
            "kind": "summary",
            "scenario": self.scenario,
            "verdict": self.verdict,
            "because": self.because,
            "steps": self.steps.iter().map(Step::json).collect::<Vec<_>>(),
            "notes": self.notes,
        });
        if let (Some(object), Some(ledger)) = (object.as_object_mut(), &self.ledger) {
            object.insert("ledger".into(), ledger.clone());
        }
        object
    }

    /// The summary for people. Its last line is the verdict.
    pub fn text(&self) -> String {
        let mut text = table::of(&self.steps);
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        // The books end with a verdict of their own.
        let books = self.books.as_deref().and_then(|books| books.trim_end().rsplit_once('\n'));
        let books = books.map_or("", |(above, _)| above);
        if !books.is_empty() {
            text.push_str(&format!("\n{books}\n"));
        }
        for because in self.because.iter().filter(|because| !books.contains(*because)) {
            text.push_str(&format!("\n{because}\n"));
        }
        text.push_str(&format!("\nverdict: {}\n", self.verdict));
        text
    }
}

/// A quantile in milliseconds; none of nothing.
pub fn quantile_ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    let some = !histogram.is_empty();
    some.then(|| histogram.value_at_quantile(quantile) as f64 / 1_000.0)
}

/// The figures that every step with publications has: of what happened in it, and what the server
/// used meanwhile.
pub fn traffic(step: &mut Step, during: &Counters, seconds: f64, used: Option<(Usage, Usage)>) {
    let per_s = |n: u64| n as f64 / seconds;
    step.count("connected", "connected", during.connected);
    step.add("published_per_s", "published/s", per_s(during.published));
    step.add("acknowledged_per_s", "acknowledged/s", per_s(during.acknowledged));
    step.add("deliveries_per_s", "deliveries/s", per_s(during.deliveries));
    step.add("delivered_mbit_per_s", "delivered Mbit/s", per_s(during.delivery_bytes) * 8e-6);
    for (key, label, quantile) in [
        ("latency_p50_ms", "latency p50, ms", 0.5),
        ("latency_p99_ms", "latency p99, ms", 0.99),
        ("latency_p999_ms", "latency p99.9, ms", 0.999),
    ] {
        step.add(key, label, quantile_ms(&during.latency_us, quantile));
    }
    step.add("ack_p99_ms", "ack p99, ms", quantile_ms(&during.ack_us, 0.99));
    step.add("late_p99_ms", "generator late p99, ms", quantile_ms(&during.late_us, 0.99));
    let each = |us: u64| (during.deliveries > 0).then(|| us as f64 / during.deliveries as f64);
    step.add("generator_cores", "generator CPU, cores", during.cpu_us as f64 / seconds / 1e6);
    step.add("generator_us_per_delivery", "generator CPU/delivery, µs", each(during.cpu_us));
    if let Some((before, after)) = used {
        let cpu_us = after.cpu_us.saturating_sub(before.cpu_us);
        step.add("server_cores", "server CPU, cores", after.cpu_us_per_s(&before) / 1e6);
        step.add("server_us_per_delivery", "server CPU/delivery, µs", each(cpu_us));
        step.add("server_rss_mb", "server memory, MB", after.rss_bytes as f64 / 1e6);
    }
}

/// How late (p99) a generator may be for a publication before the latency is its own.
const LATE_MS_MAX: f64 = 10.0;

/// One sentence when the generator was the bottleneck. `share_max`: how much of the server's CPU
/// it may use, where that counts.
pub fn bottleneck(step: &Step, share_max: Option<f64>) -> Option<String> {
    let late = step.get("late_p99_ms").filter(|late| *late > LATE_MS_MAX);
    if let Some(late) = late {
        return Some(format!(
            "{}: the generator was the bottleneck, or a machine that does too much else: it was \
             late for its publications (p99 {late:.1} ms), and latency counts from the intended \
             time.",
            step.name
        ));
    }
    let share = step.get("generator_cores")? / step.get("server_cores")?;
    (share > share_max?).then(|| {
        format!(
            "{}: the generator took {:.0} % of the server's CPU (more than a third): it may have \
             been the bottleneck; give it more threads or cores of its own.",
            step.name,
            share * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let mut made = Summary::of("run");
        let mut step = Step::named("peak");
        step.add("deliveries_per_s", "deliveries/s", 1_234.567_89);
        step.count("connected", "connected", 7);
        step.add("left_out", "left out", f64::NAN);
        step.add("left_out", "left out", None);
        made.steps.push(step);
        made.notes.push("a note".into());
        made
    }

    #[test]
    fn json_has_its_members() {
        let mut made = summary();
        made.finds(Judgement::Broken, "C1 a gap");
        let expect = json!({
            "kind": "summary", "scenario": "run", "verdict": "broken", "because": ["C1 a gap"],
            "steps": [{"step": "peak", "deliveries_per_s": 1234.568, "connected": 7}],
            "notes": ["a note"],
        });
        assert_eq!(made.json(), expect);
    }

    #[test]
    fn the_last_line_is_the_verdict() {
        let text = summary().text();
        assert_eq!(text.lines().last(), Some("verdict: kept"));
        assert!(text.contains("a note") && text.contains("1,235"), "{text}");
        let void = Summary::void("idle", "nothing happened");
        assert_eq!(void.text(), "\nnothing happened\n\nverdict: void\n");
    }

    #[test]
    fn the_worst_finding_counts() {
        use Judgement::{Broken, Kept, Void};
        for (finds, expect) in [
            (&[Kept][..], Kept),
            (&[Void, Kept], Void),
            (&[Void, Broken], Broken),
            (&[Broken, Void], Broken),
        ] {
            let mut made = Summary::of("run");
            finds.iter().for_each(|verdict| made.finds(*verdict, ""));
            assert_eq!(made.verdict, expect);
        }
        assert_eq!(exit_code(Void), ExitCode::from(2));
    }

    #[test]
    fn a_bottleneck_is_told() {
        let step = |late: f64, generator: f64| {
            let mut made = Step::named("peak");
            made.add("late_p99_ms", "", late);
            made.add("generator_cores", "", generator);
            made.add("server_cores", "", 1.0);
            made
        };
        let third = Some(1.0 / 3.0);
        assert_eq!(bottleneck(&step(1.0, 0.3), third), None);
        assert_eq!(bottleneck(&step(1.0, 0.9), None), None);
        assert_eq!(bottleneck(&Step::default(), third), None);
        assert!(bottleneck(&step(11.0, 0.1), None).is_some_and(|told| told.contains("late")));
        assert!(bottleneck(&step(1.0, 0.5), third).is_some_and(|told| told.contains("50 %")));
    }
}

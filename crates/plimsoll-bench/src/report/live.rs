//! What a run says of itself while it runs: a bar on a terminal, a line for each second as JSON,
//! or a line each ten seconds.

use super::{quantile_ms, table::number};
use crate::fleet::Counters;
use crate::server::Usage;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::time::Duration;

/// Seconds between two lines when there is no terminal.
const LINE_EVERY_S: f64 = 10.0;

/// A second of a run.
#[derive(Clone, Debug)]
pub struct Moment {
    /// Seconds from the start.
    pub at_s: f64,
    /// Which part of the run.
    pub phase: &'static str,
    /// What happened since the last moment.
    pub during: Counters,
    /// Since when: seconds.
    pub seconds: f64,
    /// What the server used since then, if that is known.
    pub used: Option<(Usage, Usage)>,
}

impl Moment {
    fn per_s(&self, n: u64) -> f64 {
        if self.seconds > 0.0 { n as f64 / self.seconds } else { 0.0 }
    }

    fn server_cores(&self) -> Option<f64> {
        self.used.map(|(before, after)| after.cpu_us_per_s(&before) / 1e6)
    }

    fn json(&self) -> Value {
        let during = &self.during;
        let cores = during.cpu_us as f64 / self.seconds.max(1e-9) / 1e6;
        json!({
            "kind": "second",
            "at_s": round(self.at_s),
            "phase": self.phase,
            "connected": during.connected,
            "subscribed": during.subscribed,
            "connects_per_s": round(self.per_s(during.connects)),
            "published_per_s": round(self.per_s(during.published)),
            "acknowledged_per_s": round(self.per_s(during.acknowledged)),
            "unknown": during.unknown,
            "errors": during.errors,
            "recovered": during.recoveries[0],
            "not_recovered": during.recoveries[1],
            "unsubscribed": during.unsubscribes,
            "closed": during.closes,
            "deliveries_per_s": round(self.per_s(during.deliveries)),
            "latency_p50_ms": quantile_ms(&during.latency_us, 0.5).map(round),
            "latency_p99_ms": quantile_ms(&during.latency_us, 0.99).map(round),
            "late_p99_ms": quantile_ms(&during.late_us, 0.99).map(round),
            "generator_cores": round(cores),
            "server_cores": self.server_cores().map(round),
            "server_rss_bytes": self.used.map(|(_, after)| after.rss_bytes),
        })
    }

    fn text(&self) -> String {
        let mut parts = vec![
            format!("{} connected", number(self.during.connected as f64)),
            format!("{} deliveries/s", number(self.per_s(self.during.deliveries).round())),
        ];
        if let Some(p99) = quantile_ms(&self.during.latency_us, 0.99) {
            parts.push(format!("p99 {} ms", number(p99)));
        }
        if let Some(cores) = self.server_cores() {
            parts.push(format!("server {:.0} % CPU", cores * 100.0));
        }
        format!("{}: {}", self.phase, parts.join(", "))
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Says how a run goes.
#[derive(Debug)]
pub struct Live {
    form: Form,
    said_s: f64,
}

#[derive(Debug)]
enum Form {
    Silent,
    Json,
    Bar(ProgressBar),
    Lines,
}

impl Live {
    /// For a run of about this length. JSON goes to the standard output, the rest to the error
    /// output.
    pub fn new(json: bool, quiet: bool, length: Duration) -> Self {
        let form = match (json, quiet) {
            (true, _) => Form::Json,
            (false, true) => Form::Silent,
            (false, false) if std::io::stderr().is_terminal() => Form::Bar(bar(length)),
            (false, false) => Form::Lines,
        };
        Self { form, said_s: 0.0 }
    }

    /// A second has passed.
    pub fn moment(&mut self, moment: &Moment) {
        match &self.form {
            Form::Silent => {}
            // A reader that has gone away is no reason to stop.
            Form::Json => drop(writeln!(std::io::stdout(), "{}", moment.json())),
            Form::Bar(bar) => {
                let length = bar.length().unwrap_or_default();
                bar.set_position((moment.at_s as u64).min(length));
                bar.set_message(moment.text());
            }
            Form::Lines if moment.at_s - self.said_s >= LINE_EVERY_S => {
                self.said_s = moment.at_s;
                eprintln!("{:>5.0} s  {}", moment.at_s, moment.text());
            }
            Form::Lines => {}
        }
    }

    /// Something that takes a while begins.
    pub fn note(&self, text: &str) {
        match &self.form {
            Form::Silent | Form::Json => {}
            Form::Bar(bar) => bar.println(text),
            Form::Lines => eprintln!("{text}"),
        }
    }

    /// The run is over: the bar goes away.
    pub fn done(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

fn bar(length: Duration) -> ProgressBar {
    let bar = ProgressBar::new(length.as_secs().max(1));
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:24} {wide_msg}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Counters;

    fn moment(during: Counters, used: Option<(Usage, Usage)>) -> Moment {
        Moment { at_s: 3.0, phase: "peak", during, seconds: 2.0, used }
    }

    #[test]
    fn a_second_as_json() {
        let mut during = Counters { connected: 5, deliveries: 3_000, ..Counters::default() };
        let _ = during.latency_us.record(2_000);
        let before = Usage { at_us: 1_000_000, cpu_us: 0, ..Usage::default() };
        let after = Usage { at_us: 3_000_000, cpu_us: 500_000, rss_bytes: 9, ..before };
        let made = moment(during, Some((before, after))).json();
        assert_eq!(made["kind"], "second");
        assert_eq!(made["deliveries_per_s"], 1_500.0);
        assert_eq!(made["server_cores"], 0.25);
        assert_eq!(made["server_rss_bytes"], 9);
        assert!((made["latency_p99_ms"].as_f64().unwrap() - 2.0).abs() < 0.1);
    }

    #[test]
    fn a_second_in_which_nothing_happened() {
        let made = moment(Counters::default(), None);
        assert_eq!(made.json()["latency_p99_ms"], Value::Null);
        assert_eq!(made.json()["server_cores"], Value::Null);
        assert_eq!(made.text(), "peak: 0 connected, 0 deliveries/s");
    }
}

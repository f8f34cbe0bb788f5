//! The findings as a table for people. Pure.

use super::found::name;
use plimsoll_capacity::measured::{CapacityFile, CostModel, EndedBy};
use std::fmt::Write;

/// What ended a ramp, in words.
pub fn reason(ended_by: EndedBy) -> &'static str {
    match ended_by {
        EndedBy::Goodput => "less than 99 % got through",
        EndedBy::Latency => "p99 over its bound",
        EndedBy::Drift => "latency kept growing",
        EndedBy::Cpu => "80 % of the server's CPU",
        EndedBy::Memory => "80 % of memory or descriptors",
        EndedBy::Bend => "p99 bends upwards",
        EndedBy::Generator => "the generator's end: at least this",
        EndedBy::EndOfRamp => "the ramp's end: at least this",
    }
}

/// The table.
pub fn table(file: &CapacityFile) -> String {
    let mut out = String::new();
    let print = &file.fingerprint;
    // Writing into a text cannot fail.
    let _ = writeln!(
        out,
        "plimsoll {} on {} × {}, {} worker{}, p99 ≤ {:.0} ms\n",
        print.version,
        print.cores,
        print.cpu_model,
        print.workers,
        if print.workers == 1 { "" } else { "s" },
        file.slo_p99_ms
    );
    let _ = writeln!(
        out,
        "{:<26}{:>12}{:>12}   {:<25}ended by",
        "resource", "knee", "rated", "95 % of knees"
    );
    for (resource, found) in &file.resources {
        let range = format!("{} to {}", figure(found.low), figure(found.high));
        let _ = writeln!(
            out,
            "{:<26}{:>12}{:>12}   {:<25}{}",
            name(*resource),
            figure(found.knee),
            figure(found.rated),
            range,
            reason(found.ended_by)
        );
    }
    out.push_str(&models(file));
    if !file.not_measured.is_empty() {
        out.push_str("\nnot measured\n");
    }
    for not in &file.not_measured {
        let _ = writeln!(out, "  {}: {}", not.what, not.why);
    }
    out
}

fn models(file: &CapacityFile) -> String {
    let mut out = String::new();
    if let Some(memory) = &file.memory {
        let _ = writeln!(
            out,
            "\nmemory: {:.1} MiB + {:.0} B per connection (and {:.0} B in the kernel) + {:.0} B \
             per further subscription",
            memory.base_bytes / 1_048_576.0,
            memory.per_connection_bytes,
            memory.per_connection_kernel_bytes,
            memory.per_subscription_bytes
        );
    }
    if let Some(cost) = &file.cost {
        let _ = writeln!(
            out,
            "CPU in µs: {:.0}/s + {:.2}/s per connection, {:.1} per connect, {:.2} per \
             publication, {:.2} per delivery, {:.2} per KiB, {:.2} per recovery; {:.0} % of that \
             saved at full load (R² {:.4}, worst residual {:.1} %)",
            cost.base_us_per_s,
            cost.connection_us_per_s,
            cost.connect_us,
            cost.publish_us,
            cost.delivery_us,
            1_024.0 * cost.byte_us,
            cost.recovery_us,
            saved_percent(cost, file.fingerprint.cores),
            cost.r_squared,
            100.0 * cost.worst_residual_ratio
        );
    }
    if let Some(mixed) = &file.mixed {
        let _ = writeln!(
            out,
            "mixed load: {:.1} % of a core predicted, {:.1} % measured: {:+.1} %",
            mixed.predicted_us_per_s / 1e4,
            mixed.measured_us_per_s / 1e4,
            100.0 * mixed.error_ratio
        );
    }
    for over in &file.overload {
        let back = match over.recovery_s {
            Some(seconds) => format!("well again after {seconds:.1} s"),
            None => "not well again in time".to_owned(),
        };
        let _ = writeln!(
            out,
            "{:>4.1} × the knee: {:.0} % of the knee delivered, {back}",
            over.factor,
            100.0 * over.goodput_ratio
        );
    }
    out
}

/// How much less than its demand a node uses whose cores are all busy.
fn saved_percent(cost: &CostModel, cores: u32) -> f64 {
    100.0 * cost.saving * 1e6 * f64::from(cores)
}

/// With a unit's worth of digits.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 1e9 => format!("{:.2} G", value / 1e9),
        large if large >= 1e7 => format!("{:.1} M", value / 1e6),
        _ => grouped(value.round() as i64),
    }
}

fn grouped(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if value < 0 { format!("-{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_capacity::measured::{Measured, NotMeasured, Overload, Prediction, Resource};

    #[test]
    fn figures() {
        let check = |value, expect| assert_eq!(figure(value), expect);
        check(0.0, "0");
        check(999.6, "1,000");
        check(1_234_567.0, "1,234,567");
        check(12_345_678.0, "12.3 M");
        check(2.5e9, "2.50 G");
        check(-1_500.0, "-1,500");
    }

    #[test]
    fn the_table_holds_everything() {
        let mut file = CapacityFile::default();
        file.resources.insert(
            Resource::DeliveriesPerS,
            Measured {
                knee: 100_000.0,
                rated: 70_000.0,
                low: 95_000.0,
                high: 110_000.0,
                ended_by: EndedBy::Cpu,
                ramp: "R4".into(),
            },
        );
        file.mixed = Some(Prediction {
            predicted_us_per_s: 420_000.0,
            measured_us_per_s: 400_000.0,
            error_ratio: 0.05,
        });
        let over = |factor, recovery_s| Overload { factor, goodput_ratio: 0.97, recovery_s };
        file.overload = vec![over(2.0, Some(0.5)), over(10.0, None)];
        file.not_measured.push(NotMeasured { what: "TLS".into(), why: "none here".into() });
        let table = table(&file);
        for part in [
            "deliveries per second          100,000      70,000   95,000 to 110,000",
            "80 % of the server's CPU",
            "42.0 % of a core predicted, 40.0 % measured: +5.0 %",
            "2.0 × the knee: 97 % of the knee delivered, well again after 0.5 s",
            "10.0 × the knee: 97 % of the knee delivered, not well again in time",
            "TLS: none here",
        ] {
            assert!(table.contains(part), "{part:?} is not in\n{table}");
        }
        assert!(!table.contains("memory:"));
    }
}

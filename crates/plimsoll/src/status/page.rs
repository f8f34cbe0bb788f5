//! A node's status for people: who it is, what it does, how far it is from its load line.

use serde_json::Value;
use std::fmt::Write;

/// Cells of a bar.
const BAR: usize = 20;
/// Headroom under which a load is marked, with the one that has least.
const HOT: f64 = 0.1;

/// The page for the text of `/admin/status`.
pub fn for_people(status: &str) -> Result<String, String> {
    let status: Value =
        serde_json::from_str(status).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let mut out = String::new();
    head(&mut out, &status);
    tiers(&mut out, &status["tiers"]);
    backbone(&mut out, &status["backbone"]);
    rates(&mut out, &status);
    line(&mut out, &status["load"]);
    loads(&mut out, &status);
    cost(&mut out, &status["cost"]);
    Ok(out)
}

// Writing to a `String` does not fail: that is why the results below are dropped.

fn head(out: &mut String, status: &Value) {
    let text = |name: &str| plain(status[name].as_str().unwrap_or("?"));
    let stopping = if status["stopping"] == true { ", stopping" } else { "" };
    let workers = match status["workers"].as_array().map_or(0, Vec::len) {
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let up = duration(status["uptime_seconds"].as_f64().unwrap_or_default());
    let _ = writeln!(
        out,
        "node         {}, version {}, {workers}, up {up}{stopping}",
        text("name"),
        text("version"),
    );
    let now = status["connections"].as_f64().unwrap_or_default();
    let _ = match status["capacity"]["rated"]["connections"].as_f64() {
        Some(rated) if rated > 0.0 => writeln!(
            out,
            "connections  {} of {}  {}  {}",
            grouped(now),
            grouped(rated),
            bar(now / rated),
            percent(now / rated)
        ),
        _ => writeln!(out, "connections  {}", grouped(now)),
    };
    let count = |name: &str| grouped(status[name].as_f64().unwrap_or_default());
    let _ = writeln!(out, "users        {}, in {} channels", count("users"), count("channels"));
}

/// Connections by tier, where there are tiers.
fn tiers(out: &mut String, tiers: &Value) {
    let Some(tiers) = tiers.as_object() else { return };
    let of = |(name, count): (&String, &Value)| {
        format!("{} {}", plain(name), grouped(count.as_f64().unwrap_or_default()))
    };
    let tiers: Vec<String> = tiers.iter().map(of).collect();
    let _ = writeln!(out, "tiers        {}", tiers.join(", "));
}

/// The way to the other nodes, where there is one.
fn backbone(out: &mut String, backbone: &Value) {
    let Some(kind) = backbone["kind"].as_str() else { return };
    let text = |name: &str| plain(backbone[name].as_str().unwrap_or("?"));
    let others = backbone["other_nodes"].as_array().map_or(0, Vec::len);
    let _ = writeln!(
        out,
        "backbone     {} ({}), {}, {} nodes",
        plain(kind),
        text("server"),
        text("state"),
        others + 1
    );
    let down = backbone["brokers"].as_array().into_iter().flatten().filter(|b| b["up"] == false);
    for broker in down {
        let name = plain(broker["broker"].as_str().unwrap_or("?"));
        let _ = writeln!(out, "             {name} is not reached");
    }
}

fn rates(out: &mut String, status: &Value) {
    let rate = |name: &str| status["rates"][format!("{name}_per_second")].as_f64();
    let shown = [
        ("commands in", "messages_in"),
        ("messages out", "messages_out"),
        ("publications", "publications"),
        ("deliveries", "deliveries"),
        ("connects", "connects"),
        ("reconnects", "reconnects"),
    ];
    let mut parts: Vec<String> = shown
        .iter()
        .filter_map(|(shown, name)| Some(format!("{} {shown}", grouped(rate(name)?))))
        .collect();
    parts.extend(rate("bytes_out").map(|bytes| format!("{} out", size(bytes))));
    let mut name = "a second";
    for line in parts.chunks(4) {
        let _ = writeln!(out, "{name:<12} {}", line.join(", "));
        name = "";
    }
}

/// What the load does to the node now, and what people decided.
fn line(out: &mut String, load: &Value) {
    let Some(level) = load["level"].as_u64() else { return };
    let text = |value: &Value| plain(value.as_str().unwrap_or("?"));
    let hot = load["hot_resource"].as_str().map(|hot| format!(", most pressed: {}", plain(hot)));
    let off = if load["enabled"] == false { ", switched off: nothing is given up" } else { "" };
    let _ = writeln!(
        out,
        "load         level {level} {}, score {:.2}{}{off}",
        text(&load["level_name"]),
        load["score"].as_f64().unwrap_or_default(),
        hot.unwrap_or_default(),
    );
    for each in load["override"].as_array().into_iter().flatten() {
        let what = if let Some(level) = each["pin_level"].as_u64() {
            format!("level {level}")
        } else if let Some(action) = each["pin_action"].as_str() {
            format!("{} at {}", plain(action), each["strength"])
        } else if each["accept_new_connections"] == false {
            "new connections refused".into()
        } else {
            "new connections accepted".into()
        };
        let _ = writeln!(
            out,
            "override     {what}, {} left, by {}: {}",
            duration(each["left_s"].as_f64().unwrap_or_default()),
            text(&each["author"]),
            text(&each["reason"]),
        );
    }
}

fn loads(out: &mut String, status: &Value) {
    let capacity = &status["capacity"];
    let source = match capacity["source"].as_str() {
        Some("measured") => {
            let quick = if capacity["quick"] == true { ", quickly" } else { "" };
            let text = |name: &str| plain(capacity[name].as_str().unwrap_or("?"));
            format!("{}, measured {}{quick}", text("file"), text("measured_at"))
        }
        _ => "limits of the machine; measure it with `plimsoll bench capacity`".into(),
    };
    let _ = writeln!(out, "load line    {source}");
    if let Some(what) = capacity["mismatch"].as_str() {
        let _ = writeln!(out, "             of another build or machine: {}", plain(what));
    }
    let Some(headroom) = status["headroom"].as_object().filter(|all| !all.is_empty()) else {
        return;
    };
    let _ = writeln!(
        out,
        "\n{:<12} {:>14} {:>14} {:>9}  {:<BAR$}  {:>9}",
        "", "used", "load line", "headroom", "", "reached in"
    );
    // In the order of the server's table, whatever the object made of it.
    for name in ORDER {
        let Some(ratio) = headroom.get(name).and_then(Value::as_f64) else { continue };
        let of = |what: &Value| what[name].as_f64().map_or("?".into(), |v| amount(name, v));
        let left = status["time_to_line_seconds"][name].as_f64();
        let least = status["limiting"] == name;
        let mark = match (least, ratio < HOT) {
            (_, true) => "  <- little is left",
            (true, false) => "  <- least",
            _ => "",
        };
        let line = format!(
            "{name:<12} {:>14} {:>14} {:>9}  {}  {:>9}{mark}",
            of(&status["usage"]),
            of(&capacity["rated"]),
            percent(ratio),
            bar(1.0 - ratio),
            left.map_or("-".into(), duration),
        );
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// The loads in the order in which they are shown.
const ORDER: [&str; 8] = [
    "connections",
    "connects",
    "publishes",
    "deliveries",
    "egress",
    "cpu",
    "memory",
    "descriptors",
];

fn cost(out: &mut String, cost: &Value) {
    let Some(per_hour) = cost["per_hour"].as_f64() else { return };
    let _ = writeln!(out, "\ncost         {} an hour", price(per_hour));
    let shown = [
        ("per_connection_month", "a month for each connection"),
        ("per_million_deliveries", "for a million deliveries"),
        ("per_monthly_active_user", "a month for each monthly active user"),
    ];
    for (name, what) in shown {
        if let Some(value) = cost[name].as_f64() {
            let _ = writeln!(out, "             {} {what}", price(value));
        }
    }
}

/// What a node says of itself, without anything that moves the cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// A use or a line, in its unit.
fn amount(name: &str, value: f64) -> String {
    match name {
        "connections" | "descriptors" => grouped(value),
        "cpu" => format!("{value:.2} cores"),
        "memory" => size(value),
        "egress" => format!("{}/s", size(value)),
        _ => format!("{}/s", grouped(value)),
    }
}

/// 12,345; what is below 0 is shown as 0.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn size(bytes: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes:.0} B"),
    }
}

/// Two units, as `3h12m`.
fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

fn bar(ratio: f64) -> String {
    let full = (ratio.clamp(0.0, 1.0) * BAR as f64).round() as usize;
    (0..BAR).map(|cell| if cell < full { '#' } else { '.' }).collect()
}

/// A price in a currency that we do not know: small ones with the digits that count.
fn price(value: f64) -> String {
    match value {
        v if v >= 0.01 || v <= 0.0 => format!("{v:.2}"),
        v => {
            let places = (1.0 - v.log10().floor()).clamp(2.0, 12.0) as usize;
            format!("{v:.places$}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status() -> Value {
        json!({
            "version": "0.1.0", "name": "a", "uptime_seconds": 11_542, "stopping": false,
            "workers": [{}, {}], "connections": 1_750, "users": 1_700, "channels": 12,
            "rates": {
                "messages_in_per_second": 120, "messages_out_per_second": 70_300,
                "connects_per_second": 3, "bytes_out_per_second": 12_345_678,
                "publications_per_second": 70, "deliveries_per_second": 70_000,
                "reconnects_per_second": 0,
            },
            "load": {
                "enabled": true, "level": 3, "level_name": "critical", "score": 0.4512,
                "hot_resource": "cpu",
                "override": [
                    { "pin_level": 3, "left_s": 1_740, "author": "ann", "reason": "drill" },
                    {
                        "pin_action": "widen_batching", "strength": 0.5, "left_s": 60,
                        "author": "bob", "reason": "a\nb",
                    },
                    {
                        "accept_new_connections": false, "left_s": 5, "author": "bob",
                        "reason": "drill",
                    },
                ],
            },
            "usage": {
                "connections": 1_750.0, "deliveries": 70_000.0, "cpu": 1.2, "memory": 61e6,
                "descriptors": 1_790.0,
            },
            "headroom": { "connections": 0.75, "deliveries": 0.5, "cpu": 0.25, "memory": 0.99 },
            "limiting": "cpu",
            "time_to_line_seconds": { "connections": 725.0, "deliveries": null },
            "cost": {
                "per_hour": 0.5, "per_connection_month": 0.2057,
                "per_million_deliveries": 0.00198, "per_monthly_active_user": null,
            },
            "capacity": {
                "source": "measured", "file": "capacity.json",
                "measured_at": "2026-01-02T03:04:05Z", "quick": true, "mismatch": null,
                "rated": {
                    "connections": 7_000.0, "deliveries": 140_000.0, "cpu": 1.6, "memory": 6.4e9,
                },
            },
        })
    }

    const PAGE: &str = "\
node         a, version 0.1.0, 2 workers, up 3h12m
connections  1,750 of 7,000  #####...............  25 %
users        1,700, in 12 channels
a second     120 commands in, 70,300 messages out, 70 publications, 70,000 deliveries
             3 connects, 0 reconnects, 12.3 MB out
load         level 3 critical, score 0.45, most pressed: cpu
override     level 3, 29m0s left, by ann: drill
override     widen_batching at 0.5, 1m0s left, by bob: ab
override     new connections refused, 5s left, by bob: drill
load line    capacity.json, measured 2026-01-02T03:04:05Z, quickly

                       used      load line  headroom                        reached in
connections           1,750          7,000      75 %  #####...............      12m5s
deliveries         70,000/s      140,000/s      50 %  ##########..........          -
cpu              1.20 cores     1.60 cores      25 %  ###############.....          -  <- least
memory              61.0 MB         6.4 GB      99 %  ....................          -

cost         0.50 an hour
             0.21 a month for each connection
             0.0020 for a million deliveries
";

    #[test]
    fn a_page() {
        let page = for_people(&status().to_string()).unwrap();
        assert_eq!(page, PAGE, "\n{page}");
    }

    #[test]
    fn a_node_in_trouble() {
        let mut status = status();
        status["headroom"]["cpu"] = json!(-0.3);
        status["stopping"] = json!(true);
        status["capacity"]["mismatch"] = json!("cores 2 there and 4 here\u{1b}[2J");
        let page = for_people(&status.to_string()).unwrap();
        for line in [
            "up 3h12m, stopping\n",
            "-30 %  ####################          -  <- little is left\n",
            "of another build or machine: cores 2 there and 4 here[2J\n",
        ] {
            assert!(page.contains(line), "{line} in\n{page}");
        }
    }

    #[test]
    fn little_is_known() {
        let page = for_people("{}").unwrap();
        assert!(page.contains("node         ?, version ?") && !page.contains("headroom"), "{page}");
        assert!(!page.contains("cost") && page.contains("bench capacity"), "{page}");
        assert!(for_people("nonsense").is_err());
    }

    #[test]
    fn figures() {
        let check = |found: String, expect: &str| assert_eq!(found, expect);
        check(grouped(0.0), "0");
        check(grouped(999.0), "999");
        check(grouped(1_234_567.0), "1,234,567");
        check(size(999.0), "999 B");
        check(size(2_500.0), "2.5 kB");
        check(duration(59.0), "59s");
        check(duration(125.0), "2m5s");
        check(duration(90_000.0), "1d1h");
        check(duration(-1.0), "0s");
        check(price(12.345), "12.35");
        check(price(0.0), "0.00");
        check(price(0.00021), "0.00021");
        check(bar(2.0), &"#".repeat(BAR));
    }
}

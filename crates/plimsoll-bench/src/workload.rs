//! A workload for `plimsoll bench run`: read from a file or flags, checked, and made into rooms,
//! their members and the streams that are published into them.
//!
//! The file is TOML. `[workload]` has the keys of [`WorkloadProfile`], the same that a plan is made
//! from; `[run]` says how much of it is put on the server, and for how long. Every key has a
//! default, an unknown one is an error.

pub mod rooms;

use crate::limits;
use plimsoll_capacity::profile::{Receipts, RoomSizes, UsersAre, WorkloadProfile};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Something in a workload that cannot be run. The text names the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WorkloadError(pub String);

/// A workload that can be run: everything in it is in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// What the users do.
    pub profile: WorkloadProfile,
    /// Clients of the fleet; the rooms are scaled to them.
    pub clients: u32,
    /// How long the load lasts, without connecting and settling.
    pub duration: Duration,
    /// Bytes of a message's payload, least and most.
    pub payload_bytes: [u32; 2],
    /// Connections that are cut per second.
    pub cuts_per_s: f64,
    /// Of them, the share that leaves and comes back as new.
    pub leaves_ratio: f64,
    /// Subscriptions that are ended and made anew, per second.
    pub resubscribes_per_s: f64,
    /// Namespace of the rooms: with history and recovery.
    pub rooms_namespace: String,
    /// Namespace of typing and receipts: without history.
    pub signals_namespace: String,
}

/// Table `[run]` as it is written, and what flags of the same names say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunTable {
    /// Clients; else `concurrent_users` of the workload.
    pub clients: Option<u32>,
    /// As `90s`, `5m`, `1h30m`.
    pub duration: Option<String>,
    /// Bytes of a payload; else half of `avg_message_bytes`.
    pub payload_bytes_min: Option<u32>,
    /// Bytes of a payload; else one and a half of `avg_message_bytes`.
    pub payload_bytes_max: Option<u32>,
    /// Connections cut per second; else each client once in ten minutes.
    pub cuts_per_s: Option<f64>,
    /// Share of them that leave and come back as new.
    pub leaves_ratio: Option<f64>,
    /// Subscriptions ended and made anew per second.
    pub resubscribes_per_s: Option<f64>,
    /// Namespace of rooms.
    pub rooms_namespace: Option<String>,
    /// Namespace of typing and receipts.
    pub signals_namespace: Option<String>,
}

const RUN_KEYS: [&str; 9] = [
    "clients",
    "duration",
    "payload_bytes_min",
    "payload_bytes_max",
    "cuts_per_s",
    "leaves_ratio",
    "resubscribes_per_s",
    "rooms_namespace",
    "signals_namespace",
];

/// Seconds between two cuts of one client, when nothing is said.
const CUT_EVERY_S: f64 = 600.0;

/// A workload as it is written: not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// Table `[workload]`.
    pub profile: WorkloadProfile,
    /// Table `[run]`.
    pub run: RunTable,
}

impl Default for Draft {
    /// A thousand people who chat: some rooms are large, they type, they read, they come and go.
    fn default() -> Self {
        let profile = WorkloadProfile {
            concurrent_users: 1_000,
            msgs_per_user_per_minute: 2.0,
            room_sizes: RoomSizes::Exponential,
            typing_per_message: 1.0,
            receipts: Receipts::Watermark,
            session_minutes: 30.0,
            ..WorkloadProfile::default()
        };
        Self { profile, run: RunTable::default() }
    }
}

impl Draft {
    /// Reads a file's text.
    pub fn parse(text: &str) -> Result<Self, WorkloadError> {
        let whole: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| WorkloadError(e.to_string().trim_end().to_owned()))?;
        known(&whole, "", &["workload", "run"])?;
        let default = Self::default();
        let mut profile = toml::Table::try_from(&default.profile).map_err(told("workload"))?;
        let names: Vec<String> = profile.keys().cloned().collect();
        let given = table(&whole, "workload")?;
        known(&given, "workload.", &names.iter().map(String::as_str).collect::<Vec<_>>())?;
        profile.extend(given);
        let run = table(&whole, "run")?;
        known(&run, "run.", &RUN_KEYS)?;
        Ok(Self {
            profile: profile.try_into().map_err(told("workload"))?,
            run: run.try_into().map_err(told("run"))?,
        })
    }

    /// Checks it.
    pub fn check(self) -> Result<Workload, WorkloadError> {
        let Self { profile, run } = self;
        let clients = clients(&profile, run.clients)?;
        check_profile(&profile, clients)?;
        let duration = run.duration.as_deref().unwrap_or("60s");
        let duration = parse_duration(duration).ok_or_else(|| {
            WorkloadError(format!("run.duration: not a duration, as 90s or 5m: {duration:?}"))
        })?;
        within("run.duration (seconds)", duration.as_secs_f64(), 1.0, limits::DURATION_S_MAX)?;
        let mean = profile.avg_message_bytes as u32;
        let least = run.payload_bytes_min.unwrap_or((mean / 2).max(limits::PAYLOAD_BYTES_MIN));
        let most = run.payload_bytes_max.unwrap_or((mean + mean / 2).max(least));
        let bytes = [f64::from(limits::PAYLOAD_BYTES_MIN), f64::from(limits::PAYLOAD_BYTES_MAX)];
        within("run.payload_bytes_min", f64::from(least), bytes[0], bytes[1])?;
        within("run.payload_bytes_max", f64::from(most), f64::from(least), bytes[1])?;
        let cuts = run.cuts_per_s.unwrap_or(f64::from(clients) / CUT_EVERY_S);
        within("run.cuts_per_s", cuts, 0.0, limits::CUTS_PER_S_MAX)?;
        let leaves = run.leaves_ratio.unwrap_or(0.0);
        within("run.leaves_ratio", leaves, 0.0, 1.0)?;
        let resubscribes = run.resubscribes_per_s.unwrap_or(0.0);
        within("run.resubscribes_per_s", resubscribes, 0.0, limits::CUTS_PER_S_MAX)?;
        // The end of a session is a leave, besides the cuts.
        let ended = match profile.session_minutes {
            minutes if minutes > 0.0 => f64::from(clients) / (minutes * 60.0),
            _ => 0.0,
        };
        within("workload.session_minutes: ends per second", ended, 0.0, limits::CUTS_PER_S_MAX)?;
        let all = cuts + ended;
        let rooms_namespace = run.rooms_namespace.unwrap_or_else(|| "room".into());
        let signals_namespace = run.signals_namespace.unwrap_or_else(|| "live".into());
        namespaces(&rooms_namespace, &signals_namespace)?;
        let made = Workload {
            profile,
            clients,
            duration,
            payload_bytes: [least, most],
            cuts_per_s: all,
            leaves_ratio: if all > 0.0 { (cuts * leaves + ended) / all } else { 0.0 },
            resubscribes_per_s: resubscribes,
            rooms_namespace,
            signals_namespace,
        };
        Ok(made)
    }
}

impl Workload {
    /// Clients and the factor of all rates, outside the peak and within it.
    pub fn phases(&self) -> [(u32, f64); 2] {
        let peak = self.profile.peak_multiplier;
        match self.profile.concurrent_users_are {
            UsersAre::Peak => [(self.clients, 1.0), (self.clients, peak)],
            // All clients at the peak; outside it so many fewer, and so much less is said.
            UsersAre::Mean => {
                let fewer = (f64::from(self.clients) / peak).round().max(1.0);
                [(fewer as u32, 1.0 / peak), (self.clients, 1.0)]
            }
        }
    }
}

fn clients(profile: &WorkloadProfile, given: Option<u32>) -> Result<u32, WorkloadError> {
    let wanted = given.map_or(profile.concurrent_users, u64::from);
    match u32::try_from(wanted) {
        Ok(n) if (1..=limits::CLIENTS_MAX).contains(&n) => Ok(n),
        _ => Err(WorkloadError(format!(
            "run.clients: must be 1 to {} (else it is workload.concurrent_users), not {wanted}",
            limits::CLIENTS_MAX
        ))),
    }
}

fn check_profile(profile: &WorkloadProfile, clients: u32) -> Result<(), WorkloadError> {
    let p = profile;
    let all = f64::from(clients);
    let rooms_max = f64::from(limits::ROOMS_PER_USER_MAX);
    within("workload.avg_rooms_per_user", p.avg_rooms_per_user, 1.0 / all, rooms_max)?;
    within("workload.avg_users_per_room (not more than clients)", p.avg_users_per_room, 1.0, all)?;
    let rate = limits::RATE_PER_S_MAX * 60.0 / all;
    within("workload.msgs_per_user_per_minute", p.msgs_per_user_per_minute, 0.0, rate)?;
    let bytes = [f64::from(limits::PAYLOAD_BYTES_MIN), f64::from(limits::PAYLOAD_BYTES_MAX)];
    within("workload.avg_message_bytes", p.avg_message_bytes, bytes[0], bytes[1])?;
    within("workload.peak_multiplier", p.peak_multiplier, 1.0, 100.0)?;
    within("workload.typing_per_message", p.typing_per_message, 0.0, 100.0)?;
    within("workload.session_minutes", p.session_minutes, 0.0, 1e6)?;
    if let RoomSizes::PowerLaw(exponent) = p.room_sizes {
        within("workload.room_sizes.power_law", exponent, 1.5, 4.0)?;
    }
    Ok(())
}

fn namespaces(rooms: &str, signals: &str) -> Result<(), WorkloadError> {
    for (key, name) in [("rooms_namespace", rooms), ("signals_namespace", signals)] {
        let letters = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if !(2..=64).contains(&name.len()) || !name.bytes().all(letters) {
            let why = "must be 2 to 64 of a-z, A-Z, 0-9, - and _";
            return Err(WorkloadError(format!("run.{key}: {why}, not {name:?}")));
        }
    }
    if rooms == signals {
        return Err(WorkloadError("run.signals_namespace: is that of the rooms".into()));
    }
    Ok(())
}

fn within(key: &str, value: f64, least: f64, most: f64) -> Result<(), WorkloadError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(WorkloadError(format!("{key}: must be {least} to {most}, not {value}")))
}

fn told<E: std::fmt::Display>(table: &'static str) -> impl Fn(E) -> WorkloadError {
    move |error| WorkloadError(format!("{table}: {}", error.to_string().trim_end()))
}

fn table(whole: &toml::Table, name: &str) -> Result<toml::Table, WorkloadError> {
    match whole.get(name) {
        None => Ok(toml::Table::new()),
        Some(toml::Value::Table(table)) => Ok(table.clone()),
        Some(_) => Err(WorkloadError(format!("{name}: must be a table, [{name}]"))),
    }
}

/// An error for the first key that is none of `names`, with the nearest of them.
fn known(table: &toml::Table, prefix: &str, names: &[&str]) -> Result<(), WorkloadError> {
    let Some(key) = table.keys().find(|key| !names.contains(&key.as_str())) else {
        return Ok(());
    };
    let near = names.iter().min_by_key(|name| distance(key, name));
    let near = near.filter(|name| distance(key, name) <= 2 + name.len() / 3);
    let hint = near.map(|name| format!("; did you mean `{prefix}{name}`?")).unwrap_or_default();
    Err(WorkloadError(format!("{prefix}{key}: unknown key{hint}")))
}

/// Letters to insert, delete or replace between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (left + 1).min(*cell + 1).min(diagonal + usize::from(x != *y));
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// A duration with units, largest first: `500ms`, `90s`, `5m`, `1h30m`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total_ms = 0_f64;
    let mut last = f64::INFINITY;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit_ms = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        if unit_ms >= last {
            return None;
        }
        total_ms += number.parse::<f64>().ok()? * unit_ms;
        last = unit_ms;
        rest = tail;
    }
    let some = !text.is_empty() && total_ms.is_finite() && total_ms < 1e12;
    some.then(|| Duration::from_micros((total_ms * 1_000.0) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Workload, String> {
        Draft::parse(text).and_then(Draft::check).map_err(|e| e.0)
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let made = check("").unwrap();
        assert_eq!(made.clients, 1_000);
        assert_eq!(made.duration, Duration::from_secs(60));
        assert_eq!(made.payload_bytes, [100, 300]);
        // A cut in ten minutes and a leave in thirty, for each of a thousand.
        assert!((made.cuts_per_s - (1_000.0 / 600.0 + 1_000.0 / 1_800.0)).abs() < 1e-9);
        assert!((made.leaves_ratio - 0.25).abs() < 1e-9);
    }

    #[test]
    fn every_key_is_read() {
        let made = check(
            "[workload]\nconcurrent_users = 9\navg_rooms_per_user = 1\navg_users_per_room = 3\n\
             msgs_per_user_per_minute = 6\navg_message_bytes = 100\npeak_multiplier = 3\n\
             daily_peak_duration_hours = 1\nconcurrent_users_are = \"mean\"\n\
             room_sizes = { power_law = 2.5 }\ntyping_per_message = 2\nreceipts = \"author\"\n\
             join_leave = true\nsession_minutes = 0\nping_interval_seconds = 5\n\
             deliveries_per_frame = 1\ntls = false\nmonthly_users_per_concurrent = 1\n\
             [run]\nclients = 12\nduration = \"1m30s\"\npayload_bytes_min = 70\n\
             payload_bytes_max = 90\ncuts_per_s = 2\nleaves_ratio = 0.5\n\
             resubscribes_per_s = 1\nrooms_namespace = \"a1\"\nsignals_namespace = \"b1\"\n",
        )
        .unwrap();
        assert_eq!((made.clients, made.duration), (12, Duration::from_secs(90)));
        assert_eq!(made.payload_bytes, [70, 90]);
        assert_eq!((made.cuts_per_s, made.leaves_ratio), (2.0, 0.5));
        assert_eq!((made.rooms_namespace.as_str(), made.signals_namespace.as_str()), ("a1", "b1"));
        assert_eq!(made.phases(), [(4, 1.0 / 3.0), (12, 1.0)]);
        let shown = toml::Table::try_from(RunTable {
            clients: Some(1),
            duration: Some(String::new()),
            payload_bytes_min: Some(1),
            payload_bytes_max: Some(1),
            cuts_per_s: Some(1.0),
            leaves_ratio: Some(1.0),
            resubscribes_per_s: Some(1.0),
            rooms_namespace: Some(String::new()),
            signals_namespace: Some(String::new()),
        });
        let mut keys: Vec<String> = shown.unwrap().keys().cloned().collect();
        let mut known = RUN_KEYS.to_vec();
        keys.sort();
        known.sort_unstable();
        assert_eq!(keys, known);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("[workload]\navg_rooms_per_usr = 2", "did you mean `workload.avg_rooms_per_user`?"),
            ("[run]\nclient = 2", "run.client: unknown key; did you mean `run.clients`?"),
            ("[run]\nzzzzzzzzzzzz = 2", "run.zzzzzzzzzzzz: unknown key"),
            ("[wrkload]\n", "did you mean `workload`?"),
            ("workload = 3", "workload: must be a table"),
            ("[workload", "line 1"),
            ("[workload]\nconcurrent_users = \"many\"", "concurrent_users"),
            ("[workload]\nconcurrent_users = -1", "concurrent_users"),
            ("[workload]\nconcurrent_users = 0", "run.clients: must be 1 to"),
            ("[run]\nclients = 4000000000", "run.clients: must be 1 to"),
            ("[workload]\navg_rooms_per_user = nan", "workload.avg_rooms_per_user"),
            ("[workload]\navg_rooms_per_user = inf", "workload.avg_rooms_per_user"),
            ("[workload]\navg_users_per_room = 5000", "not more than clients"),
            ("[workload]\nmsgs_per_user_per_minute = 1e18", "msgs_per_user_per_minute"),
            ("[workload]\navg_message_bytes = 10", "avg_message_bytes: must be 64"),
            ("[workload]\npeak_multiplier = 0.5", "peak_multiplier: must be 1 to 100"),
            ("[workload]\nroom_sizes = { power_law = 9 }", "power_law: must be 1.5 to 4"),
            ("[workload]\nroom_sizes = \"round\"", "room_sizes"),
            ("[workload]\nsession_minutes = 0.0001", "ends per second"),
            ("[run]\nduration = \"5\"", "run.duration: not a duration"),
            ("[run]\nduration = \"99h\"", "run.duration (seconds)"),
            ("[run]\npayload_bytes_max = 65", "run.payload_bytes_max: must be 100"),
            ("[run]\nleaves_ratio = 1.1", "run.leaves_ratio"),
            ("[run]\nrooms_namespace = \"a:b\"", "run.rooms_namespace"),
            ("[run]\nrooms_namespace = \"live\"", "run.signals_namespace"),
        ];
        for (text, expect) in cases {
            let told = check(text).expect_err(text);
            assert!(told.contains(expect), "{text}\n{told}\n{expect}");
        }
    }

    #[test]
    fn durations() {
        let cases = [
            ("90s", Some(90_000)),
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1m30s500ms", Some(90_500)),
            ("0.5s", Some(500)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5s5m", None),
            ("5s5s", None),
            ("-5s", None),
            ("5d", None),
            ("1.2.3s", None),
            ("99999999999999h", None),
        ];
        for (text, ms) in cases {
            assert_eq!(parse_duration(text), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, n) in [("", "", 0), ("a", "", 1), ("client", "clients", 1), ("abc", "acb", 2)] {
            assert_eq!(distance(a, b), n, "{a} {b}");
            assert_eq!(distance(b, a), n, "{b} {a}");
        }
    }
}

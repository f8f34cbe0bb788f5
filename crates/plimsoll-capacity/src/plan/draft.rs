//! From the text of files and flags to a workload and a server.

use super::assumptions::Assumption;
use crate::profile::{InputErrors, ServerCapacity, USERS_MAX, WorkloadProfile};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Bytes of a workload file; it is written by hand.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Tables that a workload file may have. `run` is for `plimsoll bench run`.
const TABLES: [&str; 3] = ["workload", "server", "run"];
/// Values of a workload that are true or false.
const SWITCHES: [&str; 3] = ["author_sees_own", "join_leave", "tls"];
/// Values of a workload that are words.
const WORDS: [&str; 3] = ["concurrent_users_are", "receipts", "room_sizes"];

/// Why an input cannot be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DraftError {
    /// The text is not what it should be.
    #[error("{0}")]
    Form(String),
    /// A value is out of range.
    #[error("{0}")]
    Value(#[from] InputErrors),
}

/// What was given so far; the later overrules the earlier.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    workload: Table,
    server: Table,
}

impl Draft {
    /// Takes a workload file: TOML with the tables `[workload]` and `[server]`.
    pub fn file(&mut self, text: &str) -> Result<(), DraftError> {
        if text.len() > FILE_BYTES_MAX {
            let message = format!("has {} bytes, at most {FILE_BYTES_MAX} are read", text.len());
            return Err(DraftError::Form(message));
        }
        let mut whole: Table = text.parse().map_err(form)?;
        if let Some(unknown) = whole.keys().find(|key| !TABLES.contains(&key.as_str())) {
            let known = TABLES.map(|table| format!("[{table}]")).join(", ");
            return Err(DraftError::Form(format!("[{unknown}]: unknown, there are {known}")));
        }
        for (name, into) in [("workload", &mut self.workload), ("server", &mut self.server)] {
            match whole.remove(name) {
                None => {}
                Some(Value::Table(table)) => into.extend(table),
                Some(_) => return Err(DraftError::Form(format!("{name}: must be a table"))),
            }
        }
        Ok(())
    }

    /// Takes a value of the workload, as text.
    pub fn set_workload(&mut self, name: &str, text: &str) -> Result<(), InputErrors> {
        let value = if SWITCHES.contains(&name) {
            switch(name, text)?
        } else if WORDS.contains(&name) {
            word(name, text)?
        } else {
            Value::Float(number(name, text)?)
        };
        self.workload.insert(name.to_owned(), value);
        Ok(())
    }

    /// Takes a figure of the server, as text.
    pub fn set_server(&mut self, name: &str, text: &str) -> Result<(), InputErrors> {
        self.server.insert(name.to_owned(), Value::Float(number(name, text)?));
        Ok(())
    }

    /// The workload, checked. What was not given is from the worked example, and is told.
    pub fn workload(&self) -> Result<(WorkloadProfile, Vec<Assumption>), DraftError> {
        let example = Table::try_from(WorkloadProfile::default()).map_err(form)?;
        let given: BTreeSet<&String> = self.workload.keys().collect();
        let main = [
            "concurrent_users",
            "avg_rooms_per_user",
            "avg_users_per_room",
            "msgs_per_user_per_minute",
            "avg_message_bytes",
        ];
        let missing: Vec<String> = main
            .into_iter()
            .filter(|name| !given.contains(&(*name).to_owned()))
            .map(|name| format!("{name} {}", example.get(name).map_or(String::new(), plain)))
            .collect();
        let mut all = example.clone();
        all.extend(self.workload.clone());
        if let Some(value) = all.get_mut("concurrent_users") {
            *value = users(value)?;
        }
        let workload: WorkloadProfile =
            Value::Table(all).try_into().map_err(|e| table_error("workload", e))?;
        workload.check()?;
        let notes = match missing.is_empty() {
            true => Vec::new(),
            false => vec![Assumption::new(
                "not given",
                format!("taken from the worked example: {}", missing.join(", ")),
            )],
        };
        Ok((workload, notes))
    }

    /// The server, checked.
    pub fn server(&self) -> Result<ServerCapacity, DraftError> {
        let server: ServerCapacity =
            Value::Table(self.server.clone()).try_into().map_err(|e| table_error("server", e))?;
        server.check()?;
        Ok(server)
    }
}

fn form(error: impl std::fmt::Display) -> DraftError {
    DraftError::Form(error.to_string().trim().to_owned())
}

fn table_error(table: &str, error: toml::de::Error) -> DraftError {
    let text = error.to_string();
    let lines: Vec<&str> = text.trim().lines().collect();
    DraftError::Form(format!("[{table}]: {}", lines.join(" ")))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Float(f) => f.to_string(),
        other => other.to_string(),
    }
}

fn wrong(name: &str, text: &str, allowed: &str) -> InputErrors {
    let mut found = InputErrors::default();
    found.add(name, text.to_owned(), allowed.to_owned());
    found
}

/// A number, with `_` between digits if one likes. Whether it is in range is checked later.
pub fn number(name: &str, text: &str) -> Result<f64, InputErrors> {
    let digits: String = text.chars().filter(|c| *c != '_').collect();
    digits.trim().parse().map_err(|_| wrong(name, &format!("{text:?}"), "a number"))
}

fn switch(name: &str, text: &str) -> Result<Value, InputErrors> {
    text.parse().map(Value::Boolean).map_err(|_| wrong(name, text, "true or false"))
}

/// A word of an enumeration; the spread of rooms may have an exponent, `power-law:2.5`.
fn word(name: &str, text: &str) -> Result<Value, InputErrors> {
    let snake = text.replace('-', "_");
    let allowed = match name {
        "room_sizes" => {
            if let Some(exponent) = snake.strip_prefix("power_law:") {
                let exponent = Value::Float(number(name, exponent)?);
                return Ok(Value::Table(Table::from_iter([("power_law".to_owned(), exponent)])));
            }
            &["equal", "exponential", "power_law:EXPONENT"][..]
        }
        "receipts" => &["off", "broadcast", "author", "watermark"][..],
        _ => &["peak", "mean"][..],
    };
    if allowed.contains(&snake.as_str()) && !snake.contains(':') {
        return Ok(Value::String(snake));
    }
    Err(wrong(name, text, &allowed.join(", ").replace('_', "-")))
}

/// The number of users, which is whole however it is written.
fn users(value: &Value) -> Result<Value, InputErrors> {
    let count = match value {
        Value::Integer(i) => *i as f64,
        Value::Float(f) => *f,
        _ => f64::NAN,
    };
    let whole = count.fract() == 0.0 && (1.0..=USERS_MAX as f64).contains(&count);
    match whole {
        true => Ok(Value::Integer(count as i64)),
        false => {
            let allowed = format!("a whole number from 1 to {USERS_MAX}");
            Err(wrong("concurrent_users", &plain(value), &allowed))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Receipts, RoomSizes, UsersAre};

    fn of(flags: &[(&str, &str)]) -> Result<WorkloadProfile, DraftError> {
        let mut draft = Draft::default();
        for (name, text) in flags {
            draft.set_workload(name, text)?;
        }
        draft.workload().map(|(workload, _)| workload)
    }

    #[test]
    fn flags_overrule_the_file_and_the_file_the_example() {
        let mut draft = Draft::default();
        let file = "[workload]\nconcurrent_users = 5_000\navg_users_per_room = 10\n\
                    room_sizes = { power_law = 2.5 }\n[server]\nmax_connections = 1000\n[run]\n";
        draft.file(file).unwrap();
        draft.set_workload("avg_users_per_room", "20").unwrap();
        draft.set_server("max_msgs_per_second_out", "1e5").unwrap();
        let (workload, notes) = draft.workload().unwrap();
        assert_eq!((workload.concurrent_users, workload.avg_users_per_room), (5_000, 20.0));
        assert_eq!(workload.room_sizes, RoomSizes::PowerLaw(2.5));
        assert_eq!(workload.avg_message_bytes, 200.0);
        assert!(notes[0].says.contains("avg_message_bytes 200"), "{notes:?}");
        assert!(!notes[0].says.contains("concurrent_users"));
        let server = draft.server().unwrap();
        assert_eq!(server.max_connections, Some(1_000.0));
        assert_eq!(server.max_msgs_per_second_out, Some(100_000.0));
        assert_eq!(server.max_msgs_per_second_in, None);
    }

    #[test]
    fn text_becomes_values() {
        let found = of(&[
            ("concurrent_users", "1_000_000"),
            ("receipts", "watermark"),
            ("room_sizes", "power-law:3"),
            ("concurrent_users_are", "mean"),
            ("join_leave", "true"),
        ])
        .unwrap();
        assert_eq!(found.concurrent_users, 1_000_000);
        assert_eq!(found.receipts, Receipts::Watermark);
        assert_eq!(found.room_sizes, RoomSizes::PowerLaw(3.0));
        assert_eq!(found.concurrent_users_are, UsersAre::Mean);
        assert!(found.join_leave);
        assert_eq!(of(&[("concurrent_users", "1e6")]).unwrap().concurrent_users, 1_000_000);
    }

    #[test]
    fn nonsense_is_told_by_its_name() {
        let check = |name: &str, text: &str, part: &str| {
            let error = of(&[(name, text)]).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(part), "{error}");
        };
        for text in ["0", "-5", "1.5", "NaN", "inf", "1e18", "1e400"] {
            check("concurrent_users", text, "a whole number from 1 to 10000000000");
        }
        check("concurrent_users", "many", "\"many\" is not allowed; give a number");
        check("peak_multiplier", "NaN", "NaN is not allowed; give a number from 1 to 100");
        check("avg_message_bytes", "-1", "-1 is not allowed");
        check("receipts", "loud", "off, broadcast, author, watermark");
        check("room_sizes", "power_law:9", "");
        check("room_sizes", "power-law:EXPONENT", "\"EXPONENT\"");
        check("tls", "maybe", "true or false");
    }

    #[test]
    fn a_bad_file_is_told() {
        let check = |text: &str, part: &str| {
            let mut draft = Draft::default();
            let read =
                draft.file(text).and_then(|()| draft.workload()).and_then(|_| draft.server());
            let error = read.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check("workload = 1", "must be a table");
        check("[wrokload]", "[wrokload]: unknown");
        check("[workload]\nusers = 1", "users");
        check("[workload]\nconcurrent_users = -1", "concurrent_users: -1 is not allowed");
        check("[workload]\nconcurrent_users = 'x'", "concurrent_users");
        check("[workload]\navg_rooms_per_user = 'x'", "avg_rooms_per_user");
        check("[server]\nmax_connections = 0", "max_connections: 0 is not allowed");
        check("[server]\nmax_users = 0", "max_users");
        check("not toml", "");
        check(&" ".repeat(FILE_BYTES_MAX + 1), "at most");
    }
}

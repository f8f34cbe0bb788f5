//! What a key of the configuration is: its path, its kind with its bounds, its meaning, and
//! where its value goes.

use std::net::SocketAddr;

use super::units::{
    parse_decimal, parse_duration, parse_size, print_decimal, print_duration, print_size,
};
use super::value::{Node, Value};
use crate::auth::Secret;

/// Where in `T` a value of type `V` is kept.
pub(super) type At<T, V> = fn(&mut T) -> &mut V;

/// One key of a table of keys that fill a `T`.
pub(super) struct Key<T: 'static> {
    /// Path from the start of the table.
    pub(super) path: &'static str,
    pub(super) kind: Kind<T>,
    /// A sentence or two for the reference.
    pub(super) doc: &'static str,
}

/// A whole number's home.
pub(super) enum Number<T: 'static> {
    Usize(At<T, usize>),
    U32(At<T, u32>),
    U64(At<T, u64>),
}

pub(super) enum Kind<T: 'static> {
    Bool(At<T, bool>),
    /// Between the two bounds.
    Count(u64, u64, Number<T>),
    /// Bytes, between the two bounds.
    Size(u64, u64, At<T, usize>),
    /// Millionths, between the two bounds.
    Decimal(u64, u64, At<T, u64>),
    /// Milliseconds, between the two bounds.
    Duration(u64, u64, At<T, u64>),
    Text(At<T, String>),
    /// Empty = not set.
    OptionalText(At<T, Option<String>>),
    Secret(At<T, Secret>),
    List(At<T, Vec<String>>),
    Address(At<T, SocketAddr>),
    Choice {
        names: &'static [&'static str],
        set: fn(&mut T, usize),
        get: fn(&T) -> usize,
    },
}

impl<T> Number<T> {
    fn set(&self, target: &mut T, value: u64) {
        // The bounds of the key keep the value within the type; saturating says so to both.
        match self {
            Self::Usize(at) => *at(target) = usize::try_from(value).unwrap_or(usize::MAX),
            Self::U32(at) => *at(target) = u32::try_from(value).unwrap_or(u32::MAX),
            Self::U64(at) => *at(target) = value,
        }
    }

    fn get(&self, source: &mut T) -> u64 {
        match self {
            Self::Usize(at) => *at(source) as u64,
            Self::U32(at) => u64::from(*at(source)),
            Self::U64(at) => *at(source),
        }
    }
}

impl<T> Key<T> {
    /// Puts `value` where it belongs, or says what is wrong with it.
    pub(super) fn apply(&self, target: &mut T, value: &Value) -> Result<(), String> {
        match &self.kind {
            Kind::Bool(at) => *at(target) = bool_of(value)?,
            Kind::Count(min, max, number) => {
                let given = whole(value).ok_or_else(|| expected("a whole number", value))?;
                number.set(target, between(given, *min, *max, |n| n.to_string())?);
            }
            Kind::Size(min, max, at) => {
                let bytes = between(size_of(value)?, *min, *max, print_size)?;
                *at(target) = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            Kind::Decimal(min, max, at) => {
                *at(target) = between(decimal_of(value)?, *min, *max, print_decimal)?;
            }
            Kind::Duration(min, max, at) => {
                *at(target) = between(duration_of(value)?, *min, *max, print_duration)?;
            }
            Kind::Text(at) => *at(target) = text_of(value)?,
            Kind::OptionalText(at) => *at(target) = Some(text_of(value)?).filter(|t| !t.is_empty()),
            // The value of a secret is not repeated, not even when it is not a text.
            Kind::Secret(at) => match value {
                Value::Text(text) | Value::Plain(text) => {
                    text.clone_into(at(target).text_mut());
                }
                _ => return Err("must be a text".into()),
            },
            Kind::List(at) => *at(target) = list_of(value)?,
            Kind::Address(at) => *at(target) = address_of(value)?,
            Kind::Choice { names, set, .. } => {
                let text = text_of(value)?;
                let at = names.iter().position(|name| *name == text);
                let at = at.ok_or_else(|| expected(&one_of(names), value))?;
                set(target, at);
            }
        }
        Ok(())
    }

    /// The value as it would be written in TOML.
    pub(super) fn print(&self, source: &mut T) -> String {
        match &self.kind {
            Kind::Bool(at) => at(source).to_string(),
            Kind::Count(_, _, number) => number.get(source).to_string(),
            Kind::Size(_, _, at) => match print_size(*at(source) as u64) {
                text if text.bytes().all(|b| b.is_ascii_digit()) => text,
                text => quoted(&text),
            },
            Kind::Decimal(_, _, at) => print_decimal(*at(source)),
            Kind::Duration(_, _, at) => quoted(&print_duration(*at(source))),
            Kind::Text(at) => quoted(at(source)),
            Kind::OptionalText(at) => quoted(at(source).as_deref().unwrap_or("")),
            Kind::Secret(at) => quoted(at(source).expose()),
            Kind::List(at) => {
                let items: Vec<String> = at(source).iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Address(at) => quoted(&at(source).to_string()),
            Kind::Choice { names, get, .. } => quoted(names.get(get(source)).unwrap_or(&"")),
        }
    }

    /// Kind and bounds for the reference.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::Bool(_) => "bool".into(),
            Kind::Count(min, max, _) if *max == u64::MAX => format!("number ≥ {min}"),
            Kind::Count(min, max, _) => format!("number {min}–{max}"),
            Kind::Size(min, max, _) => format!("size {}–{}", print_size(*min), print_size(*max)),
            Kind::Decimal(min, max, _) => {
                format!("number {}–{}, with a fraction", print_decimal(*min), print_decimal(*max))
            }
            Kind::Duration(min, max, _) => {
                format!("duration {}–{}", print_duration(*min), print_duration(*max))
            }
            Kind::Text(_) | Kind::OptionalText(_) => "text".into(),
            Kind::Secret(_) => "secret".into(),
            Kind::List(_) => "list of texts".into(),
            Kind::Address(_) => "address:port".into(),
            Kind::Choice { names, .. } => one_of(names),
        }
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn one_of(names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("one of {}", names.join(", "))
}

fn expected(what: &str, value: &Value) -> String {
    format!("must be {what}, not {}", value.describe())
}

fn between(value: u64, min: u64, max: u64, print: fn(u64) -> String) -> Result<u64, String> {
    if value < min {
        return Err(format!("must be at least {}, not {}", print(min), print(value)));
    }
    if value > max {
        return Err(format!("must be at most {}, not {}", print(max), print(value)));
    }
    Ok(value)
}

fn bool_of(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::Plain(text) if text == "true" || text == "1" => Ok(true),
        Value::Plain(text) if text == "false" || text == "0" => Ok(false),
        _ => Err(expected("true or false", value)),
    }
}

/// A number that is not negative.
fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Int(value) => u64::try_from(*value).ok(),
        Value::Plain(text) => text.parse().ok(),
        _ => None,
    }
}

fn size_of(value: &Value) -> Result<u64, String> {
    let parsed = match value {
        Value::Text(text) | Value::Plain(text) => parse_size(text),
        _ => whole(value),
    };
    parsed.ok_or_else(|| expected("bytes, as 65536 or \"64KiB\"", value))
}

fn decimal_of(value: &Value) -> Result<u64, String> {
    let parsed = match value {
        Value::Decimal(text) | Value::Plain(text) => parse_decimal(text),
        Value::Int(value) => parse_decimal(&value.to_string()),
        _ => None,
    };
    parsed.ok_or_else(|| expected("a number, as 2 or 0.25, with up to six digits behind", value))
}

fn duration_of(value: &Value) -> Result<u64, String> {
    let parsed = match value {
        Value::Text(text) | Value::Plain(text) => parse_duration(text),
        Value::Int(0) => Some(0),
        _ => None,
    };
    parsed.ok_or_else(|| expected("a duration with its unit, as \"25s\" or \"1m30s\"", value))
}

fn text_of(value: &Value) -> Result<String, String> {
    match value {
        Value::Text(text) | Value::Plain(text) => Ok(text.clone()),
        _ => Err(expected("a text", value)),
    }
}

fn list_of(value: &Value) -> Result<Vec<String>, String> {
    let text = |node: &Node| match &node.value {
        Value::Text(text) => Ok(text.clone()),
        other => Err(expected("a list of texts", other)),
    };
    match value {
        Value::List(nodes) => nodes.iter().map(text).collect(),
        Value::Plain(text) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect())
        }
        _ => Err(expected("a list of texts", value)),
    }
}

fn address_of(value: &Value) -> Result<SocketAddr, String> {
    let text = text_of(value)?;
    if let Some(port) = text.strip_prefix(':') {
        return Err(format!("must name the address: \"0.0.0.0:{port}\" is every one of IPv4"));
    }
    // Names are not resolved: what is listened on must not depend on DNS.
    let numeric = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text,
    };
    numeric.parse().map_err(|_| expected("an IP address and port, as \"127.0.0.1:8000\"", value))
}

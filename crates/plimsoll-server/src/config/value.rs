//! Values as they were given, before anyone knows what they should be: the same tree for TOML,
//! JSON (namespaces in the environment), environment and flags.

use toml::de::{DeTable, DeValue};

/// A value and the byte of the file at which it begins.
pub(super) struct Node {
    pub(super) at: Option<usize>,
    pub(super) value: Value,
}

pub(super) enum Value {
    Bool(bool),
    Int(i64),
    /// With a fraction or an exponent, as written.
    Decimal(String),
    Text(String),
    /// From the environment or a flag: its type is what the key says.
    Plain(String),
    List(Vec<Node>),
    Table(Vec<Member>),
    /// Something no key takes, by name.
    Other(&'static str),
}

/// A name and its value within a table.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) at: Option<usize>,
    pub(super) node: Node,
}

impl Value {
    /// For "…, not …".
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Decimal(text) => text.clone(),
            Self::Text(text) | Self::Plain(text) => {
                let short: String = text.chars().take(40).collect();
                format!("{short:?}")
            }
            Self::List(_) => "a list".into(),
            Self::Table(_) => "a table".into(),
            Self::Other(name) => (*name).into(),
        }
    }
}

/// A TOML text that cannot be read: why, and at which byte.
pub(super) struct Unreadable {
    pub(super) at: Option<usize>,
    pub(super) message: String,
}

/// The members of a TOML document in the order of the file, and what could not be read.
pub(super) fn from_toml(text: &str) -> (Vec<Member>, Vec<Unreadable>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let unreadable = errors
        .iter()
        .map(|error| Unreadable {
            at: error.span().map(|span| span.start),
            message: error.message().to_owned(),
        })
        .collect();
    (toml_members(table.get_ref()), unreadable)
}

fn toml_members(table: &DeTable<'_>) -> Vec<Member> {
    let mut members: Vec<Member> = table
        .iter()
        .map(|(name, value)| Member {
            name: name.get_ref().to_string(),
            at: Some(name.span().start),
            node: toml_node(value.span().start, value.get_ref()),
        })
        .collect();
    members.sort_by_key(|member| member.at);
    members
}

fn toml_node(at: usize, value: &DeValue<'_>) -> Node {
    let value = match value {
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(value) => match i64::from_str_radix(value.as_str(), value.radix()) {
            Ok(value) => Value::Int(value),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Float(value) => Value::Decimal(value.as_str().to_owned()),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(
            list.iter().map(|item| toml_node(item.span().start, item.get_ref())).collect(),
        ),
        DeValue::Table(table) => Value::Table(toml_members(table)),
    };
    Node { at: Some(at), value }
}

/// The tree of a JSON text, or why it is none.
pub(super) fn from_json(text: &str) -> Result<Node, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Ok(json_node(value))
}

fn json_node(value: serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Other("null"),
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Other("a number that is not whole"),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(list) => Value::List(list.into_iter().map(json_node).collect()),
        Json::Object(map) => Value::Table(
            map.into_iter()
                .map(|(name, value)| Member { name, at: None, node: json_node(value) })
                .collect(),
        ),
    };
    Node { at: None, value }
}

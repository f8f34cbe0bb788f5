//! JSON as tokens need it: objects whose names are distinct, and raw values on one line.

use std::fmt;

use plimsoll_core::limits;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object, values unparsed. An object with a name twice is refused:
/// two readers of it could see different things.
pub(super) struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The raw text of a member; `null` counts as absent, as it does for Centrifugo.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        let (_, value) = self.0.iter().find(|(own, _)| own == name)?;
        (value.get() != "null").then_some(value.get())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(own, _)| own == name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.get()))
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with distinct names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            fields.push((name, value));
        }
        // A token of 16 KiB holds thousands of members: sorted, not each against each.
        let mut names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(serde::de::Error::custom("a name occurs twice"));
        }
        Ok(Fields(fields))
    }
}

/// The string that `raw` is, if it is one.
pub(super) fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

/// `text` without white space between its tokens, if it is one JSON value that is not nested
/// deeper than [`limits::JSON_DEPTH_MAX`]. Replies are separated by line breaks, so a value
/// that is passed on must not hold any.
pub(super) fn compact(text: &str) -> Option<Box<str>> {
    let value: &RawValue = serde_json::from_str(text).ok()?;
    let mut out = String::with_capacity(value.get().len());
    let (mut in_string, mut escaped, mut depth) = (false, false, 0usize);
    for c in value.get().chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            match c {
                ' ' | '\t' | '\n' | '\r' => continue,
                '"' => in_string = true,
                '[' | '{' => depth += 1,
                ']' | '}' => depth = depth.saturating_sub(1),
                _ => (),
            }
            if depth > limits::JSON_DEPTH_MAX {
                return None;
            }
        }
        out.push(c);
    }
    Some(out.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_on_one_line_and_strings_kept() {
        let text = " { \"a b\" : [ 1 ,\n 2 ], \"c\\\" \\\\\" : \"x  y\" } ";
        assert_eq!(compact(text).as_deref(), Some(r#"{"a b":[1,2],"c\" \\":"x  y"}"#));
        for bad in ["", "{", "{} {}", "nul", "{\"a\":1,}", "'a'"] {
            assert_eq!(compact(bad), None, "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(compact(&nested(limits::JSON_DEPTH_MAX)).is_some());
        assert!(compact(&nested(limits::JSON_DEPTH_MAX + 1)).is_none());
        assert!(compact(&nested(7_000)).is_none());
    }

    #[test]
    fn a_name_twice_is_refused() {
        assert!(Fields::parse(r#"{"a":1,"b":2}"#).is_some());
        assert!(Fields::parse(r#"{"a":1,"b":2,"a":1}"#).is_none());
        assert!(Fields::parse(r#"{"a":1,"\u0061":2}"#).is_none());
        assert!(Fields::parse("[]").is_none());
    }
}

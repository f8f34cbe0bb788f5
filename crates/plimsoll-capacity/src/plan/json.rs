//! A plan as JSON.

use super::{NoNumber, Plan};
use crate::simple::SimplePlan;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// Places that are kept: a millionth of a dollar, or of a message.
const PLACES: f64 = 1e6;
/// Numbers beyond this have no places.
const WHOLE: f64 = 1e9;

impl Plan {
    /// The plan as JSON, in the order of its fields, figures rounded to six places.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        text(self)
    }

    /// The plan in `text`.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl SimplePlan {
    /// The plan as JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        text(self)
    }
}

impl NoNumber {
    /// Why there is no plan, as JSON.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        text(&serde_json::json!({ "error": "no_number_of_nodes", "message": self.to_string(),
            "detail": self }))
    }
}

fn text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Rounding(PrettyFormatter::new())))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Six places, and at most twelve digits: these read back as the same number everywhere.
fn round(value: f64) -> f64 {
    let near = if value.abs() < WHOLE { (value * PLACES).round() / PLACES } else { value };
    // Small coefficients must not become 0.
    let near = if near == 0.0 { value } else { near };
    format!("{near:.11e}").parse().unwrap_or(near)
}

struct Rounding<'a>(PrettyFormatter<'a>);

/// Passes to the pretty form what is not a number.
macro_rules! pass {
    ($($name:ident($($argument:ident: $kind:ty)?)),+ $(,)?) => {$(
        fn $name<W: ?Sized + Write>(&mut self, w: &mut W $(, $argument: $kind)?) -> io::Result<()> {
            self.0.$name(w $(, $argument)?)
        }
    )+};
}

impl Formatter for Rounding<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, w: &mut W, value: f64) -> io::Result<()> {
        self.0.write_f64(w, round(value))
    }

    pass! {
        begin_array(),
        end_array(),
        begin_array_value(first: bool),
        end_array_value(),
        begin_object(),
        end_object(),
        begin_object_key(first: bool),
        begin_object_value(),
        end_object_value(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rounded_and_keep_their_size() {
        let check = |value: f64, expected: &str| assert_eq!(text(&value).unwrap(), expected);
        check(816_666.666_666_67, "816666.666667");
        check(0.1 + 0.2, "0.3");
        check(29.0, "29.0");
        check(4e-9, "4e-9");
        check(1.0 / 3.0 * 1e20, "3.33333333333e+19");
        assert_eq!(text(&vec![1, 2]).unwrap(), "[\n  1,\n  2\n]");
    }
}

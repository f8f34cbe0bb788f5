//! Durations, sizes and decimal numbers as people write them.

/// Units of a duration, largest first, in milliseconds.
const DURATIONS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of a size, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Milliseconds of `25s`, `1m30s`, `720h`, `500ms`; each unit once, larger ones first.
/// `0` needs no unit.
pub fn parse_duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut units = DURATIONS.as_slice();
    let mut total: u64 = 0;
    while !rest.is_empty() || units.len() == DURATIONS.len() {
        let (number, after) = split_number(rest)?;
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(letters)?;
        let at = units.iter().position(|(name, _)| *name == unit)?;
        let (_, factor) = units.get(at)?;
        total = total.checked_add(number.checked_mul(*factor)?)?;
        units = units.get(at + 1..)?;
        rest = next;
    }
    Some(total)
}

/// The shortest text [`parse_duration`] reads as `ms`; days are written as hours.
pub fn print_duration(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, factor) in DURATIONS.iter().skip(1) {
        if rest >= *factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Bytes of `65536`, `64KiB`, `1MiB`.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    match unit.trim_start() {
        "" => Some(number),
        unit => {
            let (_, factor) = SIZES.iter().find(|(name, _)| *name == unit)?;
            number.checked_mul(*factor)
        }
    }
}

/// The shortest text [`parse_size`] reads as `bytes`.
pub fn print_size(bytes: u64) -> String {
    match SIZES.iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
        Some((unit, factor)) if *factor > 1 => format!("{}{unit}", bytes / factor),
        _ => bytes.to_string(),
    }
}

/// Digits behind the point that a decimal number may have.
const DECIMAL_PLACES: usize = 6;
/// A one, in the unit that decimal numbers are kept in.
pub const DECIMAL_ONE: u64 = 1_000_000;

/// Millionths of `3`, `0.5`, `12.25`.
pub fn parse_decimal(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > DECIMAL_PLACES {
        return None;
    }
    let part: u64 = format!("{part:0<DECIMAL_PLACES$}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(DECIMAL_ONE)?.checked_add(part)
}

/// The shortest text [`parse_decimal`] reads as `millionths`.
pub fn print_decimal(millionths: u64) -> String {
    let (whole, part) = (millionths / DECIMAL_ONE, millionths % DECIMAL_ONE);
    let text = format!("{whole}.{part:0DECIMAL_PLACES$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("25s", 25_000),
            ("1m30s", 90_000),
            ("720h", 2_592_000_000),
            ("500ms", 500),
            ("1d2h", 93_600_000),
            ("2m5ms", 120_005),
            ("0s", 0),
            ("0", 0),
        ] {
            assert_eq!(parse_duration(text), Some(ms), "{text}");
        }
        let huge = format!("{}d", u64::MAX);
        for bad in
            ["", "s", "25", "-1s", "1.5s", "1s1s", "1s1m", "1 s", "1S", "5µs", "1sm", "s1", &huge]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in
            [("0", 0), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("3GiB", 3 << 30), ("7B", 7)]
        {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        let huge = format!("{}KiB", u64::MAX);
        for bad in ["", "KiB", "64KB", "64kib", "-1", "1.5MiB", &huge] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn decimals() {
        for (text, millionths, printed) in [
            ("0", 0, "0"),
            ("3", 3_000_000, "3"),
            ("0.5", 500_000, "0.5"),
            ("12.250", 12_250_000, "12.25"),
            ("100.000001", 100_000_001, "100.000001"),
        ] {
            assert_eq!(parse_decimal(text), Some(millionths), "{text}");
            assert_eq!(print_decimal(millionths), printed);
        }
        let huge = u64::MAX.to_string();
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "nan", "0.0000001", "1_0", &huge] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(n: u64) {
            prop_assert_eq!(parse_decimal(&print_decimal(n)), Some(n));
            prop_assert_eq!(parse_duration(&print_duration(n)), Some(n));
            prop_assert_eq!(parse_size(&print_size(n)), Some(n));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text), parse_decimal(&text));
        }
    }
}

//! Durations and sizes as people write them.

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

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(n: u64) {
            prop_assert_eq!(parse_duration(&print_duration(n)), Some(n));
            prop_assert_eq!(parse_size(&print_size(n)), Some(n));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,12}") {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}

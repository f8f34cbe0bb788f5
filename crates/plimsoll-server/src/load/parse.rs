//! Small pieces of the kernel's text formats. Input is any bytes.

/// A decimal number and nothing else, but for blanks around it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    // `parse` would take a sign, which no counter has.
    if !text.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Lines without their ends.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| *b == b'\n')
}

/// Words between blanks.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty())
}

/// The number behind `key` in lines of `key number`.
pub(super) fn keyed(text: &[u8], key: &str) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut words = words(line);
        (words.next()? == key.as_bytes()).then(|| words.next().and_then(number))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |text: &str, expect| assert_eq!(number(text.as_bytes()), expect, "{text:?}");
        check("0\n", Some(0));
        check(" 12 ", Some(12));
        check("18446744073709551615", Some(u64::MAX));
        check("18446744073709551616", None);
        for bad in ["", "-1", "+1", "max", "1 2", "1.5", "0x1", "\u{661}"] {
            check(bad, None);
        }
    }

    #[test]
    fn keys_are_whole_words() {
        let text = b"total_rss 7\nrss_huge 5\nrss 3\nrss 4\nlast";
        assert_eq!(keyed(text, "rss"), Some(3));
        assert_eq!(keyed(text, "total"), None);
        assert_eq!(keyed(text, "last"), None);
        assert_eq!(keyed(b"", "rss"), None);
    }
}

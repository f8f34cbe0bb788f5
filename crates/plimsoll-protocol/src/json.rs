//! Raw JSON on its way through: checked and compacted, never re-encoded.

use plimsoll_core::limits::JSON_DEPTH_MAX;
use std::borrow::Cow;

/// Why a value is not passed on although it is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
    /// An escape names half a surrogate pair: no valid Unicode, decoders differ on it.
    LoneSurrogate,
}

/// Takes out whitespace between tokens. `text` must be syntactically valid JSON (it comes from a
/// parser); newlines inside strings are escapes there, so the result holds no raw newline and
/// no subscriber's stream of lines splits.
pub fn compact(text: &str) -> Result<Cow<'_, str>, Unfit> {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut i = 0;
    let mut copied_to = 0;
    let mut out = String::new();
    while let Some(&b) = bytes.get(i) {
        match b {
            b'"' => {
                i = skip_string(bytes, i + 1)?;
                continue;
            }
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(Unfit::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(text.get(copied_to..i).unwrap_or_default());
                copied_to = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    if copied_to == 0 {
        return Ok(Cow::Borrowed(text));
    }
    out.push_str(text.get(copied_to..).unwrap_or_default());
    Ok(Cow::Owned(out))
}

/// From the byte after the opening quote to the byte after the closing one.
fn skip_string(bytes: &[u8], mut i: usize) -> Result<usize, Unfit> {
    while let Some(&b) = bytes.get(i) {
        match b {
            b'"' => return Ok(i + 1),
            b'\\' if bytes.get(i + 1) == Some(&b'u') => i = skip_unicode(bytes, i)?,
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    Ok(i)
}

/// `\uXXXX` at `i`, or a pair of them; returns where it ends.
fn skip_unicode(bytes: &[u8], i: usize) -> Result<usize, Unfit> {
    match hex4(bytes, i + 2) {
        Some(0xd800..=0xdbff) => {
            let second = bytes.get(i + 6) == Some(&b'\\') && bytes.get(i + 7) == Some(&b'u');
            match hex4(bytes, i + 8) {
                Some(0xdc00..=0xdfff) if second => Ok(i + 12),
                _ => Err(Unfit::LoneSurrogate),
            }
        }
        Some(0xdc00..=0xdfff) => Err(Unfit::LoneSurrogate),
        _ => Ok(i + 6),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, d| Some(n * 16 + char::from(*d).to_digit(16)?))
}

/// Appends `text` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut from = 0;
    let bytes = text.as_bytes();
    for (i, &b) in bytes.iter().enumerate() {
        if b >= 0x20 && b != b'"' && b != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[from..i]);
        from = i + 1;
        match b {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let escape = [b'\\', b'u', b'0', b'0', HEX[usize::from(b >> 4)]];
                out.extend_from_slice(&escape);
                out.push(HEX[usize::from(b & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// Appends a number.
pub fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn compacts_and_refuses() {
        for (text, want) in [
            ("1", Ok("1")),
            (" { \"a\" :\n [ 1 , 2 ] } ", Ok(r#"{"a":[1,2]}"#)),
            (r#"{"a":" x\n\" y "}"#, Ok(r#"{"a":" x\n\" y "}"#)),
            (r#""\ud83d\ude00""#, Ok(r#""\ud83d\ude00""#)),
            (r#""\\ud800""#, Ok(r#""\\ud800""#)),
            (r#""\ud800""#, Err(Unfit::LoneSurrogate)),
            (r#""\ud800\ud800""#, Err(Unfit::LoneSurrogate)),
            (r#""\udc00""#, Err(Unfit::LoneSurrogate)),
            (r#""\ud800x""#, Err(Unfit::LoneSurrogate)),
        ] {
            assert_eq!(compact(text).as_deref(), want.as_ref().map(|t| *t), "{text}");
        }
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(compact(&nested(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(compact(&nested(JSON_DEPTH_MAX + 1)), Err(Unfit::TooDeep));
    }

    proptest! {
        #[test]
        fn strings_read_back(text in any::<String>()) {
            let mut out = Vec::new();
            push_string(&mut out, &text);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn numbers_read_back(n in any::<u64>()) {
            let mut out = Vec::new();
            push_number(&mut out, n);
            prop_assert_eq!(String::from_utf8(out).unwrap(), n.to_string());
        }

        #[test]
        fn compacting_changes_no_value(keys in proptest::collection::hash_map(".*", ".*", 0..5)) {
            let value = serde_json::json!({ "a": keys, "b": [1.5, null, true] });
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let compacted = compact(&pretty).unwrap();
            prop_assert_eq!(&*compacted, serde_json::to_string(&value).unwrap());
        }
    }
}

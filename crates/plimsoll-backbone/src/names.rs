//! Channel names where a broker allows only some bytes.

/// Writes a name as one token of letters, digits, `-`, `_` and `=`: NATS subjects have no spaces,
/// dots, `*` or `>` inside a token. Every other byte becomes `=` and two hexadecimal digits, so
/// that usual names stay readable and no two names become the same.
pub fn to_token(name: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            _ => {
                out.push('=');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
    out
}

/// Reads what [`to_token`] wrote; `None` = it did not.
pub fn from_token(token: &str) -> Option<String> {
    let mut out = Vec::with_capacity(token.len());
    let mut bytes = token.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'=' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
                out.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => out.push(byte),
            _ => return None,
        }
    }
    String::from_utf8(out).ok().filter(|name| to_token(name) == token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_names_stay_readable() {
        assert_eq!(to_token("chat-room_1"), "chat-room_1");
        assert_eq!(to_token("chat:1"), "chat=3a1");
        assert_eq!(to_token("a.*>\r\n{x}"), "a=2e=2a=3e=0d=0a=7bx=7d");
        for bad in ["=", "=4", "=zz", "=61", "a.b", "a b", "=ff", "=3A"] {
            assert_eq!(from_token(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<String>(), other in any::<String>()) {
            let token = to_token(&name);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)));
            prop_assert_eq!(from_token(&token), Some(name.clone()));
            prop_assert_eq!(to_token(&other) == token, other == name);
        }
    }
}

//! Reads the two messages that make up nearly all traffic without a parser: publications, and the
//! replies to publishes. Everything else, and everything unusual about them, is left to one.

/// What was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scanned<'a> {
    /// A publication; offset 0: it has none.
    Publication {
        /// Its channel, which has no escapes.
        channel: &'a str,
        /// Its number in the stream.
        offset: u64,
        /// Its payload: one JSON value, if the message is JSON at all.
        data: &'a [u8],
    },
    /// An empty answer to a publish.
    Published {
        /// The command's number.
        id: u32,
    },
    /// A ping.
    Ping,
}

/// Looks at one JSON message; nothing if it has to be parsed.
///
/// Values that are passed over are not checked for more than their strings and brackets.
pub fn scan(message: &str) -> Option<Scanned<'_>> {
    if message == "{}" {
        return Some(Scanned::Ping);
    }
    let mut scanner = Scanner { text: message, at: 0 };
    scanner.eat(b"{\"")?;
    let made = if scanner.eat(b"push\":{").is_some() {
        let push = scanner.push()?;
        scanner.eat(b"}")?;
        push
    } else {
        scanner.eat(b"id\":")?;
        let id = u32::try_from(scanner.number()?).ok().filter(|id| *id > 0)?;
        scanner.eat(b",\"publish\":{}}")?;
        Scanned::Published { id }
    };
    (scanner.at == message.len()).then_some(made)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The members of a push and its closing bracket.
    fn push(&mut self) -> Option<Scanned<'a>> {
        let (mut channel, mut publication) = (None, None);
        loop {
            match self.key()? {
                "channel" if channel.is_none() => channel = Some(self.string()?),
                "pub" if publication.is_none() => publication = Some(self.publication()?),
                _ => return None,
            }
            if !self.more()? {
                break;
            }
        }
        let (offset, data) = publication?;
        Some(Scanned::Publication { channel: channel?, offset, data })
    }

    /// A publication's offset and payload. Members that change what the payload means are left
    /// to the parser.
    fn publication(&mut self) -> Option<(u64, &'a [u8])> {
        self.eat(b"{")?;
        let (mut offset, mut data) = (None, None);
        loop {
            match self.key()? {
                "offset" if offset.is_none() => offset = Some(self.number()?),
                "data" if data.is_none() => data = Some(self.value()?),
                "info" | "tags" | "epoch" | "time" => {
                    self.value()?;
                }
                _ => return None,
            }
            if !self.more()? {
                break;
            }
        }
        Some((offset.unwrap_or(0), data?))
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn eat(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest().starts_with(bytes).then(|| self.at += bytes.len())
    }

    fn key(&mut self) -> Option<&'a str> {
        let key = self.string()?;
        self.eat(b":")?;
        Some(key)
    }

    /// Whether another member follows, or the object ends.
    fn more(&mut self) -> Option<bool> {
        let next = *self.rest().first()?;
        self.at += 1;
        match next {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    /// A string without escapes and control characters.
    fn string(&mut self) -> Option<&'a str> {
        self.eat(b"\"")?;
        let len = self.rest().iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..32))?;
        let text = self.text.get(self.at..self.at + len)?;
        self.at += len;
        self.eat(b"\"")?;
        Some(text)
    }

    /// Decimal digits without a leading zero, as JSON has them.
    fn number(&mut self) -> Option<u64> {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        if len == 0 || (len > 1 && rest.starts_with(b"0")) || rest.get(len) == Some(&b'.') {
            return None;
        }
        let number = self.text.get(self.at..self.at + len)?.parse().ok()?;
        self.at += len;
        Some(number)
    }

    /// Any value, by counting brackets outside strings.
    fn value(&mut self) -> Option<&'a [u8]> {
        let (rest, mut at, mut depth) = (self.rest(), 0, 0u32);
        loop {
            match rest.get(at)? {
                b'"' => at += string_len(rest.get(at..)?)?,
                b'{' | b'[' => {
                    depth += 1;
                    at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    at += 1;
                }
                b',' | b'}' if depth == 0 => break,
                0..=32 => return None,
                _ => at += 1,
            }
        }
        let value = rest.get(..at).filter(|value| !value.is_empty())?;
        self.at += at;
        Some(value)
    }
}

/// Bytes of the string at the start, both quotes included.
fn string_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        at += 2;
    }
}

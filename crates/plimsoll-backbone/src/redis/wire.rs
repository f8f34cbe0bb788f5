//! The subscription link's side of RESP3: commands out, pushes in.
//!
//! Why not the `redis` crate's: its pushes come as trees of vectors, four allocations for each
//! delivery, through a queue that has no bound; and it takes an unsolicited `sunsubscribe` (a slot
//! has moved) for the answer of a command that waits. Here a delivery is a slice of the buffer
//! that was read into.

use crate::limits;
use std::ops::Range;

/// Writes a command.
pub(super) fn command<'a>(out: &mut Vec<u8>, words: impl IntoIterator<Item = &'a [u8]>) {
    let start = out.len();
    let mut count = 0usize;
    let mut body = Vec::new();
    for word in words {
        count += 1;
        body.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        body.extend_from_slice(word);
        body.extend_from_slice(b"\r\n");
    }
    out.reserve(body.len() + 16);
    out.extend_from_slice(format!("*{count}\r\n").as_bytes());
    out.append(&mut body);
    debug_assert!(out.len() > start);
}

/// A whole frame at the start of a buffer. Ranges are of that buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// `>`, `*`, `+`, `-`, `$`, `:` and so on.
    pub(super) kind: u8,
    /// The first elements of a push or array; the one value of anything else. Numbers are text.
    parts: [Range<usize>; PARTS],
    /// Bytes of the whole.
    pub(super) len: usize,
}

const PARTS: usize = 4;

impl Frame {
    pub(super) fn part(&self, n: usize) -> Range<usize> {
        self.parts.get(n).cloned().unwrap_or(0..0)
    }
}

/// What stands at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// A frame.
    Frame(Frame),
    /// Not all of it is there.
    More,
    /// A push whose last element is too long to be ours: leave out so many bytes. The range is
    /// that of its second element, the channel.
    Skip(usize, Range<usize>),
    /// This is not RESP3.
    Broken,
}

/// The rest of a line, and where the next begins.
fn line(buf: &[u8], from: usize) -> Result<Option<(Range<usize>, usize)>, ()> {
    let rest = buf.get(from..).unwrap_or_default();
    let window = rest.get(..limits::REDIS_LINE_BYTES_MAX).unwrap_or(rest);
    match window.windows(2).position(|w| w == b"\r\n") {
        Some(n) => Ok(Some((from..from + n, from + n + 2))),
        None if window.len() < limits::REDIS_LINE_BYTES_MAX => Ok(None),
        None => Err(()),
    }
}

fn number(buf: &[u8], range: Range<usize>) -> Result<i64, ()> {
    let text = std::str::from_utf8(buf.get(range).unwrap_or_default()).map_err(|_| ())?;
    text.parse().map_err(|_| ())
}

/// One value: its kind, its content (empty for aggregates) and its end.
enum Value {
    Whole(Range<usize>, usize),
    More,
    TooLong(usize),
}

fn value(buf: &[u8], from: usize, depth: usize) -> Result<Value, ()> {
    let Some(kind) = buf.get(from) else { return Ok(Value::More) };
    let Some((head, mut at)) = line(buf, from + 1)? else { return Ok(Value::More) };
    match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => Ok(Value::Whole(head, at)),
        b'$' | b'=' | b'!' => {
            let length = number(buf, head)?;
            if length == -1 {
                return Ok(Value::Whole(at..at, at));
            }
            let length = usize::try_from(length).map_err(|_| ())?;
            let end = at.checked_add(length).and_then(|e| e.checked_add(2)).ok_or(())?;
            if length > limits::REDIS_BULK_BYTES_MAX {
                return Ok(Value::TooLong(end));
            }
            match buf.get(end - 2..end) {
                None => Ok(Value::More),
                Some(b"\r\n") => Ok(Value::Whole(at..end - 2, end)),
                Some(_) => Err(()),
            }
        }
        b'*' | b'>' | b'~' | b'%' | b'|' => {
            if depth == 0 {
                return Err(());
            }
            let start = at;
            for _ in 0..elements(*kind, number(buf, head)?)? {
                match value(buf, at, depth - 1)? {
                    Value::Whole(_, end) => at = end,
                    Value::More => return Ok(Value::More),
                    Value::TooLong(_) => return Err(()),
                }
            }
            Ok(Value::Whole(start..start, at))
        }
        _ => Err(()),
    }
}

fn elements(kind: u8, count: i64) -> Result<usize, ()> {
    let count = usize::try_from(count.max(0)).map_err(|_| ())?;
    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
    (count <= limits::REDIS_ELEMENTS_MAX).then_some(count * each).ok_or(())
}

/// Looks at the start of a buffer.
pub(super) fn scan(buf: &[u8]) -> Scan {
    scan_inner(buf).unwrap_or(Scan::Broken)
}

fn scan_inner(buf: &[u8]) -> Result<Scan, ()> {
    let Some(kind) = buf.first().copied() else { return Ok(Scan::More) };
    let mut frame = Frame { kind, parts: [const { 0..0 }; PARTS], len: 0 };
    if !matches!(kind, b'>' | b'*') {
        return Ok(match value(buf, 0, 4)? {
            Value::Whole(range, end) => {
                frame.parts[0] = range;
                frame.len = end;
                Scan::Frame(frame)
            }
            Value::More => Scan::More,
            Value::TooLong(_) => Scan::Broken,
        });
    }
    let Some((head, mut at)) = line(buf, 1)? else { return Ok(Scan::More) };
    let count = elements(kind, number(buf, head)?)?;
    for n in 0..count {
        match value(buf, at, 4)? {
            Value::Whole(range, end) => {
                if let Some(part) = frame.parts.get_mut(n) {
                    *part = range;
                }
                at = end;
            }
            Value::More => return Ok(Scan::More),
            Value::TooLong(end) if kind == b'>' && n + 1 == count && n == 2 => {
                return Ok(Scan::Skip(end, frame.part(1)));
            }
            Value::TooLong(_) => return Ok(Scan::Broken),
        }
    }
    frame.len = at;
    Ok(Scan::Frame(frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pushes_are_read_in_any_pieces() {
        let bytes = b">3\r\n$7\r\nmessage\r\n$4\r\na\r\nb\r\n$2\r\nhi\r\n+OK\r\n";
        for cut in 0..35 {
            assert_eq!(scan(&bytes[..cut]), Scan::More, "{cut}");
        }
        let Scan::Frame(frame) = scan(bytes) else { panic!() };
        assert_eq!((frame.kind, frame.len), (b'>', 35));
        assert_eq!(&bytes[frame.part(0)], b"message");
        assert_eq!(&bytes[frame.part(1)], b"a\r\nb");
        assert_eq!(&bytes[frame.part(2)], b"hi");
        let Scan::Frame(frame) = scan(&bytes[35..]) else { panic!() };
        assert_eq!((frame.kind, frame.len), (b'+', 5));
    }

    #[test]
    fn maps_and_nested_arrays_are_passed_over() {
        let bytes = b"%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*1\r\n*0\r\n:5\r\n";
        let Scan::Frame(frame) = scan(bytes) else { panic!() };
        assert_eq!(frame.len, bytes.len() - 4);
    }

    #[test]
    fn what_is_too_long_is_passed_over_without_being_kept() {
        let n = limits::REDIS_BULK_BYTES_MAX + 1;
        let head = format!(">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n${n}\r\nxxxx");
        let Scan::Skip(skip, channel) = scan(head.as_bytes()) else { panic!() };
        assert_eq!(&head.as_bytes()[channel], b"c");
        assert_eq!(skip, head.len() - 4 + n + 2);
        for bad in ["?\r\n", ">x\r\n", "$5\r\nabcdefg\r\n", "*99999999\r\n", "$-7\r\n"] {
            assert_eq!(scan(bad.as_bytes()), Scan::Broken, "{bad}");
        }
        assert_eq!(scan(&vec![b'+'; limits::REDIS_LINE_BYTES_MAX + 2]), Scan::Broken);
    }

    #[test]
    fn commands_are_written() {
        let mut out = Vec::new();
        command(&mut out, [&b"PING"[..], b"a\r\n"]);
        assert_eq!(out, b"*2\r\n$4\r\nPING\r\n$3\r\na\r\n\r\n");
    }

    proptest! {
        #[test]
        fn no_input_ends_it(bytes in proptest::collection::vec(
            prop_oneof![Just(b'>'), Just(b'$'), Just(b'*'), Just(b'1'), Just(b'\r'), Just(b'\n'),
                any::<u8>()], 0..200)) {
            match scan(&bytes) {
                Scan::Frame(f) => prop_assert!(f.len <= bytes.len() && f.len > 0),
                Scan::Skip(..) | Scan::More | Scan::Broken => {}
            }
        }
    }
}

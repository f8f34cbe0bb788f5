//! HTTP/1.1 request heads.
//!
//! The head is read strictly: whatever two parsers might read in two ways (bare line feeds, folded
//! lines, control characters, two lengths) is refused, because the bytes of an ordinary request go
//! on to another HTTP server that reads them again.

use std::fmt::Write as _;

/// Header lines that fit in a [`Head`], whatever the limits say.
pub const HEADERS_MAX: usize = 64;

/// Bounds of one head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, with the blank line.
    pub bytes_max: usize,
    /// Header lines; at most [`HEADERS_MAX`] count.
    pub count_max: usize,
}

/// What stands at the start of a buffer.
#[derive(Debug)]
pub enum HeadParse<'b> {
    /// No whole head yet, and nothing wrong with what is there.
    Incomplete,
    /// A whole head.
    Complete {
        /// The head.
        head: Head<'b>,
        /// Its bytes, with the blank line.
        len: usize,
    },
    /// To be answered and closed; what follows must never be read as a request.
    Bad(Refusal),
}

/// A request head, borrowed from the buffer.
#[derive(Debug)]
pub struct Head<'b> {
    method: &'b str,
    target: &'b str,
    minor: u8,
    headers: [httparse::Header<'b>; HEADERS_MAX],
    count: usize,
}

impl<'b> Head<'b> {
    /// The method as sent (methods are case-sensitive).
    pub fn method(&self) -> &'b str {
        self.method
    }

    /// Path and query as sent.
    pub fn target(&self) -> &'b str {
        self.target
    }

    /// The path, without the query.
    pub fn path(&self) -> &'b str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&'b str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The digit after `HTTP/1.`: 0 or 1.
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// Names and values in the order sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + '_ {
        self.headers.iter().take(self.count).map(|header| (header.name, header.value))
    }

    /// All values of a header.
    pub fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'b [u8]> + 's {
        self.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).next()
    }

    /// How many lines carry a header.
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// Whether a comma-separated header (in any of its lines) has a token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.values(name)
            .flat_map(|value| value.split(|byte| *byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }
}

/// A request that is answered by a status and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// One sentence for the one who sent the request.
    pub reason: &'static str,
}

impl Refusal {
    /// Appends the whole response.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let phrase = match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Refused",
        };
        let connection = match self.status {
            426 => "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
            _ => "Connection: close",
        };
        let mut text = String::with_capacity(256);
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "HTTP/1.1 {} {phrase}\r\n{connection}\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{}\n",
            self.status,
            self.reason.len() + 1,
            self.reason
        );
        out.extend_from_slice(text.as_bytes());
    }
}

pub(crate) const fn refuse(status: u16, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

const TOO_LARGE: Refusal = refuse(431, "The request head is too large.");

/// Reads the head at the start of `buf`, which holds all bytes since the connection opened.
///
/// Each call looks at no more than `bytes_max` bytes once, and parses only when the blank line is
/// there, so that a head that trickles in costs little.
pub fn parse_head<'b>(buf: &'b [u8], limits: &HeadLimits) -> HeadParse<'b> {
    let window = buf.get(..limits.bytes_max).unwrap_or(buf);
    let count_max = limits.count_max.min(HEADERS_MAX);
    match scan(window, count_max) {
        Err(refusal) => HeadParse::Bad(refusal),
        Ok(None) if buf.len() >= limits.bytes_max => HeadParse::Bad(TOO_LARGE),
        Ok(None) => HeadParse::Incomplete,
        Ok(Some(len)) => match read(buf.get(..len).unwrap_or(buf)) {
            Ok(head) => HeadParse::Complete { head, len },
            Err(refusal) => HeadParse::Bad(refusal),
        },
    }
}

/// Finds the end of the head and refuses what no line of a head may hold.
fn scan(bytes: &[u8], count_max: usize) -> Result<Option<usize>, Refusal> {
    let mut rest = bytes;
    let mut lines = 0;
    loop {
        if matches!(rest.first(), Some(b' ' | b'\t')) {
            return Err(refuse(400, "A line of the request head is folded."));
        }
        let end = control_at(rest);
        match rest.get(end..).unwrap_or_default() {
            // A return at the very end may be half of a line end.
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if end == 0 && lines == 0 => {
                return Err(refuse(400, "The request line is empty."));
            }
            [b'\r', b'\n', after @ ..] if end == 0 => return Ok(Some(bytes.len() - after.len())),
            [b'\r', b'\n', after @ ..] => rest = after,
            [b'\n', ..] => return Err(refuse(400, "A line does not end in CR LF.")),
            _ => return Err(refuse(400, "The request head holds a control character.")),
        }
        lines += 1;
        if lines > count_max + 1 {
            return Err(refuse(431, "The request has too many header lines."));
        }
    }
}

/// Where the first control character stands, tabs left out; the length if there is none.
fn control_at(bytes: &[u8]) -> usize {
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f;
    // Chunks without an early end become vector instructions, which keeps a head that arrives
    // byte by byte cheap.
    let chunks = bytes.chunks(64);
    let plain = chunks.take_while(|chunk| !chunk.iter().fold(false, |any, b| any | is_control(*b)));
    let start = plain.map(<[u8]>::len).sum();
    let rest = bytes.get(start..).unwrap_or_default();
    start + rest.iter().position(|byte| is_control(*byte)).unwrap_or(rest.len())
}

fn read(bytes: &[u8]) -> Result<Head<'_>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        _ => return Err(refuse(400, "The request head is malformed.")),
    }
    let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version)
    else {
        return Err(refuse(400, "The request line is malformed."));
    };
    if !target.starts_with('/') || !target.is_ascii() || target.contains('#') {
        return Err(refuse(400, "The request target must be a path."));
    }
    let count = request.headers.len();
    Ok(Head { method, target, minor, headers, count })
}

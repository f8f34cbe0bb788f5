//! `Sec-WebSocket-Extensions`: the offers of `permessage-deflate` (RFC 7692).

/// Offers looked at in one request. Browsers send one or two.
const OFFERS_MAX: usize = 16;

/// An offer of `permessage-deflate` that can be taken.
///
/// One compressor and one decompressor serve all connections of a worker, and a message that goes
/// to many is compressed once: so no context is kept between messages in either direction, and
/// the server's window is always 15 bits. An offer that asks for a smaller one is declined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflateOffer {
    /// The offer named `server_max_window_bits`, which an acceptance has to repeat.
    names_server_window: bool,
}

impl DeflateOffer {
    pub(crate) fn response(self) -> &'static str {
        match self.names_server_window {
            false => "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            true => {
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
                 server_max_window_bits=15"
            }
        }
    }
}

/// The first offer that can be taken. What is malformed, unknown or beyond the cap is declined.
pub(crate) fn choose<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<DeflateOffer> {
    values.flat_map(|value| split(value, b',')).take(OFFERS_MAX).find_map(read_offer)
}

fn read_offer(offer: &[u8]) -> Option<DeflateOffer> {
    let mut parts = split(offer, b';').map(<[u8]>::trim_ascii);
    if !parts.next()?.eq_ignore_ascii_case(b"permessage-deflate") {
        return None;
    }
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = read_param(part)?;
        let index = match (name.to_ascii_lowercase().as_slice(), value) {
            (b"server_no_context_takeover", None) => 0,
            (b"client_no_context_takeover", None) => 1,
            (b"server_max_window_bits", Some(bits)) if window(bits)? == 15 => 2,
            // Any window of the client can be read by ours, so the value is only checked.
            (b"client_max_window_bits", Some(bits)) => window(bits).map(|_| 3)?,
            (b"client_max_window_bits", None) => 3,
            _ => return None,
        };
        let first = seen.get_mut(index).filter(|seen| !**seen)?;
        *first = true;
    }
    Some(DeflateOffer { names_server_window: seen[2] })
}

/// `name`, `name=token` or `name="token"`.
fn read_param(part: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut sides = part.splitn(2, |byte| *byte == b'=');
    let name = sides.next()?.trim_ascii();
    let value = match sides.next().map(<[u8]>::trim_ascii) {
        Some(value) => {
            let inner = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
            Some(inner.unwrap_or(value)).filter(|v| is_token(v)).map(Some)?
        }
        None => None,
    };
    is_token(name).then_some((name, value))
}

fn window(bits: &[u8]) -> Option<u8> {
    match bits {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Splits at a separator that stands outside of quoted strings.
fn split(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    bytes.split(move |byte| {
        let ends = *byte == separator && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        ends
    })
}

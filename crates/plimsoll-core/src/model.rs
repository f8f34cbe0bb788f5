//! The nouns: ids, positions, publications, who somebody is.

use std::fmt;
use std::sync::Arc;

/// A connection within one worker. The generation tells a slot's users apart, so that a late
/// answer never reaches a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// Index into the worker's slab.
    pub slot: u32,
    /// Which user of that slot.
    pub generation: u32,
}

/// Connection id told to the client: a UUID, kept as 16 bytes and written out on demand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// Makes a version 4 UUID of 16 random bytes.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    /// The 36 characters of its text form.
    pub fn text(&self) -> [u8; 36] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                at += 1;
            }
            out[at] = HEX[usize::from(byte >> 4)];
            out[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        out
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0u8; 16];
        let mut digits = text.bytes().filter(|b| *b != b'-');
        if text.len() != 36 {
            return None;
        }
        for byte in &mut bytes {
            let high = char::from(digits.next()?).to_digit(16)?;
            let low = char::from(digits.next()?).to_digit(16)?;
            *byte = u8::try_from(high * 16 + low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// One life of a stream: offsets of different epochs have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch([u8; 8]);

impl Epoch {
    /// Eight letters and digits of 64 random bits.
    pub fn from_random(mut bits: u64) -> Self {
        const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        let mut text = [0u8; 8];
        for byte in &mut text {
            *byte = DIGITS[(bits & 31) as usize];
            bits >>= 5;
        }
        Self(text)
    }

    /// Its text form.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Reads its text form: eight small letters and digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 8] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()).then_some(Self(bytes))
    }
}

/// Where a stream stands: the offset of its latest publication, 0 before the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    /// Life of the stream.
    pub epoch: Epoch,
    /// Offset within it.
    pub offset: u64,
}

/// Where a client says that it stands; the epoch is whatever text it sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Since {
    /// Offset of the last publication seen.
    pub offset: u64,
    /// Epoch it was seen in; empty = any.
    pub epoch: Box<str>,
}

/// Who published, joined, left or is present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    /// User id; empty = anonymous.
    pub user: Arc<str>,
    /// Connection id.
    pub client: ClientId,
    /// Raw JSON of the connection token.
    pub conn_info: Option<Arc<str>>,
    /// Raw JSON of the subscription token.
    pub chan_info: Option<Arc<str>>,
}

/// A message in a channel. Payloads are raw JSON, checked and compacted, never re-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Position in the stream, from 1; 0 = the channel keeps no history.
    pub offset: u64,
    /// The offset of the one before it; 0 = it is the first, or there are none.
    pub previous: u64,
    /// Life of the stream; told with offset 1.
    pub epoch: Option<Epoch>,
    /// Raw JSON.
    pub data: Box<str>,
    /// Raw JSON object of strings, from the API.
    pub tags: Option<Box<str>>,
    /// The publishing client; `None` when the API published.
    pub info: Option<ClientInfo>,
    /// When it was appended, in monotonic milliseconds of the home worker.
    pub appended_ms: u64,
}

/// Two clocks read at once: monotonic for deadlines, Unix for what tokens say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the process began; never goes back.
    pub mono_ms: u64,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
}

impl Now {
    /// The monotonic moment of a Unix time, clamped to now when it is past.
    pub fn mono_of_unix(&self, unix_ms: u64) -> u64 {
        self.mono_ms.saturating_add(unix_ms.saturating_sub(self.unix_ms))
    }
}

/// The worker that owns a channel's history and presence. The same on every worker of a node.
pub fn home_of(channel: &str, workers: usize) -> usize {
    // FNV-1a: short names, no key needed, the result is no secret and only spreads load.
    let hash = channel
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    ((hash ^ (hash >> 32)) % workers.max(1) as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_id_text_round_trips() {
        let id = ClientId::from_random(*b"0123456789abcdef");
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4", "version 4");
        assert_eq!(ClientId::parse(&text), Some(id));
        for bad in ["", "x", &text[1..], "zz345678-1234-4123-8123-123456789012"] {
            assert_eq!(ClientId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn homes_spread_and_stay_in_range() {
        let mut counts = [0usize; 3];
        for i in 0..3_000 {
            counts[home_of(&format!("room:{i}"), 3)] += 1;
        }
        assert!(counts.iter().all(|c| (800..1_200).contains(c)), "{counts:?}");
        assert_eq!(home_of("anything", 0), 0);
    }
}

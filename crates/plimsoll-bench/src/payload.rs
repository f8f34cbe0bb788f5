//! What is published: JSON of an exact size that says who published it, when, and whether it is
//! whole.
//!
//! `{"stamp":"<publisher><sequence><due><crc>","fill":"<filler>"}`, numbers in hexadecimal digits
//! of fixed width: 8, 8, 16 and 8. The CRC-32 is over everything but its own digits.

use crate::ledger::Stamp;
use crc32fast::Hasher;

/// Bytes of the smallest payload that can be asked for.
pub const BYTES_MIN: usize = 64;

const OPEN: &[u8] = b"{\"stamp\":\"";
const MIDDLE: &[u8] = b"\",\"fill\":\"";
const CLOSE: &[u8] = b"\"}";
/// Digits of the stamp: everything, and without the CRC.
const DIGITS: usize = 40;
const DIGITS_BEFORE_CRC: usize = 32;
const ENVELOPE: usize = OPEN.len() + DIGITS + MIDDLE.len() + CLOSE.len();

/// Makes payloads up to a size.
#[derive(Clone, Debug, Default)]
pub struct Template {
    filler: Vec<u8>,
}

impl Template {
    /// For payloads of at most `bytes_max`. The filler looks like text: it does not compress away.
    pub fn new(bytes_max: usize, seed: u64) -> Self {
        const LETTERS: &[u8; 64] =
            b"abcdefghijklmnopqrstuvwxyz eeeeaaoonnttiirrss ABCDEFGHIJ01234567";
        let mut random = fastrand::Rng::with_seed(seed);
        let mut letter = || LETTERS.get(random.usize(..LETTERS.len())).copied().unwrap_or(b' ');
        Self { filler: (0..bytes_max.max(BYTES_MIN) - ENVELOPE).map(|_| letter()).collect() }
    }

    /// Appends a payload of exactly `bytes` (at least [`BYTES_MIN`], at most the template's size)
    /// and returns its stamp.
    pub fn write(
        &self,
        out: &mut Vec<u8>,
        (publisher, sequence, due_us): (u32, u32, u64),
        bytes: usize,
    ) -> Stamp {
        let start = out.len();
        out.extend_from_slice(OPEN);
        push_hex(out, u64::from(publisher), 8);
        push_hex(out, u64::from(sequence), 8);
        push_hex(out, due_us, 16);
        let mut hasher = Hasher::new();
        hasher.update(out.get(start..).unwrap_or_default());
        push_hex(out, 0, DIGITS - DIGITS_BEFORE_CRC);
        let end = out.len();
        out.extend_from_slice(MIDDLE);
        let fill = bytes.max(BYTES_MIN) - ENVELOPE;
        out.extend_from_slice(self.filler.get(..fill).unwrap_or(&self.filler));
        out.extend_from_slice(CLOSE);
        hasher.update(out.get(end..).unwrap_or_default());
        let crc = hasher.finalize();
        if let Some(digits) = out.get_mut(end - (DIGITS - DIGITS_BEFORE_CRC)..end) {
            digits.copy_from_slice(&hex_of(crc));
        }
        Stamp { publisher, sequence, due_us, crc }
    }
}

/// Reads a payload; nothing if a single bit of it is not as it was written.
pub fn read(data: &[u8]) -> Option<Stamp> {
    let digits = data.strip_prefix(OPEN)?;
    let (digits, rest) = digits.split_at_checked(DIGITS)?;
    let before_crc = data.get(..OPEN.len() + DIGITS_BEFORE_CRC)?;
    rest.strip_prefix(MIDDLE)?.strip_suffix(CLOSE)?;
    let stamp = Stamp {
        publisher: hex(digits.get(..8)?)? as u32,
        sequence: hex(digits.get(8..16)?)? as u32,
        due_us: hex(digits.get(16..DIGITS_BEFORE_CRC)?)?,
        crc: hex(digits.get(DIGITS_BEFORE_CRC..)?)? as u32,
    };
    let mut hasher = Hasher::new();
    hasher.update(before_crc);
    hasher.update(rest);
    (hasher.finalize() == stamp.crc).then_some(stamp)
}

fn push_hex(out: &mut Vec<u8>, number: u64, digits: usize) {
    for at in (0..digits).rev() {
        out.push(hex_digit((number >> (4 * at)) as u8));
    }
}

fn hex_of(number: u32) -> [u8; 8] {
    std::array::from_fn(|at| hex_digit((number >> (4 * (7 - at))) as u8))
}

fn hex_digit(low: u8) -> u8 {
    match low & 15 {
        digit @ 0..=9 => b'0' + digit,
        letter => b'a' + letter - 10,
    }
}

/// Lower-case digits only: there is one way to write a number.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(bytes: usize) -> (Vec<u8>, Stamp) {
        let mut out = Vec::new();
        let stamp = Template::new(4_096, 7).write(&mut out, (9, 1, 1_000_000), bytes);
        (out, stamp)
    }

    #[test]
    fn it_is_json_of_the_very_size() {
        for bytes in [64, 65, 300, 1_000, 4_096] {
            let (out, stamp) = written(bytes);
            assert_eq!(out.len(), bytes);
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["stamp"].as_str().unwrap().len(), 40);
            assert_eq!(read(&out), Some(stamp));
        }
    }

    #[test]
    fn too_small_is_the_least_and_too_big_the_most() {
        assert_eq!(written(0).0.len(), BYTES_MIN);
        assert_eq!(written(100_000).0.len(), 4_096);
        let mut out = Vec::new();
        Template::new(0, 7).write(&mut out, (9, 1, 1), 0);
        assert_eq!(out.len(), BYTES_MIN);
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (out, _) = written(90);
        for at in 0..out.len() {
            for bit in 0..8 {
                let mut other = out.clone();
                other[at] ^= 1 << bit;
                assert_eq!(read(&other), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn other_things_are_not_ours() {
        let (out, _) = written(80);
        for wrong in [&b""[..], b"{}", b"null", OPEN, &out[..79], &out[1..]] {
            assert_eq!(read(wrong), None);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            publisher: u32, sequence: u32, due_us: u64, bytes in 64usize..900, seed: u64,
        ) {
            let mut out = b"before".to_vec();
            let who = (publisher, sequence, due_us);
            let stamp = Template::new(900, seed).write(&mut out, who, bytes);
            prop_assert_eq!((stamp.publisher, stamp.sequence, stamp.due_us), who);
            prop_assert_eq!(out.len(), bytes + 6);
            prop_assert_eq!(read(&out[6..]), Some(stamp));
        }
    }
}

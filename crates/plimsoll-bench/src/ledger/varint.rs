//! Small numbers in few bytes: seven bits a byte, the lowest first.

/// Bytes of the longest number.
const BYTES_MAX: u32 = 10;

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the difference of two numbers, small when they are close.
pub fn put_difference(out: &mut Vec<u8>, from: u64, to: u64) {
    let difference = to.wrapping_sub(from) as i64;
    put(out, (difference << 1 ^ difference >> 63) as u64);
}

/// Takes a number off the front; `None` if there is none, or it is too long.
pub fn take(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for index in 0..BYTES_MAX {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit.
        if index == BYTES_MAX - 1 && bits > 1 {
            return None;
        }
        value |= bits << (7 * index);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes a number of 32 bits.
pub fn take_u32(input: &mut &[u8]) -> Option<u32> {
    u32::try_from(take(input)?).ok()
}

/// Takes a difference and returns where it leads from `from`.
pub fn take_difference(input: &mut &[u8], from: u64) -> Option<u64> {
    let folded = take(input)?;
    let difference = (folded >> 1) as i64 ^ -((folded & 1) as i64);
    Some(from.wrapping_add(difference as u64))
}

/// Takes four bytes as they are.
pub fn take_word(input: &mut &[u8]) -> Option<u32> {
    let (word, rest) = input.split_first_chunk::<4>()?;
    *input = rest;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_take_few_bytes() {
        let check = |value: u64, expect: &[u8]| {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, expect, "{value}");
        };
        check(0, &[0]);
        check(127, &[127]);
        check(128, &[0x80, 1]);
        check(u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]);
    }

    #[test]
    fn too_long_ones_are_refused() {
        let check = |mut input: &[u8]| assert_eq!(take(&mut input), None);
        check(&[]);
        check(&[0x80]);
        check(&[0xff; 10]);
        check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]);
        assert_eq!(take_u32(&mut &[0x80, 0x80, 0x80, 0x80, 0x10][..]), None);
        assert_eq!(take_word(&mut &[1, 2, 3][..]), None);
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken(a: u64, b: u64) {
            let mut out = Vec::new();
            put(&mut out, a);
            put_difference(&mut out, a, b);
            let mut input = &out[..];
            prop_assert_eq!(take(&mut input), Some(a));
            prop_assert_eq!(take_difference(&mut input, a), Some(b));
            prop_assert!(input.is_empty());
        }
    }
}

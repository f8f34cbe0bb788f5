//! Numbers that look random and are the same for the same seed.

/// splitmix64: one well mixed number for each input.
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0.0..1.0` from the upper bits of `random`.
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// A factor in `1 - width .. 1 + width`.
pub(crate) fn around_one(random: u64, width: f64) -> f64 {
    1.0 - width + 2.0 * width * unit(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_its_bounds_and_reaches_them() {
        let all: Vec<f64> = (0..10_000).map(|n| around_one(mix(n), 0.2)).collect();
        assert!(all.iter().all(|f| (0.8..1.2).contains(f)));
        assert!(all.iter().any(|f| *f < 0.801) && all.iter().any(|f| *f > 1.199));
        assert_eq!(unit(u64::MAX).to_bits(), (1.0 - f64::EPSILON / 2.0).to_bits());
    }
}

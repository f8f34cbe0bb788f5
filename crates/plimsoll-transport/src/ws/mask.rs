//! Masking, which is an exclusive or with four bytes over and over.

/// Masks or unmasks `data`, which starts `offset` bytes into its frame's payload.
pub fn apply_mask(data: &mut [u8], mask: [u8; 4], offset: usize) {
    let shift = u32::try_from(offset % 4).unwrap_or(0) * 8;
    let word = u32::from_le_bytes(mask).rotate_right(shift);
    let wide = u128::from(word) * 0x1_0000_0001_0000_0001_0000_0001;
    // Sixteen bytes at a time: the compiler makes vector instructions of it.
    let (chunks, tail) = data.as_chunks_mut::<16>();
    for chunk in chunks {
        *chunk = (u128::from_le_bytes(*chunk) ^ wide).to_le_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(wide.to_le_bytes()) {
        *byte ^= key;
    }
}

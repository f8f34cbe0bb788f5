//! Compression: no output above the cap, no panic on rubbish, round trips, and one opinion with
//! a plain decompressor of the same format.

#![no_main]

use flate2::{Decompress, FlushDecompress};
use libfuzzer_sys::fuzz_target;
use plimsoll_transport::deflate::{Deflater, Inflater};

const BYTES_MAX: usize = 16 * 1024;

fuzz_target!(|data: &[u8]| {
    let [how, data @ ..] = data else { return };
    let mut inflater = Inflater::default();
    if how & 1 == 0 {
        let result = inflater.inflate(data, BYTES_MAX).map(<[u8]>::to_vec);
        match &result {
            Ok(output) => assert_eq!(plain(data).as_deref(), Some(output.as_slice())),
            Err(violation) => assert!(matches!(violation.code, 1007 | 1009)),
        }
        assert!(inflater.held_bytes() <= BYTES_MAX + 1);
        // Whatever a message was, it leaves nothing behind for the next.
        let again = inflater.inflate(data, BYTES_MAX).map(<[u8]>::to_vec);
        assert_eq!(result, again);
        return;
    }
    let payload = data.repeat(1 + usize::from(how >> 3));
    let mut deflater = Deflater::new(1 + u32::from(how >> 1 & 3) * 2);
    let wire = deflater.compress(&payload).expect("a compressor that works").to_vec();
    assert_eq!(inflater.inflate(&wire, payload.len()), Ok(payload.as_slice()));
    if let Some(less) = payload.len().checked_sub(1) {
        assert_eq!(inflater.inflate(&wire, less).map_err(|violation| violation.code), Err(1009));
    }
    let _ = inflater.inflate(&wire[..wire.len() / 2], BYTES_MAX);
});

/// The message by the book: the tail goes back on, and all blocks are read, also after a last one.
fn plain(data: &[u8]) -> Option<Vec<u8>> {
    let input = [data, &[0x00, 0x00, 0xff, 0xff]].concat();
    let mut output = vec![0; 4 * BYTES_MAX];
    let (mut used, mut made) = (0, 0);
    loop {
        let mut stream = Decompress::new(false);
        let status =
            stream.decompress(&input[used..], &mut output[made..], FlushDecompress::None).ok()?;
        used += stream.total_in() as usize;
        made += stream.total_out() as usize;
        // Nothing at all, or a last block without the tail: some write messages so.
        if status != flate2::Status::StreamEnd || used >= data.len() {
            output.truncate(made);
            return Some(output);
        }
    }
}

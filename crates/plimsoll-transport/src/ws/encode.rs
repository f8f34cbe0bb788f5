//! Writing frames.

use super::{CONTROL_BYTES_MAX, Opcode, apply_mask};

/// Bytes of a close reason: the payload of a control frame less the code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The header of a whole (unfragmented, unmasked) frame, and its length: 2, 4 or 10 bytes.
pub fn frame_header(opcode: Opcode, len: usize, compressed: bool) -> ([u8; 10], usize) {
    let first = 0x80 | (u8::from(compressed) << 6) | opcode as u8;
    let mut header = [first, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let size = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => {
            header[1] = short;
            2
        }
        (_, Ok(medium)) => {
            header[1] = 126;
            [header[2], header[3]] = medium.to_be_bytes();
            4
        }
        _ => {
            header[1] = 127;
            if let Some(bytes) = header.last_chunk_mut::<8>() {
                *bytes = (len as u64).to_be_bytes();
            }
            10
        }
    };
    (header, size)
}

/// Appends a whole frame, as a server sends it. A control frame's payload is cut at 125 bytes.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let control = matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong);
    let payload = match payload.get(..CONTROL_BYTES_MAX) {
        Some(cut) if control => cut,
        _ => payload,
    };
    let (header, len) = frame_header(opcode, payload.len(), false);
    out.extend_from_slice(header.get(..len).unwrap_or_default());
    out.extend_from_slice(payload);
}

/// Appends a close frame. A reason that does not fit is cut at a character's boundary.
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    let reason = reason.get(..end).unwrap_or_default();
    let (header, len) = frame_header(Opcode::Close, reason.len() + 2, false);
    out.extend_from_slice(header.get(..len).unwrap_or_default());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends a whole masked frame, as a client sends it.
pub fn encode_client(out: &mut Vec<u8>, opcode: Opcode, mask: [u8; 4], payload: &[u8]) {
    let (mut header, len) = frame_header(opcode, payload.len(), false);
    header[1] |= 0x80;
    out.extend_from_slice(header.get(..len).unwrap_or_default());
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(out.get_mut(start..).unwrap_or_default(), mask, 0);
}

/// The length of the frame of our own making at the start of `bytes`, header included; nothing
/// if its header is not all there.
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [_, 127, ..] => {
            let declared = u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
            usize::try_from(declared).ok()?.checked_add(10)
        }
        [_, 126, high, low, ..] => Some(usize::from(u16::from_be_bytes([high, low])) + 4),
        [_, 126, ..] => None,
        [_, short, ..] => Some(usize::from(short & 0x7f) + 2),
        _ => None,
    }
}

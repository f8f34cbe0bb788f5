//! Reading frame headers.

use super::{CONTROL_BYTES_MAX, Opcode, Violation};

/// Bytes of the longest header: two, eight of length, four of mask.
pub(super) const HEADER_MAX: usize = 14;

/// Which side reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub fin: bool,
    pub compressed: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    pub len: usize,
}

impl Frame {
    pub fn is_control(&self) -> bool {
        is_control(self.opcode)
    }
}

fn is_control(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Close | Opcode::Ping | Opcode::Pong)
}

/// What the connection allows the next frame to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expect {
    pub role: Role,
    pub compression: bool,
    /// A message has begun and its last frame has not come.
    pub open: bool,
}

const fn protocol(reason: &'static str) -> Violation {
    Violation { code: 1002, reason }
}

/// Reads the header at the start of `bytes`: the frame and the header's length, or nothing if more
/// bytes are needed. A fault is found at the first byte that shows it.
pub(super) fn read(bytes: &[u8], expect: Expect) -> Result<Option<(Frame, usize)>, Violation> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (fin, opcode) = (first & 0x80 != 0, opcode_of(first & 0x0f)?);
    let compressed = first & 0x40 != 0;
    check_first(first, opcode, expect)?;
    let Some(&second) = bytes.get(1) else { return Ok(None) };
    let (masked, short) = (second & 0x80 != 0, second & 0x7f);
    match expect.role {
        Role::Server if !masked => return Err(protocol("a client's frame must be masked")),
        Role::Client if masked => return Err(protocol("a server's frame must not be masked")),
        _ => {}
    }
    if is_control(opcode) && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(protocol("a control frame is too long"));
    }
    if opcode == Opcode::Close && short == 1 {
        return Err(protocol("a close frame has half a code"));
    }
    let Some((len, at)) = length(short, bytes.get(2..).unwrap_or_default())? else {
        return Ok(None);
    };
    let (mask, header_len) = match masked {
        true => match bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(mask) => (Some(*mask), at + 4),
            None => return Ok(None),
        },
        false => (None, at),
    };
    Ok(Some((Frame { fin, compressed, opcode, mask, len }, header_len)))
}

fn opcode_of(bits: u8) -> Result<Opcode, Violation> {
    match bits {
        0 => Ok(Opcode::Continuation),
        1 => Ok(Opcode::Text),
        2 => Ok(Opcode::Binary),
        8 => Ok(Opcode::Close),
        9 => Ok(Opcode::Ping),
        10 => Ok(Opcode::Pong),
        _ => Err(protocol("an opcode is reserved")),
    }
}

fn check_first(first: u8, opcode: Opcode, expect: Expect) -> Result<(), Violation> {
    let starts = matches!(opcode, Opcode::Text | Opcode::Binary);
    if first & 0x30 != 0 || (first & 0x40 != 0 && !(expect.compression && starts)) {
        return Err(protocol("a reserved bit is set"));
    }
    if is_control(opcode) && first & 0x80 == 0 {
        return Err(protocol("a control frame is fragmented"));
    }
    match opcode {
        Opcode::Continuation if !expect.open => Err(protocol("there is nothing to continue")),
        Opcode::Text | Opcode::Binary if expect.open => {
            Err(protocol("a message starts within another"))
        }
        _ => Ok(()),
    }
}

/// The payload's length and where it ends in the header.
fn length(short: u8, rest: &[u8]) -> Result<Option<(usize, usize)>, Violation> {
    let (len, end, least) = match short {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 4, 126),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (u64::from_be_bytes(*bytes), 10, 1 << 16),
            None => return Ok(None),
        },
        _ => (u64::from(short), 2, 0),
    };
    if len < least {
        return Err(protocol("a length is not written in its shortest form"));
    }
    if len > i64::MAX as u64 {
        return Err(protocol("a length has its top bit set"));
    }
    // What does not fit in memory is above every limit.
    Ok(Some((usize::try_from(len).unwrap_or(usize::MAX), end)))
}

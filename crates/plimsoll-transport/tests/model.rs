//! The decoder against a naive reading of the same rules, and against itself on cut input.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]

mod common;

use common::{Outcome, Owned, frame, pieces, whole};
use plimsoll_transport::ws::Limits;
use proptest::prelude::*;

const LIMITS: Limits = Limits { message_bytes_max: 64, fragments_max: 4, compression: false };

#[derive(Clone, Debug)]
struct Sent {
    first: u8,
    payload: Vec<u8>,
}

/// Frames are whole here, so the rules can be written down one after the other.
fn model(frames: &[Sent]) -> Outcome {
    let mut events = Vec::new();
    let mut message: Option<(bool, usize, Vec<u8>)> = None;
    for Sent { first, payload } in frames {
        let (fin, opcode) = (first >> 7 == 1, first & 15);
        let control = opcode >= 8;
        if first & 0x70 != 0 || !matches!(opcode, 0..=2 | 8..=10) {
            return (events, Some(1002));
        }
        if control && (!fin || payload.len() > 125) {
            return (events, Some(1002));
        }
        match opcode {
            9 => events.push(Owned::Ping(payload.clone())),
            10 => events.push(Owned::Pong(payload.clone())),
            8 => {
                let code = close(payload, &mut events);
                return (events, code);
            }
            0 if message.is_none() => return (events, Some(1002)),
            1 | 2 if message.is_some() => return (events, Some(1002)),
            _ => {
                let (text, parts, mut data) = message.take().unwrap_or((opcode == 1, 0, vec![]));
                if data.len() + payload.len() > LIMITS.message_bytes_max {
                    return (events, Some(1009));
                }
                if parts == LIMITS.fragments_max {
                    return (events, Some(1008));
                }
                data.extend_from_slice(payload);
                if text && !could_be_text(&data, fin) {
                    return (events, Some(1007));
                }
                match (fin, text) {
                    (false, _) => message = Some((text, parts + 1, data)),
                    (true, true) => events.push(Owned::Text(String::from_utf8(data).unwrap())),
                    (true, false) => events.push(Owned::Binary(data)),
                }
            }
        }
    }
    (events, None)
}

fn close(payload: &[u8], events: &mut Vec<Owned>) -> Option<u16> {
    if payload.is_empty() {
        events.push(Owned::Close(None, String::new()));
        return None;
    }
    if payload.len() == 1 {
        return Some(1002);
    }
    let code = u16::from(payload[0]) << 8 | u16::from(payload[1]);
    let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    if !registered.contains(&code) && !(3000..5000).contains(&code) {
        return Some(1002);
    }
    match String::from_utf8(payload[2..].to_vec()) {
        Ok(reason) => events.push(Owned::Close(Some(code), reason)),
        Err(_) => return Some(1007),
    }
    None
}

/// Whether bytes are text, or become text with up to three more.
fn could_be_text(data: &[u8], complete: bool) -> bool {
    if std::str::from_utf8(data).is_ok() {
        return true;
    }
    // Every way to go on: characters end in 80..=bf, and that at most three times.
    let ends: &[&[u8]] = &[b"\x80", b"\xbf", b"\x90", b"\xa0"];
    !complete
        && ends.iter().any(|end| {
            let mut longer = [data, end].concat();
            (0..3).any(|_| {
                let good = std::str::from_utf8(&longer).is_ok();
                longer.push(0x80);
                good
            })
        })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z\u{e9}\u{20ac}\u{1f409}]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..8),
        1 => (prop_oneof![990..1020_u16, 2995..3005_u16, any::<u16>()], "[a-z]{0,4}")
            .prop_map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat()),
        1 => (0..140_usize).prop_map(|len| vec![b'x'; len]),
        // Halves of a character.
        1 => (1..4_usize).prop_map(|len| "\u{1f409}".as_bytes()[..len].to_vec()),
        1 => (1..4_usize).prop_map(|len| "\u{1f409}".as_bytes()[len..].to_vec()),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let first = prop_oneof![
        4 => prop::sample::select(vec![0x81_u8, 0x82, 0x89, 0x8a]),
        6 => prop::sample::select(vec![0x01_u8, 0x00, 0x00, 0x80, 0x80, 0x02]),
        1 => Just(0x88_u8),
        1 => any::<u8>(),
    ];
    (first, payload()).prop_map(|(first, payload)| Sent { first, payload })
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_model_agrees(
        frames in prop::collection::vec(sent(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let bytes: Vec<u8> =
            frames.iter().flat_map(|sent| frame(sent.first, &sent.payload)).collect();
        let expected = model(&frames);
        prop_assert_eq!(&whole(&bytes, &LIMITS), &expected);
        prop_assert_eq!(&pieces(&cut(&bytes, &cuts), &LIMITS), &expected);
    }

    #[test]
    fn any_bytes_in_any_pieces(
        mut bytes in prop::collection::vec(any::<u8>(), 1..120),
        opcode in prop::sample::select(vec![0x81_u8, 0x01, 0x82, 0xc1, 0x89]),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        compression in any::<bool>(),
    ) {
        bytes[0] = opcode;
        if let Some(second) = bytes.get_mut(1) {
            *second |= 0x80;
        }
        let limits = Limits { compression, ..LIMITS };
        prop_assert_eq!(pieces(&cut(&bytes, &cuts), &limits), whole(&bytes, &limits));
    }
}

use super::*;
use proptest::prelude::*;

fn full<'a>(data: &'a str, user: &'a str) -> Envelope<'a> {
    Envelope {
        kind: Kind::Join,
        class: Class::Ephemeral,
        node: NodeId(0x0102_0304_0506_0708),
        published_ms: 1_790_000_000_123,
        data,
        tags: Some(r#"{"a":"b"}"#),
        client: Some(Client {
            id: ClientId(*b"0123456789abcdef"),
            user,
            conn_info: Some("{}"),
            chan_info: None,
        }),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        tracestate: None,
        about_offset: Some(7),
    }
}

#[test]
fn the_first_bytes_are_fixed() {
    let e = Envelope { data: "1", node: NodeId(2), published_ms: 3, ..Envelope::default() };
    let sealed = Codec::default().seal("c", &e);
    let head = [b'P', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3];
    assert_eq!(sealed[..21], head);
    assert_eq!(sealed[21..], [1, 1, b'1']);
}

#[test]
fn what_is_newer_is_ignored_or_refused() {
    let codec = Codec::default();
    let sealed = codec.seal("c", &full("{}", "u"));
    let with = |more: &[u8]| [&sealed[..], more].concat();
    assert_eq!(codec.open("c", &with(&[100, 2, 1, 2])), Ok(full("{}", "u")), "may be ignored");
    assert_eq!(codec.open("c", &with(&[200, 0])), Err(Unreadable::Field));
    let mut later = sealed.to_vec();
    later[1] = 2;
    assert_eq!(codec.open("c", &later), Err(Unreadable::Version));
    for at in [2, 3, 4] {
        let mut odd = sealed.to_vec();
        odd[at] = 0x70;
        assert_eq!(codec.open("c", &odd), Err(Unreadable::Field), "byte {at}");
    }
}

#[test]
fn bounds_hold() {
    let codec = Codec::default();
    let open = |e: &Envelope<'_>| codec.open("c", &codec.seal("c", e)).map(|_| ());
    let long = "x".repeat(limits::FIELD_BYTES_MAX + 1);
    assert_eq!(open(&full(&long, "u")), Ok(()), "the payload may be long");
    assert_eq!(open(&full("{}", &long)), Err(Unreadable::TooLarge));
    assert_eq!(open(&full("{}", &long[1..])), Ok(()));
    let huge = "x".repeat(limits::ENVELOPE_BYTES_MAX);
    assert_eq!(open(&full(&huge, "u")), Err(Unreadable::TooLarge));
    let many = [&codec.seal("c", &Envelope::default())[..], &[100, 0].repeat(40)].concat();
    assert_eq!(codec.open("c", &many), Err(Unreadable::TooLarge));
    // A length of five bytes, and one that is longer than what follows.
    for end in [&[1, 0x80, 0x80, 0x80, 0x80, 1][..], &[1, 5, b'a']] {
        let bytes = [&codec.seal("c", &Envelope::default())[..], end].concat();
        assert_eq!(codec.open("c", &bytes), Err(Unreadable::Malformed));
    }
}

#[test]
fn only_the_key_opens() {
    let (ours, others) = (Codec::new(b"ours"), Codec::new(b"others"));
    let e = full("{}", "u");
    let sealed = ours.seal("c", &e);
    assert_eq!(ours.open("c", &sealed), Ok(e));
    assert_eq!(Codec::default().open("c", &sealed), Ok(e), "who needs no key can read");
    assert_eq!(others.open("c", &sealed), Err(Unreadable::Signature));
    assert_eq!(ours.open("d", &sealed), Err(Unreadable::Signature), "another channel");
    let bare = Codec::default().seal("c", &e);
    assert_eq!(ours.open("c", &bare), Err(Unreadable::Signature));
    for at in 5..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[at] ^= 1;
        assert_eq!(ours.open("c", &changed), Err(Unreadable::Signature), "byte {at}");
    }
}

proptest! {
    #[test]
    fn whatever_is_sealed_opens(data in ".{0,300}", user in ".{0,40}", key in any::<[u8; 3]>()) {
        for codec in [Codec::default(), Codec::new(&key)] {
            let e = full(&data, &user);
            let sealed = codec.seal(&user, &e);
            prop_assert_eq!(codec.open(&user, &sealed), Ok(e));
            for cut in 0..sealed.len() {
                // Cut after whole fields it may still be one, but never with a key.
                let opened = codec.open(&user, &sealed[..cut]);
                prop_assert!(opened.is_err() || codec.key.is_none());
            }
        }
    }

    #[test]
    fn anything_can_come(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Codec::default().open("c", &bytes);
        let _ = Codec::new(b"k").open("c", &[b"P\x01\x00\x00\x01", &bytes[..]].concat());
    }
}

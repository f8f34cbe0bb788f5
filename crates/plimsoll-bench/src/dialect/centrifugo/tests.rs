use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// What a message says, in words that can be compared.
fn events(message: &str) -> Result<Vec<String>, Malformed> {
    let mut made = Vec::new();
    CentrifugoJson.read(message, &mut |event| {
        made.push(match event {
            Event::Publication { channel, offset, data } => {
                format!("pub {channel} {offset} {}", str::from_utf8(data).unwrap())
            }
            other => format!("{other:?}"),
        });
        true
    })?;
    Ok(made)
}

fn check(message: &str, expect: &[&str]) {
    assert_eq!(events(message).as_deref(), Ok(&expect.map_str()[..]), "{message}");
}

trait MapStr {
    fn map_str(&self) -> Vec<String>;
}

impl MapStr for [&str] {
    fn map_str(&self) -> Vec<String> {
        self.iter().map(|s| (*s).to_owned()).collect()
    }
}

#[test]
fn messages_become_events() {
    check("{}", &["Ping"]);
    check("{}\n{}\n", &["Ping", "Ping"]);
    check(r#"{"push":{"channel":"a","pub":{"data":{"x":1},"offset":8}}}"#, &[r#"pub a 8 {"x":1}"#]);
    check(r#"{"push":{"pub":{"offset":8,"data":"}"},"channel":"a"}}"#, &[r#"pub a 8 "}""#]);
    check(r#"{"push":{"channel":"\u0061","pub":{"data":[]}}}"#, &["pub a 0 []"]);
    check(
        r#"{"push":{"channel":"a","pub":{"data":1,"info":{"user":"\"}"},"offset":2}}}"#,
        &["pub a 2 1"],
    );
    check(r#"{ "push": { "channel": "a", "pub": { "data": 1 } } }"#, &["pub a 0 1"]);
    check(
        r#"{"push":{"channel":"a","unsubscribe":{"code":2500,"reason":"x"}}}"#,
        &[r#"Unsubscribed { channel: "a", code: 2500 }"#],
    );
    check(r#"{"push":{"channel":"a","join":{"info":{}}}}"#, &["Other"]);
    check(r#"{"id":5,"publish":{}}"#, &["Reply { id: 5, answer: Published }"]);
    check(r#"{"publish":{},"id":5}"#, &["Reply { id: 5, answer: Published }"]);
    check(r#"{"id":5,"unsubscribe":{}}"#, &["Reply { id: 5, answer: Unsubscribed }"]);
    check(r#"{"id":5,"rpc":{}}"#, &["Other"]);
    check(
        r#"{"id":6,"error":{"code":103,"message":"permission denied"}}"#,
        &["Reply { id: 6, answer: Error { code: 103, temporary: false } }"],
    );
    check(
        r#"{"id":1,"connect":{"client":"c","version":"v","ping":25,"pong":true}}"#,
        &["Reply { id: 1, answer: Connected { ping_s: 25, pong: true } }"],
    );
    check(
        "{\"id\":2,\"subscribe\":{}}\n{}",
        &[
            "Reply { id: 2, answer: Subscribed(Subscription { position: None, recovered: false, \
             was_recovering: false, publications: [] }) }",
            "Ping",
        ],
    );
}

#[test]
fn a_subscribe_reply_has_all_its_parts() {
    let message = r#"{"id":2,"subscribe":{"recoverable":true,"positioned":true,"epoch":"aQ",
        "offset":8,"recovered":true,"was_recovering":true,
        "publications":[{"data":{"t":"missed"},"offset":9},{"data":1,"offset":10}]}}"#;
    let message = message.replace('\n', "");
    let mut seen = None;
    CentrifugoJson
        .read(&message, &mut |event| {
            let Event::Reply { id: 2, answer: Answer::Subscribed(s) } = event else { return true };
            let all: Vec<_> = s.publications.iter().map(|(o, d)| (*o, d.to_vec())).collect();
            let position = s.position.map(|(epoch, offset)| (epoch.into_owned(), offset));
            seen = Some((position, s.recovered, s.was_recovering, all));
            true
        })
        .unwrap();
    let all = vec![(9, br#"{"t":"missed"}"#.to_vec()), (10, b"1".to_vec())];
    assert_eq!(seen, Some((Some(("aQ".to_owned(), 8)), true, true, all)));
}

#[test]
fn nonsense_is_malformed() {
    for message in [
        "",
        "\n",
        "x",
        "[]",
        "{}{}",
        "{}\n\n{}",
        r#"{"id":-1}"#,
        r#"{"id":"1"}"#,
        r#"{"id":5,"error":{}}"#,
        r#"{"push":{"channel":5}}"#,
        r#"{"push":{"channel":"a","pub":{"data":1,"offset":-1}}}"#,
        r#"{"push":{"channel":"a","pub":{"data":1}}"#,
        r#"{"push":{"channel":"a","pub":{"data":1,"data":2}}}"#,
    ] {
        assert_eq!(events(message), Err(Malformed), "{message}");
    }
}

#[test]
fn reading_stops_when_told() {
    let mut count = 0;
    let read = CentrifugoJson.read("{}\n{}\n{}\nx", &mut |_| {
        count += 1;
        count < 2
    });
    assert_eq!((read, count), (Ok(()), 2));
}

#[test]
fn commands_share_a_message() {
    let mut out = Vec::new();
    CentrifugoJson.connect(&mut out, 1, Some("a.b.c"));
    let from = Position { epoch: "e\"", offset: 7 };
    CentrifugoJson.subscribe(&mut out, 2, "n\\1", Some(from));
    CentrifugoJson.subscribe(&mut out, 3, "n", None);
    CentrifugoJson.publish(&mut out, 4, "n", b"{\"x\":1}");
    CentrifugoJson.unsubscribe(&mut out, 5, "n");
    CentrifugoJson.pong(&mut out);
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let expect = [
        json!({"connect": {"token": "a.b.c", "name": "bench"}, "id": 1}),
        json!({"subscribe": {"channel": "n\\1", "recover": true, "epoch": "e\"", "offset": 7},
            "id": 2}),
        json!({"subscribe": {"channel": "n"}, "id": 3}),
        json!({"publish": {"channel": "n", "data": {"x": 1}}, "id": 4}),
        json!({"unsubscribe": {"channel": "n"}, "id": 5}),
        json!({}),
    ];
    assert_eq!(lines, expect);
}

fn payload_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f32>().prop_map(|f| json!(f)),
        "[ -~\\\\\"\n{}\\[\\]é]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z\"\\\\]{0,5}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// An object's text with its members in a given order, and blanks if wanted.
fn object(mut members: Vec<(&str, String)>, turn: usize, blank: &str) -> String {
    let turn = turn % members.len();
    members.rotate_left(turn);
    let members: Vec<_> =
        members.iter().map(|(k, v)| format!("\"{k}\"{blank}:{blank}{v}")).collect();
    format!("{{{}}}", members.join(&format!(",{blank}")))
}

prop_compose! {
    fn publication()(
        channel in "[a-z:\"\\\\é]{1,10}",
        offset in prop::option::of(any::<u64>()),
        data in payload_value(),
        info in prop::option::of(payload_value()),
        turns in any::<[usize; 2]>(),
        blank in prop::sample::select(vec!["", "", " "]),
    ) -> (String, String) {
        let mut members = vec![("data", data.to_string())];
        members.extend(offset.map(|o| ("offset", o.to_string())));
        members.extend(info.map(|i| ("info", i.to_string())));
        let publication = object(members, turns[0], blank);
        let name = Value::from(&*channel).to_string();
        let push = object(vec![("channel", name), ("pub", publication)], turns[1], blank);
        let expect = format!("pub {channel} {} {data}", offset.unwrap_or(0));
        (format!("{{\"push\":{push}}}"), expect)
    }
}

proptest! {
    /// What the scanner says is what the parser says, however the message is laid out.
    #[test]
    fn publications_are_read_as_they_were_written(
        all in prop::collection::vec(publication(), 1..5),
    ) {
        let message: Vec<_> = all.iter().map(|(text, _)| &**text).collect();
        let expect: Vec<_> = all.iter().map(|(_, expect)| expect.clone()).collect();
        prop_assert_eq!(events(&message.join("\n")), Ok(expect));
    }

    /// Scanner and parser never contradict each other where both read a message.
    #[test]
    fn scanner_and_parser_agree_on_damaged_messages(
        (text, _) in publication(),
        cut in any::<prop::sample::Index>(),
        byte in prop::sample::select(br#"{}[]",:\0a "#.to_vec()),
    ) {
        let mut bytes = text.into_bytes();
        let at = cut.index(bytes.len());
        bytes[at] = byte;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let mut parsed = Vec::new();
        let valid = parse(&text, &mut |event| {
            parsed.push(format!("{event:?}"));
            true
        });
        let found = (scan(&text), valid);
        if let (Some(Scanned::Publication { channel, offset, data }), Ok(_)) = found {
            let scanned = Event::Publication { channel, offset, data };
            prop_assert_eq!(parsed, vec![format!("{scanned:?}")]);
        }
    }

    #[test]
    fn no_text_breaks_it(text in ".{0,60}") {
        let _ = events(&text);
    }
}

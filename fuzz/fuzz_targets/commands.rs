//! Commands: no panic, nothing taken that is not JSON, and payloads that stay what they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll_core::command::Body;
use plimsoll_core::limits::{COMMANDS_PER_MESSAGE_MAX, JSON_DEPTH_MAX};
use plimsoll_protocol::{centrifugo, json};
use serde_json::Value;
use serde_json::value::RawValue;

fuzz_target!(|message: &str| {
    let lines = centrifugo::lines(message).take_while(Result::is_ok).flatten();
    let mut count = 0;
    for line in lines {
        count += 1;
        let Ok(command) = centrifugo::decode(line) else { continue };
        let raw: &RawValue = serde_json::from_str(line).expect("what is taken is JSON");
        assert!(raw.get().starts_with('{'));
        let Body::Publish { data, .. } = &command.body else { continue };
        if data.is_empty() {
            continue;
        }
        assert!(!data.contains(['\n', '\r']), "it would split a subscriber's stream");
        assert_eq!(json::compact(data).as_deref(), Ok(&**data), "compacting once is enough");
        let passed_on: Value = serde_json::from_str(data).expect("what is passed on is JSON");
        assert!(depth(&passed_on) <= JSON_DEPTH_MAX);
        // Keys that are skipped may hold what only the grammar allows, as half a surrogate pair.
        if let Ok(value) = serde_json::from_str::<Value>(line) {
            assert_eq!(Some(&passed_on), value.pointer("/publish/data"));
        }
    }
    assert!(count <= COMMANDS_PER_MESSAGE_MAX);

    let mut quoted = Vec::new();
    json::push_string(&mut quoted, message);
    let back: String = serde_json::from_slice(&quoted).expect("a string that was written is read");
    assert_eq!(back, message);
});

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

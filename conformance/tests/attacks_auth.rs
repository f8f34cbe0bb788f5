//! Tokens, names and paths that must not open a door. The letters and numbers name the attacks
//! of our list.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "all of it is tests: a panic is how one fails"
)]

use plimsoll_conformance::arena::{Arena, OPEN};
use plimsoll_conformance::client::{Client, PATIENCE};
use plimsoll_conformance::http;
use plimsoll_conformance::raw::{self, Ending, Raw};
use plimsoll_conformance::token::{self, hs256, part};
use serde_json::{Value, json};
use std::net::SocketAddr;

const SECRET: &str = "a-secret-of-the-conformance-tests-42";
const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// A key that nobody has the private half of any more, and a token without an end made by it.
const RSA_PUBLIC: &str = include_str!("data/rsa_public.pem");
const RS256_TOKEN: &str = include_str!("data/rs256.token");

/// Tokens only, by the keys given.
fn config(keys: &str) -> String {
    let open = OPEN.replace("allow_anonymous_connect_without_token = true\n", "");
    format!(
        "{open}\n[client.token]\n{keys}\n\n[[channel.namespaces]]\nname = \"dialog\"\n\
         allow_user_limited_channels = true\n"
    )
}

fn hmac() -> String {
    format!("hmac_secret_key = \"{SECRET}\"")
}

fn of_user(user: &str) -> String {
    hs256(HS256, &json!({ "sub": user }).to_string(), SECRET.as_bytes())
}

/// What a connect with this token leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Accepted,
    Error(u64),
    Closed(u16),
}

fn try_token(address: SocketAddr, token: &str) -> Outcome {
    let mut client = Client::open(address).unwrap();
    let reply = client.call("connect", &json!({ "token": token }));
    match reply {
        Ok(reply) if reply.get("connect").is_some() => Outcome::Accepted,
        Ok(reply) => match reply.pointer("/error/code").and_then(Value::as_u64) {
            Some(code) => Outcome::Error(code),
            None => panic!("connect was answered by {reply}"),
        },
        Err(e) => Outcome::Closed(client.last_close().unwrap_or_else(|| panic!("{e}"))),
    }
}

const INVALID: Outcome = Outcome::Closed(3500);

#[test]
fn a34_tokens_with_a_forged_algorithm() {
    let arena = Arena::with_token(&config(&hmac()), Some(&of_user("1")));
    let address = arena.server.clients();
    let claims = r#"{"sub":"42"}"#;
    let secret = SECRET.as_bytes();
    assert_eq!(try_token(address, &hs256(HS256, claims, secret)), Outcome::Accepted);
    let good = hs256(HS256, claims, secret);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = message.split_once('.').unwrap();
    let mut cases = vec![
        ("another secret", hs256(HS256, claims, b"another-secret-of-32-bytes-or-more")),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("one part", header.to_owned()),
        ("four parts", format!("{good}.x")),
        ("other claims", format!("{header}.{}.{signature}", part(r#"{"sub":"1"}"#))),
        ("a cut signature", format!("{message}.{}", &signature[..20])),
        ("a signature that is not base64", format!("{message}.!!!")),
        ("a padded signature", format!("{good}=")),
        ("encrypted", format!("{}.a.b.c.d", part(r#"{"alg":"dir","enc":"A256GCM"}"#))),
        ("the RSA token", RS256_TOKEN.trim().to_owned()),
        (
            "60 KB",
            hs256(HS256, &json!({ "sub": "42", "x": "y".repeat(44_000) }).to_string(), secret),
        ),
    ];
    for alg in ["none", "None", "nOnE", "NONE", ""] {
        let header = part(&json!({ "alg": alg, "typ": "JWT" }).to_string());
        cases.push(("alg none", format!("{header}.{}.", part(claims))));
        cases.push(("alg none, signed", format!("{header}.{}.{signature}", part(claims))));
    }
    // Headers that ask for something else, each correctly signed by the real secret.
    for header in [
        r#"{"typ":"JWT"}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":["exp","x"],"x":1}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        "[]",
        "HS256",
    ] {
        cases.push(("a header", hs256(header, claims, secret)));
    }
    for (name, token) in &cases {
        let shown = &token[..token.len().min(120)];
        assert_eq!(try_token(address, token), INVALID, "{name}: {shown}");
    }
    // 3 MB do not even fit into a message.
    let mut raw = Raw::upgraded(address, "");
    let huge = format!(r#"{{"id":1,"connect":{{"token":"{}"}}}}"#, "a".repeat(3_000_000));
    raw.send(&raw::text(&huge));
    assert_eq!(raw.ending(PATIENCE), Ending::Code(1009));
    arena.close("A34");
}

#[test]
fn a34_the_public_key_is_no_secret() {
    let keys = format!("rsa_public_key = \"\"\"\n{RSA_PUBLIC}\"\"\"");
    let arena = Arena::with_token(&config(&keys), Some(RS256_TOKEN.trim()));
    let address = arena.server.clients();
    assert_eq!(try_token(address, RS256_TOKEN.trim()), Outcome::Accepted);
    let claims = r#"{"sub":"42"}"#;
    for key in [RSA_PUBLIC, RSA_PUBLIC.trim(), &format!("\n{RSA_PUBLIC}"), ""] {
        for header in [HS256, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#] {
            let token = hs256(header, claims, key.as_bytes());
            assert_eq!(try_token(address, &token), INVALID, "{header}");
        }
    }
    arena.close("A34 RSA");
}

#[test]
fn a35_dates_of_tokens() {
    let arena = Arena::with_token(&config(&hmac()), Some(&of_user("1")));
    let address = arena.server.clients();
    let now = token::now();
    let check = |claims: &str, expected: &[Outcome]| {
        let token = hs256(HS256, &format!(r#"{{"sub":"42",{claims}}}"#), SECRET.as_bytes());
        let outcome = try_token(address, &token);
        assert!(expected.contains(&outcome), "{claims}: {outcome:?}, expected {expected:?}");
    };
    let good = [Outcome::Accepted];
    let expired = [Outcome::Error(109)];
    check(r#""iat":0"#, &good);
    check(&format!(r#""exp":{}"#, now + 3_600), &good);
    check(&format!(r#""exp":{}.5"#, now + 3_600), &good);
    check(&format!(r#""exp":{},"nbf":{},"iat":{}"#, now + 60, now - 60, now - 60), &good);
    check(r#""exp":1"#, &expired);
    check(r#""exp":0"#, &expired);
    check(&format!(r#""exp":{}"#, now - 60), &expired);
    // The allowance is 5 s; a second on either side of it.
    check(&format!(r#""exp":{}"#, now - 3), &good);
    check(&format!(r#""exp":{}"#, now - 6), &expired);
    check(&format!(r#""nbf":{}"#, now + 3), &good);
    check(&format!(r#""nbf":{}"#, now + 60), &[INVALID]);
    // An issuer whose clock is ahead harms nobody.
    check(&format!(r#""iat":{}"#, now + 60), &good);
    let refused = [INVALID, Outcome::Error(109)];
    for date in ["-1", "-1e300"] {
        check(&format!(r#""exp":{date}"#), &refused);
    }
    for date in ["1e30", "1e400", "18446744073709551615", "9223372036854775807", "99999999999999"] {
        check(&format!(r#""exp":{date}"#), &[INVALID]);
        check(&format!(r#""nbf":{date}"#), &[INVALID]);
    }
    for date in ["\"1\"", "\"2099-01-01\"", "true", "[]", "{}"] {
        check(&format!(r#""exp":{date}"#), &[INVALID]);
        check(&format!(r#""nbf":{date}"#), &[INVALID]);
    }
    check(&format!(r#""exp":{},"exp":1"#, now + 60), &[INVALID]);
    arena.close("A35");
}

#[test]
fn a43_names_of_channels() {
    let arena = Arena::with_token(&config(&hmac()), Some(&of_user("1")));
    let address = arena.server.clients();
    let client = |user: &str| {
        Client::connect(address, &json!({ "token": of_user(user) }))
            .unwrap_or_else(|e| panic!("{e}"))
    };
    let refused = |user: &str, channel: &str, codes: &[u64]| {
        let code = client(user).call_error("subscribe", &json!({ "channel": channel }));
        assert!(codes.contains(&code), "{channel:?} for {user}: error {code}, expected {codes:?}");
    };
    for channel in ["dialog:#42", "dialog:#42,43", "dialog:a#43,42", "dialog:#1#42"] {
        client("42").subscribe(channel);
    }
    for channel in [
        "dialog:#42,43",
        "dialog:#42 ",
        "dialog:# 44",
        "dialog:#44 ",
        "dialog:#044",
        "dialog:#4",
        "dialog:#,",
        "dialog:#",
        "dialog:44",
        "dialog:#44#42",
        "dialog:#4*",
        "dialog:#.*",
        "$dialog:#44",
    ] {
        refused("44", channel, &[103]);
    }
    // Digits of another script are not ASCII; neither are twins of letters.
    for channel in
        ["dialog:#\u{664}\u{664}", "room:\u{e9}", "room:e\u{301}", "room:a\0b", "room:\u{7f}"]
    {
        refused("44", channel, &[107]);
    }
    refused("44", "$private", &[103]);
    refused("44", "$room:x", &[103]);
    for channel in ["nosuch:x", &":".repeat(255), "Room:x", "ROOM:x", "room :x", " room:x", "*:x"] {
        refused("44", channel, &[102]);
    }
    let mut empty = client("44");
    let _ = empty.call("subscribe", &json!({ "channel": "" }));
    assert_eq!(empty.last_close(), Some(3501), "a subscribe without a channel");

    // Names are compared byte by byte: nothing in them is a pattern.
    let mut literal = client("44");
    let patterns = ["room:a*b", "room:.*", "room:?", "room:[a-z]", "room:X", "room:a/b", "room:%"];
    for channel in patterns {
        literal.subscribe(channel);
    }
    for channel in ["room:a", "room:axb", "room:x", "room:b", "room:", "room:a/c"] {
        arena.server.api("publish", &json!({ "channel": channel, "data": "not for you" }));
    }
    for channel in patterns {
        arena.server.api("publish", &json!({ "channel": channel, "data": channel }));
        let push = literal.push(PATIENCE).expect("a publication");
        assert_eq!(push.pointer("/push/channel"), Some(&json!(channel)), "{push}");
        assert_eq!(push.pointer("/push/pub/data"), Some(&json!(channel)), "{push}");
    }
    arena.close("A43");
}

#[test]
fn a51_inner_paths_from_outside() {
    const KEY: &str = "the-admin-key-of-the-tests";
    let config =
        config(&hmac()).replace("[admin]\ninsecure = true", &format!("[admin]\nkey = \"{KEY}\""));
    let arena = Arena::with_token(&config, Some(&of_user("1")));
    let (public, admin) = (arena.server.clients(), arena.server.admin());
    let paths = [
        "/metrics",
        "/admin",
        "/admin/status",
        "/admin/drain",
        "/debug",
        "/debug/pprof",
        "/health",
        "/ready",
        "//admin/status",
        "/./admin/status",
        "/x/../admin/status",
        "/%61dmin/status",
        "/admin;x/status",
        "/admin/status;x",
        "/ADMIN/status",
        "/connection/../metrics",
        "/metrics?x=1",
    ];
    let headers = [
        "",
        "X-Forwarded-For: 127.0.0.1\r\n",
        "X-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
        "X-Original-URL: /admin/status\r\nX-Rewrite-URL: /admin/status\r\n",
        "X-HTTP-Method-Override: POST\r\n",
        &format!("X-API-Key: {KEY}\r\nAuthorization: apikey {KEY}\r\n"),
    ];
    for path in paths {
        for header in headers {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\n{header}");
            let response = http::request(public, &head, b"");
            let text = response.text();
            assert_eq!(response.status, 404, "{path} with {header:?}: {text}");
            assert!(!text.contains("realtime_") && !text.contains("uptime"), "{path}: {text}");
        }
    }
    // On its own listener it asks for the key.
    let status = |header: &str| {
        let head = format!("GET /admin/status HTTP/1.1\r\nHost: {admin}\r\n{header}");
        http::request(admin, &head, b"").status
    };
    assert_eq!(status(""), 401);
    assert_eq!(status("X-Forwarded-For: 127.0.0.1\r\n"), 401);
    for wrong in ["", "x", &KEY[1..], &format!("{KEY}x"), &KEY.to_uppercase()] {
        assert_eq!(status(&format!("X-API-Key: {wrong}\r\n")), 401, "{wrong:?}");
        assert_eq!(status(&format!("Authorization: apikey {wrong}\r\n")), 401, "{wrong:?}");
    }
    assert_eq!(status(&format!("X-API-Key: {KEY}\r\n")), 200);
    arena.close("A51");
}

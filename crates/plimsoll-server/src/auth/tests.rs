//! Tokens that must pass and tokens that must not.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use plimsoll_core::limits;
use plimsoll_core::tier::{Tier, TierClaim};
use plimsoll_core::token::{Overrides, TokenError, TokenVerifier};
use proptest::prelude::*;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";
/// The time of all tests, in Unix seconds and milliseconds.
const NOW: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW * 1_000;
const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub.pem");

fn settings() -> TokenSettings {
    TokenSettings { hmac_secret_key: Secret::new(SECRET), ..TokenSettings::default() }
}

fn verifier(settings: TokenSettings) -> Verifier {
    Verifier::new(&TokenConfig { connection: settings, ..TokenConfig::default() }).unwrap()
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A token of any header and claims, signed as `alg` whatever the header says.
fn token_by(key: &EncodingKey, alg: Algorithm, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = crypto::sign(message.as_bytes(), key, alg).unwrap();
    format!("{message}.{signature}")
}

fn hs256_by(secret: &str, header: &str, claims: &str) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    token_by(&key, Algorithm::HS256, header, claims)
}

/// A well-signed HS256 token.
fn token(claims: &str) -> String {
    hs256_by(SECRET, r#"{"alg":"HS256","typ":"JWT"}"#, claims)
}

/// What becomes of a connection token with these claims, by default settings.
fn connect(claims: &str) -> Result<plimsoll_core::token::ConnectionClaims, Refusal> {
    verifier(settings()).check_connection(&token(claims), NOW_MS)
}

fn subscribe(claims: &str) -> Result<plimsoll_core::token::SubscriptionClaims, Refusal> {
    verifier(settings()).check_subscription(&token(claims), NOW_MS)
}

#[test]
fn every_algorithm_passes_by_its_own_key_only() {
    let hmac = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(include_bytes!("testdata/rsa.key.pem")).unwrap();
    let p256 = EncodingKey::from_ec_pem(include_bytes!("testdata/p256.key.pem")).unwrap();
    let p384 = EncodingKey::from_ec_pem(include_bytes!("testdata/p384.key.pem")).unwrap();
    let ed = EncodingKey::from_ed_pem(include_bytes!("testdata/ed25519.key.pem")).unwrap();
    let none = TokenSettings::default;
    let ec = |pem: &str| TokenSettings { ecdsa_public_key: pem.into(), ..none() };
    let public = [
        settings(),
        TokenSettings { rsa_public_key: RSA_PUBLIC.into(), ..none() },
        ec(include_str!("testdata/p256.pub.pem")),
        ec(include_str!("testdata/p384.pub.pem")),
        TokenSettings {
            // As it often stands in an environment variable.
            ed25519_public_key: include_str!("testdata/ed25519.pub.pem")
                .trim()
                .replace('\n', "\\n"),
            ..none()
        },
    ];
    let signed = [
        (0, &hmac, Algorithm::HS256, "HS256"),
        (0, &hmac, Algorithm::HS384, "HS384"),
        (0, &hmac, Algorithm::HS512, "HS512"),
        (1, &rsa, Algorithm::RS256, "RS256"),
        (1, &rsa, Algorithm::RS384, "RS384"),
        (1, &rsa, Algorithm::RS512, "RS512"),
        (2, &p256, Algorithm::ES256, "ES256"),
        (3, &p384, Algorithm::ES384, "ES384"),
        (4, &ed, Algorithm::EdDSA, "EdDSA"),
    ];
    for (own, key, alg, name) in signed {
        let header = format!(r#"{{"alg":"{name}"}}"#);
        let token = token_by(key, alg, &header, r#"{"sub":"u"}"#);
        for (at, settings) in public.iter().enumerate() {
            let result = verifier(settings.clone()).check_connection(&token, NOW_MS);
            match at == own {
                true => assert_eq!(&*result.unwrap().user, "u", "{name}"),
                false => assert_eq!(result, Err(Refusal::Algorithm), "{name} by key {at}"),
            }
        }
        // The same signature under the name of another algorithm of the family.
        for other in ["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384"] {
            if other != name {
                let header = format!(r#"{{"alg":"{other}"}}"#);
                let token = token_by(key, alg, &header, r#"{"sub":"u"}"#);
                let result = verifier(public[own].clone()).check_connection(&token, NOW_MS);
                assert!(result.is_err(), "{name} as {other}");
            }
        }
        let flipped = flip_signature(&token);
        let result = verifier(public[own].clone()).check_connection(&flipped, NOW_MS);
        assert_eq!(result, Err(Refusal::Signature), "{name}");
    }
}

/// `token` with another first character in its signature.
fn flip_signature(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    format!("{message}.{first}{}", &signature[1..])
}

#[test]
fn several_keys_serve_at_once_without_mixing() {
    let both = TokenSettings { rsa_public_key: RSA_PUBLIC.into(), ..settings() };
    let verifier = verifier(both);
    let rsa = EncodingKey::from_rsa_pem(include_bytes!("testdata/rsa.key.pem")).unwrap();
    let claims = r#"{"sub":"u"}"#;
    let good = token_by(&rsa, Algorithm::RS256, r#"{"alg":"RS256"}"#, claims);
    assert!(verifier.check_connection(&good, NOW_MS).is_ok());
    assert!(verifier.check_connection(&token(claims), NOW_MS).is_ok());
    for public in [RSA_PUBLIC, RSA_PUBLIC.trim()] {
        let forged = hs256_by(public, r#"{"alg":"HS256"}"#, claims);
        assert_eq!(verifier.check_connection(&forged, NOW_MS), Err(Refusal::Signature));
    }
}

#[test]
fn hs256_by_the_public_rsa_key_is_refused() {
    let only = TokenSettings { rsa_public_key: RSA_PUBLIC.into(), ..TokenSettings::default() };
    let verifier = verifier(only);
    let forged = hs256_by(RSA_PUBLIC, r#"{"alg":"HS256"}"#, r#"{"sub":"admin"}"#);
    assert_eq!(verifier.check_connection(&forged, NOW_MS), Err(Refusal::Algorithm));
    let renamed = hs256_by(RSA_PUBLIC, r#"{"alg":"RS256"}"#, r#"{"sub":"admin"}"#);
    assert_eq!(verifier.check_connection(&renamed, NOW_MS), Err(Refusal::Signature));
}

#[test]
fn without_keys_nothing_passes() {
    let verifier = verifier(TokenSettings::default());
    let good = token(r#"{"sub":"u"}"#);
    let empty = hs256_by("\0", r#"{"alg":"HS256"}"#, r#"{"sub":"u"}"#);
    for token in [good.as_str(), empty.as_str(), "", ".", "..", "a.b.c"] {
        assert_eq!(verifier.connection(token, NOW_MS), Err(TokenError::Invalid), "{token}");
        assert_eq!(verifier.subscription(token, NOW_MS), Err(TokenError::Invalid), "{token}");
    }
}

#[test]
fn headers_that_ask_for_tricks_are_refused() {
    let claims = r#"{"sub":"u"}"#;
    let verifier = verifier(settings());
    for (header, why) in [
        (r#"{"alg":"none"}"#, Refusal::Algorithm),
        (r#"{"alg":"None"}"#, Refusal::Algorithm),
        (r#"{"alg":"nOnE"}"#, Refusal::Algorithm),
        (r#"{"alg":""}"#, Refusal::Algorithm),
        (r#"{"alg":"hs256"}"#, Refusal::Algorithm),
        (r#"{"alg":"PS256"}"#, Refusal::Algorithm),
        (r#"{"alg":"ES512"}"#, Refusal::Algorithm),
        (r#"{"alg":["HS256"]}"#, Refusal::HeaderField("alg")),
        (r#"{"alg":null}"#, Refusal::HeaderField("alg")),
        (r#"{"alg":256}"#, Refusal::HeaderField("alg")),
        (r#"{"typ":"JWT"}"#, Refusal::HeaderField("alg")),
        (r#"{"alg":"HS256","typ":"JWE"}"#, Refusal::HeaderField("typ")),
        (r#"{"alg":"HS256","typ":1}"#, Refusal::HeaderField("typ")),
        (r#"{"alg":"HS256","crit":["x"]}"#, Refusal::HeaderField("crit")),
        (r#"{"alg":"HS256","crit":[]}"#, Refusal::HeaderField("crit")),
        (r#"{"alg":"HS256","crit":["b64"],"b64":false}"#, Refusal::HeaderField("crit")),
        (r#"{"alg":"HS256","b64":false}"#, Refusal::HeaderField("b64")),
        (r#"{"alg":"HS256","enc":"A128GCM"}"#, Refusal::HeaderField("enc")),
        (r#"{"alg":"HS256","zip":"DEF"}"#, Refusal::HeaderField("zip")),
        (r#"{"alg":"none","alg":"HS256"}"#, Refusal::HeaderJson),
        (r#"{"alg":"HS256"} "#, Refusal::Signature),
        (r#"["HS256"]"#, Refusal::HeaderJson),
        ("HS256", Refusal::HeaderJson),
        ("{}{}", Refusal::HeaderJson),
    ] {
        let mut token = hs256_by(SECRET, header, claims);
        if why == Refusal::Signature {
            token = flip_signature(&token);
        }
        assert_eq!(verifier.check_connection(&token, NOW_MS), Err(why), "{header}");
        let (message, _) = token.rsplit_once('.').unwrap();
        let unsigned = verifier.check_connection(&format!("{message}."), NOW_MS);
        assert_eq!(unsigned, Err(Refusal::Shape), "{header}");
    }
}

#[test]
fn keys_named_by_the_header_are_not_listened_to() {
    let long = "k".repeat(10_000);
    let verifier = verifier(settings());
    for field in [
        r#""kid":"../../etc/passwd""#,
        r#""kid":"'; FLUSHALL""#,
        r#""kid":"\u0000""#,
        &format!(r#""kid":"{long}""#),
        r#""jku":"http://127.0.0.1:1/keys""#,
        r#""x5u":"http://127.0.0.1:1/cert""#,
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
    ] {
        let header = format!(r#"{{"alg":"HS256",{field}}}"#);
        let own = hs256_by(SECRET, &header, r#"{"sub":"u"}"#);
        assert!(verifier.check_connection(&own, NOW_MS).is_ok(), "{field}");
        let forged = hs256_by("\0\0\0", &header, r#"{"sub":"u"}"#);
        let result = verifier.check_connection(&forged, NOW_MS);
        assert_eq!(result, Err(Refusal::Signature), "{field}");
    }
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    let good = token(r#"{"sub":"u"}"#);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let verifier = verifier(settings());
    for (text, why) in [
        (String::new(), Refusal::Shape),
        (header.to_owned(), Refusal::Shape),
        (message.to_owned(), Refusal::Shape),
        (format!("{message}."), Refusal::Shape),
        (format!(".{claims}.{signature}"), Refusal::Shape),
        (format!("{good}.x"), Refusal::Shape),
        (format!("{header}.key.iv.{claims}.tag"), Refusal::Shape),
        (format!("{header}=.{claims}.{signature}"), Refusal::Base64),
        (format!("{header}\n.{claims}.{signature}"), Refusal::Base64),
        (format!("é.{claims}.{signature}"), Refusal::Base64),
        (format!("_w.{claims}.{signature}"), Refusal::Base64),
        (format!("{message}.{signature}="), Refusal::Signature),
        (format!(" {good}"), Refusal::Base64),
        (format!("{good} "), Refusal::Signature),
        (format!("{message}.{}", &signature[..20]), Refusal::Signature),
        (format!("{message}.{signature}AAAA"), Refusal::Signature),
        ("a".repeat(3 * 1024 * 1024), Refusal::TooLong),
        (".".repeat(limits::TOKEN_BYTES_MAX), Refusal::Shape),
        ("a".repeat(limits::TOKEN_BYTES_MAX + 1), Refusal::TooLong),
    ] {
        let shown: String = text.chars().take(60).collect();
        assert_eq!(verifier.check_connection(&text, NOW_MS), Err(why), "{shown}");
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    for claims in ["", "[]", "null", "\"u\"", "{", r#"{"sub":"a","sub":"b"}"#] {
        assert_eq!(connect(claims), Err(Refusal::ClaimsJson), "{claims}");
    }
    let binary = format!("{}.{}", part(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode([0xff, 0]));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = crypto::sign(binary.as_bytes(), &key, Algorithm::HS256).unwrap();
    let result = verifier(settings()).check_connection(&format!("{binary}.{signature}"), NOW_MS);
    assert_eq!(result, Err(Refusal::Base64));
}

#[test]
fn dates() {
    let (exp, nbf) = (Refusal::Claim("exp"), Refusal::Claim("nbf"));
    for (claims, expected) in [
        // Nothing, or null: never expires.
        (r#"{}"#.to_owned(), Ok(None)),
        (r#"{"exp":null}"#.to_owned(), Ok(None)),
        (format!(r#"{{"exp":{}}}"#, NOW + 60), Ok(Some(NOW_MS + 60_000))),
        (format!(r#"{{"exp":{}.5}}"#, NOW + 60), Ok(Some(NOW_MS + 60_500))),
        // Within the leeway: ends in a second.
        (format!(r#"{{"exp":{}}}"#, NOW), Ok(Some(NOW_MS + 1_000))),
        (format!(r#"{{"exp":{}}}"#, NOW - 4), Ok(Some(NOW_MS + 1_000))),
        (format!(r#"{{"exp":{}}}"#, NOW - 5), Err(Refusal::Expired)),
        (format!(r#"{{"exp":{}}}"#, NOW - 6), Err(Refusal::Expired)),
        (r#"{"exp":0}"#.to_owned(), Err(Refusal::Expired)),
        (r#"{"exp":1.5}"#.to_owned(), Err(Refusal::Expired)),
        // No dates.
        (format!(r#"{{"exp":"{}"}}"#, NOW + 60), Err(exp)),
        (r#"{"exp":-1}"#.to_owned(), Err(exp)),
        (r#"{"exp":-0.5}"#.to_owned(), Err(exp)),
        (r#"{"exp":1e30}"#.to_owned(), Err(exp)),
        (r#"{"exp":1e400}"#.to_owned(), Err(exp)),
        (r#"{"exp":18446744073709551615}"#.to_owned(), Err(exp)),
        (r#"{"exp":99999999999999999999999999}"#.to_owned(), Err(exp)),
        (format!(r#"{{"exp":{NOW_MS}}}"#), Err(exp)),
        (r#"{"exp":true}"#.to_owned(), Err(exp)),
        (r#"{"exp":[]}"#.to_owned(), Err(exp)),
        (r#"{"exp":253402300799}"#.to_owned(), Ok(Some(253_402_300_799_000))),
        (r#"{"exp":253402300800}"#.to_owned(), Err(exp)),
        // Not before.
        (format!(r#"{{"nbf":{}}}"#, NOW + 5), Ok(None)),
        (format!(r#"{{"nbf":{}}}"#, NOW + 6), Err(Refusal::NotYetValid)),
        (r#"{"nbf":"now"}"#.to_owned(), Err(nbf)),
        (r#"{"nbf":-1}"#.to_owned(), Err(nbf)),
        // When it was issued is not our matter, as long as it is a date.
        (format!(r#"{{"iat":{}}}"#, NOW + 9_999), Ok(None)),
        (r#"{"iat":"now"}"#.to_owned(), Err(Refusal::Claim("iat"))),
        // Connection expiry apart from the token's.
        (format!(r#"{{"exp":{},"expire_at":0}}"#, NOW + 60), Ok(None)),
        (format!(r#"{{"exp":{},"expire_at":0}}"#, NOW - 60), Err(Refusal::Expired)),
        (format!(r#"{{"exp":{},"expire_at":{}}}"#, NOW + 60, NOW + 10), Ok(Some(NOW_MS + 10_000))),
        (format!(r#"{{"expire_at":{}}}"#, NOW - 60), Err(Refusal::Expired)),
        (r#"{"expire_at":"0"}"#.to_owned(), Err(Refusal::Claim("expire_at"))),
        // Wrong in two ways: invalid, else it would be renewed forever.
        (format!(r#"{{"exp":{},"nbf":{}}}"#, NOW - 60, NOW + 60), Err(Refusal::NotYetValid)),
        (format!(r#"{{"exp":{},"sub":1}}"#, NOW - 60), Err(Refusal::Claim("sub"))),
        (format!(r#"{{"exp":{},"channel":"c"}}"#, NOW - 60), Err(Refusal::HasChannel)),
    ] {
        assert_eq!(connect(&claims).map(|c| c.expires_at_ms), expected, "{claims}");
    }
    let forged = flip_signature(&token(r#"{"exp":1}"#));
    let result = verifier(settings()).check_connection(&forged, NOW_MS);
    assert_eq!(result, Err(Refusal::Signature));
    // At the ends of time nothing overflows.
    for now in [0, u64::MAX] {
        let claims = format!(r#"{{"exp":{NOW},"nbf":0}}"#);
        let _ = verifier(settings()).check_connection(&token(&claims), now);
    }
}

#[test]
fn leeway_is_what_is_configured() {
    let strict = verifier(TokenSettings { leeway_ms: 0, ..settings() });
    let token = token(&format!(r#"{{"exp":{NOW}}}"#));
    assert!(strict.check_connection(&token, NOW_MS - 1).is_ok());
    assert_eq!(strict.check_connection(&token, NOW_MS), Err(Refusal::Expired));
}

#[test]
fn the_previous_secret_counts_until_its_day() {
    let rotating = |until| {
        verifier(TokenSettings {
            hmac_previous_secret_key: Secret::new(OLD_SECRET),
            hmac_previous_secret_key_valid_until: until,
            ..settings()
        })
    };
    let old = hs256_by(OLD_SECRET, r#"{"alg":"HS256"}"#, "{}");
    let new = hs256_by(SECRET, r#"{"alg":"HS256"}"#, "{}");
    for (until, at, good) in
        [(NOW, NOW_MS, true), (NOW, NOW_MS + 1, false), (0, u64::MAX, true), (1, NOW_MS, false)]
    {
        assert_eq!(rotating(until).check_connection(&old, at).is_ok(), good, "{until} {at}");
        assert!(rotating(until).check_connection(&new, at).is_ok());
    }
    let third = hs256_by("another", r#"{"alg":"HS256"}"#, "{}");
    assert_eq!(rotating(NOW).check_connection(&third, NOW_MS), Err(Refusal::Signature));
}

#[test]
fn audience_and_issuer() {
    let strict =
        verifier(TokenSettings { audience: "app".into(), issuer: "auth".into(), ..settings() });
    for (claims, expected) in [
        (r#"{"iss":"auth","aud":"app"}"#, Ok(())),
        (r#"{"iss":"auth","aud":["other","app"]}"#, Ok(())),
        (r#"{"iss":"auth","aud":["other"]}"#, Err(Refusal::Audience)),
        (r#"{"iss":"auth","aud":[]}"#, Err(Refusal::Audience)),
        (r#"{"iss":"auth","aud":"App"}"#, Err(Refusal::Audience)),
        (r#"{"iss":"auth"}"#, Err(Refusal::Audience)),
        (r#"{"iss":"auth","aud":{"app":1}}"#, Err(Refusal::Claim("aud"))),
        (r#"{"iss":"auth","aud":["app",1]}"#, Err(Refusal::Claim("aud"))),
        (r#"{"iss":"","aud":"app"}"#, Err(Refusal::Issuer)),
        (r#"{"iss":["auth"],"aud":"app"}"#, Err(Refusal::Issuer)),
        (r#"{"aud":"app"}"#, Err(Refusal::Issuer)),
    ] {
        let result = strict.check_connection(&token(claims), NOW_MS).map(|_| ());
        assert_eq!(result, expected, "{claims}");
    }
}

#[test]
fn users() {
    let long = "u".repeat(limits::USER_ID_BYTES_MAX + 1);
    for (claims, expected) in [
        (r#"{"sub":"42"}"#.to_owned(), Ok("42".into())),
        (r#"{}"#.to_owned(), Ok("".into())),
        (r#"{"sub":"\u00e9"}"#.to_owned(), Ok("é".into())),
        (r#"{"sub":42}"#.to_owned(), Err(Refusal::Claim("sub"))),
        (r#"{"sub":["42"]}"#.to_owned(), Err(Refusal::Claim("sub"))),
        (format!(r#"{{"sub":"{long}"}}"#), Err(Refusal::Claim("sub"))),
        (format!(r#"{{"sub":"{}"}}"#, &long[1..]), Ok(long[1..].into())),
    ] {
        assert_eq!(connect(&claims).map(|c| c.user), expected, "{claims}");
    }
    let own = verifier(TokenSettings { user_id_claim: "uid".into(), ..settings() });
    let claims = own.check_connection(&token(r#"{"sub":"no","uid":"yes"}"#), NOW_MS);
    assert_eq!(&*claims.unwrap().user, "yes");
    let result = own.check_connection(&token(r#"{"uid":7}"#), NOW_MS);
    assert_eq!(result, Err(Refusal::Claim("user_id_claim")));
}

#[test]
fn info_and_data() {
    let (info, b64info) = (Refusal::Claim("info"), Refusal::Claim("b64info"));
    let encoded = STANDARD.encode(r#"{"a": 1}"#);
    let long = "i".repeat(limits::INFO_BYTES_MAX);
    for (claims, expected) in [
        (r#"{"info":{"a": [1, 2]}}"#.to_owned(), Ok(Some(r#"{"a":[1,2]}"#.into()))),
        ("{\"info\":{\n\"a\":\n1}}".to_owned(), Ok(Some(r#"{"a":1}"#.into()))),
        (r#"{"info":"text"}"#.to_owned(), Ok(Some(r#""text""#.into()))),
        (r#"{"info":null}"#.to_owned(), Ok(None)),
        (format!(r#"{{"b64info":"{encoded}"}}"#), Ok(Some(r#"{"a":1}"#.into()))),
        (
            format!(r#"{{"info":1,"b64info":"{}"}}"#, encoded.trim_end_matches('=')),
            Ok(Some(r#"{"a":1}"#.into())),
        ),
        (r#"{"info":1,"b64info":""}"#.to_owned(), Ok(Some("1".into()))),
        (r#"{"b64info":"!"}"#.to_owned(), Err(b64info)),
        (r#"{"b64info":1}"#.to_owned(), Err(b64info)),
        (format!(r#"{{"b64info":"{}"}}"#, STANDARD.encode("text")), Err(b64info)),
        (format!(r#"{{"b64info":"{}"}}"#, STANDARD.encode([0xff])), Err(b64info)),
        (format!(r#"{{"info":"{long}"}}"#), Err(info)),
        (format!(r#"{{"info":{}{}}}"#, "[".repeat(65), "]".repeat(65)), Err(info)),
    ] {
        assert_eq!(connect(&claims).map(|c| c.info), expected, "{claims}");
    }
}

#[test]
fn server_side_subscriptions() {
    let claims = connect(
        r#"{"channels":["a","b"],"subs":{"b":{"info":{"x":1},"data":[2],
            "override":{"presence":{"value":false},"force_recovery":{"value":true},
            "join_leave":{}}},"c":null}}"#,
    )
    .unwrap();
    let names: Vec<&str> = claims.subs.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["b", "c", "a"]);
    let (_, options) = &claims.subs[0];
    assert_eq!(options.info.as_deref(), Some(r#"{"x":1}"#));
    assert_eq!(options.data.as_deref(), Some("[2]"));
    let overrides = Overrides {
        presence: Some(false),
        join_leave: Some(false),
        force_recovery: Some(true),
        ..Overrides::default()
    };
    assert_eq!(options.overrides, overrides);

    let many = |n: usize| {
        let list: Vec<String> = (0..n).map(|i| format!("\"c{i}\"")).collect();
        format!(r#"{{"channels":[{}]}}"#, list.join(","))
    };
    assert!(connect(&many(limits::SERVER_SUBS_MAX)).is_ok());
    let (channels, subs) = (Refusal::Claim("channels"), Refusal::Claim("subs"));
    for (claims, why) in [
        (many(limits::SERVER_SUBS_MAX + 1), channels),
        (r#"{"channels":"a"}"#.to_owned(), channels),
        (r#"{"channels":[1]}"#.to_owned(), channels),
        (r#"{"channels":[""]}"#.to_owned(), channels),
        (format!(r#"{{"channels":["{}"]}}"#, "c".repeat(256)), channels),
        (r#"{"subs":["a"]}"#.to_owned(), subs),
        (r#"{"subs":{"a":1}}"#.to_owned(), subs),
        (r#"{"subs":{"a":{},"a":{}}}"#.to_owned(), subs),
        (r#"{"subs":{"a":{"override":1}}}"#.to_owned(), Refusal::Claim("override")),
        (
            r#"{"subs":{"a":{"override":{"presence":{"value":"no"}}}}}"#.to_owned(),
            Refusal::Claim("override"),
        ),
        (
            r#"{"subs":{"a":{"b64data":"e30"},"b":{"b64data":"x"}}}"#.to_owned(),
            Refusal::Claim("b64data"),
        ),
    ] {
        assert_eq!(connect(&claims), Err(why), "{claims}");
    }
}

#[test]
fn each_kind_of_token_is_good_for_its_own_use_only() {
    let both = r#"{"sub":"u","channel":"c"}"#;
    assert_eq!(connect(both), Err(Refusal::HasChannel));
    assert!(connect(r#"{"sub":"u","channel":""}"#).is_ok());
    assert_eq!(subscribe(r#"{"sub":"u"}"#), Err(Refusal::NoChannel));
    assert_eq!(subscribe(r#"{"channel":7}"#), Err(Refusal::Claim("channel")));
    let claims = subscribe(
        r#"{"sub":"u","channel":"c","client":"id","info":1,"data":{},"expire_at":1900000000,
            "override":{"force_push_join_leave":{"value":true}}}"#,
    )
    .unwrap();
    assert_eq!((&*claims.user, &*claims.channel), ("u", "c"));
    assert_eq!(claims.client.as_deref(), Some("id"));
    assert_eq!(claims.expires_at_ms, Some(1_900_000_000_000));
    assert_eq!(claims.options.data.as_deref(), Some("{}"));
    assert_eq!(claims.options.overrides.force_push_join_leave, Some(true));
    assert_eq!(subscribe(r#"{"sub":"u","channel":"c"}"#).unwrap().client, None);
}

#[test]
fn subscription_tokens_may_have_keys_of_their_own() {
    let config = TokenConfig {
        connection: settings(),
        subscription_enabled: true,
        subscription: TokenSettings {
            hmac_secret_key: Secret::new(OLD_SECRET),
            ..TokenSettings::default()
        },
    };
    let verifier = Verifier::new(&config).unwrap();
    let header = r#"{"alg":"HS256"}"#;
    let claims = r#"{"channel":"c"}"#;
    let own = hs256_by(OLD_SECRET, header, claims);
    assert!(verifier.check_subscription(&own, NOW_MS).is_ok());
    let other = verifier.check_subscription(&hs256_by(SECRET, header, claims), NOW_MS);
    assert_eq!(other, Err(Refusal::Signature));
    let other = verifier.check_connection(&hs256_by(OLD_SECRET, header, "{}"), NOW_MS);
    assert_eq!(other, Err(Refusal::Signature));
}

#[test]
fn keys_that_cannot_be_used_are_told() {
    let told = |settings: TokenSettings| {
        let config = TokenConfig { connection: settings, ..TokenConfig::default() };
        Verifier::new(&config).unwrap_err().to_string()
    };
    let none = TokenSettings::default;
    let rsa = |pem: &str| told(TokenSettings { rsa_public_key: pem.into(), ..none() });
    let ecdsa = |pem: &str| told(TokenSettings { ecdsa_public_key: pem.into(), ..none() });
    let ed = |pem: &str| told(TokenSettings { ed25519_public_key: pem.into(), ..none() });
    let p256 = include_str!("testdata/p256.pub.pem");
    assert!(rsa(include_str!("testdata/rsa1024.pub.pem")).contains("2048 bits"));
    assert!(rsa(include_str!("testdata/rsa.key.pem")).contains("private key"));
    assert!(rsa(p256).contains("not the PEM text of an RSA"));
    assert!(ecdsa(include_str!("testdata/p521.pub.pem")).contains("ES512 (P-521)"));
    assert!(ecdsa(RSA_PUBLIC).contains("not the PEM text of an ECDSA"));
    assert!(ecdsa(include_str!("testdata/p384.key.pem")).contains("private key"));
    assert!(ed(p256).contains("not the PEM text of an Ed25519"));
    assert!(ed("-----BEGIN CERTIFICATE-----").contains("openssl x509"));
}

#[test]
fn signed_tokens_pass_by_the_same_configuration() {
    let strict = TokenSettings {
        audience: "app".into(),
        issuer: "auth".into(),
        user_id_claim: "uid".into(),
        ..settings()
    };
    let config = TokenConfig { connection: strict, ..TokenConfig::default() };
    let verifier = Verifier::new(&config).unwrap();
    let request = TokenRequest {
        user: "42".into(),
        ttl_ms: Some(60_001),
        info: Some(r#"{"name": "A"}"#.into()),
        ..TokenRequest::default()
    };
    let token = sign(&config, &request, NOW_MS).unwrap();
    let claims = verifier.check_connection(&token, NOW_MS).unwrap();
    assert_eq!(&*claims.user, "42");
    assert_eq!(claims.expires_at_ms, Some(NOW_MS + 61_000));
    assert_eq!(claims.info.as_deref(), Some(r#"{"name":"A"}"#));
    let request = TokenRequest { channel: Some("c".into()), ttl_ms: None, ..request };
    let token = sign(&config, &request, NOW_MS).unwrap();
    let claims = verifier.check_subscription(&token, NOW_MS).unwrap();
    assert_eq!((&*claims.channel, claims.expires_at_ms), ("c", None));

    let empty = TokenConfig::default();
    assert_eq!(sign(&empty, &request, NOW_MS), Err(SignError::NoSecret));
    let bad = TokenRequest { info: Some("{".into()), ..request.clone() };
    assert_eq!(sign(&config, &bad, NOW_MS), Err(SignError::Info));
    let bad = TokenRequest { channel: Some(String::new()), ..request };
    let refused = Err(SignError::Refused(Refusal::NoChannel));
    assert_eq!(sign(&config, &bad, NOW_MS), refused);
}

#[test]
fn refusals_never_show_the_token() {
    let all = [Refusal::TooLong, Refusal::Claim("exp"), Refusal::HeaderField("crit")];
    for refusal in all {
        assert_eq!(refusal.kind(), TokenError::Invalid);
        assert!(refusal.to_string().len() < 80);
    }
    assert_eq!(Refusal::Expired.kind(), TokenError::Expired);
    let shown = format!("{:?} {:?}", verifier(settings()), settings());
    assert!(!shown.contains(SECRET), "{shown}");
}

proptest! {
    /// Any text is refused and nothing panics.
    #[test]
    fn any_text_is_refused(text in "[a-zA-Z0-9_.=-]{0,80}|\\PC{0,40}") {
        prop_assert!(verifier(settings()).check_connection(&text, NOW_MS).is_err());
    }

    /// Well-signed claims of any JSON-like text never panic.
    #[test]
    fn any_claims_are_survived(
        name in "sub|exp|nbf|iat|expire_at|aud|info|b64info|channels|subs|channel|override",
        value in "[0-9.eE+-]{1,24}|\"[a-z0-9=]{0,9}\"|[\\[\\]{}\",:a-z0-9]{0,24}",
    ) {
        let claims = format!("{{\"{name}\":{value}}}");
        let verifier = verifier(settings());
        let _ = verifier.check_connection(&token(&claims), NOW_MS);
        let _ = verifier.check_subscription(&token(&claims), NOW_MS);
    }

    /// A single changed bit anywhere makes a token bad.
    #[test]
    fn one_bit_is_enough(at in 0usize..200, bit in 0u8..7) {
        let mut bytes = token(&format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60)).into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let text = String::from_utf8(bytes).unwrap();
        prop_assert!(verifier(settings()).check_connection(&text, NOW_MS).is_err());
    }
}

#[test]
fn a_tier_is_known_unknown_or_absent_and_never_refuses_anybody() {
    use TierClaim::{Absent, Known, Unknown};
    for (claims, expect) in [
        (r#"{"sub":"42"}"#, Absent),
        (r#"{"sub":"42","tier":null}"#, Absent),
        (r#"{"sub":"42","tier":"free"}"#, Known(Tier::Free)),
        (r#"{"sub":"42","tier":"enterprise"}"#, Known(Tier::Enterprise)),
        (r#"{"sub":"42","tier":"Pro"}"#, Unknown),
        (r#"{"sub":"42","tier":""}"#, Unknown),
        (r#"{"sub":"42","tier":3}"#, Unknown),
        (r#"{"sub":"42","tier":{"name":"pro"}}"#, Unknown),
    ] {
        assert_eq!(connect(claims).map(|c| c.tier), Ok(expect), "{claims}");
    }
    let own = |name: &str| verifier(TokenSettings { tier_claim: name.into(), ..settings() });
    let token = token(r#"{"sub":"42","plan":"pro","tier":"enterprise"}"#);
    let tier = |v: Verifier| v.check_connection(&token, NOW_MS).map(|c| c.tier);
    assert_eq!(tier(own("plan")), Ok(Known(Tier::Pro)));
    assert_eq!(tier(own("")), Ok(Absent));
}

#[test]
fn a_tier_can_be_read_before_the_signature_is_checked() {
    let own = verifier(settings());
    let forged = |claims: &str| format!("{}.{}.xx", part("{}"), part(claims));
    for (token, expect) in [
        (token(r#"{"sub":"42","tier":"pro"}"#), TierClaim::Known(Tier::Pro)),
        (forged(r#"{"tier":"enterprise"}"#), TierClaim::Known(Tier::Enterprise)),
        (forged(r#"{"tier":"gold"}"#), TierClaim::Unknown),
        (forged(r#"{"tier":"pro","tier":"free"}"#), TierClaim::Absent),
        (forged("[]"), TierClaim::Absent),
        ("a.!.c".into(), TierClaim::Absent),
        ("".into(), TierClaim::Absent),
        (
            forged(&format!("{{\"tier\":\"pro\",\"a\":\"{}\"}}", "x".repeat(16_384))),
            TierClaim::Absent,
        ),
    ] {
        assert_eq!(own.unverified_tier(&token), expect, "{token}");
    }
}

#[test]
fn a_tenant_is_a_text_or_a_number() {
    let long = format!(r#"{{"sub":"42","tenant":"{}"}}"#, "x".repeat(256));
    for (claims, expect) in [
        (r#"{"sub":"42"}"#, ""),
        (r#"{"sub":"42","tenant":"shop"}"#, "shop"),
        (r#"{"sub":"42","tenant":17}"#, "17"),
        (r#"{"sub":"42","tenant":{"id":1}}"#, ""),
        (r#"{"sub":"42","tenant":["a"]}"#, ""),
        (&long, ""),
    ] {
        assert_eq!(connect(claims).map(|c| c.tenant), Ok(expect.into()), "{claims}");
    }
    let own = verifier(TokenSettings { tenant_claim: "org".into(), ..settings() });
    let claims = own.check_connection(&token(r#"{"sub":"42","org":"a","tenant":"b"}"#), NOW_MS);
    assert_eq!(claims.map(|c| c.tenant), Ok("a".into()));
}

//! The configuration as a whole.

use std::collections::BTreeSet;

use plimsoll_core::policy::RecoveryMode;
use plimsoll_core::tier::Tier;
use proptest::prelude::*;

use super::key::quoted;
use super::table::{NAMESPACES, OPTION_KEYS, Slot, env_name, slots};
use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    let owned: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    owned.into_iter()
}

fn from_file(text: &str) -> Result<Config, Vec<ConfigError>> {
    load(Some(("p.toml", text)), env(&[]), &[])
}

/// The messages for a file, one per line.
fn errors(text: &str) -> String {
    match from_file(text) {
        Ok(_) => String::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
    }
}

/// All of `config` as TOML.
fn render(config: &Config) -> String {
    let mut config = config.clone();
    let mut out = String::new();
    for (path, slot) in slots() {
        let text = match slot {
            Slot::Main(key) => key.print(&mut config),
            Slot::Token(key, at) => key.print(at(&mut config)),
            Slot::Options(key, at) => key.print(at(&mut config)),
            Slot::Tier(key, at) => key.print(at(&mut config)),
            Slot::Quota(key, at) => key.print(at(&mut config)),
            Slot::Namespaces => continue,
        };
        out.push_str(&format!("{path} = {text}\n"));
    }
    for namespace in &mut config.policy.channel.namespaces {
        out.push_str(&format!("[[{NAMESPACES}]]\nname = {}\n", quoted(&namespace.name)));
        for key in OPTION_KEYS {
            out.push_str(&format!("{} = {}\n", key.path, key.print(&mut namespace.options)));
        }
    }
    out
}

#[test]
fn an_empty_file_is_the_safe_default() {
    let config = from_file("").unwrap();
    assert_eq!(Config { warnings: Vec::new(), ..config.clone() }, Config::default());
    assert_eq!(
        config.warnings,
        [
            "no client can connect: client.token has no key",
            "http_api.key is not set: every call of the HTTP API is refused",
        ]
    );
    assert!(!config.http_api.key.matches(b""));
    assert!(!config.admin.key.matches(b""));
}

#[test]
fn a_whole_file() {
    let config = from_file(
        r#"
        [server]
        listen = "0.0.0.0:8000"
        workers = 4
        [log]
        level = "debug"
        format = "json"
        [client]
        allowed_origins = ["https://app.example.com", "https://*.example.org"]
        ping_interval = "1m30s"
        queue_max_size = "2MiB"
        message_rate_limit = 0
        [client.token]
        hmac_secret_key = "0123456789abcdef0123456789abcdef"
        leeway = "1s"
        [client.subscribe_to_user_personal_channel]
        enabled = true
        personal_channel_namespace = "personal"
        [websocket]
        message_size_limit = 0x8000
        [channel.without_namespace]
        presence = true
        [[channel.namespaces]]
        name = "chat"
        history_size = 100
        history_ttl = "300s"
        force_recovery = true
        force_recovery_mode = "cache"
        channel_regex = "^[0-9]+$"
        publication_data_format = "json_object"
        [[channel.namespaces]]
        name = "personal"
        history_meta_ttl = "0s"
        [http_api]
        key = "0123456789abcdef"
        error_mode = "transport"
        "#,
    )
    .unwrap();
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:8000");
    assert_eq!((config.log.level, config.log.format), (LogLevel::Debug, LogFormat::Json));
    assert_eq!(config.policy.client.ping_interval_ms, 90_000);
    assert_eq!(config.policy.client.queue_max_size_bytes, 2 * 1024 * 1024);
    assert_eq!(config.policy.client.user_personal_channel_namespace, "personal");
    assert_eq!(config.policy.websocket.message_size_limit_bytes, 32_768);
    assert_eq!(config.token.connection.leeway_ms, 1_000);
    assert!(config.http_api.key.matches(b"0123456789abcdef"));
    assert!(!config.http_api.key.matches(b"0123456789abcdeg"));
    let [chat, personal] = config.policy.channel.namespaces.as_slice() else { panic!() };
    assert_eq!(chat.options.recovery_mode, RecoveryMode::Cache);
    assert_eq!(chat.options.channel_regex.as_deref(), Some("^[0-9]+$"));
    assert!(chat.options.require_json_object);
    assert_eq!(personal.options.history_meta_ttl_ms, plimsoll_core::limits::HISTORY_META_TTL_MS);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, told) in [
        (
            "[client]\npong_timout = \"8s\"\n",
            "p.toml:2:1: client.pong_timout: unknown key; did you mean `client.pong_timeout`?",
        ),
        ("[clinet]\ninsecure = true\n", "p.toml:1:2: clinet: unknown key; did you mean `client`?"),
        (
            "[client]\nhmac_secret_key = \"x\"",
            "p.toml:2:1: client.hmac_secret_key: unknown key; did you mean \
             `client.token.hmac_secret_key`?",
        ),
        ("server = 1", "p.toml:1:1: server: is a section, not 1"),
        ("flying = true", "p.toml:1:1: flying: unknown key"),
        (
            "[client.proxy.connect]\nenabled = true",
            "p.toml:1:9: client.proxy: proxies to a backend are not supported",
        ),
        (
            "client.insecure = \"yes\"",
            "p.toml:1:8: client.insecure: must be true or false, not \"yes\"",
        ),
        (
            "[client]\n  channel_limit = -1",
            "p.toml:2:3: client.channel_limit: must be a whole number, not -1",
        ),
        ("client.channel_limit = 0", "p.toml:1:8: client.channel_limit: must be at least 1, not 0"),
        (
            "channel.max_length = 256",
            "p.toml:1:9: channel.max_length: must be at most 255, not 256",
        ),
        (
            "client.ping_interval = 25",
            "p.toml:1:8: client.ping_interval: must be a duration with its unit, as \"25s\" or \
             \"1m30s\", not 25",
        ),
        (
            "client.queue_max_size = \"1MB\"",
            "p.toml:1:8: client.queue_max_size: must be bytes, as 65536 or \"64KiB\", not \
             \"1MB\"",
        ),
        (
            "client.queue_max_size = 99999999999999999999",
            "p.toml:1:8: client.queue_max_size: must be bytes, as 65536 or \"64KiB\", not a \
             number beyond 64 bits",
        ),
        (
            "server.listen = \":8000\"",
            "p.toml:1:8: server.listen: must name the address: \"0.0.0.0:8000\" is every one of \
             IPv4",
        ),
        (
            "log.format = \"xml\"",
            "p.toml:1:5: log.format: must be one of \"text\", \"json\", not \"xml\"",
        ),
        ("http_api.key = 123", "p.toml:1:10: http_api.key: must be a text"),
        (
            "client.ping_interval = \"8s\"",
            "p.toml:1:8: client.ping_interval: client.pong_timeout must be shorter than \
             client.ping_interval",
        ),
        (
            "client.message_rate_limit = 5000",
            "client.message_rate_burst: must be at least client.message_rate_limit",
        ),
        (
            "client.allowed_origins = [\"app.example.com\"]",
            "p.toml:1:8: client.allowed_origins: \"app.example.com\": must have a scheme, as \
             https://app.example.com",
        ),
        (
            "[channel.without_namespace]\nforce_recovery = true",
            "p.toml:2:1: channel.without_namespace.force_recovery: needs history: set \
             history_size and history_ttl",
        ),
        (
            "[channel.without_namespace]\nhistory_size = 10",
            "p.toml:2:1: channel.without_namespace.history_size: history needs history_ttl too",
        ),
        (
            "[[channel.namespaces]]\nname = \"chat\"\npresense = true",
            "p.toml:3:1: channel.namespaces[0].presense: unknown option; did you mean \
             `presence`?",
        ),
        (
            "[[channel.namespaces]]\nname = \"a\"",
            "p.toml:2:1: channel.namespaces[0].name: \"a\" must be two or more of a-z, A-Z, \
             0-9, `-`, `_`",
        ),
        (
            "[[channel.namespaces]]\nname = \"aa\"\n[[channel.namespaces]]\nname = \"aa\"",
            "p.toml:4:1: channel.namespaces[1].name: \"aa\" is there twice",
        ),
        (
            "\n[[channel.namespaces]]\npresence = true",
            "p.toml:2:1: channel.namespaces[0].name: is missing",
        ),
        (
            "client.subscription_token.enabled = true",
            "p.toml:1:27: client.subscription_token.enabled: client.subscription_token has no \
             key",
        ),
        (
            "server.admin_listen = \"127.0.0.1:8000\"",
            "p.toml:1:8: server.admin_listen: must differ from server.listen",
        ),
        (
            "capacity.cost_per_hour = -0.5",
            "p.toml:1:10: capacity.cost_per_hour: must be a number, as 2 or 0.25, with up to six \
             digits behind, not -0.5",
        ),
        (
            "capacity.cost_per_hour = \"0.5\"",
            "p.toml:1:10: capacity.cost_per_hour: must be a number, as 2 or 0.25, with up to six \
             digits behind, not \"0.5\"",
        ),
        (
            "[capacity]\ncost_per_hour = 1000000.5",
            "p.toml:2:1: capacity.cost_per_hour: must be at most 1000000, not 1000000.5",
        ),
        (
            "client.channel_limit = 1.5",
            "p.toml:1:8: client.channel_limit: must be a whole number, not 1.5",
        ),
        (
            "[client]\ninsecure = true\n[server]\nlisten = \"0.0.0.0:8000\"",
            "p.toml:2:1: client.insecure: is on, and 0.0.0.0:8000 can be reached by others: \
             listen on 127.0.0.1, set a key or token secret instead, or set \
             server.allow_insecure_on_public = true",
        ),
    ] {
        assert_eq!(errors(text), told, "{text}");
    }
}

#[test]
fn bad_toml_has_its_line() {
    for (text, start) in [
        ("[client]\ninsecure =\n", "p.toml:2:"),
        ("[client\n", "p.toml:1:"),
        ("a = 1\na = 2\n", "p.toml:2:"),
        ("é = \"x\n", "p.toml:1:"),
    ] {
        assert!(errors(text).starts_with(start), "{text:?}: {}", errors(text));
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "log.level = 1\nclient.ping_interval = 1\nserver.wokers = 2\n";
    assert_eq!(errors(text).lines().count(), 3);
}

#[test]
fn a_bad_pattern_is_an_error() {
    let told = errors("[[channel.namespaces]]\nname = \"chat\"\nchannel_regex = \"(\"");
    let start = "p.toml:3:1: channel.namespaces[0].channel_regex: is not a regular expression";
    assert!(told.starts_with(start), "{told}");
}

#[test]
fn unusable_keys_are_errors() {
    let p521 = include_str!("../auth/testdata/p521.pub.pem");
    let told = errors(&format!("client.token.ecdsa_public_key = '''{p521}'''"));
    assert_eq!(
        told,
        "p.toml:1:14: client.token.ecdsa_public_key: ES512 (P-521) is not supported; use a P-256 \
         or P-384 key"
    );
    let told = errors("client.token.rsa_public_key = 'key'");
    assert_eq!(
        told,
        "p.toml:1:14: client.token.rsa_public_key: not the PEM text of an RSA public key"
    );
}

#[test]
fn capacity_and_prices() {
    let check = |text: &str, cost, users| {
        let capacity = from_file(text).unwrap().capacity;
        assert_eq!(capacity.cost_per_hour_millionths, cost, "{text}");
        assert_eq!(capacity.monthly_users_per_concurrent_millionths, users, "{text}");
    };
    check("", 0, 20_000_000);
    check("[capacity]\ncost_per_hour = 0.34\nmonthly_users_per_concurrent = 8", 340_000, 8_000_000);
    check("capacity.monthly_users_per_concurrent = 0.0", 0, 0);
    let file = from_file("capacity = { file = \"capacity.json\", allow_mismatch = true }").unwrap();
    assert_eq!(
        (file.capacity.file.as_str(), file.capacity.allow_mismatch),
        ("capacity.json", true)
    );
    let given = [("PLIMSOLL_CAPACITY_COST_PER_HOUR", "1.5"), ("PLIMSOLL_CAPACITY_FILE", "a.json")];
    let config = load(None, env(&given), &[]).unwrap();
    assert_eq!(config.capacity.cost_per_hour_millionths, 1_500_000);
    assert_eq!(config.capacity.file, "a.json");
    let alone = from_file("capacity.allow_mismatch = true").unwrap();
    assert!(alone.warnings.iter().any(|w| w.contains("nothing without capacity.file")));
}

#[test]
fn environment_is_over_the_file_and_flags_over_both() {
    let file = Some(("p.toml", "[client]\nchannel_limit = 1\nqueue_max_size = 8192\n"));
    let pairs = [
        ("PLIMSOLL_CLIENT_CHANNEL_LIMIT", "2"),
        ("PLIMSOLL_CLIENT_QUEUE_MAX_SIZE", "128KiB"),
        ("PLIMSOLL_CLIENT_TOKEN_HMAC_SECRET_KEY", SECRET),
        ("PLIMSOLL_CLIENT_ALLOWED_ORIGINS", "https://a.example, https://b.example"),
        ("PLIMSOLL_CLIENT_CONNECT_INCLUDE_SERVER_TIME", "true"),
        ("PLIMSOLL_CHANNEL_NAMESPACES", r#"[{"name":"chat","history_size":9,"history_ttl":"9s"}]"#),
        ("PLIMSOLL_SERVICE_HOST", "10.0.0.1"),
        ("PLIMSOLL_SERVICE_PORT_HTTP", "8000"),
        ("PLIMSOLL_PORT", "tcp://10.0.0.1:8000"),
        ("PLIMSOLL_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("PLIMSOLL_ADMIN_PORT_9000_TCP", "tcp://10.0.0.1:9000"),
        ("PATH", "/bin"),
    ];
    let flags = [("client.channel_limit", "3".to_owned()), ("log.level", "warn".to_owned())];
    let config = load(file, env(&pairs), &flags).unwrap();
    assert_eq!(config.policy.client.channel_limit, 3);
    assert_eq!(config.policy.client.queue_max_size_bytes, 128 * 1024);
    assert_eq!(config.token.connection.hmac_secret_key.expose(), SECRET);
    let origins = ["https://a.example", "https://b.example"];
    assert_eq!(config.policy.client.allowed_origins, origins);
    assert!(config.policy.client.connect_include_server_time);
    assert_eq!(config.policy.channel.namespaces[0].options.history_ttl_ms, 9_000);
    assert_eq!(config.log.level, LogLevel::Warn);
}

#[test]
fn mistakes_of_environment_and_flags_are_told() {
    let pairs = [
        ("PLIMSOLL_CLIENT_TOKEN_HMAC_SECRET", "very secret"),
        ("PLIMSOLL_CLIENT_INSECURE", "maybe"),
        ("PLIMSOLL_CHANNEL_NAMESPACES", "{"),
    ];
    let flags = [("server.workers", "many".to_owned())];
    let told: Vec<String> =
        load(None, env(&pairs), &flags).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "environment PLIMSOLL_CHANNEL_NAMESPACES: channel.namespaces: must be a list of \
             objects in JSON: EOF while parsing an object at line 1 column 1",
            "environment PLIMSOLL_CLIENT_INSECURE: client.insecure: must be true or false, not \
             \"maybe\"",
            "environment PLIMSOLL_CLIENT_TOKEN_HMAC_SECRET: no setting has this name; did you \
             mean `PLIMSOLL_CLIENT_TOKEN_HMAC_SECRET_KEY`?",
            "command line: server.workers: must be a whole number, not \"many\"",
        ]
    );
}

#[test]
fn weak_settings_are_warned_of() {
    let text = r#"
        client.token.hmac_secret_key = "short"
        client.token.hmac_previous_secret_key = "bbe7d157-a253-4094-9759-06a8236543f9"
        client.allowed_origins = ["*"]
        client.subscription_token.issuer = "x"
        client.queue_max_size = "32KiB"
        client.insecure = true
        http_api.key = "k"
        channel.without_namespace.force_push_join_leave = true
    "#;
    let warnings = from_file(text).unwrap().warnings;
    assert_eq!(
        warnings,
        [
            "client.insecure is on: for development only",
            "client.queue_max_size is less than websocket.message_size_limit: a long \
             publication disconnects its subscribers",
            "client.allowed_origins has \"*\": pages of every site may connect",
            "client.token.hmac_secret_key is shorter than 32 bytes and may be guessed",
            "client.token.hmac_previous_secret_key is the secret of an example: anyone can know \
             it",
            "client.token.hmac_previous_secret_key counts forever: set \
             hmac_previous_secret_key_valid_until",
            "client.subscription_token has settings but is not enabled: client.token counts",
            "http_api.key is shorter than 16 bytes and may be guessed",
            "channel.without_namespace: force_push_join_leave does nothing without join_leave",
        ]
    );
}

#[test]
fn the_load_line_is_configured() {
    use plimsoll_overload::level::Level;
    use plimsoll_overload::score::Score;
    let text = r#"
        overload.enabled = false
        overload.score = "weighted"
        overload.memory_limit = "512MiB"
        overload.outbound_budget = "64MiB"
        overload.accepts_per_second = 500
        overload.accepts_per_second_min = 5
        overload.alert_webhook = "http://alerts.internal:9093/hook"
        overload.warning.enter = 0.65
        overload.warning.leave = 0.6
        overload.warning.dwell = "5s"
    "#;
    let mut levels = OverloadConfig::default().levels;
    levels[0] =
        LevelConfig { enter_millionths: 650_000, leave_millionths: 600_000, dwell_ms: 5_000 };
    let given = OverloadConfig {
        enabled: false,
        score: Score::Weighted,
        memory_limit_bytes: 512 << 20,
        outbound_budget_bytes: 64 << 20,
        accepts_per_second: 500,
        accepts_per_second_min: 5,
        alert_webhook: "http://alerts.internal:9093/hook".into(),
        levels,
        level_at_start: None,
        closed_at_start: false,
    };
    assert_eq!(from_file(text).unwrap().overload, given);
    let check = |text: &str, expect: &str| {
        let found = errors(text);
        assert!(found.contains(expect), "{found}");
    };
    check("overload.accepts_per_second = 10", "must not be above overload.accepts_per_second");
    check("overload.accepts_per_second_min = 0", "must be at least 1");
    check("overload.score = \"mean\"", "must be one of \"max\", \"weighted\"");
    check("overload.alert_webhook = \"https://a/\"", "must begin with http://");
    check("overload.alert_webhook = \"a\"", "must be a URL");
    let rises = "overload.degraded.enter: must be above overload.warning.enter";
    check("overload.warning.enter = 0.9\noverload.warning.leave = 0.61", rises);
    check("overload.warning.leave = 0.66", "at least 0.05 below overload.warning.enter");
    check("overload.critical.leave = 0.77", "must be above overload.degraded.leave");
    check("overload.emergency.enter = 1.6", "must be at most 1.5");
    check("overload.emergency.dwell = \"49s\"", "Emergency to Normal takes");
    check("overload.warning.enter = \"high\"", "overload.warning.enter");

    let at_start = |variables: &[(&str, &str)]| {
        let config = load(None, env(variables), &[]).map_err(|errors| errors[0].to_string())?;
        Ok((config.overload.level_at_start, config.overload.closed_at_start))
    };
    let both = [("DEGRADATION_LEVEL", "3"), ("ACCEPT_NEW_CONNECTIONS", "false")];
    assert_eq!(at_start(&both), Ok((Some(Level::Critical), true)));
    let neither = [("DEGRADATION_LEVEL", "auto"), ("ACCEPT_NEW_CONNECTIONS", "true")];
    assert_eq!(at_start(&neither), Ok((None, false)));
    assert_eq!(
        at_start(&[("DEGRADATION_LEVEL", "7")]),
        Err("environment DEGRADATION_LEVEL: must be auto, 0 to 4, or normal, warning, degraded, \
             critical, emergency, not \"7\""
            .to_owned())
    );
    let perhaps: Result<_, String> = at_start(&[("ACCEPT_NEW_CONNECTIONS", "perhaps")]);
    assert!(perhaps.is_err_and(|e| e.contains("must be true or false, not \"perhaps\"")));
    let pinned = load(Some(("p.toml", "overload.enabled = false")), env(&both), &[]);
    let warnings = pinned.unwrap().warnings.join("\n");
    assert!(warnings.contains("do nothing while overload.enabled = false"), "{warnings}");
}

#[test]
fn insecure_on_public_needs_to_be_said() {
    for (listen, good) in [
        ("127.0.0.1:8000", true),
        ("[::1]:8000", true),
        ("[::ffff:127.0.0.1]:8000", true),
        ("localhost:8000", true),
        ("0.0.0.0:8000", false),
        ("[::]:8000", false),
        ("192.168.0.7:8000", false),
    ] {
        let text = format!("client.insecure = true\nserver.listen = \"{listen}\"\n");
        assert_eq!(from_file(&text).is_ok(), good, "{listen}");
        let text = format!("{text}server.allow_insecure_on_public = true");
        assert!(from_file(&text).is_ok(), "{listen}");
    }
    let admin = "admin.insecure = true\nserver.admin_listen = \"0.0.0.0:9000\"";
    assert!(errors(admin).starts_with("p.toml:1:7: admin.insecure"));
}

#[test]
fn development_is_open_on_loopback_to_its_own_pages() {
    let config = load_development(env(&[]), &[]).unwrap();
    assert_eq!(Config { warnings: Vec::new(), ..config.clone() }, Config::development());
    let own = ["http://127.0.0.1:8000", "http://localhost:8000"];
    assert_eq!(config.policy.client.allowed_origins, own);
    let flags = [("server.listen", "127.0.0.1:8123".to_owned())];
    let config = load_development(env(&[]), &flags).unwrap();
    let own = ["http://127.0.0.1:8123", "http://localhost:8123"];
    assert_eq!(config.policy.client.allowed_origins, own);
    let public = [("server.listen", "0.0.0.0:8000".to_owned())];
    assert!(load_development(env(&[]), &public).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let text = format!("client.token.hmac_secret_key = \"{SECRET}\"\nadmin.key = \"{SECRET}\"");
    let shown = format!("{:?}", from_file(&text).unwrap());
    assert!(shown.contains("[redacted]") && !shown.contains(SECRET));
}

#[test]
fn tiers_are_read_and_checked() {
    let config = from_file(
        r#"
        tiers.enabled = true
        tiers.claim = "plan"
        tiers.anonymous = "pro"
        [tiers.free]
        idle_timeout = "2s"
        admission = "top"
        [tiers.enterprise]
        batch_window = "20ms"
        "#,
    );
    let config = config.unwrap();
    let tiers = &config.policy.tiers;
    assert_eq!(config.token.connection.tier_claim, "plan");
    assert_eq!((tiers.enabled, tiers.anonymous), (true, Tier::Pro));
    assert_eq!((tiers.options[0].idle_timeout_ms, tiers.options[0].top_admission), (2_000, true));
    assert_eq!((tiers.options[2].batch_window_ms, tiers.options[2].ping_interval_ms), (20, 15_000));
    for (text, told) in [
        ("tiers.gold.compression = true", "tiers.gold: unknown key"),
        ("tiers.default = \"gold\"", "must be one of \"free\", \"pro\", \"enterprise\""),
        (
            "tiers.enabled = true\ntiers.pro.ping_interval = \"8s\"",
            "tiers.pro.ping_interval: must be longer than client.pong_timeout",
        ),
        (
            "tiers.enabled = true\ntiers.pro.publish_rate_limit = 101",
            "tiers.pro.publish_rate_burst: must be at least publish_rate_limit",
        ),
    ] {
        assert!(errors(text).contains(told), "{text}: {}", errors(text));
    }
    let off = from_file("tiers.free.idle_timeout = \"1s\"").unwrap();
    assert!(off.warnings.iter().any(|w| w.contains("tiers.enabled is off")), "{:?}", off.warnings);
}

#[test]
fn every_key_has_its_own_environment_variable_and_a_meaning() {
    let mut names = BTreeSet::new();
    for (path, slot) in slots() {
        assert!(names.insert(env_name(&path)), "{path}");
        let doc = match slot {
            Slot::Main(key) => key.doc,
            Slot::Token(key, _) => key.doc,
            Slot::Options(key, _) => key.doc,
            Slot::Tier(key, _) => key.doc,
            Slot::Quota(key, _) => key.doc,
            Slot::Namespaces => "one entry per namespace",
        };
        assert!(doc.len() > 10, "{path}");
        assert!(!doc.contains('|') && !doc.contains('\n'), "{path}: breaks the reference");
    }
}

#[test]
fn the_reference_in_the_repository_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/config.md");
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == reference(), "run: plimsoll config-doc > docs/reference/config.md");
}

/// A value that `key` takes, out of `seed`.
fn vary<T>(key: &key::Key<T>, target: &mut T, seed: u64) {
    use super::key::Kind;
    use super::value::Value;
    let value = match &key.kind {
        Kind::Bool(_) => Value::Bool(seed.is_multiple_of(2)),
        Kind::Count(min, max, _) | Kind::Size(min, max, _) | Kind::Duration(min, max, _) => {
            let span = (max - min).min(1_000_000_000);
            let number = min + seed % (span + 1);
            match &key.kind {
                Kind::Duration(..) => Value::Plain(units::print_duration(number)),
                _ => Value::Plain(number.to_string()),
            }
        }
        Kind::Decimal(min, max, _) => {
            let number = min + seed % ((max - min).min(1_000_000_000) + 1);
            Value::Plain(units::print_decimal(number))
        }
        Kind::Choice { names, .. } => {
            let at = seed as usize % names.len();
            Value::Plain(names[at].to_owned())
        }
        Kind::Text(_) | Kind::OptionalText(_) | Kind::Secret(_) => {
            Value::Plain(format!("\"{seed}\"\n\\é"))
        }
        Kind::List(_) => Value::Plain(format!("https://{seed}.example,*")),
        Kind::Address(_) => Value::Plain(format!("127.0.0.1:{}", seed % 65_536)),
    };
    key.apply(target, &value).unwrap();
}

proptest! {
    /// What is written is read as it was, for every key and any value it takes (the checks
    /// between keys are set aside by comparing with what was written).
    #[test]
    fn written_and_read(seeds in proptest::collection::vec(any::<u64>(), 300)) {
        let mut config = Config::default();
        for ((_, slot), seed) in slots().into_iter().zip(&seeds) {
            match slot {
                Slot::Main(key) => vary(key, &mut config, *seed),
                Slot::Token(key, at) => vary(key, at(&mut config), *seed),
                Slot::Options(key, at) => vary(key, at(&mut config), *seed),
                Slot::Tier(key, at) => vary(key, at(&mut config), *seed),
                Slot::Quota(key, at) => vary(key, at(&mut config), *seed),
                Slot::Namespaces => (),
            }
        }
        let mut options = ChannelOptions::default();
        for (key, seed) in OPTION_KEYS.iter().zip(&seeds) {
            vary(key, &mut options, *seed);
        }
        config.policy.channel.namespaces = vec![Namespace { name: "some".into(), options }];
        let text = render(&config);
        let (read, errors) = load::read_unchecked(&text);
        prop_assert_eq!(errors, []);
        prop_assert_eq!(read, config);
    }

    /// Any text is either read or refused, never more.
    #[test]
    fn any_file_is_survived(text in "[a-z.=\\[\\]\"0-9\n #{},]{0,80}") {
        let _ = from_file(&text);
    }
}

#[test]
fn typing_and_receipts_are_never_history() {
    let check = |options: &str, why: &str| {
        let found = errors(&format!("[channel.without_namespace]\n{options}\n"));
        assert!(found.contains(why) && found.is_empty() == why.is_empty(), "{options}: {found}");
    };
    let history = "history_size = 10\nhistory_ttl = \"60s\"";
    check("feature = \"typing\"\nclass = \"ephemeral\"", "");
    check("feature = \"receipts\"\nreceipts_ttl = \"24h\"", "");
    check(&format!("feature = \"typing\"\n{history}"), "typing is never kept");
    check("feature = \"typing\"", "typing needs class = \"ephemeral\"");
    check(&format!("feature = \"receipts\"\n{history}"), "leave history off");
    check("feature = \"receipts\"\nclass = \"state\"", "receipts need class = \"durable\"");
    check("receipts_ttl = \"1s\"", "receipts_ttl");
}

//! A server under attack, with canaries that must not notice.

use crate::canary::{self, Canaries};
use crate::server::Server;
use crate::wait;
use std::time::Duration;

/// How much the memory may differ after the attack.
const RSS_SLACK: u64 = 10 * 1024 * 1024;
/// How long the memory may take to come back.
const RSS_TIME: Duration = Duration::from_secs(30);

/// Rules for the clients of most attacks: anonymous ones get in and may use `room:`.
pub const OPEN: &str = r#"
[server]
workers = 2

[client]
allow_anonymous_connect_without_token = true

[http_api]
insecure = true

[admin]
insecure = true

[[channel.namespaces]]
name = "room"
presence = true
history_size = 100
history_ttl = "60s"
allow_subscribe_for_client = true
allow_subscribe_for_anonymous = true
allow_publish_for_client = true
allow_publish_for_anonymous = true
allow_presence_for_client = true
allow_presence_for_anonymous = true
allow_history_for_client = true
allow_history_for_anonymous = true
"#;

/// One attack's surroundings.
pub struct Arena {
    /// What is attacked.
    pub server: Server,
    canaries: Canaries,
    rss: u64,
}

impl Arena {
    /// A server with this configuration (the canaries' namespace is added), and canaries.
    pub fn open(config: &str) -> Self {
        Self::with_token(config, None)
    }

    /// Like [`Arena::open`]; the canaries connect with a token.
    pub fn with_token(config: &str, token: Option<&str>) -> Self {
        let server = Server::start(&format!("{config}{}", canary::NAMESPACE));
        let canaries = Canaries::start(server.clients(), token);
        let rss = server.rss();
        Self { server, canaries, rss }
    }

    /// Growth of the server's memory since the attack began.
    pub fn rss_growth(&self) -> u64 {
        self.server.rss().saturating_sub(self.rss)
    }

    /// Judges: nobody noticed, nothing panicked, nothing was kept.
    pub fn close(self, attack: &str) {
        let Self { server, canaries, rss } = self;
        assert!(server.is_alive(), "{attack}: the server's process has ended");
        let report = canaries.finish();
        assert!(server.is_alive(), "{attack}: the server's process has ended");
        let panics = server.metrics().sum("plimsoll_panics_total");
        assert_eq!(panics, Some(0.0), "{attack}: plimsoll_panics_total");
        let back = wait::until(RSS_TIME, || server.rss() <= rss + RSS_SLACK);
        let (now, before) = (server.rss() / 1024, rss / 1024);
        assert!(back, "{attack}: {before} KiB of memory before, {now} KiB after {RSS_TIME:?}");
        println!(
            "{attack}: canaries {} deliveries, slowest {:?}; memory {before} -> {now} KiB",
            report.deliveries, report.slowest
        );
    }
}

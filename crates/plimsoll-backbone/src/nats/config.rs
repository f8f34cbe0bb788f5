//! How to reach NATS.

use std::fmt;
use std::path::PathBuf;

/// How to reach NATS servers, and how JetStream keeps.
///
/// # Rights
///
/// A user needs `PREFIX.>` and `_INBOX.>` for publishing and subscribing, and for JetStream also
/// `$JS.API.>` for publishing (`PREFIX` is the prefix of [`crate::Setup`]).
#[derive(Clone)]
pub struct NatsConfig {
    /// `nats://host:port` or `tls://host:port`; servers of one cluster.
    pub urls: Vec<String>,
    /// User; `None` = none.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// A token instead of a user.
    pub token: Option<String>,
    /// File with a JWT and its seed.
    pub credentials_file: Option<PathBuf>,
    /// PEM file of the authorities to trust; `None` = those of the system.
    pub ca_file: Option<PathBuf>,
    /// JetStream: copies of each message, 1 to 5.
    pub replicas: usize,
    /// JetStream: in memory, not in files.
    pub memory_storage: bool,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            urls: vec!["nats://127.0.0.1:4222".into()],
            user: None,
            password: None,
            token: None,
            credentials_file: None,
            ca_file: None,
            replicas: 1,
            memory_storage: false,
        }
    }
}

/// Secrets are not shown.
impl fmt::Debug for NatsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("urls", &self.urls)
            .field("user", &self.user)
            .field("ca_file", &self.ca_file)
            .field("replicas", &self.replicas)
            .field("memory_storage", &self.memory_storage)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection to begin with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be right.
    #[error("{0}")]
    Config(String),
    /// No server answered, or it refused us.
    #[error("NATS: {0}")]
    Unreachable(String),
    /// The server has no JetStream, or not for us.
    #[error("NATS: there is no JetStream for us: {0}")]
    NoJetStream(String),
}

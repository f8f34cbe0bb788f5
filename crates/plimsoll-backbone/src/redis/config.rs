//! How to reach a Redis.

use std::fmt;
use std::path::PathBuf;

/// How to reach a Redis, a Sentinel's masters or a Cluster.
///
/// # Rights
///
/// A user with these rights suffices (`PREFIX` is the prefix of [`crate::Setup`]):
///
/// ```text
/// ACL SETUSER plimsoll on >PASSWORD resetkeys ~PREFIX:* resetchannels &PREFIX:* nocommands
///   +hello +auth +select +ping +role +info +client|setname +config|get +script|load +evalsha
///   +publish +subscribe +unsubscribe +get +set +del +time +xadd +xtrim +xrange +xrevrange
///   +hget +hset +hmget +hdel +hlen +hgetall +hincrby +exists +pexpire +pttl
/// ```
///
/// and for a Cluster also `+cluster|nodes +asking +spublish +ssubscribe
/// +sunsubscribe`. Without `+config|get` the server counts as one that does not write everything
/// to disk: channels get new epochs when it restarts. A Sentinel's user needs
/// `+sentinel|get-master-addr-by-name +subscribe +ping +hello +auth +client|setname
/// &+switch-master`.
#[derive(Clone)]
pub struct RedisConfig {
    /// `host:port`, `[IPv6]:port` or `unix:/path`. A single Redis: one. A Cluster: some of its
    /// nodes, the others are found. With Sentinels: none.
    pub addresses: Vec<String>,
    /// ACL user; `None` = `default`.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// Number of the database; a Cluster has only 0.
    pub db: u16,
    /// Speak TLS.
    pub tls: Option<TlsConfig>,
    /// Ask Sentinels for the master.
    pub sentinel: Option<SentinelConfig>,
    /// Partitions of the channels, 1 to 4096. All nodes of a cluster must have the same.
    pub partitions: usize,
}

/// How to speak TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// PEM file of the authorities to trust; `None` = those of the system.
    pub ca_file: Option<PathBuf>,
    /// The name that the server's certificate must have; `None` = the host it was configured with.
    /// Servers found by a Sentinel or a Cluster are checked against the name of the first
    /// configured address.
    pub server_name: Option<String>,
}

/// How to reach Sentinels.
#[derive(Clone)]
pub struct SentinelConfig {
    /// `host:port` of each.
    pub addresses: Vec<String>,
    /// The name under which they watch the master.
    pub master_name: String,
    /// ACL user at the Sentinels; `None` = `default`.
    pub user: Option<String>,
    /// Password at the Sentinels; `None` = none is needed.
    pub password: Option<String>,
    /// TLS to the Sentinels.
    pub tls: Option<TlsConfig>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:6379".into()],
            user: None,
            password: None,
            db: 0,
            tls: None,
            sentinel: None,
            partitions: 128,
        }
    }
}

/// Passwords are not shown.
impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("addresses", &self.addresses)
            .field("user", &self.user)
            .field("db", &self.db)
            .field("tls", &self.tls)
            .field("sentinel", &self.sentinel)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

/// Passwords are not shown.
impl fmt::Debug for SentinelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SentinelConfig")
            .field("addresses", &self.addresses)
            .field("master_name", &self.master_name)
            .field("user", &self.user)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection to begin with.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration cannot be right.
    #[error("{0}")]
    Config(String),
    /// No server answered.
    #[error("{broker}: {why}")]
    Unreachable {
        /// Which.
        broker: String,
        /// What the system or the server said.
        why: String,
    },
    /// The server refused us: wrong credentials, a missing right, too old, not a master.
    #[error("{broker} refused: {why}")]
    Refused {
        /// Which.
        broker: String,
        /// What it said.
        why: String,
    },
}

impl RedisConfig {
    /// Reads `redis://user:password@host:port/db`, `rediss://` (TLS) or `redis+unix:///path`.
    /// Several hosts of a Cluster stand between commas: `redis://a:6379,b:6379`.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Config`] when it is not such an address; it never repeats the password.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let wrong = |why: &str| ConnectError::Config(format!("the address of Redis {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("has no scheme"))?;
        let mut config = Self { addresses: Vec::new(), ..Self::default() };
        if scheme == "redis+unix" || scheme == "unix" {
            config.addresses.push(format!("unix:{rest}"));
            return Ok(config);
        }
        match scheme {
            "redis" => {}
            "rediss" => config.tls = Some(TlsConfig::default()),
            _ => return Err(wrong("must begin with redis://, rediss:// or redis+unix://")),
        }
        let (rest, db) = rest.split_once('/').unwrap_or((rest, ""));
        if !db.is_empty() {
            config.db = db.parse().map_err(|_| wrong("has a database that is no number"))?;
        }
        let (login, hosts) =
            rest.rsplit_once('@').map_or((None, rest), |(login, hosts)| (Some(login), hosts));
        if let Some(login) = login {
            let (user, password) = login.split_once(':').unwrap_or(("", login));
            let decode = |t| decode(t).ok_or_else(|| wrong("has a wrong percent sign"));
            config.user = Some(decode(user)?).filter(|u| !u.is_empty());
            config.password = Some(decode(password)?).filter(|p| !p.is_empty());
        }
        for host in hosts.split(',') {
            let has_port = host.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
            let whole = if has_port { host.into() } else { format!("{host}:6379") };
            Address::parse(&whole)?;
            config.addresses.push(whole);
        }
        Ok(config)
    }
}

/// Reads percent signs.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            out.push(u8::try_from(value).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, ConnectError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let wrong = || ConnectError::Config(format!("{text:?} is not host:port"));
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let good = !host.is_empty() && (bare.is_some() || !host.contains(':'));
        let port = port.parse().ok().filter(|p| *p != 0 && good).ok_or_else(wrong)?;
        Ok(Self::Tcp(host.into(), port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        let c = RedisConfig::from_url("rediss://me:p%40ss@db.example:7000/3").unwrap();
        assert_eq!(c.addresses, ["db.example:7000"]);
        assert_eq!((c.user.as_deref(), c.password.as_deref()), (Some("me"), Some("p@ss")));
        assert!(c.tls.is_some() && c.db == 3);
        let c = RedisConfig::from_url("redis://:secret@a,b:7001,[::1]:7002").unwrap();
        assert_eq!(c.addresses, ["a:6379", "b:7001", "[::1]:7002"]);
        assert_eq!((c.user, c.password.as_deref()), (None, Some("secret")));
        assert_eq!(Address::parse("[::1]:7002").unwrap().to_string(), "[::1]:7002");
        let c = RedisConfig::from_url("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(
            Address::parse(&c.addresses[0]).unwrap(),
            Address::Unix("/run/redis.sock".into())
        );
        for bad in
            ["", "a:1", "http://a", "redis://", "redis://a/x", "redis://u:%zz@a", "redis://:0"]
        {
            assert!(RedisConfig::from_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let c = RedisConfig { password: Some("geheim".into()), ..RedisConfig::default() };
        let s = SentinelConfig {
            addresses: vec![],
            master_name: "m".into(),
            user: None,
            password: Some("geheim".into()),
            tls: None,
        };
        let c = RedisConfig { sentinel: Some(s), ..c };
        assert!(!format!("{c:?}").contains("geheim"));
        let err = RedisConfig::from_url("redis://u:geheim@host:x:y").unwrap_err();
        assert!(!err.to_string().contains("geheim"));
    }
}

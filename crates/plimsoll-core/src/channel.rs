//! What a channel's name says: its namespace, whether it is private, who may subscribe.

use crate::codes::ClientError;
use crate::map::Map;
use crate::policy::{ChannelOptions, ChannelPolicy};
use regex_lite::Regex;

/// Reads channel names by the configured rules.
pub struct Channels {
    policy: ChannelPolicy,
    namespaces: Map<Box<str>, u16>,
    patterns: Vec<Option<Regex>>,
}

/// What is known of a channel from its name alone.
#[derive(Clone, Copy)]
pub struct Resolved<'a> {
    /// Options of its namespace.
    pub options: &'a ChannelOptions,
    /// Which namespace; an index for [`Channels::options`].
    pub namespace: u16,
    /// Needs a subscription token.
    pub private: bool,
    /// The text after the user boundary, when the namespace allows user-limited channels.
    users: Option<&'a str>,
    separator: &'a str,
}

impl Resolved<'_> {
    /// Does the name itself say who may subscribe?
    pub fn is_user_limited(&self) -> bool {
        self.users.is_some()
    }

    /// Is this user named? Ids are compared whole; no pattern is built from them.
    pub fn names_user(&self, user: &str) -> bool {
        let Some(users) = self.users else { return false };
        if user.is_empty() {
            return false;
        }
        if self.separator.is_empty() {
            return users == user;
        }
        users.split(self.separator).any(|u| u == user)
    }
}

/// `without_namespace` has this index, the namespaces follow.
const WITHOUT_NAMESPACE: u16 = 0;

impl Channels {
    /// Compiles the rules. A pattern that does not compile is an error (its text).
    pub fn new(policy: ChannelPolicy) -> Result<Self, String> {
        let all = std::iter::once(&policy.without_namespace)
            .chain(policy.namespaces.iter().map(|n| &n.options));
        let patterns = all
            .map(|options| match &options.channel_regex {
                None => Ok(None),
                Some(text) => Regex::new(text).map(Some).map_err(|e| format!("{text}: {e}")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let namespaces = policy
            .namespaces
            .iter()
            .zip(1u16..)
            .map(|(n, index)| (n.name.as_str().into(), index))
            .collect();
        Ok(Self { policy, namespaces, patterns })
    }

    /// Options of a namespace by the index that [`Resolved`] gave.
    pub fn options(&self, namespace: u16) -> &ChannelOptions {
        match namespace.checked_sub(1).and_then(|i| self.policy.namespaces.get(usize::from(i))) {
            Some(n) => &n.options,
            None => &self.policy.without_namespace,
        }
    }

    /// Reads a name. 107: too long, not printable ASCII, or not matching the namespace's
    /// pattern; 102: the namespace does not exist.
    pub fn resolve<'a>(&'a self, name: &'a str) -> Result<Resolved<'a>, ClientError> {
        let p = &self.policy;
        let printable = name.bytes().all(|b| (0x20..0x7f).contains(&b));
        if name.is_empty() || name.len() > p.max_length || !printable {
            return Err(ClientError::BAD_REQUEST);
        }
        let stripped = match p.private_prefix.as_str() {
            "" => None,
            prefix => name.strip_prefix(prefix),
        };
        let rest = stripped.unwrap_or(name);
        let (namespace, local) = match p.namespace_boundary.as_str() {
            "" => (WITHOUT_NAMESPACE, rest),
            boundary => match rest.split_once(boundary) {
                None => (WITHOUT_NAMESPACE, rest),
                Some((space, local)) => {
                    let index = self.namespaces.get(space).ok_or(ClientError::UNKNOWN_CHANNEL)?;
                    (*index, local)
                }
            },
        };
        let options = self.options(namespace);
        if let Some(Some(pattern)) = self.patterns.get(usize::from(namespace))
            && !pattern.is_match(local)
        {
            return Err(ClientError::BAD_REQUEST);
        }
        let users = match p.user_boundary.as_str() {
            "" => None,
            _ if !options.allow_user_limited_channels => None,
            boundary => rest.rsplit_once(boundary).map(|(_, users)| users),
        };
        Ok(Resolved {
            options,
            namespace,
            private: stripped.is_some(),
            users,
            separator: &p.user_separator,
        })
    }

    /// The channel that belongs to one user alone: `#user` or `namespace:#user`.
    pub fn personal(&self, namespace: &str, user: &str) -> String {
        let p = &self.policy;
        if namespace.is_empty() {
            format!("{}{user}", p.user_boundary)
        } else {
            format!("{namespace}{}{}{user}", p.namespace_boundary, p.user_boundary)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Namespace;

    fn channels() -> Channels {
        let limited = ChannelOptions { allow_user_limited_channels: true, ..Default::default() };
        let pattern = ChannelOptions { channel_regex: Some("^[a-z]+$".into()), ..limited.clone() };
        Channels::new(ChannelPolicy {
            without_namespace: limited,
            namespaces: vec![
                Namespace { name: "chat".into(), options: ChannelOptions::default() },
                Namespace { name: "strict".into(), options: pattern },
            ],
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn names_resolve_by_rule() {
        let c = channels();
        let code = |name: &str| c.resolve(name).map(|r| r.namespace).map_err(|e| e.code);
        for (name, want) in [
            ("news", Ok(0)),
            ("chat:room", Ok(1)),
            ("$chat:room", Ok(1)),
            ("chat:a:b", Ok(1)),
            ("chat:", Ok(1)),
            ("nope:room", Err(102)),
            (":room", Err(102)),
            ("Chat:room", Err(102)),
            ("", Err(107)),
            ("caf\u{e9}", Err(107)),
            ("a\nb", Err(107)),
            ("strict:abc", Ok(2)),
            ("strict:a1", Err(107)),
            ("a*b", Ok(0)),
        ] {
            assert_eq!(code(name), want, "{name}");
        }
        assert_eq!(code(&"x".repeat(255)), Ok(0));
        assert_eq!(code(&"x".repeat(256)), Err(107));
        assert_eq!(code(&":".repeat(255)), Err(102));
        assert!(c.resolve("$secret").unwrap().private);
    }

    #[test]
    fn only_listed_users_are_named() {
        let c = channels();
        for (name, user, want) in [
            ("dialog#42,43", "42", true),
            ("dialog#42,43", "43", true),
            ("dialog#42,43", "4", false),
            ("dialog#42,43", "44", false),
            ("dialog#42,43", "42,43", false),
            ("dialog#42 ", "42", false),
            ("dialog#", "", false),
            ("a#1#2", "1", false),
            ("a#1#2", "2", true),
        ] {
            let r = c.resolve(name).unwrap();
            assert!(r.is_user_limited());
            assert_eq!(r.names_user(user), want, "{name} {user}");
        }
        assert!(
            !c.resolve("chat:a#42").unwrap().is_user_limited(),
            "not allowed in this namespace"
        );
    }
}

//! Who has just said that he is typing.

use crate::limits;
use std::collections::VecDeque;
use std::sync::Arc;

/// Users of one channel whose next notice would come too soon, in order of time.
#[derive(Debug, Default)]
pub struct Typists {
    until: VecDeque<(u64, Arc<str>)>,
}

impl Typists {
    /// Takes a notice of a user, or leaves it out: the one before is not older than `interval_ms`
    /// and still holds.
    pub fn take(&mut self, user: &Arc<str>, now_ms: u64, interval_ms: u64) -> bool {
        self.expire(now_ms);
        let full = self.until.len() >= limits::TYPISTS_MAX;
        if full || self.until.iter().any(|(_, u)| u == user) {
            return false;
        }
        self.until.push_back((now_ms.saturating_add(interval_ms), Arc::clone(user)));
        true
    }

    /// Forgets whose time is over.
    pub fn expire(&mut self, now_ms: u64) {
        while self.until.pop_front_if(|(at, _)| *at <= now_ms).is_some() {}
    }

    /// Nobody is to be left out.
    pub fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_notice_of_a_user_in_an_interval() {
        let mut t = Typists::default();
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        for (user, now_ms, want) in [
            (&a, 0, true),
            (&a, 2_999, false),
            (&b, 2_999, true),
            (&a, 3_000, true),
            (&a, 5_999, false),
            (&b, 5_999, true),
        ] {
            assert_eq!(t.take(user, now_ms, 3_000), want, "{user} at {now_ms}");
        }
        t.expire(9_000);
        assert!(t.is_empty());
        let users = (0..limits::TYPISTS_MAX + 1).map(|n| Arc::from(n.to_string()));
        let taken = users.filter(|u| t.take(u, 10_000, 3_000)).count();
        assert_eq!(taken, limits::TYPISTS_MAX);
    }
}

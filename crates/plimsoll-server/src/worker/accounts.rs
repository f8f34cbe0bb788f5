//! The accounts of the whole node. Looked up when somebody connects, never for a message.

use plimsoll_core::limits;
use plimsoll_core::quota::{Account, Payer, Payers, Quota, QuotaPolicy};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Between two looks for room in a full shard, in milliseconds: each passes over all of it.
const LOOK_MS: u64 = 1_000;

/// Accounts by user and by tenant.
pub struct Accounts {
    quotas: QuotaPolicy,
    users: Book,
    tenants: Book,
    next_shard: AtomicUsize,
}

struct Book {
    shards: Vec<Mutex<Shard>>,
    /// Accounts of one shard.
    most: usize,
    /// Of those for whom there is no room.
    others: Arc<Account>,
    hasher: RandomState,
}

#[derive(Default)]
struct Shard {
    accounts: HashMap<Arc<str>, Arc<Account>>,
    /// When it is looked through again for room, once it is full.
    next_look_ms: u64,
}

impl Accounts {
    /// Without any yet.
    pub fn new(quotas: QuotaPolicy) -> Self {
        let most = limits::ACCOUNTS_PER_SHARD_MAX;
        let (users, tenants) = (Book::new(most), Book::new(most));
        Self { quotas, users, tenants, next_shard: AtomicUsize::new(0) }
    }

    /// Forgets those of a part of all who have nobody here and whose buckets are full. Called now
    /// and then, so that a crowd that has left is not kept.
    pub fn sweep(&self, now_ms: u64) {
        let shard = self.next_shard.fetch_add(1, Ordering::Relaxed) % limits::ACCOUNT_SHARDS;
        for (book, quota) in
            [(&self.users, &self.quotas.user), (&self.tenants, &self.quotas.tenant)]
        {
            book.lock(shard).forget(quota, now_ms);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let all = self.users.shards.iter().chain(&self.tenants.shards);
        all.map(|s| s.lock().unwrap().accounts.len()).sum()
    }
}

impl Payers for Accounts {
    fn payer(&self, user: &str, tenant: &str, now_ms: u64) -> Option<Arc<Payer>> {
        let find = |book: &Book, quota: &Quota, name: &str| {
            let limited = quota.is_any() && !name.is_empty();
            limited.then(|| book.account(name, quota, now_ms))
        };
        let user = find(&self.users, &self.quotas.user, user);
        let tenant = find(&self.tenants, &self.quotas.tenant, tenant);
        (user.is_some() || tenant.is_some()).then(|| Arc::new(Payer { user, tenant }))
    }
}

impl Book {
    fn new(most: usize) -> Self {
        let shards = (0..limits::ACCOUNT_SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, most, others: Arc::default(), hasher: RandomState::new() }
    }

    fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard % self.shards.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self, name: &str, quota: &Quota, now_ms: u64) -> Arc<Account> {
        let mut shard = self.lock(self.hasher.hash_one(name) as usize);
        if let Some(known) = shard.accounts.get(name) {
            return Arc::clone(known);
        }
        if shard.accounts.len() >= self.most && now_ms >= shard.next_look_ms {
            shard.next_look_ms = now_ms.saturating_add(LOOK_MS);
            shard.forget(quota, now_ms);
        }
        if shard.accounts.len() >= self.most {
            // All for whom there is no room share one: never without a limit.
            return Arc::clone(&self.others);
        }
        Arc::clone(shard.accounts.entry(Arc::from(name)).or_default())
    }
}

impl Shard {
    /// Whoever comes back finds what it used, as long as that matters.
    fn forget(&mut self, quota: &Quota, now_ms: u64) {
        let used = |account: &Arc<Account>| {
            Arc::strong_count(account) > 1 || !account.is_full(quota, now_ms)
        };
        self.accounts.retain(|_, account| used(account));
        if self.accounts.len() * 4 < self.accounts.capacity() {
            self.accounts.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_core::quota::Rate;

    fn accounts() -> Accounts {
        let rate = Rate { per_second: 10, burst: 20 };
        let quota = Quota { publishes: rate, ..Quota::default() };
        Accounts::new(QuotaPolicy { tenant: quota, user: Quota::default() })
    }

    #[test]
    fn whose_quota_is_limited_has_an_account() {
        let all = accounts();
        assert!(all.payer("ann", "", 0).is_none(), "users have no quota here");
        let (a, b) = (all.payer("ann", "shop", 0).unwrap(), all.payer("bob", "shop", 0).unwrap());
        assert!(Arc::ptr_eq(a.tenant.as_ref().unwrap(), b.tenant.as_ref().unwrap()));
        assert!(a.user.is_none());
        assert!(Accounts::new(QuotaPolicy::default()).payer("ann", "shop", 0).is_none());
    }

    #[test]
    fn accounts_are_forgotten_when_nobody_is_there_and_nothing_is_used() {
        let all = accounts();
        let quotas = all.quotas;
        let used = all.payer("", "used", 0).unwrap();
        used.publish(&quotas, 1.0, 0).unwrap();
        let kept = all.payer("", "kept", 0).unwrap();
        drop((used, all.payer("", "idle", 0)));
        let sweep = |now_ms| {
            (0..limits::ACCOUNT_SHARDS).for_each(|_| all.sweep(now_ms));
            all.len()
        };
        assert_eq!((all.len(), sweep(50)), (3, 2), "idle is gone");
        assert_eq!(sweep(200), 1, "used is full again");
        drop(kept);
        assert_eq!(sweep(200), 0);
    }

    #[test]
    fn there_is_a_bound_and_whoever_is_beyond_it_is_limited_too() {
        let all = Accounts { tenants: Book::new(10), ..accounts() };
        let most = 10 * limits::ACCOUNT_SHARDS;
        let here: Vec<_> =
            (0..most * 2).map(|n| all.payer("", &format!("t{n}"), 0).unwrap()).collect();
        assert!(all.len() <= most);
        let shared =
            here.iter().filter(|p| Arc::ptr_eq(p.tenant.as_ref().unwrap(), &all.tenants.others));
        assert_eq!(shared.count(), here.len() - all.len());
        drop(here);
        assert!(all.payer("", "late", 10_000).is_some());
        (0..limits::ACCOUNT_SHARDS).for_each(|_| all.sweep(10_000));
        assert_eq!(all.len(), 0, "nobody is there");
    }
}

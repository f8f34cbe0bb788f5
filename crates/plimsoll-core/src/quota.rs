//! Quotas of tenants and users: how much all their connections together may ask of a node.
//!
//! An account holds three token buckets of eight bytes each. All workers share it, so that a quota
//! holds for the node however connections are spread over it; who takes from a bucket only ever
//! exchanges one number.

use plimsoll_overload::gates::Gates;
use plimsoll_overload::level::Level;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many per second, and so many at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Per second; 0 = no limit.
    pub per_second: u32,
    /// At once; 0 = what comes in one second.
    pub burst: u32,
}

/// What one tenant, or one user, may ask of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Connects whose token is good, whatever becomes of them then.
    pub connects: Rate,
    /// Publications of clients.
    pub publishes: Rate,
    /// What those publications cost: subscribers of the channel on this node, for each.
    pub deliveries: Rate,
}

impl Quota {
    /// Is anything limited?
    pub fn is_any(&self) -> bool {
        [self.connects, self.publishes, self.deliveries].iter().any(|r| r.per_second > 0)
    }
}

/// Quotas of the node. Off where nothing is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaPolicy {
    /// Of each tenant.
    pub tenant: Quota,
    /// Of each user with an id.
    pub user: Quota,
}

/// A limit that somebody is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Publications of one connection.
    PublishRate,
    /// Connects of a tenant.
    TenantConnects,
    /// Publications of a tenant.
    TenantPublishes,
    /// Deliveries of a tenant.
    TenantDeliveries,
    /// Connects of a user.
    UserConnects,
    /// Publications of a user.
    UserPublishes,
    /// Deliveries of a user.
    UserDeliveries,
}

/// How many limits there are.
pub const LIMITS_COUNT: usize = 7;

/// What is left of every quota under this load: who is over it is refused before others are.
pub fn share(gates: &Gates) -> f32 {
    if gates.work_level >= Level::Degraded { gates.publish_factor } else { 1.0 }
}

/// The clock begins far from zero, so that a full bucket can be written as one that was empty long
/// ago.
const START_NS: u64 = 1 << 62;

/// A token bucket: when it was, or will be, empty.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

/// A rate at one moment.
#[derive(Clone, Copy)]
struct Pace {
    now_ns: u64,
    token_ns: f64,
    burst_ns: u64,
}

impl Pace {
    /// `None`: no limit.
    fn of(rate: Rate, share: f32, now_ms: u64) -> Option<Self> {
        if rate.per_second == 0 {
            return None;
        }
        let burst = if rate.burst == 0 { rate.per_second } else { rate.burst };
        // Something is always left: one at once.
        let burst = (f64::from(burst) * f64::from(share)).max(1.0);
        let token_ns = 1e9 / (f64::from(rate.per_second) * f64::from(share).max(0.01));
        let now_ns = START_NS + now_ms.saturating_mul(1_000_000).min(START_NS);
        Some(Self { now_ns, token_ns, burst_ns: (burst * token_ns).ceil() as u64 })
    }

    /// When a bucket that says so was or will be empty.
    fn empty_ns(self, bucket: u64) -> u64 {
        bucket.max(self.now_ns.saturating_sub(self.burst_ns))
    }
}

impl Bucket {
    /// Are there `least` tokens, or (0) anything at all?
    fn has(&self, least: u32, pace: Option<Pace>) -> bool {
        let Some(pace) = pace else { return true };
        let left_ns = pace.now_ns.saturating_sub(pace.empty_ns(self.0.load(Ordering::Relaxed)));
        left_ns > 0 && left_ns as f64 >= f64::from(least) * pace.token_ns - 1.0
    }

    /// Takes `n`, into debt if need be, but for no more than one burst.
    fn charge(&self, n: u32, pace: Option<Pace>) {
        let Some(pace) = pace else { return };
        let cost_ns = (f64::from(n) * pace.token_ns) as u64;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bucket| {
            let empty_ns = pace.empty_ns(bucket);
            let most_ns = empty_ns.max(pace.now_ns.saturating_add(pace.burst_ns));
            Some(empty_ns.saturating_add(cost_ns).min(most_ns))
        });
    }

    fn is_full(&self, rate: Rate, now_ms: u64) -> bool {
        let Some(pace) = Pace::of(rate, 1.0, now_ms) else { return true };
        self.0.load(Ordering::Relaxed) <= pace.now_ns.saturating_sub(pace.burst_ns)
    }
}

/// The buckets of one tenant or user.
#[derive(Debug, Default)]
pub struct Account {
    connects: Bucket,
    publishes: Bucket,
    deliveries: Bucket,
}

impl Account {
    /// Nothing of it is used: it may be forgotten.
    pub fn is_full(&self, quota: &Quota, now_ms: u64) -> bool {
        self.connects.is_full(quota.connects, now_ms)
            && self.publishes.is_full(quota.publishes, now_ms)
            && self.deliveries.is_full(quota.deliveries, now_ms)
    }
}

/// Who pays for what a connection does.
#[derive(Debug, Default)]
pub struct Payer {
    /// Its user's account, where users have quotas.
    pub user: Option<Arc<Account>>,
    /// Its tenant's.
    pub tenant: Option<Arc<Account>>,
}

type Part = (fn(&Account) -> &Bucket, fn(&Quota) -> Rate);
const CONNECTS: Part = (|a| &a.connects, |q| q.connects);
const PUBLISHES: Part = (|a| &a.publishes, |q| q.publishes);
const DELIVERIES: Part = (|a| &a.deliveries, |q| q.deliveries);

impl Payer {
    /// Pays for a connect.
    pub fn connect(&self, quotas: &QuotaPolicy, share: f32, now_ms: u64) -> Result<(), Limit> {
        let limits = (Limit::UserConnects, Limit::TenantConnects);
        self.pay(CONNECTS, limits, (1, 1), quotas, share, now_ms)
    }

    /// Pays for a publication.
    pub fn publish(&self, quotas: &QuotaPolicy, share: f32, now_ms: u64) -> Result<(), Limit> {
        let limits = (Limit::UserPublishes, Limit::TenantPublishes);
        self.pay(PUBLISHES, limits, (1, 1), quotas, share, now_ms)
    }

    /// Pays for the deliveries of a publication. Whoever has anything left may: a large channel
    /// costs more than a burst, and is paid for as far as the debt goes: one burst.
    pub fn deliver(
        &self,
        subscribers: u32,
        quotas: &QuotaPolicy,
        share: f32,
        now_ms: u64,
    ) -> Result<(), Limit> {
        if subscribers == 0 {
            return Ok(());
        }
        let limits = (Limit::UserDeliveries, Limit::TenantDeliveries);
        self.pay(DELIVERIES, limits, (0, subscribers), quotas, share, now_ms)
    }

    /// Nobody is charged for what is refused.
    fn pay(
        &self,
        (bucket, rate): Part,
        (user_limit, tenant_limit): (Limit, Limit),
        (least, cost): (u32, u32),
        quotas: &QuotaPolicy,
        share: f32,
        now_ms: u64,
    ) -> Result<(), Limit> {
        let pace = |quota: &Quota| Pace::of(rate(quota), share, now_ms);
        let (user_pace, tenant_pace) = (pace(&quotas.user), pace(&quotas.tenant));
        let lacks = |account: &Option<Arc<Account>>, pace| {
            account.as_ref().is_some_and(|a| !bucket(a).has(least, pace))
        };
        if lacks(&self.user, user_pace) {
            return Err(user_limit);
        }
        if lacks(&self.tenant, tenant_pace) {
            return Err(tenant_limit);
        }
        for (account, pace) in [(&self.user, user_pace), (&self.tenant, tenant_pace)] {
            if let Some(account) = account {
                bucket(account).charge(cost, pace);
            }
        }
        Ok(())
    }
}

/// Finds accounts. `None`: nothing of this connection is limited.
pub trait Payers {
    /// Who pays for a connection of this user (empty: anonymous) and tenant (empty: none).
    fn payer(&self, user: &str, tenant: &str, now_ms: u64) -> Option<Arc<Payer>>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quotas(per_second: u32, burst: u32) -> QuotaPolicy {
        let rate = Rate { per_second, burst };
        let quota = Quota { connects: rate, publishes: rate, deliveries: rate };
        QuotaPolicy { tenant: quota, user: Quota::default() }
    }

    fn of_tenant() -> Payer {
        Payer { tenant: Some(Arc::default()), user: None }
    }

    #[test]
    fn a_burst_then_the_rate_of_which_the_load_leaves_a_share() {
        for (share, at_once, later) in [(1.0, 30, 10), (0.5, 15, 5), (0.2, 6, 2), (0.0, 1, 0)] {
            let (quotas, payer) = (quotas(10, 30), of_tenant());
            let taken = |now_ms: u64| {
                (0..100).filter(|_| payer.publish(&quotas, share, now_ms).is_ok()).count()
            };
            assert_eq!((taken(0), taken(0)), (at_once, 0), "{share}");
            assert_eq!((taken(1_000), taken(1_000)), (later, 0), "{share}");
            assert_eq!(taken(10_000_000), at_once, "{share}: never more than a burst");
        }
        let (none, payer) = (quotas(0, 0), of_tenant());
        assert!((0..1_000).all(|_| payer.publish(&none, 0.2, 0).is_ok()), "0 is no limit");
    }

    #[test]
    fn deliveries_may_go_into_debt_by_one_burst() {
        let (quotas, payer) = (quotas(100, 200), of_tenant());
        let deliver = |n, now_ms| payer.deliver(n, &quotas, 1.0, now_ms);
        // 200 are there, and a channel of a million costs no more than those and 200 of debt.
        assert_eq!(deliver(1_000_000, 0), Ok(()));
        assert_eq!(deliver(1, 0), Err(Limit::TenantDeliveries));
        assert_eq!(deliver(0, 0), Ok(()), "nothing costs nothing");
        assert_eq!(deliver(1, 1_990), Err(Limit::TenantDeliveries));
        assert_eq!(deliver(1, 2_010), Ok(()), "the debt is paid");
        // Small channels get the rate.
        let sent = (0..1_000).filter(|n| deliver(1, 2_010 + n * 10).is_ok()).count();
        assert!((995..=1_000).contains(&sent), "{sent} in ten seconds");
    }

    #[test]
    fn who_is_refused_pays_nothing() {
        let rate = |per_second| Rate { per_second, burst: 0 };
        let user = Quota { publishes: rate(5), ..Quota::default() };
        let tenant = Quota { publishes: rate(8), ..Quota::default() };
        let quotas = QuotaPolicy { tenant, user };
        let shared: Arc<Account> = Arc::default();
        let payer = || Payer { user: Some(Arc::default()), tenant: Some(Arc::clone(&shared)) };
        let (ann, bob) = (payer(), payer());
        let count = |p: &Payer, limit| {
            let results = (0..10).map(|_| p.publish(&quotas, 1.0, 0));
            results.filter(|r| *r == limit).count()
        };
        assert_eq!(count(&ann, Ok(())), 5);
        assert_eq!(count(&ann, Err(Limit::UserPublishes)), 10);
        assert_eq!(count(&bob, Ok(())), 3, "the tenant has no more");
        assert_eq!(count(&bob, Err(Limit::TenantPublishes)), 10);
        assert!(!shared.is_full(&tenant, 0) && shared.is_full(&tenant, 1_000));
        // Bob was not charged for what the tenant refused.
        let bob = Payer { tenant: None, ..bob };
        assert_eq!(count(&bob, Ok(())), 2);
    }

    proptest! {
        /// Over any time, no more than a burst and the rate, and what is below the rate passes.
        #[test]
        fn keeps_the_rate(
            per_second in 1u32..2_000,
            burst in 1u32..3_000,
            gaps in proptest::collection::vec(0u64..400, 1..300),
        ) {
            let (quotas, payer) = (quotas(per_second, burst), of_tenant());
            let (mut now_ms, mut taken) = (0, 0u64);
            for gap in gaps {
                now_ms += gap;
                taken += u64::from(payer.connect(&quotas, 1.0, now_ms).is_ok());
                let most = f64::from(burst) + f64::from(per_second) * now_ms as f64 / 1e3;
                prop_assert!(taken as f64 <= most + 1.0, "{taken} of {most}");
            }
            let (calm, wait_ms) = (of_tenant(), 1_000 / u64::from(per_second) + 2);
            for n in 0..200 {
                prop_assert!(calm.connect(&quotas, 1.0, n * wait_ms).is_ok());
            }
        }
    }
}

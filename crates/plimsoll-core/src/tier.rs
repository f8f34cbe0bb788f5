//! Tiers: what a connection may expect by what is paid for it.
//!
//! Off unless configured: without tiers nobody is closed for being idle, and everything else
//! follows the client rules alone.

use plimsoll_overload::admission::AdmissionClass;

/// Who pays what. The names are fixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Nothing.
    #[default]
    Free,
    /// Something.
    Pro,
    /// Most.
    Enterprise,
}

impl Tier {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Free, Self::Pro, Self::Enterprise];

    /// Its name in tokens, in the configuration and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Enterprise => "enterprise",
        }
    }

    /// The tier of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == text)
    }
}

/// What a token says of its tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TierClaim {
    /// Nothing.
    #[default]
    Absent,
    /// One of the three.
    Known(Tier),
    /// Something else. The default tier counts, and the mistake is counted.
    Unknown,
}

/// What one tier gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierOptions {
    /// A connection whose user does nothing for so long is closed, in milliseconds; 0 = never.
    pub idle_timeout_ms: u64,
    /// Between two pings, in milliseconds; 0 = no pings.
    pub ping_interval_ms: u64,
    /// Under load, writes of a channel wait for more frames; with a subscriber of this tier never
    /// longer than this, in milliseconds.
    pub batch_window_ms: u64,
    /// Frames are compressed where the client can.
    pub compression: bool,
    /// Publications of one connection per second; 0 = no limit.
    pub publish_rate_limit: u32,
    /// Publications that may come at once; at least the rate.
    pub publish_rate_burst: u32,
    /// Connects come before those of the rest when they have to wait.
    pub top_admission: bool,
}

/// Tiers of all connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierPolicy {
    /// Off: nobody has a tier.
    pub enabled: bool,
    /// For a user whose token has no claim, or an unknown one.
    pub default: Tier,
    /// For who has no user id.
    pub anonymous: Tier,
    /// What each gets, in the order of [`Tier`].
    pub options: [TierOptions; 3],
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

impl Default for TierPolicy {
    fn default() -> Self {
        let free = TierOptions {
            idle_timeout_ms: 5 * MINUTE,
            ping_interval_ms: 60 * SECOND,
            batch_window_ms: 500,
            compression: true,
            publish_rate_limit: 10,
            publish_rate_burst: 20,
            top_admission: false,
        };
        let pro = TierOptions {
            idle_timeout_ms: 30 * MINUTE,
            ping_interval_ms: 30 * SECOND,
            batch_window_ms: 100,
            publish_rate_limit: 50,
            publish_rate_burst: 100,
            ..free.clone()
        };
        let enterprise = TierOptions {
            idle_timeout_ms: 24 * 60 * MINUTE,
            ping_interval_ms: 15 * SECOND,
            batch_window_ms: 0,
            publish_rate_limit: 200,
            publish_rate_burst: 400,
            top_admission: true,
            ..free.clone()
        };
        let options = [free, pro, enterprise];
        Self { enabled: false, default: Tier::Free, anonymous: Tier::Free, options }
    }
}

impl TierPolicy {
    /// The tier of a user with this claim; `None` while tiers are off.
    pub fn tier_of(&self, user: &str, claim: TierClaim) -> Option<Tier> {
        let tier = match claim {
            TierClaim::Known(tier) => tier,
            _ if user.is_empty() => self.anonymous,
            _ => self.default,
        };
        self.enabled.then_some(tier)
    }

    /// What a tier gets; `None` for who has none.
    pub fn of(&self, tier: Option<Tier>) -> Option<&TierOptions> {
        self.options.get(tier? as usize)
    }

    /// Do some connects come before others?
    pub fn has_top(&self) -> bool {
        self.enabled && self.options.iter().any(|o| o.top_admission)
    }

    /// The class of a connect whose token says this; `user` may be unknown.
    pub fn admission_of(&self, claim: TierClaim) -> AdmissionClass {
        let tier = match claim {
            TierClaim::Known(tier) => tier,
            _ => self.default,
        };
        match self.of(Some(tier)) {
            Some(options) if self.enabled && options.top_admission => AdmissionClass::Top,
            _ => AdmissionClass::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_tier_when_there_are_any() {
        let mut tiers = TierPolicy { anonymous: Tier::Pro, ..TierPolicy::default() };
        assert_eq!(tiers.tier_of("42", TierClaim::Known(Tier::Pro)), None, "off");
        assert_eq!(tiers.admission_of(TierClaim::Known(Tier::Enterprise)), AdmissionClass::Rest);
        assert!(tiers.of(None).is_none() && !tiers.has_top());
        tiers.enabled = true;
        for (user, claim, tier, class) in [
            ("42", TierClaim::Absent, Tier::Free, AdmissionClass::Rest),
            ("42", TierClaim::Unknown, Tier::Free, AdmissionClass::Rest),
            ("", TierClaim::Absent, Tier::Pro, AdmissionClass::Rest),
            ("42", TierClaim::Known(Tier::Pro), Tier::Pro, AdmissionClass::Rest),
            ("", TierClaim::Known(Tier::Enterprise), Tier::Enterprise, AdmissionClass::Top),
        ] {
            assert_eq!(tiers.tier_of(user, claim), Some(tier), "{user} {claim:?}");
            assert_eq!(tiers.admission_of(claim), class, "{user} {claim:?}");
        }
        assert!(tiers.has_top());
    }

    #[test]
    fn more_is_paid_for_more() {
        let tiers = TierPolicy::default();
        for pair in tiers.options.windows(2) {
            assert!(pair[0].idle_timeout_ms < pair[1].idle_timeout_ms);
            assert!(pair[0].ping_interval_ms > pair[1].ping_interval_ms);
            assert!(pair[0].batch_window_ms > pair[1].batch_window_ms);
            assert!(pair[0].publish_rate_limit < pair[1].publish_rate_limit);
        }
        for tier in Tier::ALL {
            assert_eq!(Tier::parse(tier.name()), Some(tier));
        }
        assert_eq!(Tier::parse("Free"), None);
    }
}

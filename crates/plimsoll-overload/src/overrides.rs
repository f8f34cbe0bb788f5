//! What people decide, for a while, with a reason.

use crate::actions::{Action, Strengths};
use crate::level::Level;
use crate::limits;
use std::fmt;

/// What is overridden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// The level, whatever the load.
    PinLevel(Level),
    /// The strength of one action, 0–1, whatever the load.
    PinAction(Action, f64),
    /// Whether new connections may come. Those who come back always may.
    AcceptNewConnections(bool),
}

/// Which override, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// [`Order::PinLevel`].
    Level,
    /// [`Order::PinAction`].
    Action(Action),
    /// [`Order::AcceptNewConnections`].
    AcceptNewConnections,
}

impl Order {
    /// What it is about.
    pub const fn subject(&self) -> Subject {
        match self {
            Self::PinLevel(_) => Subject::Level,
            Self::PinAction(action, _) => Subject::Action(*action),
            Self::AcceptNewConnections(_) => Subject::AcceptNewConnections,
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinLevel(level) => write!(f, "pin_level={}", level.name()),
            Self::PinAction(action, strength) => {
                write!(f, "pin_action={} strength={strength}", action.name())
            }
            Self::AcceptNewConnections(accept) => write!(f, "accept_new_connections={accept}"),
        }
    }
}

/// Who wants it, why, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How long, in milliseconds; `None` = 30 minutes.
    pub ttl_ms: Option<u64>,
    /// Why; required.
    pub reason: &'a str,
    /// Who; required.
    pub author: &'a str,
}

/// Why an override was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideError {
    /// No reason was given.
    ReasonMissing,
    /// Nobody signed.
    AuthorMissing,
    /// The reason is longer than 200 bytes.
    ReasonTooLong,
    /// The author is longer than 100 bytes.
    AuthorTooLong,
    /// It would end at once.
    TtlZero,
    /// It would last longer than 24 hours.
    TtlTooLong,
    /// A strength is a number from 0 to 1.
    StrengthOutOfRange,
}

impl fmt::Display for OverrideError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, author) = (limits::REASON_BYTES_MAX, limits::AUTHOR_BYTES_MAX);
        match self {
            Self::ReasonMissing => write!(f, "a reason is required"),
            Self::AuthorMissing => write!(f, "an author is required"),
            Self::ReasonTooLong => write!(f, "the reason may have {reason} bytes"),
            Self::AuthorTooLong => write!(f, "the author may have {author} bytes"),
            Self::TtlZero => write!(f, "the ttl must be longer than 0"),
            Self::TtlTooLong => write!(f, "the ttl may be 24h at most"),
            Self::StrengthOutOfRange => write!(f, "a strength is a number from 0 to 1"),
        }
    }
}

impl std::error::Error for OverrideError {}

/// An override in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// What.
    pub order: Order,
    /// Since when, in milliseconds of the caller's clock.
    pub since_ms: u64,
    /// Until when.
    pub until_ms: u64,
    /// Why. No control characters.
    pub reason: String,
    /// Who. No control characters.
    pub author: String,
}

/// What happened to an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It came into force.
    Set,
    /// Another one took its place.
    Replaced,
    /// Somebody ended it.
    Cleared,
    /// Its time was over.
    Expired,
}

impl Deed {
    /// Its name in the audit line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Replaced => "replaced",
            Self::Cleared => "cleared",
            Self::Expired => "expired",
        }
    }
}

/// One line for the audit log.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// When, in milliseconds of the caller's clock.
    pub at_ms: u64,
    /// What happened.
    pub deed: Deed,
    /// To which override.
    pub subject: Override,
    /// Who did it; for an expiry, who had set it.
    pub by: String,
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Override { order, until_ms, reason, .. } = &self.subject;
        let left_s = until_ms.saturating_sub(self.at_ms) / 1_000;
        let deed = self.deed.name();
        write!(f, "override {deed}: {order} left_s={left_s} by={:?} reason={reason:?}", self.by)
    }
}

/// All overrides in force: at most one per subject.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    all: Vec<Override>,
}

impl Overrides {
    /// Puts one into force. The audit lines are the one it replaced, if any, and its own.
    pub fn set(
        &mut self,
        now_ms: u64,
        order: Order,
        request: &Request<'_>,
    ) -> Result<Vec<Audit>, OverrideError> {
        let new = checked(now_ms, order, request)?;
        let mut audits = self.remove(now_ms, Some(order.subject()), Deed::Replaced, &new.author);
        audits.push(Audit {
            at_ms: now_ms,
            deed: Deed::Set,
            subject: new.clone(),
            by: new.author.clone(),
        });
        self.all.push(new);
        Ok(audits)
    }

    /// Ends one, or all of them.
    pub fn clear(&mut self, now_ms: u64, subject: Option<Subject>, author: &str) -> Vec<Audit> {
        let author: String = cleaned(author).chars().take(limits::AUTHOR_BYTES_MAX).collect();
        self.remove(now_ms, subject, Deed::Cleared, &author)
    }

    /// Ends those whose time is over.
    pub fn expire(&mut self, now_ms: u64) -> Vec<Audit> {
        let over = |o: &mut Override| o.until_ms <= now_ms;
        let audit = |o: Override| Audit {
            at_ms: now_ms,
            deed: Deed::Expired,
            by: o.author.clone(),
            subject: o,
        };
        self.all.extract_if(.., over).map(audit).collect()
    }

    /// Those in force, for the admin status.
    pub fn all(&self) -> &[Override] {
        &self.all
    }

    /// The pinned level, with its end.
    pub fn level(&self) -> Option<(Level, u64)> {
        self.all.iter().find_map(|o| match o.order {
            Order::PinLevel(level) => Some((level, o.until_ms)),
            _ => None,
        })
    }

    /// Whether new connections may come, as far as people are concerned.
    pub fn accept_new_connections(&self) -> bool {
        !self.all.iter().any(|o| o.order == Order::AcceptNewConnections(false))
    }

    /// Puts pinned strengths in the place of measured ones.
    pub fn apply(&self, strengths: &mut Strengths) {
        for o in &self.all {
            if let Order::PinAction(action, strength) = o.order {
                strengths.set(action, strength);
            }
        }
    }

    fn remove(
        &mut self,
        now_ms: u64,
        subject: Option<Subject>,
        deed: Deed,
        by: &str,
    ) -> Vec<Audit> {
        let meant = |o: &mut Override| subject.is_none_or(|s| s == o.order.subject());
        let audit = |o: Override| Audit { at_ms: now_ms, deed, subject: o, by: by.to_owned() };
        self.all.extract_if(.., meant).map(audit).collect()
    }
}

fn checked(now_ms: u64, order: Order, request: &Request<'_>) -> Result<Override, OverrideError> {
    let ttl_ms = request.ttl_ms.unwrap_or(limits::OVERRIDE_TTL_MS_DEFAULT);
    let (reason, author) = (cleaned(request.reason), cleaned(request.author));
    let refusal = if reason.is_empty() {
        Some(OverrideError::ReasonMissing)
    } else if author.is_empty() {
        Some(OverrideError::AuthorMissing)
    } else if reason.len() > limits::REASON_BYTES_MAX {
        Some(OverrideError::ReasonTooLong)
    } else if author.len() > limits::AUTHOR_BYTES_MAX {
        Some(OverrideError::AuthorTooLong)
    } else if ttl_ms == 0 {
        Some(OverrideError::TtlZero)
    } else if ttl_ms > limits::OVERRIDE_TTL_MS_MAX {
        Some(OverrideError::TtlTooLong)
    } else {
        match order {
            Order::PinAction(_, s) if !(0.0..=1.0).contains(&s) => {
                Some(OverrideError::StrengthOutOfRange)
            }
            _ => None,
        }
    };
    match refusal {
        Some(error) => Err(error),
        None => {
            let until_ms = now_ms.saturating_add(ttl_ms);
            Ok(Override { order, since_ms: now_ms, until_ms, reason, author })
        }
    }
}

/// Without control characters: it goes into a line of a log.
fn cleaned(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

/// The environment variable that gives the level at start.
pub const LEVEL_VARIABLE: &str = "DEGRADATION_LEVEL";

/// The environment variable that says at start whether new connections may come.
pub const ACCEPT_VARIABLE: &str = "ACCEPT_NEW_CONNECTIONS";

/// A value of an environment variable that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartError {
    /// Which variable.
    pub variable: &'static str,
    /// What was expected.
    pub expected: &'static str,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}", self.variable, self.expected)
    }
}

impl std::error::Error for StartError {}

/// Reads `DEGRADATION_LEVEL`: 0–4, a name, or `auto`. At start, 0 and `normal` mean `auto`: a
/// default left in a manifest must not switch the load line off. Live, Normal can be pinned.
pub fn parse_degradation_level(text: &str) -> Result<Option<Order>, StartError> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match Level::parse(text) {
        Some(Level::Normal) => Ok(None),
        Some(level) => Ok(Some(Order::PinLevel(level))),
        None => Err(StartError {
            variable: LEVEL_VARIABLE,
            expected: "auto, 0 to 4, or normal, warning, degraded, critical, emergency",
        }),
    }
}

/// Reads `ACCEPT_NEW_CONNECTIONS`: `true` or `false` (also 1/0, yes/no, on/off).
pub fn parse_accept_new_connections(text: &str) -> Result<Option<Order>, StartError> {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "true" | "1" | "yes" | "on" => Ok(None),
        "false" | "0" | "no" | "off" => Ok(Some(Order::AcceptNewConnections(false))),
        _ => Err(StartError { variable: ACCEPT_VARIABLE, expected: "true or false" }),
    }
}

/// The request under which an order from the environment comes into force. It lasts as long as an
/// override may: whoever set it in a manifest expects it to hold.
pub const fn at_start() -> Request<'static> {
    Request {
        ttl_ms: Some(limits::OVERRIDE_TTL_MS_MAX),
        reason: "set in the environment at start",
        author: "environment",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: Request<'static> = Request { ttl_ms: None, reason: "incident 12", author: "ann" };

    fn check(order: Order, request: Request<'_>, expect: Result<(), OverrideError>) {
        let found = Overrides::default().set(0, order, &request).map(|_| ());
        assert_eq!(found, expect, "{order} {request:?}");
    }

    #[test]
    fn a_reason_an_author_and_an_end_are_required() {
        use OverrideError as E;
        let pin = Order::PinLevel(Level::Critical);
        check(pin, WHY, Ok(()));
        check(pin, Request { reason: " \n", ..WHY }, Err(E::ReasonMissing));
        check(pin, Request { author: "", ..WHY }, Err(E::AuthorMissing));
        check(pin, Request { reason: &"r".repeat(201), ..WHY }, Err(E::ReasonTooLong));
        check(pin, Request { author: &"a".repeat(101), ..WHY }, Err(E::AuthorTooLong));
        check(pin, Request { ttl_ms: Some(0), ..WHY }, Err(E::TtlZero));
        check(pin, Request { ttl_ms: Some(86_400_000), ..WHY }, Ok(()));
        check(pin, Request { ttl_ms: Some(86_400_001), ..WHY }, Err(E::TtlTooLong));
        for strength in [-0.1, 1.1, f64::NAN] {
            let order = Order::PinAction(Action::ShedQueues, strength);
            check(order, WHY, Err(E::StrengthOutOfRange));
        }
    }

    #[test]
    fn one_per_subject_with_a_line_for_each_deed() {
        let mut all = Overrides::default();
        let set = |all: &mut Overrides, now, order| {
            all.set(now, order, &WHY).expect("valid").iter().map(|a| a.deed).collect::<Vec<_>>()
        };
        assert_eq!(set(&mut all, 0, Order::PinLevel(Level::Warning)), [Deed::Set]);
        let again = set(&mut all, 1_000, Order::PinLevel(Level::Critical));
        assert_eq!(again, [Deed::Replaced, Deed::Set]);
        set(&mut all, 1_000, Order::PinAction(Action::PublishRate, 0.5));
        set(&mut all, 1_000, Order::PinAction(Action::ShedQueues, 0.0));
        set(&mut all, 1_000, Order::AcceptNewConnections(false));
        assert_eq!(all.all().len(), 4);
        assert_eq!(all.level(), Some((Level::Critical, 1_801_000)));
        assert!(!all.accept_new_connections());
        let mut strengths = Strengths::default();
        strengths.set(Action::ShedQueues, 1.0);
        all.apply(&mut strengths);
        assert_eq!(strengths.get(Action::PublishRate), 0.5);
        assert_eq!(strengths.get(Action::ShedQueues), 0.0);
        assert!(all.expire(1_800_999).is_empty());
        let cleared = all.clear(2_000, Some(Subject::Level), "bob\n");
        assert_eq!(
            cleared[0].to_string(),
            "override cleared: pin_level=critical left_s=1799 by=\"bob\" reason=\"incident 12\""
        );
        assert_eq!(all.expire(1_801_000).len(), 3);
        assert_eq!((all.level(), all.all().len()), (None, 0));
        assert!(all.clear(0, None, "bob").is_empty());
    }

    #[test]
    fn the_environment_at_start() {
        let level = |text| parse_degradation_level(text).map(|o| o.map(|o| o.to_string()));
        assert_eq!(level("3"), Ok(Some("pin_level=critical".to_owned())));
        assert_eq!(level(" Emergency "), Ok(Some("pin_level=emergency".to_owned())));
        for auto in ["", "auto", "0", "normal"] {
            assert_eq!(level(auto), Ok(None), "{auto:?}");
        }
        let error = level("5").expect_err("no such level").to_string();
        assert!(error.starts_with("DEGRADATION_LEVEL: expected auto, 0 to 4"), "{error}");
        let closed = Ok(Some(Order::AcceptNewConnections(false)));
        assert_eq!(parse_accept_new_connections("FALSE"), closed);
        assert_eq!(parse_accept_new_connections("0"), closed);
        assert_eq!(parse_accept_new_connections("true"), Ok(None));
        assert!(parse_accept_new_connections("perhaps").is_err());
        check(Order::PinLevel(Level::Warning), at_start(), Ok(()));
    }
}

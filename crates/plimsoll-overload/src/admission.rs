//! Who may come in now, who waits, and who is refused.
//!
//! A budget of accepts per second is divided into buckets, one per class; what a class does not
//! use overflows into a common pool that any admitted class may draw from. Who finds no token is
//! parked: within a class the newest is served first, since the oldest are about to time out, and
//! a higher class before a lower one. A refusal costs a client its backoff; a parked handshake
//! costs one attempt.
//!
//! Sans I/O: the caller holds the sockets and asks again at [`Admission::next_deadline_ms`].

use crate::gates::AdmissionFloor;
use crate::limits;
use std::collections::{BTreeMap, BTreeSet};

/// Who is at the door. Earlier ones go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdmissionClass {
    /// Comes back: a resume token, or positions to recover from.
    Resume,
    /// Of a top tier.
    Top,
    /// Anybody else with a token.
    Rest,
    /// Nobody knows who.
    Anonymous,
}

/// How many classes there are.
pub const ADMISSION_CLASSES: usize = 4;

/// The share of the budget that is kept for each class.
pub const SHARES: [(AdmissionClass, f64); ADMISSION_CLASSES] = [
    (AdmissionClass::Resume, 0.60),
    (AdmissionClass::Top, 0.20),
    (AdmissionClass::Rest, 0.15),
    (AdmissionClass::Anonymous, 0.05),
];

impl AdmissionClass {
    /// All of them, first to last.
    pub const ALL: [Self; ADMISSION_CLASSES] =
        [Self::Resume, Self::Top, Self::Rest, Self::Anonymous];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Top => "top",
            Self::Rest => "rest",
            Self::Anonymous => "anonymous",
        }
    }
}

/// A parked handshake, to withdraw it when its client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    class: AdmissionClass,
    number: u64,
}

/// The answer to one handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Go on.
    Admit,
    /// Wait: [`Admission::poll`] will name it, as admitted or as expired.
    Park {
        /// To withdraw it.
        ticket: Ticket,
        /// When it is refused at the latest.
        deadline_ms: u64,
        /// Another handshake that had to leave for it and must be refused now.
        instead_of: Option<u64>,
    },
    /// Not now.
    Refuse,
}

/// What became of parked handshakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Go on with these.
    pub admitted: Vec<u64>,
    /// Refuse these.
    pub expired: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Parked {
    id: u64,
    deadline_ms: u64,
}

/// The buckets and the waiting room.
#[derive(Clone, Debug)]
pub struct Admission {
    rate_per_s: f64,
    floor: AdmissionFloor,
    tokens: [f64; ADMISSION_CLASSES],
    pool: f64,
    /// What classes without a share may take of the pool.
    trickle: f64,
    trickle_per_s: f64,
    filled_ms: u64,
    /// Per class, by number of arrival.
    parked: [BTreeMap<u64, Parked>; ADMISSION_CLASSES],
    deadlines: BTreeSet<(u64, Ticket)>,
    parked_max: usize,
    next_number: u64,
}

impl Admission {
    /// At `rate_per_s`, with full buckets, for all; at most `parked_max` wait.
    pub fn new(now_ms: u64, rate_per_s: f64, parked_max: usize) -> Self {
        let mut new = Self {
            rate_per_s: f64::MIN_POSITIVE,
            floor: AdmissionFloor::All,
            tokens: [0.0; ADMISSION_CLASSES],
            pool: 0.0,
            trickle: 0.0,
            trickle_per_s: 1.0,
            filled_ms: now_ms,
            parked: Default::default(),
            deadlines: BTreeSet::new(),
            parked_max: parked_max.min(limits::PARKED_MAX),
            next_number: 0,
        };
        new.steer(now_ms, rate_per_s, 1.0, AdmissionFloor::All);
        new.tokens = AdmissionClass::ALL.map(|class| new.bucket_size(class));
        new
    }

    /// Sets the pace and who may come: [`crate::gates::Gates::accepts_per_s`], its minimum, which
    /// classes without a share have together if the others leave as much, and `admission`.
    /// A rate that is not above zero is one accept per second: nobody is kept out for ever.
    pub fn steer(&mut self, now_ms: u64, rate_per_s: f64, min_per_s: f64, floor: AdmissionFloor) {
        self.fill(now_ms);
        self.trickle_per_s = if min_per_s > 0.0 { min_per_s.min(1e6) } else { 1.0 };
        // Above a million a second nothing is paced, and sums stay finite.
        self.rate_per_s = if rate_per_s > 0.0 { rate_per_s.min(1e6) } else { 1.0 };
        self.floor = floor;
        for class in AdmissionClass::ALL {
            let size = self.bucket_size(class);
            let tokens = &mut self.tokens[class as usize];
            *tokens = tokens.min(size);
        }
        self.pool = self.pool.min(self.pool_size());
    }

    /// Somebody is at the door. `hold_ms` is how long this client may be kept waiting (less than
    /// its own timeout); `id` is the caller's name for it.
    pub fn offer(&mut self, now_ms: u64, id: u64, class: AdmissionClass, hold_ms: u64) -> Offer {
        self.fill(now_ms);
        if self.may_come(class) && !self.waiting_before(class) && self.take(class) {
            return Offer::Admit;
        }
        if self.floor >= AdmissionFloor::ResumesOnly && class != AdmissionClass::Resume {
            return Offer::Refuse;
        }
        self.park(now_ms, id, class, hold_ms.min(limits::PARKED_MS_MAX))
    }

    /// The client of a parked handshake has gone. False: it was not parked any more.
    pub fn withdraw(&mut self, ticket: Ticket) -> bool {
        match self.parked[ticket.class as usize].remove(&ticket.number) {
            Some(parked) => self.deadlines.remove(&(parked.deadline_ms, ticket)),
            None => false,
        }
    }

    /// Lets in whom the budget allows, and names those who waited too long.
    pub fn poll(&mut self, now_ms: u64) -> Polled {
        self.fill(now_ms);
        let mut polled = Polled::default();
        while let Some((deadline_ms, ticket)) = self.deadlines.first().copied()
            && deadline_ms <= now_ms
        {
            self.deadlines.remove(&(deadline_ms, ticket));
            let gone = self.parked[ticket.class as usize].remove(&ticket.number);
            polled.expired.extend(gone.map(|p| p.id));
        }
        for class in AdmissionClass::ALL {
            self.admit(class, &mut polled.admitted);
        }
        polled
    }

    /// When [`Admission::poll`] has something to do; `None` = nobody waits.
    pub fn next_deadline_ms(&self, now_ms: u64) -> Option<u64> {
        let (deadline_ms, _) = *self.deadlines.first()?;
        let hopeful =
            |c: &AdmissionClass| self.may_come(*c) && !self.parked[*c as usize].is_empty();
        if !AdmissionClass::ALL.iter().any(hopeful) {
            return Some(deadline_ms);
        }
        let token_ms = (1_000.0 / self.rate_per_s).ceil() as u64;
        let wait_ms = token_ms.clamp(1, limits::PARKED_POLL_MS);
        Some(deadline_ms.min(now_ms.saturating_add(wait_ms)))
    }

    /// How many wait.
    pub fn parked(&self) -> usize {
        self.deadlines.len()
    }

    /// The pace, in accepts per second.
    pub const fn rate_per_s(&self) -> f64 {
        self.rate_per_s
    }

    /// Whether a class has a share.
    fn open(&self, class: AdmissionClass) -> bool {
        match self.floor {
            AdmissionFloor::All | AdmissionFloor::ResumesFirst => true,
            AdmissionFloor::ResumesAndTop => class <= AdmissionClass::Top,
            AdmissionFloor::ResumesOnly | AdmissionFloor::Closed => class == AdmissionClass::Resume,
        }
    }

    /// Whether a class may come in at all, be it on what others leave.
    fn may_come(&self, class: AdmissionClass) -> bool {
        self.open(class) || self.floor != AdmissionFloor::Closed
    }

    /// Whether somebody of a higher class waits who may come in. (In one's own class the newest
    /// goes first, and who arrives is the newest.)
    fn waiting_before(&self, class: AdmissionClass) -> bool {
        let higher = AdmissionClass::ALL.iter().take_while(|c| **c < class);
        let mut waiting = higher.filter(|c| !self.parked[**c as usize].is_empty());
        // Below Degraded the buckets alone decide.
        self.floor != AdmissionFloor::All && waiting.any(|c| self.may_come(*c))
    }

    fn share_per_s(&self, class: AdmissionClass) -> f64 {
        self.rate_per_s * SHARES[class as usize].1
    }

    fn bucket_size(&self, class: AdmissionClass) -> f64 {
        (self.share_per_s(class) * limits::ADMISSION_BURST_S).max(1.0)
    }

    fn pool_size(&self) -> f64 {
        (self.rate_per_s * limits::ADMISSION_BURST_S).max(1.0)
    }

    fn fill(&mut self, now_ms: u64) {
        let passed_s = now_ms.saturating_sub(self.filled_ms) as f64 / 1_000.0;
        self.filled_ms = self.filled_ms.max(now_ms);
        for class in AdmissionClass::ALL {
            let gained = self.share_per_s(class) * passed_s;
            // Who may not come in needs no tokens: others have them.
            let size = if self.open(class) { self.bucket_size(class) } else { 0.0 };
            let tokens = self.tokens[class as usize] + gained;
            self.tokens[class as usize] = tokens.min(size);
            self.pool += (tokens - size).max(0.0);
        }
        self.pool = self.pool.min(self.pool_size());
        let trickle = self.trickle + self.trickle_per_s * passed_s;
        self.trickle = trickle.min((self.trickle_per_s * limits::ADMISSION_BURST_S).max(1.0));
    }

    fn take(&mut self, class: AdmissionClass) -> bool {
        if !self.open(class) {
            let enough = self.pool >= 1.0 && self.trickle >= 1.0;
            if enough {
                self.pool -= 1.0;
                self.trickle -= 1.0;
            }
            return enough;
        }
        let own = &mut self.tokens[class as usize];
        let from = if *own >= 1.0 { own } else { &mut self.pool };
        let enough = *from >= 1.0;
        if enough {
            *from -= 1.0;
        }
        enough
    }

    fn admit(&mut self, class: AdmissionClass, admitted: &mut Vec<u64>) {
        while self.may_come(class)
            && admitted.len() < limits::ADMITTED_PER_POLL_MAX
            && !self.parked[class as usize].is_empty()
            && self.take(class)
        {
            let Some((number, newest)) = self.parked[class as usize].pop_last() else { return };
            self.deadlines.remove(&(newest.deadline_ms, Ticket { class, number }));
            admitted.push(newest.id);
        }
    }

    fn park(&mut self, now_ms: u64, id: u64, class: AdmissionClass, hold_ms: u64) -> Offer {
        if hold_ms == 0 {
            return Offer::Refuse;
        }
        let mut instead_of = None;
        if self.parked() >= self.parked_max {
            instead_of = self.evict(class);
            if instead_of.is_none() {
                return Offer::Refuse;
            }
        }
        let ticket = Ticket { class, number: self.next_number };
        self.next_number += 1;
        let deadline_ms = now_ms.saturating_add(hold_ms);
        self.parked[class as usize].insert(ticket.number, Parked { id, deadline_ms });
        self.deadlines.insert((deadline_ms, ticket));
        Offer::Park { ticket, deadline_ms, instead_of }
    }

    /// Makes room for one of `class`: the oldest of the lowest class that is not above it.
    fn evict(&mut self, class: AdmissionClass) -> Option<u64> {
        let lower = AdmissionClass::ALL.iter().rev().take_while(|c| **c >= class);
        let lowest = *lower.into_iter().find(|c| !self.parked[**c as usize].is_empty())?;
        let (number, oldest) = self.parked[lowest as usize].pop_first()?;
        self.deadlines.remove(&(oldest.deadline_ms, Ticket { class: lowest, number }));
        Some(oldest.id)
    }
}

#[cfg(test)]
mod tests;

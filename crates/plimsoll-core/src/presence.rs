//! Who is in one channel, and what its subscribers are told of it.
//!
//! An entry is what subscribers know: it has the id of the connection that it was told with. With
//! a leave debounce an entry outlives its connection for a while, and a new connection of the same
//! user moves in silently. Changes are told at once, gathered for an interval, or given up for
//! mere counts; when they were given up, that is told too, so that nobody trusts an old roster.

mod changes;
mod connected;

pub use changes::{Added, Change, Changes};

use crate::limits;
use crate::map::{self, Map};
use crate::model::{ClientId, ClientInfo};
use crate::policy::ChannelOptions;
use plimsoll_overload::actions::PresenceScope;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many are in a channel: all that is told when joins and leaves are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Entries of the roster.
    pub clients: usize,
    /// Distinct user ids.
    pub users: usize,
    /// Joins and leaves were left out and are told again from now on: ask who is there.
    pub resync: bool,
}

/// Something to tell the subscribers that want joins and leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A join or a leave.
    Change(Change),
    /// The number.
    Tally(Tally),
}

/// What the load allows for presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// How much.
    pub scope: PresenceScope,
    /// Time between two pushes of a channel below the full scope, in milliseconds.
    pub interval_ms: u64,
}

/// Joins and leaves by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Told.
    pub told: u64,
    /// Not told, because the member was back in time.
    pub debounced: u64,
    /// Not told, because a leave undid its join (or the reverse) within the interval.
    pub coalesced: u64,
    /// Not told, only their number or nothing.
    pub suppressed: u64,
}

/// How a channel's changes are told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Each, so many milliseconds after the first at the latest.
    Events { after_ms: u64 },
    /// Only the number, so many milliseconds after the first change.
    Counts { after_ms: u64 },
    /// Not at all.
    Silent,
}

/// What a roster needs to know beside itself.
pub struct Terms<'a> {
    /// Options of the channel.
    pub options: &'a ChannelOptions,
    /// What the load allows.
    pub scope: Scope,
    /// Monotonic milliseconds.
    pub now_ms: u64,
    /// What happened, counted.
    pub figures: &'a mut Figures,
}

/// The members of one channel.
pub struct Roster {
    /// Entries by the connection that is there now; `client` within is the id that was told.
    members: Map<ClientId, ClientInfo>,
    /// Entries of each user id, those included whose connection is away.
    users: Map<Arc<str>, u32>,
    away: Option<Box<Away>>,
    seed: u64,
    changes: Changes,
    /// When something is told next; `u64::MAX` = nothing is to be told.
    tell_ms: u64,
    /// A resync is not told before.
    resync_ms: u64,
    /// Changes were not told: the rosters of subscribers may be wrong.
    gap: bool,
    /// The number has changed since it was told.
    stale: bool,
    /// There were too many changes for one interval.
    flooded: bool,
    /// Above `presence_roster_max`, or not far enough below it since.
    crowded: bool,
    /// The channel is on the list of those that wait for the gates to change.
    pub(crate) held: bool,
}

/// Entries without a connection, and those that another connection lives in.
struct Away {
    gone: Map<ClientId, Gone>,
    /// The oldest first, which is also the order in which they go.
    by_user: Map<Arc<str>, VecDeque<ClientId>>,
    /// In order of time; entries that came back are still listed.
    order: VecDeque<(u64, ClientId)>,
    /// Entries told with another id than that of their connection, to that connection.
    lent: Map<ClientId, ClientId>,
}

struct Gone {
    info: ClientInfo,
    announce: bool,
    until_ms: u64,
}

impl Roster {
    /// Nobody is there. `seed` feeds hashing.
    pub fn new(seed: u64) -> Self {
        Self {
            members: map::with_seed(seed),
            users: map::with_seed(seed ^ 1),
            away: None,
            seed,
            changes: Changes::default(),
            tell_ms: u64::MAX,
            resync_ms: 0,
            gap: false,
            stale: false,
            flooded: false,
            crowded: false,
            held: false,
        }
    }

    /// Entries: members, and those who may be back at any moment.
    pub fn clients(&self) -> usize {
        self.members.len() + self.away.as_ref().map_or(0, |a| a.gone.len())
    }

    /// Distinct user ids of them; all without an id are one.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Nobody is there, and nobody may be back.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.away.is_none()
    }

    /// Is there something that subscribers must be told sooner or later?
    pub fn owes(&self) -> bool {
        self.gap || self.stale || !self.changes.is_empty()
    }

    /// Is something kept back until the gates change?
    pub fn is_kept_back(&self, terms: &Terms<'_>) -> bool {
        (self.gap || self.stale)
            && matches!(terms.scope.scope, PresenceScope::Counts | PresenceScope::Off)
    }

    /// Shows all entries, in no order, to somebody who will go on with what is told.
    pub fn show(&mut self) -> impl Iterator<Item = &ClientInfo> {
        self.changes.seal();
        self.entries()
    }

    fn entries(&self) -> impl Iterator<Item = &ClientInfo> {
        let gone = self.away.iter().flat_map(|a| a.gone.values().map(|g| &g.info));
        self.members.values().chain(gone)
    }

    /// When [`Roster::on_time`] has something to do; `u64::MAX` = never.
    pub fn due_ms(&self) -> u64 {
        let back = self.away.as_ref().and_then(|a| a.order.front());
        back.map_or(u64::MAX, |(until, _)| *until).min(self.tell_ms)
    }

    /// A connection is there. `announce`: tell the others.
    pub fn enter(&mut self, info: ClientInfo, announce: bool, terms: &mut Terms<'_>) {
        let client = info.client;
        if self.members.contains_key(&client) {
            self.exit(client, announce, true, terms);
        }
        self.take_back_own(&info, announce, terms);
        let Some(entry) = self.away.as_mut().and_then(|a| a.find(&info, announce)) else {
            *self.users.entry(Arc::clone(&info.user)).or_default() += 1;
            let join = announce.then(|| Change::Join(Arc::new(info.clone())));
            self.members.insert(client, info);
            return match join {
                Some(join) => self.note(join, terms),
                None => self.note_silent(terms),
            };
        };
        terms.figures.debounced += if announce { 2 } else { 0 };
        if entry.client != client
            && let Some(away) = &mut self.away
        {
            away.lent.insert(entry.client, client);
        }
        self.members.insert(client, entry);
        self.tidy();
    }

    /// A connection is gone. `at_once`: it is not expected back.
    pub fn exit(&mut self, client: ClientId, announce: bool, at_once: bool, terms: &mut Terms<'_>) {
        let Some(info) = self.members.remove(&client) else { return };
        if let Some(away) = self.away.as_mut().filter(|_| info.client != client) {
            away.lent.remove(&info.client);
        }
        let wait_ms = if at_once { 0 } else { terms.options.presence_leave_debounce_ms };
        let waiting = self.away.as_ref().map_or(0, |a| a.order.len());
        if wait_ms > 0 && waiting < limits::PRESENCE_AWAY_MAX {
            let until_ms = terms.now_ms.saturating_add(wait_ms);
            self.away.get_or_insert_with(|| Away::new(self.seed)).add(Gone {
                info,
                announce,
                until_ms,
            });
            return;
        }
        self.forget(info, announce, terms);
        self.tidy();
    }

    /// Lets those leave who did not come back, and tells what is due.
    pub fn on_time(&mut self, terms: &mut Terms<'_>, out: &mut Vec<Told>) {
        while let Some(gone) = self.away.as_mut().and_then(|a| a.overdue(terms.now_ms)) {
            self.forget(gone.info, gone.announce, terms);
        }
        self.tidy();
        if self.tell_ms <= terms.now_ms {
            self.tell(terms, out);
        }
    }

    /// The gates have changed: what was kept back is told then.
    pub fn release(&mut self, at_ms: u64) {
        self.held = false;
        if self.gap || self.stale {
            self.resync_ms = self.resync_ms.max(at_ms);
            self.plan(at_ms);
        }
    }

    /// This very connection is known: it was away, or another one lives in its entry.
    fn take_back_own(&mut self, info: &ClientInfo, announce: bool, terms: &mut Terms<'_>) {
        let Some(away) = &mut self.away else { return };
        let client = info.client;
        if let Some(other) = away.lent.remove(&client) {
            // The other one gets an entry of its own, and this one has its old one back.
            let Some(theirs) = self.members.get_mut(&other) else { return };
            let mine = theirs.clone();
            theirs.client = other;
            let join = Arc::new(theirs.clone());
            *self.users.entry(Arc::clone(&join.user)).or_default() += 1;
            self.away.get_or_insert_with(|| Away::new(self.seed)).add(Gone {
                info: mine,
                announce,
                until_ms: terms.now_ms,
            });
            if announce {
                self.note(Change::Join(join), terms);
            }
        }
        let same = |g: &Gone| g.announce == announce && is_same(&g.info, info);
        let Some(away) = &mut self.away else { return };
        if away.gone.get(&client).is_some_and(|g| !same(g))
            && let Some(gone) = away.remove(client)
        {
            self.forget(gone.info, gone.announce, terms);
        }
    }

    /// An entry ends.
    fn forget(&mut self, info: ClientInfo, announce: bool, terms: &mut Terms<'_>) {
        if let Some(count) = self.users.get_mut(&info.user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&info.user);
            }
        }
        match announce {
            true => self.note(Change::Leave(Arc::new(info)), terms),
            false => self.note_silent(terms),
        }
    }

    fn mode(&mut self, terms: &Terms<'_>) -> Mode {
        let (o, scope) = (terms.options, terms.scope);
        // Back to joins and leaves only well below: each way back makes all subscribers ask.
        let most = o.presence_roster_max;
        let bound = if self.crowded { most * 3 / 4 } else { most };
        self.crowded = most > 0 && self.clients() > bound;
        match scope.scope {
            PresenceScope::Off => Mode::Silent,
            PresenceScope::Counts => Mode::Counts { after_ms: self.counts_ms(scope.interval_ms) },
            _ if self.crowded || self.is_lost() => Mode::Counts { after_ms: self.counts_ms(0) },
            PresenceScope::Batched => {
                Mode::Events { after_ms: scope.interval_ms.max(o.presence_coalesce_ms) }
            }
            PresenceScope::Full => Mode::Events { after_ms: o.presence_coalesce_ms },
        }
    }

    /// Is the roster that subscribers have wrong, and too long for all of them to ask for?
    fn is_lost(&self) -> bool {
        self.gap && self.clients() > limits::PRESENCE_RESYNC_MEMBERS_MAX
    }

    fn counts_ms(&self, interval_ms: u64) -> u64 {
        interval_ms.max(limits::PRESENCE_COUNTS_MS)
    }

    fn note(&mut self, change: Change, terms: &mut Terms<'_>) {
        let mode = self.mode(terms);
        let after_ms = match mode {
            Mode::Events { after_ms } if !self.flooded => match self.changes.add(change) {
                Added::Waits => after_ms,
                Added::Cancelled => {
                    terms.figures.coalesced += 2;
                    after_ms
                }
                Added::Full => {
                    self.flooded = true;
                    terms.figures.suppressed += self.changes.forget() as u64;
                    self.give_up(terms);
                    after_ms
                }
            },
            Mode::Events { after_ms } | Mode::Counts { after_ms } => {
                self.give_up(terms);
                after_ms
            }
            Mode::Silent => {
                self.give_up(terms);
                return;
            }
        };
        self.plan(terms.now_ms.saturating_add(after_ms));
    }

    /// Somebody came or went of whom nobody is told. Who has only a number has an old one now, and
    /// it may be time for names again.
    fn note_silent(&mut self, terms: &Terms<'_>) {
        if !self.gap {
            return;
        }
        self.stale = true;
        match self.mode(terms) {
            Mode::Events { after_ms } | Mode::Counts { after_ms } => {
                self.plan(terms.now_ms.saturating_add(after_ms));
            }
            Mode::Silent => {}
        }
    }

    fn give_up(&mut self, terms: &mut Terms<'_>) {
        terms.figures.suppressed += 1;
        (self.gap, self.stale) = (true, true);
    }

    fn plan(&mut self, at_ms: u64) {
        self.tell_ms = self.tell_ms.min(at_ms);
    }

    fn tell(&mut self, terms: &mut Terms<'_>, out: &mut Vec<Told>) {
        self.tell_ms = u64::MAX;
        let mode = self.mode(terms);
        if !matches!(mode, Mode::Events { .. }) && !self.changes.is_empty() {
            terms.figures.suppressed += self.changes.forget() as u64;
            (self.gap, self.stale) = (true, true);
        }
        let now_ms = terms.now_ms;
        match mode {
            Mode::Silent => {}
            Mode::Counts { .. } => {
                // A flood is not over before its changes are told again.
                self.flooded = false;
                if std::mem::take(&mut self.stale) {
                    out.push(self.tally(false));
                }
            }
            Mode::Events { .. } => {
                let changes = self.changes.take();
                terms.figures.told += changes.len() as u64;
                out.extend(changes.into_iter().map(Told::Change));
                if std::mem::take(&mut self.flooded) {
                    self.stale = false;
                    out.push(self.tally(false));
                    self.resync_ms = now_ms + limits::PRESENCE_RESYNC_MS;
                } else if self.gap && self.resync_ms <= now_ms {
                    (self.gap, self.stale) = (false, false);
                    out.push(self.tally(true));
                    self.resync_ms = now_ms + limits::PRESENCE_RESYNC_MS;
                }
                if self.gap {
                    self.plan(self.resync_ms);
                }
            }
        }
    }

    fn tally(&self, resync: bool) -> Told {
        Told::Tally(Tally { clients: self.clients(), users: self.users(), resync })
    }

    /// Gives back what only a debounce needs.
    fn tidy(&mut self) {
        self.away.take_if(|a| a.gone.is_empty() && a.lent.is_empty());
        if self.members.len() * 8 < self.members.capacity() {
            self.members.shrink_to(self.members.len() * 2);
            self.users.shrink_to(self.users.len() * 2);
        }
    }
}

impl Away {
    fn new(seed: u64) -> Box<Self> {
        Box::new(Self {
            gone: map::with_seed(seed),
            by_user: map::with_seed(seed),
            order: VecDeque::new(),
            lent: map::with_seed(seed),
        })
    }

    fn add(&mut self, gone: Gone) {
        let client = gone.info.client;
        if !gone.info.user.is_empty() {
            self.by_user.entry(Arc::clone(&gone.info.user)).or_default().push_back(client);
        }
        self.order.push_back((gone.until_ms, client));
        self.gone.insert(client, gone);
    }

    fn remove(&mut self, client: ClientId) -> Option<Gone> {
        let gone = self.gone.remove(&client)?;
        if let Some(ids) = self.by_user.get_mut(&gone.info.user) {
            if let Some(at) = ids.iter().position(|id| *id == client) {
                ids.remove(at);
            }
            if ids.is_empty() {
                self.by_user.remove(&gone.info.user);
            }
        }
        Some(gone)
    }

    /// Takes the entry that a new connection moves into: its own, else the oldest one of its user
    /// that looks the same. Who has no user id is only known by its connection.
    fn find(&mut self, info: &ClientInfo, announce: bool) -> Option<ClientInfo> {
        let fits = |g: &Gone| g.announce == announce && is_same(&g.info, info);
        let gone = &self.gone;
        let own = gone.get(&info.client).filter(|g| fits(g)).map(|_| info.client);
        let of_user = || {
            let ids = self.by_user.get(&info.user)?;
            let some = ids.iter().take(limits::PRESENCE_AWAY_TRIED_MAX);
            some.copied().find(|id| gone.get(id).is_some_and(fits))
        };
        let client = own.or_else(of_user)?;
        self.remove(client).map(|g| g.info)
    }

    /// Takes one whose time is over.
    fn overdue(&mut self, now_ms: u64) -> Option<Gone> {
        while let Some((until_ms, client)) = self.order.pop_front_if(|(at, _)| *at <= now_ms) {
            // Who came back and went again has a later entry.
            if self.gone.get(&client).is_some_and(|g| g.until_ms == until_ms) {
                return self.remove(client);
            }
        }
        None
    }
}

/// Would subscribers see no difference but the connection?
fn is_same(a: &ClientInfo, b: &ClientInfo) -> bool {
    a.user == b.user && a.conn_info == b.conn_info && a.chan_info == b.chan_info
}

#[cfg(test)]
mod tests;

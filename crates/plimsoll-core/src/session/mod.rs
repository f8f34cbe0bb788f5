//! One client's session: what it may do and what it is subscribed to.
//!
//! Commands, answers and deadlines go in, [`Effect`]s come out. The session knows no socket, no
//! wire format and no other connection.

mod connect;
mod effect;
mod operations;
mod subscribe;
#[cfg(test)]
mod tests;

pub use effect::{ConnectResult, Effect, Left, Push, ReplyBody, SubscribeResult};

use crate::channel::Channels;
use crate::codes::{ClientError, Disconnect, Unsubscribed};
use crate::command::{Body, Command};
use crate::home::Answer;
use crate::hub::Place;
use crate::limits;
use crate::model::{ClientId, ClientInfo, Now};
use crate::policy::Policy;
use crate::quota::{Payer, Payers};
use crate::rate::TokenBucket;
use crate::tier::Tier;
use crate::token::TokenVerifier;
use plimsoll_overload::gates::Gates;
use std::sync::Arc;

/// What a session may look at while it handles something.
pub struct Context<'a> {
    /// Configuration.
    pub policy: &'a Policy,
    /// Channel names.
    pub channels: &'a Channels,
    /// Tokens.
    pub tokens: &'a dyn TokenVerifier,
    /// Both clocks.
    pub now: Now,
    /// Random bits for jitter.
    pub random: u64,
    /// What the load allows.
    pub gates: &'a Gates,
    /// Accounts of quotas.
    pub payers: &'a dyn Payers,
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not authenticated.
    New,
    /// Authenticated, waiting for its server-side subscriptions.
    Connecting,
    /// In use.
    Open,
    /// The connect was answered by an error; the client should go.
    Refused,
}

/// A client's session. Small: 15,000 idle ones are to cost less than 512 bytes each, all in all.
pub struct Session {
    client: ClientId,
    user: Arc<str>,
    conn_info: Option<Arc<str>>,
    subs: Vec<Sub>,
    connecting: Option<Box<Connecting>>,
    /// End of the present phase, monotonic milliseconds; `u64::MAX` = none.
    phase_until_ms: u64,
    /// Next ping, or the latest moment of the pong that is awaited.
    beat_ms: u64,
    /// When the connection is closed for expiry.
    expire_ms: u64,
    /// When the last page of history was read under an interval; 0 = never.
    browsed_ms: u64,
    bucket: TokenBucket,
    publications: TokenBucket,
    /// Whose quotas count; `None` = nobody's.
    payer: Option<Arc<Payer>>,
    in_flight: u16,
    errors: TokenBucket,
    /// When the user last did something, in tenths of a second.
    active_ds: u32,
    tier: Option<Tier>,
    phase: Phase,
    awaiting_pong: bool,
    expires: bool,
    /// Some subscription expires: look at them all.
    subs_expire: bool,
}

/// One subscription.
struct Sub {
    channel: Arc<str>,
    place: Option<Place>,
    /// Id of the command that asked, to tell late answers apart.
    asked: u32,
    flags: Flags,
    extra: Option<Box<Extra>>,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    /// The home has not answered yet.
    pending: bool,
    positioned: bool,
    recoverable: bool,
    /// Added by the server, not asked for by the client.
    server_side: bool,
    /// It came with the connection token.
    from_token: bool,
    /// Presence or join and leave know this member.
    member: bool,
    announce: bool,
    join_leave: bool,
    /// The reply to a subscribe has the whole state of the channel.
    whole: bool,
}

/// What only some subscriptions have.
struct Extra {
    chan_info: Option<Arc<str>>,
    data: Option<Box<str>>,
    /// Monotonic milliseconds of the close; `u64::MAX` = never.
    expire_ms: u64,
    ttl_s: Option<u64>,
    /// What ends it as soon as its home has answered.
    ends: Option<Ending>,
    /// The API subscribed: tell the client by a push.
    push: bool,
    /// When the last ephemeral publication of this client went into the channel.
    spoke_ms: Option<u64>,
}

impl Default for Extra {
    fn default() -> Self {
        let (chan_info, data, ttl_s, ends) = (None, None, None, None);
        Self { chan_info, data, expire_ms: u64::MAX, ttl_s, ends, push: false, spoke_ms: None }
    }
}

/// The end of a subscription that came while it was pending. A pending one is never taken away
/// at once: its home counts it, and the client waits for an answer.
#[derive(Clone, Copy)]
enum Ending {
    /// The client's unsubscribe command with this id.
    Command(u32),
    /// The server, for this reason.
    Server(Unsubscribed),
}

/// A connect that waits for its server-side subscriptions.
struct Connecting {
    id: u32,
    waiting: usize,
    results: Vec<(Arc<str>, SubscribeResult)>,
    ttl_s: Option<u64>,
}

impl Session {
    /// A new, unauthenticated session.
    pub fn new(client: ClientId, nobody: &Arc<str>, policy: &Policy, now: Now) -> Self {
        let burst = policy.client.message_rate_burst;
        Self {
            client,
            user: Arc::clone(nobody),
            conn_info: None,
            subs: Vec::new(),
            connecting: None,
            phase_until_ms: now.mono_ms.saturating_add(policy.client.stale_close_delay_ms),
            beat_ms: u64::MAX,
            expire_ms: u64::MAX,
            browsed_ms: 0,
            bucket: TokenBucket::full(burst, now.mono_ms),
            // As full as the limit is, which depends on who it will be.
            publications: TokenBucket::full(u32::MAX, now.mono_ms),
            in_flight: 0,
            errors: TokenBucket::full(limits::ERRORS_AT_ONCE_MAX, now.mono_ms),
            payer: None,
            active_ds: tenths(now.mono_ms),
            tier: None,
            phase: Phase::New,
            awaiting_pong: false,
            expires: false,
            subs_expire: false,
        }
    }

    /// Connection id.
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// User id; empty = anonymous (or not yet authenticated).
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// Its tier; `None` while tiers are off, or nobody knows who it is.
    pub fn tier(&self) -> Option<Tier> {
        self.tier
    }

    /// When the user last did something, in monotonic milliseconds, a tenth of a second late at
    /// most.
    pub fn active_ms(&self) -> u64 {
        u64::from(self.active_ds) * 100
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Must commands wait (for the connect to finish, or for answers of homes)?
    pub fn must_wait(&self) -> bool {
        self.phase == Phase::Connecting
            || self.in_flight >= limits::REQUESTS_IN_FLIGHT_MAX
            // Subscribe, unsubscribe, subscribe: the last one must find the channel free.
            || (self.in_flight > 0 && self.subs.iter().any(Sub::is_ending))
    }

    /// Subscriptions, pending ones included.
    pub fn subscription_count(&self) -> usize {
        self.subs.len()
    }

    /// Names of the channels subscribed to.
    pub fn channels(&self) -> Vec<Arc<str>> {
        self.subs.iter().map(|s| Arc::clone(&s.channel)).collect()
    }

    /// Handles one command.
    pub fn handle(&mut self, command: Command<'_>, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        let Command { id, body } = command;
        // No more of them are accepted than pings were sent: they need no rate.
        if let Body::Pong = body {
            return self.pong(cx, fx);
        }
        let rate = &cx.policy.client;
        if !self.bucket.take(rate.message_rate_limit, rate.message_rate_burst, cx.now.mono_ms) {
            return self.refuse_rate(id, cx, fx);
        }
        let needs_id = !matches!(body, Body::Send { .. });
        let is_connect = matches!(body, Body::Connect(_));
        if (needs_id && id == 0) || is_connect != (self.phase == Phase::New) {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        if self.phase == Phase::Refused {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        // Not what a library does by itself: only what a person may be behind.
        if !matches!(body, Body::Refresh { .. } | Body::SubRefresh { .. } | Body::Ping) {
            self.active_ds = tenths(cx.now.mono_ms);
        }
        let before = fx.len();
        match body {
            Body::Connect(c) => self.connect(id, &c, cx, fx),
            Body::Subscribe(s) => self.subscribe(id, &s, cx, fx),
            Body::Unsubscribe { channel } => self.unsubscribe(id, &channel, fx),
            Body::Publish { channel, data } => self.publish(id, &channel, &data, cx, fx),
            Body::Presence { channel } => self.presence(id, &channel, false, cx, fx),
            Body::PresenceStats { channel } => self.presence(id, &channel, true, cx, fx),
            Body::History(h) => self.history(id, &h, cx, fx),
            Body::Refresh { token } => self.refresh(id, &token, cx, fx),
            Body::SubRefresh { channel, token } => self.sub_refresh(id, &channel, &token, cx, fx),
            Body::Rpc => fx.push(Effect::Error { id, error: ClientError::METHOD_NOT_FOUND }),
            Body::Ping => fx.push(Effect::Error { id, error: ClientError::NOT_AVAILABLE }),
            Body::Send { active: false } => fx.push(Effect::Close(Disconnect::NOT_AVAILABLE)),
            Body::Send { active: true } | Body::Pong => {}
        }
        if matches!(fx.get(before), Some(Effect::Error { .. })) {
            self.count_error(cx, fx, Disconnect::TOO_MANY_ERRORS);
        }
    }

    /// The home's answer to an earlier [`Effect::Ask`].
    pub fn on_answer(
        &mut self,
        id: u32,
        channel: &Arc<str>,
        answer: Answer,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let body = match answer {
            Answer::Subscribed(s) => return self.on_subscribed(id, channel, s, cx, fx),
            Answer::Error(error) => {
                if id != 0 {
                    fx.push(Effect::Error { id, error });
                }
                return self.subscribe_failed(id, channel, cx, fx);
            }
            Answer::Published(_) => ReplyBody::Publish,
            Answer::Presence(members) => ReplyBody::Presence(members),
            Answer::Stats { clients, users } => ReplyBody::PresenceStats { clients, users },
            Answer::History(page) => ReplyBody::History(page),
            Answer::Done => return,
        };
        fx.push(Effect::Reply { id, body });
    }

    /// The moment at which [`Session::on_deadline`] has something to do.
    pub fn deadline_ms(&self, policy: &Policy) -> u64 {
        let subs = if self.subs_expire { self.subs.iter().map(Sub::expire_ms).min() } else { None };
        let alive_ms = self.phase_until_ms.min(self.expire_ms).min(self.idle_at_ms(policy));
        alive_ms.min(self.beat_ms).min(subs.unwrap_or(u64::MAX))
    }

    /// When it is closed for being idle.
    fn idle_at_ms(&self, policy: &Policy) -> u64 {
        match policy.idle_timeout_ms(self.tier) {
            0 => u64::MAX,
            timeout_ms => self.active_ms().saturating_add(timeout_ms),
        }
    }

    /// Pings, and ends what has come to its end.
    pub fn on_deadline(&mut self, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        let now = cx.now.mono_ms;
        if self.phase_until_ms <= now {
            return fx.push(Effect::Close(Disconnect::STALE));
        }
        if self.expire_ms <= now {
            return fx.push(Effect::Close(Disconnect::EXPIRED));
        }
        if self.idle_at_ms(cx.policy) <= now {
            return fx.push(Effect::Close(Disconnect::IDLE));
        }
        if self.beat_ms <= now {
            if self.awaiting_pong {
                return fx.push(Effect::Close(Disconnect::NO_PONG));
            }
            let client = &cx.policy.client;
            fx.push(Effect::Ping);
            self.awaiting_pong = client.pong_timeout_ms > 0;
            let interval_ms = cx.policy.ping_interval_ms(self.tier);
            let wait_ms = if self.awaiting_pong { client.pong_timeout_ms } else { interval_ms };
            self.beat_ms = now.saturating_add(wait_ms);
        }
        if self.subs_expire {
            self.expire_subs(now, fx);
        }
    }

    /// The connection is gone: everything it had is given back.
    pub fn close(&mut self, fx: &mut Vec<Effect>) {
        for sub in std::mem::take(&mut self.subs) {
            self.leave(sub, fx);
        }
    }

    /// Publications of a channel were left out because the client was too slow. It is told to
    /// recover where it can; where it cannot and they were `precious`, it has to go. So it does
    /// when the subscription has ended meanwhile and its last publications are among them: no
    /// push could tell that any more.
    pub fn fell_behind(&mut self, channel: &str, precious: bool, fx: &mut Vec<Effect>) {
        match self.sub(channel) {
            Some(sub) if sub.flags.positioned || sub.flags.whole => {
                self.lost_publications(channel, fx)
            }
            Some(_) if precious => fx.push(Effect::Close(Disconnect::SLOW)),
            None if precious => fx.push(Effect::Close(Disconnect::INSUFFICIENT_STATE)),
            _ => {}
        }
    }

    /// Tells the session where the hub put a subscription. False: there is no such one any more.
    pub fn set_place(&mut self, channel: &str, place: Place) -> bool {
        let Some(sub) = self.subs.iter_mut().find(|s| *s.channel == *channel) else { return false };
        sub.place = Some(place);
        true
    }

    /// Another subscriber took this one's old neighbour's place: the array index changed.
    pub fn moved(&mut self, from_channel: crate::hub::ChannelKey, group: u8, index: u32) {
        for place in self.subs.iter_mut().filter_map(|s| s.place.as_mut()) {
            if place.channel == from_channel && place.group == group {
                place.index = index;
            }
        }
    }

    fn pong(&mut self, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        if !self.awaiting_pong {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        let client = &cx.policy.client;
        self.awaiting_pong = false;
        let asked = self.beat_ms.saturating_sub(client.pong_timeout_ms);
        self.beat_ms = asked.saturating_add(cx.policy.ping_interval_ms(self.tier));
    }

    fn refuse_rate(&mut self, id: u32, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        if id != 0 {
            fx.push(Effect::Error { id, error: ClientError::TOO_MANY_REQUESTS });
        }
        self.count_error(cx, fx, Disconnect::TOO_MANY_REQUESTS);
    }

    /// Errors are forgiven slowly: who sends nothing but errors goes, who errs now and then stays.
    fn count_error(&mut self, cx: &Context<'_>, fx: &mut Vec<Effect>, end: Disconnect) {
        let (rate, most) = (limits::ERRORS_PER_SECOND, limits::ERRORS_AT_ONCE_MAX);
        if !self.errors.take(rate, most, cx.now.mono_ms) {
            fx.push(Effect::Close(end));
        }
    }

    fn ask(
        &mut self,
        id: u32,
        channel: Arc<str>,
        request: crate::home::Request,
        fx: &mut Vec<Effect>,
    ) {
        self.in_flight = self.in_flight.saturating_add(1);
        fx.push(Effect::Ask { id, channel, request });
    }

    fn sub(&self, channel: &str) -> Option<&Sub> {
        self.subs.iter().find(|s| *s.channel == *channel)
    }

    fn info(&self, chan_info: Option<Arc<str>>) -> ClientInfo {
        ClientInfo {
            user: Arc::clone(&self.user),
            client: self.client,
            conn_info: self.conn_info.clone(),
            chan_info,
        }
    }

    /// A pending subscription is undone when its answer comes (`on_subscribed` finds none).
    fn leave(&self, sub: Sub, fx: &mut Vec<Effect>) {
        if !sub.flags.pending {
            fx.push(Effect::Leave(Left {
                channel: sub.channel,
                place: sub.place,
                member: sub.flags.member.then_some(self.client),
                announce: sub.flags.announce,
            }));
        }
    }

    fn expire_subs(&mut self, now: u64, fx: &mut Vec<Effect>) {
        let expired = |s: &Sub| s.expire_ms() <= now;
        if self.subs.iter().any(|s| s.flags.server_side && expired(s)) {
            return fx.push(Effect::Close(Disconnect::SUBSCRIPTION_EXPIRED));
        }
        while let Some(at) = self.subs.iter().position(expired) {
            self.end_sub(at, Unsubscribed::EXPIRED, fx);
        }
    }

    /// Takes a subscription away and tells the client.
    fn end_sub(&mut self, at: usize, why: Unsubscribed, fx: &mut Vec<Effect>) {
        let sub = self.subs.swap_remove(at);
        let channel = Arc::clone(&sub.channel);
        self.leave(sub, fx);
        if let Some(connecting) = &mut self.connecting {
            // The client has not been told of it yet, and now it never is.
            return connecting.results.retain(|(name, _)| *name != channel);
        }
        fx.push(Effect::Push(Push::Unsubscribe { channel, why }));
    }
}

/// Rounded up: an idle connection is never closed early. Enough for 13 years.
fn tenths(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(100)).unwrap_or(u32::MAX)
}

impl Sub {
    /// When it is closed for expiry; a pending one is first answered.
    fn expire_ms(&self) -> u64 {
        match &self.extra {
            Some(extra) if !self.flags.pending => extra.expire_ms,
            _ => u64::MAX,
        }
    }

    fn is_ending(&self) -> bool {
        self.flags.pending && self.extra.as_ref().is_some_and(|e| e.ends.is_some())
    }
}

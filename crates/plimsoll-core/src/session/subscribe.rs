//! `subscribe`, `unsubscribe` and `sub_refresh`, and subscriptions made by the server.

use super::SubscribeResult;
use super::connect::position_of;
use super::{Context, Effect, Ending, Extra, Flags, Left, Push, ReplyBody, Session, Sub};
use crate::channel::Resolved;
use crate::codes::{ClientError, Disconnect, Unsubscribed};
use crate::command::Subscribe;
use crate::home::{Request, SubscribeRequest, Subscribed};
use crate::limits;
use crate::model::{Since, StreamPosition};
use crate::policy::{Policy, RecoveryMode};
use crate::token::{Overrides, SubscriptionClaims, SubscriptionOptions, TokenError};
use plimsoll_overload::feature::Feature;
use std::borrow::Cow;
use std::sync::Arc;

/// `subscribe.flag`: refuse rather than subscribe unrecovered.
const FLAG_MUST_RECOVER: i64 = 2;

/// May this user subscribe by the channel's name and the namespace's options alone?
pub(super) fn may_without_token(channel: &Resolved<'_>, user: &str, policy: &Policy) -> bool {
    if channel.private {
        return false;
    }
    if channel.is_user_limited() {
        return channel.names_user(user);
    }
    let o = channel.options;
    (o.allow_subscribe_for_client && (!user.is_empty() || o.allow_subscribe_for_anonymous))
        || policy.client.insecure
}

/// What is decided of a subscription before its home is asked.
#[derive(Default)]
struct Plan {
    options: SubscriptionOptions,
    expires_at_ms: Option<u64>,
    asked_positioned: bool,
    asked_recoverable: bool,
    asked_join_leave: bool,
    recover: Option<Since>,
    must_recover: bool,
}

enum Refused {
    Error(ClientError),
    Close(Disconnect),
}

impl Session {
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        s: &Subscribe<'_>,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        match self.check_subscribe(s, cx) {
            Ok(plan) => {
                let channel: Arc<str> = Arc::from(&*s.channel);
                self.start_sub(id, channel, plan, Flags::default(), false, cx, fx);
            }
            Err(Refused::Error(error)) => fx.push(Effect::Error { id, error }),
            Err(Refused::Close(d)) => fx.push(Effect::Close(d)),
        }
    }

    pub(super) fn unsubscribe(&mut self, id: u32, channel: &str, fx: &mut Vec<Effect>) {
        if channel.is_empty() {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        match self.subs.iter().position(|s| *s.channel == *channel) {
            Some(at) if self.subs[at].flags.pending => {
                // The home was asked already: end it when the answer is there, as if the
                // commands had been handled one after the other.
                let extra = self.subs[at].extra.get_or_insert_default();
                if !matches!(extra.ends, Some(Ending::Command(_))) {
                    extra.ends = Some(Ending::Command(id));
                    return;
                }
            }
            Some(at) => {
                let sub = self.subs.swap_remove(at);
                self.leave(sub, fx);
            }
            None => {}
        }
        fx.push(Effect::Reply { id, body: ReplyBody::Unsubscribe });
    }

    /// A subscription that the client did not ask for by itself. `push`: the API asked, and the
    /// client is told by a push; otherwise it is part of the connect reply.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn server_subscribe(
        &mut self,
        channel: Cow<'_, str>,
        options: SubscriptionOptions,
        position: Option<&Subscribe<'_>>,
        from_token: bool,
        push: bool,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let recover =
            position_of(position).map(|(offset, epoch)| Since { offset, epoch: epoch.into() });
        let plan = Plan {
            options,
            asked_positioned: true,
            asked_recoverable: true,
            recover,
            ..Plan::default()
        };
        let flags = Flags { server_side: true, from_token, ..Flags::default() };
        self.start_sub(0, Arc::from(&*channel), plan, flags, push, cx, fx);
    }

    /// The API subscribes this connection. Errors are the API's to tell.
    pub fn subscribe_by_server(
        &mut self,
        channel: &str,
        options: SubscriptionOptions,
        recover: Option<Since>,
        expires_at_ms: Option<u64>,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        if self.sub(channel).is_some() || self.subs.len() >= cx.policy.client.channel_limit {
            return;
        }
        let plan = Plan {
            options,
            expires_at_ms,
            asked_positioned: true,
            asked_recoverable: true,
            recover,
            ..Plan::default()
        };
        let flags = Flags { server_side: true, ..Flags::default() };
        if cx.channels.resolve(channel).is_ok()
            && let Some(connecting) = &mut self.connecting
        {
            // Told in the connect reply: nothing may come before that.
            connecting.waiting += 1;
        }
        self.start_sub(0, Arc::from(channel), plan, flags, true, cx, fx);
    }

    /// The server takes a subscription away and tells the client.
    pub fn unsubscribe_by_server(
        &mut self,
        channel: &str,
        why: Unsubscribed,
        fx: &mut Vec<Effect>,
    ) {
        let Some(at) = self.subs.iter().position(|s| *s.channel == *channel) else { return };
        if !self.subs[at].flags.pending {
            return self.end_sub(at, why, fx);
        }
        let extra = self.subs[at].extra.get_or_insert_default();
        extra.ends = extra.ends.or(Some(Ending::Server(why)));
    }

    /// Publications of this channel were lost on the way here: the client is told to recover.
    pub fn lost_publications(&mut self, channel: &str, fx: &mut Vec<Effect>) {
        let Some(at) = self.subs.iter().position(|s| *s.channel == *channel) else { return };
        // A pending one gets its position, and what it missed, by the answer.
        let flags = self.subs[at].flags;
        if !(flags.positioned || flags.whole) || flags.pending {
            return;
        }
        if flags.server_side {
            return fx.push(Effect::Close(Disconnect::INSUFFICIENT_STATE));
        }
        self.end_sub(at, Unsubscribed::INSUFFICIENT_STATE, fx);
    }

    fn check_subscribe(&self, s: &Subscribe<'_>, cx: &Context<'_>) -> Result<Plan, Refused> {
        let error = |e| Err(Refused::Error(e));
        if s.channel.is_empty() {
            return Err(Refused::Close(Disconnect::BAD_REQUEST));
        }
        let resolved = cx.channels.resolve(&s.channel);
        if matches!(resolved, Err(ClientError::BAD_REQUEST)) {
            return error(ClientError::BAD_REQUEST);
        }
        if self.sub(&s.channel).is_some() {
            return error(ClientError::ALREADY_SUBSCRIBED);
        }
        if self.subs.len() >= cx.policy.client.channel_limit {
            return error(ClientError::LIMIT_EXCEEDED);
        }
        let resolved = resolved.map_err(Refused::Error)?;
        if s.kind != 0 {
            return error(ClientError::PERMISSION_DENIED);
        }
        let claims = self.check_permission(s, &resolved, cx)?;
        if !matches!(&*s.delta, "" | "fossil") {
            return Err(Refused::Close(Disconnect::BAD_REQUEST));
        }
        if s.filtered {
            return error(ClientError::BAD_REQUEST);
        }
        let recover = s.recover.then(|| Since { offset: s.offset, epoch: Box::from(&*s.epoch) });
        Ok(Plan {
            options: claims.options,
            expires_at_ms: claims.expires_at_ms,
            asked_positioned: s.positioned,
            asked_recoverable: s.recoverable || s.recover,
            asked_join_leave: s.join_leave,
            recover,
            must_recover: s.flag & FLAG_MUST_RECOVER != 0,
        })
    }

    fn check_permission(
        &self,
        s: &Subscribe<'_>,
        resolved: &Resolved<'_>,
        cx: &Context<'_>,
    ) -> Result<SubscriptionClaims, Refused> {
        if s.token.is_empty() {
            return match may_without_token(resolved, &self.user, cx.policy) {
                true => Ok(SubscriptionClaims::default()),
                false => Err(Refused::Error(ClientError::PERMISSION_DENIED)),
            };
        }
        let claims = self.check_token(&s.channel, &s.token, cx)?;
        if claims.expires_at_ms.is_some_and(|at| at <= cx.now.unix_ms) {
            return Err(Refused::Error(ClientError::TOKEN_EXPIRED));
        }
        Ok(claims)
    }

    fn check_token(
        &self,
        channel: &str,
        token: &str,
        cx: &Context<'_>,
    ) -> Result<SubscriptionClaims, Refused> {
        if token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Refused::Error(ClientError::PERMISSION_DENIED));
        }
        let claims = match cx.tokens.subscription(token, cx.now.unix_ms) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return Err(Refused::Error(ClientError::TOKEN_EXPIRED)),
            Err(TokenError::Invalid) => return Err(Refused::Error(ClientError::PERMISSION_DENIED)),
        };
        let own = claims.client.as_deref().is_none_or(|c| *c == *self.client.to_string());
        if *claims.user != *self.user || *claims.channel != *channel || !own {
            return Err(Refused::Close(Disconnect::INVALID_TOKEN));
        }
        Ok(claims)
    }

    /// Notes the subscription as pending and asks the channel's home.
    #[allow(clippy::too_many_arguments)]
    fn start_sub(
        &mut self,
        id: u32,
        channel: Arc<str>,
        plan: Plan,
        mut flags: Flags,
        push: bool,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let Ok(resolved) = cx.channels.resolve(&channel) else { return };
        let (o, over) = (resolved.options, plan.options.overrides);
        let (positioned, recoverable) = self.positioning(&resolved, &plan, cx);
        flags.pending = true;
        flags.positioned = positioned;
        flags.recoverable = recoverable;
        flags.announce = over.join_leave.unwrap_or(o.join_leave);
        flags.member = over.presence.unwrap_or(o.presence) || flags.announce;
        flags.whole = o.feature == Some(Feature::Receipts);
        let may_ask = o.join_leave && self.may_see_presence(o, true, cx.policy);
        flags.join_leave =
            pushes_join_leave(over, o.force_push_join_leave) || (plan.asked_join_leave && may_ask);
        let chan_info: Option<Arc<str>> = plan.options.info.as_deref().map(Arc::from);
        let must_recover = plan.must_recover && plan.recover.is_some() && recoverable;
        let auto = o.recovery_mode == RecoveryMode::Cache && o.auto_cache_recover;
        let recover = match plan.recover {
            Some(since) if recoverable => Some(since),
            _ if auto && positioned => Some(Since { offset: 0, epoch: "-".into() }),
            _ => None,
        };
        let request = SubscribeRequest {
            positioned,
            must_recover,
            recover,
            member: flags.member.then(|| self.info(chan_info.clone())),
            announce: flags.announce,
            reader: flags.whole.then(|| Arc::clone(&self.user)),
        };
        let extra = self.extra_of(chan_info, plan.options.data, plan.expires_at_ms, push, cx);
        if self.subs.is_empty() {
            self.subs.reserve_exact(1);
        }
        self.subs.push(Sub { channel: Arc::clone(&channel), place: None, asked: id, flags, extra });
        self.ask(id, channel, Request::Subscribe(request), fx);
    }

    fn positioning(&self, resolved: &Resolved<'_>, plan: &Plan, cx: &Context<'_>) -> (bool, bool) {
        let (o, over) = (resolved.options, plan.options.overrides);
        if !o.has_history() {
            return (false, false);
        }
        let access = self.may_read_history(o, true, cx.policy);
        let recoverable = over.force_recovery.unwrap_or(o.force_recovery)
            || (plan.asked_recoverable && (o.allow_recovery || access));
        let positioned = recoverable
            || over.force_positioning.unwrap_or(o.force_positioning)
            || (plan.asked_positioned && (o.allow_positioning || access))
            || (o.recovery_mode == RecoveryMode::Cache && o.auto_cache_recover);
        (positioned, recoverable)
    }

    fn extra_of(
        &mut self,
        chan_info: Option<Arc<str>>,
        data: Option<Box<str>>,
        expires_at_ms: Option<u64>,
        push: bool,
        cx: &Context<'_>,
    ) -> Option<Box<Extra>> {
        if chan_info.is_none() && data.is_none() && expires_at_ms.is_none() && !push {
            return None;
        }
        let mut extra = Extra { chan_info, data, push, ..Extra::default() };
        self.set_sub_expiry(&mut extra, expires_at_ms, cx);
        Some(Box::new(extra))
    }

    fn set_sub_expiry(&mut self, extra: &mut Extra, at_ms: Option<u64>, cx: &Context<'_>) {
        let Some(at) = at_ms else {
            extra.expire_ms = u64::MAX;
            extra.ttl_s = None;
            return;
        };
        let grace = cx.policy.client.expired_sub_close_delay_ms;
        extra.expire_ms = cx.now.mono_of_unix(at).saturating_add(grace);
        extra.ttl_s = Some(at.saturating_sub(cx.now.unix_ms).div_ceil(1_000).max(1));
        self.subs_expire = true;
    }

    pub(super) fn on_subscribed(
        &mut self,
        id: u32,
        channel: &Arc<str>,
        s: Subscribed,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let Some(at) = self.pending(id, channel) else {
            // Nobody waits for it any more; the home must not go on counting it.
            return fx.push(Effect::Leave(Left::unwanted(channel, &s)));
        };
        let sub = &mut self.subs[at];
        sub.flags.pending = false;
        let (flags, position) = (sub.flags, s.position);
        let (mut data, mut ttl_s, mut ends, mut push) = (None, None, None, false);
        if let Some(extra) = &mut sub.extra {
            data = extra.data.take();
            ttl_s = extra.ttl_s;
            ends = extra.ends;
            push = extra.push;
        }
        let result = result_of(s, flags, data, ttl_s);
        let name = Arc::clone(channel);
        fx.push(Effect::Activate { channel: name, join_leave: flags.join_leave, position });
        if !flags.server_side {
            fx.push(Effect::Reply { id, body: ReplyBody::Subscribe(Box::new(result)) });
        } else if let Some(connecting) = &mut self.connecting {
            connecting.waiting = connecting.waiting.saturating_sub(1);
            connecting.results.push((Arc::clone(channel), result));
            self.finish_connect(cx, fx);
        } else if push {
            let channel = Arc::clone(channel);
            fx.push(Effect::Push(Push::Subscribe { channel, result: Box::new(result) }));
        }
        if let Some(ending) = ends {
            let id = if let Ending::Command(id) = ending { id } else { 0 };
            fx.push(Effect::FinishUnsubscribe { id, channel: Arc::clone(channel) });
        }
    }

    /// Ends a subscription whose end came while it was pending. `id` 0: no command asked for it.
    pub fn finish_unsubscribe(&mut self, id: u32, channel: &str, fx: &mut Vec<Effect>) {
        if id != 0 {
            return self.unsubscribe(id, channel, fx);
        }
        let Some(at) = self.subs.iter().position(|s| *s.channel == *channel) else { return };
        if let Some(Ending::Server(why)) = self.subs[at].extra.as_ref().and_then(|e| e.ends) {
            self.end_sub(at, why, fx);
        }
    }

    /// The home refused.
    pub(super) fn subscribe_failed(
        &mut self,
        id: u32,
        channel: &str,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let Some(at) = self.pending(id, channel) else { return };
        let sub = self.subs.swap_remove(at);
        let extra = sub.extra.as_deref();
        if let Some(Ending::Command(id)) = extra.and_then(|e| e.ends) {
            fx.push(Effect::Reply { id, body: ReplyBody::Unsubscribe });
        }
        let Some(connecting) = &mut self.connecting else { return };
        if !extra.is_some_and(|e| e.push) {
            return fx.push(Effect::Close(Disconnect::SERVER_ERROR));
        }
        connecting.waiting = connecting.waiting.saturating_sub(1);
        self.finish_connect(cx, fx);
    }

    fn pending(&self, id: u32, channel: &str) -> Option<usize> {
        let fits = |s: &Sub| s.flags.pending && s.asked == id && *s.channel == *channel;
        self.subs.iter().position(fits)
    }

    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        channel: &str,
        token: &str,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let error = |error| Effect::Error { id, error };
        if channel.is_empty() {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        let Some(at) = self.subs.iter().position(|s| *s.channel == *channel) else {
            return fx.push(error(ClientError::PERMISSION_DENIED));
        };
        if token.is_empty() {
            return fx.push(error(ClientError::BAD_REQUEST));
        }
        if self.subs[at].extra.as_ref().is_none_or(|e| e.expire_ms == u64::MAX) {
            return fx.push(Effect::Close(Disconnect::BAD_REQUEST));
        }
        let claims = match self.check_token(channel, token, cx) {
            Ok(claims) => claims,
            Err(Refused::Error(e)) => return fx.push(error(e)),
            Err(Refused::Close(d)) => return fx.push(Effect::Close(d)),
        };
        if claims.expires_at_ms.is_some_and(|at| at <= cx.now.unix_ms) {
            return fx.push(error(ClientError::EXPIRED));
        }
        let mut extra = self.subs[at].extra.take().unwrap_or_default();
        self.set_sub_expiry(&mut extra, claims.expires_at_ms, cx);
        let ttl_s = extra.ttl_s;
        self.subs[at].extra = Some(extra);
        fx.push(Effect::Reply { id, body: ReplyBody::SubRefresh { ttl_s } });
    }
}

fn pushes_join_leave(over: Overrides, namespace: bool) -> bool {
    over.force_push_join_leave.unwrap_or(namespace)
}

/// Offsets as the protocol wants them: after a successful recovery the *requested* offset, since
/// the client moves on with the publications itself; else the top.
fn result_of(
    s: Subscribed,
    flags: Flags,
    data: Option<Box<str>>,
    ttl_s: Option<u64>,
) -> SubscribeResult {
    let was_recovering = s.recovery.is_some();
    let (mut recovered, mut publications) =
        s.recovery.map_or((false, Vec::new()), |r| (r.recovered, r.publications));
    let position = s.position.map(|p| match publications.first() {
        // The client's offset, or (cache mode) the one before what it gets.
        Some(first) if recovered => {
            StreamPosition { offset: s.since_offset.min(first.offset.saturating_sub(1)), ..p }
        }
        _ => p,
    });
    if let Some(marks) = s.marks {
        publications.push(marks);
        // Clients take publications of server-side subscriptions only from a recovery.
        recovered |= flags.server_side;
    }
    SubscribeResult {
        ttl_s,
        recoverable: flags.recoverable,
        positioned: flags.positioned,
        position,
        publications,
        recovered,
        was_recovering,
        data,
    }
}

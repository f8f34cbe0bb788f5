//! `connect` and `refresh`: who somebody is, and for how long.

use super::{ConnectResult, Connecting, Context, Effect, Phase, Push, ReplyBody, Session};
use crate::codes::{ClientError, Disconnect};
use crate::command::{Connect, Subscribe};
use crate::limits;
use crate::quota;
use crate::tier::TierClaim;
use crate::token::{ConnectionClaims, SubscriptionOptions, TokenError};
use std::borrow::Cow;
use std::sync::Arc;

/// A server-side subscription to make while connecting.
struct Wanted<'a> {
    channel: Cow<'a, str>,
    options: SubscriptionOptions,
    from_token: bool,
}

impl Session {
    pub(super) fn connect(
        &mut self,
        id: u32,
        c: &Connect<'_>,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let claims = match self.authenticate(c, cx) {
            Ok(claims) => claims,
            Err(Refused::Close(d)) => return fx.push(Effect::Close(d)),
            Err(Refused::Error(error)) => return self.refuse(id, error, cx, fx),
        };
        let wanted = match self.wanted(&claims, c, cx) {
            Ok(wanted) => wanted,
            Err(d) => return fx.push(Effect::Close(d)),
        };
        self.payer = cx.payers.payer(&claims.user, &claims.tenant, cx.now.mono_ms);
        let (share, now_ms) = (quota::share(cx.gates), cx.now.mono_ms);
        if let Some(payer) = &self.payer
            && let Err(limit) = payer.connect(&cx.policy.quotas, share, now_ms)
        {
            self.refused(cx);
            return fx.push(Effect::Limited { id, limit });
        }
        if !claims.user.is_empty() {
            self.user = Arc::from(&*claims.user);
            fx.push(Effect::Enter { user: Arc::clone(&self.user) });
        }
        self.conn_info = claims.info.as_deref().map(Arc::from);
        self.set_tier(claims.tier, cx, fx);
        let ttl_s = self.set_expiry(claims.expires_at_ms, cx);
        self.phase = Phase::Connecting;
        self.phase_until_ms = u64::MAX;
        self.start_pings(cx);
        self.connecting =
            Some(Box::new(Connecting { id, waiting: wanted.len(), results: Vec::new(), ttl_s }));
        for w in wanted {
            let position = c.subs.iter().find(|s| s.channel == w.channel);
            self.server_subscribe(w.channel, w.options, position, w.from_token, false, cx, fx);
        }
        self.finish_connect(cx, fx);
    }

    /// Answers the connect once all server-side subscriptions have been answered.
    pub(super) fn finish_connect(&mut self, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        if self.connecting.as_ref().is_none_or(|c| c.waiting > 0) {
            return;
        }
        let Some(done) = self.connecting.take() else { return };
        self.phase = Phase::Open;
        let client = &cx.policy.client;
        let ping_interval_ms = cx.policy.ping_interval_ms(self.tier);
        let result = ConnectResult {
            client: self.client,
            ttl_s: done.ttl_s,
            subs: done.results,
            ping_s: ping_interval_ms.div_ceil(1_000),
            pong: ping_interval_ms > 0 && client.pong_timeout_ms > 0,
            time_ms: client.connect_include_server_time.then_some(cx.now.unix_ms),
        };
        fx.push(Effect::Reply { id: done.id, body: ReplyBody::Connect(Box::new(result)) });
    }

    pub(super) fn refresh(&mut self, id: u32, token: &str, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        let claims = match cx.tokens.connection(token, cx.now.unix_ms) {
            Ok(claims) => claims,
            Err(TokenError::Expired) => return fx.push(Effect::Close(Disconnect::EXPIRED)),
            Err(TokenError::Invalid) => return fx.push(Effect::Close(Disconnect::INVALID_TOKEN)),
        };
        if *claims.user != *self.user {
            return fx.push(Effect::Close(Disconnect::INVALID_TOKEN));
        }
        if self.token_channels_changed(&claims) {
            return fx.push(Effect::Close(Disconnect::INSUFFICIENT_STATE));
        }
        // Pings, encoding and limits were agreed for the tier of the connect.
        if cx.policy.tiers.tier_of(&self.user, claims.tier) != self.tier {
            return fx.push(Effect::Close(Disconnect::FORCE_RECONNECT));
        }
        self.conn_info = claims.info.as_deref().map(Arc::from);
        let ttl_s = self.set_expiry(claims.expires_at_ms, cx);
        fx.push(Effect::Reply { id, body: ReplyBody::Refresh { ttl_s } });
    }

    /// The API sets a new expiry (`None`: never), or ends the connection now.
    pub fn refreshed_by_server(
        &mut self,
        expired: bool,
        expires_at_ms: Option<u64>,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        if expired || expires_at_ms.is_some_and(|at| at <= cx.now.unix_ms) {
            return fx.push(Effect::Close(Disconnect::EXPIRED));
        }
        let ttl_s = self.set_expiry(expires_at_ms, cx);
        fx.push(Effect::Push(Push::Refresh { ttl_s }));
    }

    fn authenticate(&self, c: &Connect<'_>, cx: &Context<'_>) -> Result<ConnectionClaims, Refused> {
        let client = &cx.policy.client;
        if c.token.is_empty() {
            if client.insecure || client.allow_anonymous_connect_without_token {
                return Ok(ConnectionClaims::default());
            }
            return Err(Refused::Close(Disconnect::BAD_REQUEST));
        }
        if c.token.len() > limits::TOKEN_BYTES_MAX {
            return Err(Refused::Close(Disconnect::INVALID_TOKEN));
        }
        match cx.tokens.connection(&c.token, cx.now.unix_ms) {
            Err(TokenError::Expired) => Err(Refused::Error(ClientError::TOKEN_EXPIRED)),
            Err(TokenError::Invalid) => Err(Refused::Close(Disconnect::INVALID_TOKEN)),
            Ok(claims) if claims.user.len() > limits::USER_ID_BYTES_MAX => {
                Err(Refused::Close(Disconnect::INVALID_TOKEN))
            }
            Ok(claims) if claims.user.is_empty() && client.disallow_anonymous_connection_tokens => {
                Err(Refused::Close(Disconnect::PERMISSION_DENIED))
            }
            Ok(claims) => Ok(claims),
        }
    }

    /// The server-side subscriptions of this connection, each once.
    fn wanted<'a>(
        &self,
        claims: &ConnectionClaims,
        c: &'a Connect<'_>,
        cx: &Context<'_>,
    ) -> Result<Vec<Wanted<'a>>, Disconnect> {
        let mut wanted: Vec<Wanted<'a>> = Vec::new();
        let mut add = |w: Wanted<'a>| {
            if !wanted.iter().any(|have| have.channel == w.channel) {
                wanted.push(w);
            }
        };
        for (channel, options) in &claims.subs {
            let channel = Cow::Owned(channel.to_string());
            add(Wanted { channel, options: options.clone(), from_token: true });
        }
        let client = &cx.policy.client;
        if client.subscribe_to_user_personal_channel && !claims.user.is_empty() {
            let namespace = &client.user_personal_channel_namespace;
            let channel = Cow::Owned(cx.channels.personal(namespace, &claims.user));
            add(Wanted { channel, options: SubscriptionOptions::default(), from_token: false });
        }
        for s in &c.subs {
            let resolved = match cx.channels.resolve(&s.channel) {
                Ok(resolved) => resolved,
                Err(_) => return Err(Disconnect::BAD_REQUEST),
            };
            // What is not permitted is left out without a word (Centrifugo's rule).
            if super::subscribe::may_without_token(&resolved, &claims.user, cx.policy) {
                let channel = Cow::Borrowed(&*s.channel);
                add(Wanted { channel, options: SubscriptionOptions::default(), from_token: false });
            }
        }
        let most = limits::SERVER_SUBS_MAX.min(client.channel_limit);
        if wanted.len() > most {
            return Err(Disconnect::CHANNEL_LIMIT);
        }
        if wanted.iter().any(|w| cx.channels.resolve(&w.channel).is_err()) {
            return Err(Disconnect::BAD_REQUEST);
        }
        Ok(wanted)
    }

    /// There is no room now: nothing was looked at, and the client may try again.
    pub fn turn_away(
        &mut self,
        id: u32,
        error: ClientError,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        if self.phase == Phase::New {
            self.refuse(id, error, cx, fx);
        }
    }

    fn refuse(&mut self, id: u32, error: ClientError, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        self.refused(cx);
        fx.push(Effect::Error { id, error });
    }

    fn refused(&mut self, cx: &Context<'_>) {
        self.phase = Phase::Refused;
        self.phase_until_ms = cx.now.mono_ms.saturating_add(limits::FAILED_CONNECT_LINGER_MS);
    }

    /// Seconds to live, for the client; the close itself comes after the configured grace.
    fn set_expiry(&mut self, expires_at_ms: Option<u64>, cx: &Context<'_>) -> Option<u64> {
        self.expires = expires_at_ms.is_some();
        let Some(at) = expires_at_ms else {
            self.expire_ms = u64::MAX;
            return None;
        };
        let grace = cx.policy.client.expired_close_delay_ms;
        self.expire_ms = cx.now.mono_of_unix(at).saturating_add(grace);
        Some(at.saturating_sub(cx.now.unix_ms).div_ceil(1_000).max(1))
    }

    fn set_tier(&mut self, claim: TierClaim, cx: &Context<'_>, fx: &mut Vec<Effect>) {
        self.tier = cx.policy.tiers.tier_of(&self.user, claim);
        if let Some(tier) = self.tier {
            fx.push(Effect::Tiered { tier, mistaken: claim == TierClaim::Unknown });
        }
    }

    fn start_pings(&mut self, cx: &Context<'_>) {
        let interval = cx.policy.ping_interval_ms(self.tier);
        if interval > 0 {
            // The first comes between half an interval and a whole one, so that connections
            // that came together are not pinged together.
            let jitter = cx.random % (interval / 2 + 1);
            self.beat_ms = cx.now.mono_ms.saturating_add(interval - jitter);
        }
    }

    fn token_channels_changed(&self, claims: &ConnectionClaims) -> bool {
        // Compared as sets: a token may name a channel twice (in `subs` and in `channels`).
        let mut have = self.subs.iter().filter(|s| s.flags.from_token);
        let has = |name: &str| self.sub(name).is_some_and(|s| s.flags.from_token);
        let claimed = |name: &str| claims.subs.iter().any(|(channel, _)| **channel == *name);
        have.any(|s| !claimed(&s.channel)) || claims.subs.iter().any(|(name, _)| !has(name))
    }
}

enum Refused {
    Error(ClientError),
    Close(Disconnect),
}

/// A position named in `connect.subs`, for a server-side subscription that recovers.
pub(super) fn position_of<'a>(asked: Option<&'a Subscribe<'a>>) -> Option<(u64, &'a str)> {
    asked.filter(|s| s.recover).map(|s| (s.offset, &*s.epoch))
}

//! `publish`, `presence`, `presence_stats` and `history`: what a session may do with channels.

use super::{Context, Effect, Session};
use crate::codes::{ClientError, Disconnect};
use crate::command::History;
use crate::home::{PublishRequest, Request};
use crate::limits;
use crate::model::Since;
use crate::policy::{ChannelOptions, Policy};
use crate::quota::{self, Limit};
use plimsoll_overload::actions::PresenceScope;
use plimsoll_overload::feature::{Class, Feature};
use plimsoll_overload::gates::ClassGate;
use std::sync::Arc;

impl Session {
    pub(super) fn publish(
        &mut self,
        id: u32,
        channel: &str,
        data: &str,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let options = match resolve(channel, cx) {
            Ok(options) => options,
            Err(refusal) => return refusal.tell(id, fx),
        };
        let sub = self.sub(channel);
        let flags = Allowed {
            client: options.allow_publish_for_client,
            subscriber: options.allow_publish_for_subscriber,
            anonymous: options.allow_publish_for_anonymous,
        };
        if !flags.permit(&self.user, sub.is_some(), cx.policy) {
            return fx.push(Effect::Error { id, error: ClientError::PERMISSION_DENIED });
        }
        if !cx.gates.allows(options.feature) || cx.gates.class(options.class) == ClassGate::Drop {
            return fx.push(Effect::Error { id, error: ClientError::FEATURE_OFF });
        }
        if data.is_empty() || (options.require_json_object && !data.starts_with('{')) {
            return fx.push(Effect::Error { id, error: ClientError::BAD_REQUEST });
        }
        if options.class == Class::Ephemeral && self.is_too_soon(channel, options, cx) {
            // The one before says the same, and is still true: typing, a cursor. It costs nothing.
            return fx.push(Effect::LeftOut { id });
        }
        if let Err(limit) = self.pay_publication(cx) {
            return fx.push(Effect::Limited { id, limit });
        }
        let sub = self.sub(channel);
        let chan_info = sub.and_then(|s| s.extra.as_ref()).and_then(|e| e.chan_info.clone());
        let request = PublishRequest {
            data: data.into(),
            info: Some(self.info(chan_info)),
            payer: self.payer.clone(),
            ..PublishRequest::default()
        };
        // The subscription's name is shared when there is one; a stranger's is made.
        let name = sub.map_or_else(|| Arc::from(channel), |s| Arc::clone(&s.channel));
        self.ask(id, name, Request::Publish(request), fx);
    }

    /// The connection's own limit first: who is over it takes nothing from others.
    fn pay_publication(&mut self, cx: &Context<'_>) -> Result<(), Limit> {
        let now_ms = cx.now.mono_ms;
        let (rate, burst) = cx.policy.publish_limit(self.tier, cx.gates.publish_factor);
        if !self.publications.take(rate, burst, now_ms) {
            return Err(Limit::PublishRate);
        }
        match &self.payer {
            Some(payer) => payer.publish(&cx.policy.quotas, quota::share(cx.gates), now_ms),
            None => Ok(()),
        }
    }

    /// Came an ephemeral publication sooner after the last one than the load allows? One to a
    /// channel and connection per interval; without a subscription there is no place to count.
    fn is_too_soon(&mut self, channel: &str, options: &ChannelOptions, cx: &Context<'_>) -> bool {
        let interval_ms = match (options.feature, cx.gates.typing, cx.gates.ephemeral_factor) {
            (Some(Feature::Typing), Some(typing), _) => u64::from(typing.interval_ms),
            (_, _, Some(factor)) if factor > 1.0 => (factor * limits::EPHEMERAL_INTERVAL_MS) as u64,
            _ => return false,
        };
        let now_ms = cx.now.mono_ms;
        let Some(sub) = self.subs.iter_mut().find(|s| *s.channel == *channel) else { return false };
        let extra = sub.extra.get_or_insert_default();
        if extra.spoke_ms.is_some_and(|at| now_ms < at + interval_ms) {
            return true;
        }
        extra.spoke_ms = Some(now_ms);
        false
    }

    pub(super) fn presence(
        &mut self,
        id: u32,
        channel: &str,
        stats: bool,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let options = match resolve(channel, cx) {
            Ok(options) => options,
            Err(refusal) => return refusal.tell(id, fx),
        };
        let error = |error| Effect::Error { id, error };
        if !options.presence {
            return fx.push(error(ClientError::NOT_AVAILABLE));
        }
        if !self.may_see_presence(options, self.sub(channel).is_some(), cx.policy) {
            return fx.push(error(ClientError::PERMISSION_DENIED));
        }
        let off = cx.gates.presence == PresenceScope::Off;
        if off || (stats && !cx.gates.allows(Some(Feature::Apis))) {
            return fx.push(error(ClientError::FEATURE_OFF));
        }
        let request = if stats { Request::PresenceStats } else { Request::Presence };
        self.ask(id, Arc::from(channel), request, fx);
    }

    pub(super) fn history(
        &mut self,
        id: u32,
        h: &History<'_>,
        cx: &Context<'_>,
        fx: &mut Vec<Effect>,
    ) {
        let options = match resolve(&h.channel, cx) {
            Ok(options) => options,
            Err(refusal) => return refusal.tell(id, fx),
        };
        let error = |error| Effect::Error { id, error };
        if !options.has_history() {
            return fx.push(error(ClientError::NOT_AVAILABLE));
        }
        if !self.may_read_history(options, self.sub(&h.channel).is_some(), cx.policy) {
            return fx.push(error(ClientError::PERMISSION_DENIED));
        }
        if h.reverse && h.since.as_ref().is_some_and(|(offset, _)| *offset == 0) {
            return fx.push(error(ClientError::BAD_REQUEST));
        }
        let since = h
            .since
            .as_ref()
            .map(|(offset, epoch)| Since { offset: *offset, epoch: Box::from(&**epoch) });
        let most = cx.policy.client.history_max_publication_limit;
        let limit = usize::try_from(h.limit).map_or(most, |n| n.min(most));
        // Asking for the end of the stream alone (a limit of 0) costs nothing and is not browsing.
        if limit > 0 && !self.may_browse(cx) {
            return fx.push(error(ClientError::FEATURE_OFF));
        }
        let limit = limit.min(cx.gates.history_rows as usize);
        let request = Request::History { since, limit, reverse: h.reverse };
        self.ask(id, Arc::from(&*h.channel), request, fx);
    }

    /// Pages of history come as often as the load allows. Recovery is another thing.
    fn may_browse(&mut self, cx: &Context<'_>) -> bool {
        let now_ms = cx.now.mono_ms;
        let next_ms = self.browsed_ms.saturating_add(u64::from(cx.gates.history_interval_ms));
        let may = cx.gates.history_rows > 0 && (self.browsed_ms == 0 || next_ms <= now_ms);
        if may && cx.gates.history_interval_ms > 0 {
            self.browsed_ms = now_ms;
        }
        may
    }

    pub(super) fn may_see_presence(
        &self,
        o: &ChannelOptions,
        subscribed: bool,
        policy: &Policy,
    ) -> bool {
        let flags = Allowed {
            client: o.allow_presence_for_client,
            subscriber: o.allow_presence_for_subscriber,
            anonymous: o.allow_presence_for_anonymous,
        };
        flags.permit(&self.user, subscribed, policy)
    }

    pub(super) fn may_read_history(
        &self,
        o: &ChannelOptions,
        subscribed: bool,
        policy: &Policy,
    ) -> bool {
        let flags = Allowed {
            client: o.allow_history_for_client,
            subscriber: o.allow_history_for_subscriber,
            anonymous: o.allow_history_for_anonymous,
        };
        flags.permit(&self.user, subscribed, policy)
    }
}

/// The three ways of a namespace to allow something.
struct Allowed {
    client: bool,
    subscriber: bool,
    anonymous: bool,
}

impl Allowed {
    fn permit(&self, user: &str, subscribed: bool, policy: &Policy) -> bool {
        (self.client && (!user.is_empty() || self.anonymous))
            || (self.subscriber && subscribed)
            || policy.client.insecure
    }
}

enum Refusal {
    Error(ClientError),
    Close(Disconnect),
}

impl Refusal {
    fn tell(self, id: u32, fx: &mut Vec<Effect>) {
        fx.push(match self {
            Self::Error(error) => Effect::Error { id, error },
            Self::Close(d) => Effect::Close(d),
        });
    }
}

fn resolve<'a>(channel: &'a str, cx: &'a Context<'_>) -> Result<&'a ChannelOptions, Refusal> {
    if channel.is_empty() {
        return Err(Refusal::Close(Disconnect::BAD_REQUEST));
    }
    cx.channels.resolve(channel).map(|r| r.options).map_err(Refusal::Error)
}

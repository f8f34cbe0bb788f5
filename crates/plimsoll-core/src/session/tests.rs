//! Sessions, driven by commands and answers.

use super::*;
use crate::codes::Unsubscribed;
use crate::command::{Connect, History, Subscribe};
use crate::home::{Home, PublishRequest, Request};
use crate::hub::{Encoding, Hub};
use crate::policy::{ChannelOptions, ChannelPolicy, ClientPolicy, Namespace, RecoveryMode};
use crate::tier::{Tier, TierClaim};
use crate::token::{ConnectionClaims, Overrides, SubscriptionClaims, SubscriptionOptions};
use crate::token::{TokenError, TokenVerifier};
use plimsoll_overload::feature::{Class, Feature};
use plimsoll_overload::gates::{Gates, LEVELS, ReceiptsGate};
use plimsoll_overload::level::Level;
use proptest::prelude::*;
use std::collections::VecDeque;

mod tiers;

/// Tokens are readable: `user=42;exp=10;subs=a,b`. Times are seconds after the test's start;
/// `exp` is checked by the verifier, `until` only says when what it allows ends.
struct Readable;

fn field<'a>(token: &'a str, name: &str) -> Option<&'a str> {
    token.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn ends(token: &str, unix_ms: u64) -> Result<Option<u64>, TokenError> {
    let at = |name| field(token, name).map(|s| UNIX_MS + s.parse::<u64>().unwrap() * 1_000);
    match at("exp") {
        _ if token == "bad" => Err(TokenError::Invalid),
        Some(exp) if exp <= unix_ms => Err(TokenError::Expired),
        exp => Ok(at("until").or(exp)),
    }
}

fn text(token: &str, name: &str) -> Option<Box<str>> {
    field(token, name).map(Into::into)
}

impl TokenVerifier for Readable {
    fn connection(&self, token: &str, unix_ms: u64) -> Result<ConnectionClaims, TokenError> {
        let subs = field(token, "subs").into_iter().flat_map(|s| s.split(','));
        Ok(ConnectionClaims {
            expires_at_ms: ends(token, unix_ms)?,
            user: text(token, "user").unwrap_or_default(),
            info: text(token, "info"),
            subs: subs.map(|s| (s.into(), SubscriptionOptions::default())).collect(),
            tenant: Box::default(),
            tier: match field(token, "tier") {
                None => TierClaim::Absent,
                Some(name) => Tier::parse(name).map_or(TierClaim::Unknown, TierClaim::Known),
            },
        })
    }

    fn subscription(&self, token: &str, unix_ms: u64) -> Result<SubscriptionClaims, TokenError> {
        let on = |name| field(token, "on").is_some_and(|s| s.split(',').any(|n| n == name));
        let overrides = Overrides {
            presence: on("presence").then_some(true),
            join_leave: on("join_leave").then_some(true),
            force_recovery: on("recovery").then_some(true),
            force_positioning: on("positioning").then_some(true),
            force_push_join_leave: on("push").then_some(true),
        };
        Ok(SubscriptionClaims {
            expires_at_ms: ends(token, unix_ms)?,
            user: text(token, "user").unwrap_or_default(),
            channel: text(token, "channel").unwrap_or_default(),
            client: text(token, "client"),
            options: SubscriptionOptions {
                info: text(token, "info"),
                data: text(token, "data"),
                overrides,
            },
        })
    }
}

const UNIX_MS: u64 = 1_700_000_000_000;
const ME: ClientId = ClientId([7; 16]);

/// One payer for everybody, if any.
#[derive(Default)]
struct Purse(Option<Arc<Payer>>);

impl Payers for Purse {
    fn payer(&self, _: &str, _: &str, _: u64) -> Option<Arc<Payer>> {
        self.0.clone()
    }
}

enum Letter {
    Ask(u32, Arc<str>, Request),
    Tell(Arc<str>, Request),
}

/// A worker of one connection, with the home of all channels beside it.
struct Desk {
    gates: Gates,
    purse: Purse,
    policy: Policy,
    channels: Arc<Channels>,
    home: Home,
    hub: Hub,
    session: Session,
    ms: u64,
    random: u64,
    to_home: VecDeque<Letter>,
    answers: VecDeque<(u32, Arc<str>, Answer)>,
    waiting: VecDeque<(u32, Body<'static>)>,
    /// What the client was told since the last look.
    said: Vec<String>,
    /// Letters move only when the test says so.
    slow: bool,
    closed: bool,
}

/// Namespaces of the tests. Without one, clients with a user id may subscribe and nothing else.
fn namespaces() -> Vec<Namespace> {
    let open = ChannelOptions { allow_subscribe_for_client: true, ..Default::default() };
    let history = ChannelOptions { history_size: 3, history_ttl_ms: 60_000, ..open.clone() };
    let cache = ChannelOptions { recovery_mode: RecoveryMode::Cache, ..history.clone() };
    [
        ("shut", ChannelOptions::default()),
        ("anon", ChannelOptions { allow_subscribe_for_anonymous: true, ..open.clone() }),
        ("lower", ChannelOptions { channel_regex: Some("^[a-z]+$".into()), ..open.clone() }),
        ("user", ChannelOptions { allow_user_limited_channels: true, ..Default::default() }),
        ("room", ChannelOptions { presence: true, join_leave: true, ..open.clone() }),
        (
            "object",
            ChannelOptions {
                require_json_object: true,
                allow_publish_for_client: true,
                ..open.clone()
            },
        ),
        ("history", history.clone()),
        ("recover", ChannelOptions { allow_recovery: true, ..history.clone() }),
        ("forced", ChannelOptions { force_recovery: true, ..history.clone() }),
        ("cache", ChannelOptions { allow_recovery: true, ..cache.clone() }),
        ("auto", ChannelOptions { auto_cache_recover: true, ..cache }),
    ]
    .map(|(name, options)| Namespace { name: name.into(), options })
    .into()
}

fn policy() -> Policy {
    let without_namespace =
        ChannelOptions { allow_subscribe_for_client: true, ..Default::default() };
    let channel =
        ChannelPolicy { without_namespace, namespaces: namespaces(), ..Default::default() };
    Policy { channel, ..Default::default() }
}

fn client(change: impl FnOnce(&mut ClientPolicy)) -> Policy {
    let mut p = policy();
    change(&mut p.client);
    p
}

/// A policy whose channels without a namespace have these options.
fn plain(options: ChannelOptions) -> Policy {
    let mut p = policy();
    p.channel.without_namespace = options;
    p
}

impl Desk {
    fn new(policy: Policy) -> Self {
        let channels = Arc::new(Channels::new(policy.channel.clone()).unwrap());
        let now = Now { mono_ms: 0, unix_ms: UNIX_MS };
        let limit = policy.client.recovery_max_publication_limit;
        Self {
            gates: Gates::default(),
            purse: Purse::default(),
            session: Session::new(ME, &"".into(), &policy, now),
            home: Home::new(Arc::clone(&channels), limit, 1),
            hub: Hub::new(1),
            policy,
            channels,
            ms: 0,
            random: 0,
            to_home: VecDeque::new(),
            answers: VecDeque::new(),
            waiting: VecDeque::new(),
            said: Vec::new(),
            slow: false,
            closed: false,
        }
    }

    /// Connected as user 42.
    fn open(policy: Policy) -> Self {
        let mut desk = Self::new(policy);
        assert_eq!(desk.told(1, connect("user=42")), "1 connect");
        desk
    }

    fn run(&mut self, act: impl FnOnce(&mut Session, &Context<'_>, &mut Vec<Effect>)) {
        let mut fx = Vec::new();
        let cx = Context {
            policy: &self.policy,
            channels: &self.channels,
            tokens: &Readable,
            now: Now { mono_ms: self.ms, unix_ms: UNIX_MS + self.ms },
            random: self.random,
            gates: &self.gates,
            payers: &self.purse,
        };
        act(&mut self.session, &cx, &mut fx);
        for effect in fx {
            // As the worker does it: after a close only what gives something back.
            if !self.closed || matches!(effect, Effect::Leave(_)) {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { id, body } => self.said.push(format!("{id} {}", reply(&body))),
            Effect::Error { id, error } => self.said.push(format!("{id} error {}", error.code)),
            Effect::Limited { id, limit } => self.said.push(format!("{id} limited by {limit:?}")),
            Effect::LeftOut { id } => self.said.push(format!("{id} left out")),
            Effect::Push(push) => self.said.push(pushed(&push)),
            Effect::Ping => self.said.push("ping".into()),
            Effect::Enter { user } => assert_eq!(user, *self.session.user()),
            Effect::Tiered { tier, mistaken } => {
                let mistaken = if mistaken { " (mistaken)" } else { "" };
                self.said.push(format!("tier {}{mistaken}", tier.name()));
            }
            Effect::Ask { id, channel, request } => {
                self.to_home.push_back(Letter::Ask(id, channel, request));
            }
            Effect::Activate { channel, join_leave, .. } => {
                let encoding = Encoding { join_leave, ..Default::default() };
                let place = self.hub.subscribe(&channel, 0, encoding, || Class::Durable);
                assert!(self.session.set_place(&channel, place));
            }
            Effect::Leave(left) => self.leave(left),
            Effect::FinishUnsubscribe { id, channel } => {
                self.run(|s, _, fx| s.finish_unsubscribe(id, &channel, fx));
            }
            Effect::Close(d) => {
                self.said.push(format!("close {}", d.code));
                self.close();
            }
        }
    }

    fn leave(&mut self, left: Left) {
        if let Some(place) = left.place {
            self.hub.unsubscribe(place);
        }
        let request = Request::Unsubscribe { member: left.member, announce: left.announce };
        self.to_home.push_back(Letter::Tell(left.channel, request));
    }

    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.run(|s, _, fx| s.close(fx));
    }

    /// The home handles one letter. False: there was none.
    fn home_turn(&mut self) -> bool {
        match self.to_home.pop_front() {
            Some(Letter::Ask(id, channel, request)) => {
                let answer = self.home.handle(Some(0), &channel, request, self.ms).answer;
                self.answers.push_back((id, channel, answer));
            }
            Some(Letter::Tell(channel, request)) => {
                self.home.handle(Some(0), &channel, request, self.ms);
            }
            None => return false,
        }
        true
    }

    /// The session gets one answer, then the commands that waited for it.
    fn answer_turn(&mut self) -> bool {
        let Some((id, channel, answer)) = self.answers.pop_front() else { return false };
        match answer {
            Answer::Subscribed(s) if self.closed => self.leave(Left::unwanted(&channel, &s)),
            _ if self.closed => {}
            answer => self.run(|s, cx, fx| s.on_answer(id, &channel, answer, cx, fx)),
        }
        while !self.session.must_wait()
            && let Some((id, body)) = self.waiting.pop_front()
        {
            self.run(|s, cx, fx| s.handle(Command { id, body }, cx, fx));
        }
        true
    }

    fn settle(&mut self) {
        while self.home_turn() || self.answer_turn() {}
    }

    fn send(&mut self, id: u32, body: Body<'static>) {
        if self.closed {
            return;
        }
        if self.session.must_wait() {
            return self.waiting.push_back((id, body));
        }
        self.run(|s, cx, fx| s.handle(Command { id, body }, cx, fx));
        if !self.slow {
            self.settle();
        }
    }

    /// All that was said since the last look.
    fn look(&mut self) -> String {
        std::mem::take(&mut self.said).join("; ")
    }

    fn told(&mut self, id: u32, body: Body<'static>) -> String {
        self.send(id, body);
        self.look()
    }

    fn publish(&mut self, channel: &str, data: &str) {
        let r = PublishRequest { data: data.into(), ..Default::default() };
        self.home.handle(None, &channel.into(), Request::Publish(r), self.ms);
    }

    /// Time passes until the next deadline, which is performed.
    fn deadline(&mut self) -> String {
        self.ms = self.session.deadline_ms(&self.policy);
        self.run(|s, cx, fx| s.on_deadline(cx, fx));
        self.settle();
        let said = self.look();
        format!("{} {said}", self.ms)
    }

    fn epoch(&mut self, channel: &str) -> String {
        let page = Request::History { since: None, limit: 0, reverse: false };
        match self.home.handle(None, &channel.into(), page, self.ms).answer {
            Answer::History(page) => page.position.epoch.as_str().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Subscriptions that the home counts, and members that it knows.
    fn counted(&mut self, channel: &str) -> (usize, usize) {
        let interest = self.home.subscribed().find(|(n, _)| ***n == *channel).map_or(0, |c| c.1);
        match self.home.handle(None, &channel.into(), Request::Presence, self.ms).answer {
            Answer::Presence(members) => (interest, members.len()),
            other => panic!("{other:?}"),
        }
    }
}

fn reply(body: &ReplyBody) -> String {
    let ttl = |ttl: &Option<u64>| ttl.map_or(String::new(), |s| format!(" ttl={s}"));
    match body {
        ReplyBody::Connect(c) => {
            let subs = c.subs.iter().map(|(n, s)| format!(" {n}{}", subscribed(s)));
            format!("connect{}{}", ttl(&c.ttl_s), subs.collect::<String>())
        }
        ReplyBody::Subscribe(s) => format!("subscribe{}", subscribed(s)),
        ReplyBody::Unsubscribe => "unsubscribe".into(),
        ReplyBody::Publish => "publish".into(),
        ReplyBody::Presence(members) => format!("presence {}", members.len()),
        ReplyBody::PresenceStats { clients, users } => format!("stats {clients} {users}"),
        ReplyBody::History(page) => {
            let offsets: Vec<u64> = page.publications.iter().map(|p| p.offset).collect();
            format!("history {offsets:?} @{}", page.position.offset)
        }
        ReplyBody::Refresh { ttl_s } => format!("refresh{}", ttl(ttl_s)),
        ReplyBody::SubRefresh { ttl_s } => format!("sub_refresh{}", ttl(ttl_s)),
    }
}

/// `+p`: positioned, `+r`: recoverable, `@`: offset, `all` or `lost`: recovered or not.
fn subscribed(s: &SubscribeResult) -> String {
    let mut text = String::new();
    text += if s.positioned { "+p" } else { "" };
    text += if s.recoverable { "+r" } else { "" };
    text += &s.position.map_or(String::new(), |p| format!("@{}", p.offset));
    if s.was_recovering {
        let offsets: Vec<u64> = s.publications.iter().map(|p| p.offset).collect();
        text += &if s.recovered { format!(" all {offsets:?}") } else { " lost".into() };
    } else if let [marks] = &s.publications[..] {
        text += &format!(" {}", marks.data);
    }
    text += &s.ttl_s.map_or(String::new(), |ttl| format!(" ttl={ttl}"));
    text += &s.data.as_ref().map_or(String::new(), |d| format!(" data={d}"));
    text
}

fn pushed(push: &Push) -> String {
    match push {
        Push::Unsubscribe { channel, why } => format!("push unsubscribe {channel} {}", why.code),
        Push::Subscribe { channel, result } => {
            format!("push subscribe {channel}{}", subscribed(result))
        }
        Push::Refresh { ttl_s } => format!("push refresh {ttl_s:?}"),
    }
}

fn connect(token: &'static str) -> Body<'static> {
    Body::Connect(Connect { token: token.into(), ..Default::default() })
}

fn connect_with(token: &'static str, subs: &[&'static str]) -> Body<'static> {
    let ask = |c: &&'static str| Subscribe { channel: (*c).into(), ..Default::default() };
    Body::Connect(Connect { token: token.into(), subs: subs.iter().map(ask).collect() })
}

fn subscribe(channel: &'static str) -> Body<'static> {
    subscribe_token(channel, "")
}

fn subscribe_token(channel: &'static str, token: &'static str) -> Body<'static> {
    let (channel, token) = (channel.into(), token.into());
    Body::Subscribe(Subscribe { channel, token, ..Default::default() })
}

fn recover(channel: &'static str, offset: u64, epoch: &str, flag: i64) -> Body<'static> {
    let (channel, epoch) = (channel.into(), epoch.to_owned().into());
    Body::Subscribe(Subscribe { channel, recover: true, offset, epoch, flag, ..Default::default() })
}

fn unsubscribe(channel: &'static str) -> Body<'static> {
    Body::Unsubscribe { channel: channel.into() }
}

fn publish(channel: &'static str, data: &'static str) -> Body<'static> {
    Body::Publish { channel: channel.into(), data: data.into() }
}

fn presence(channel: &'static str) -> Body<'static> {
    Body::Presence { channel: channel.into() }
}

fn history(channel: &'static str, limit: i32) -> Body<'static> {
    Body::History(History { channel: channel.into(), limit, ..Default::default() })
}

fn refresh(token: &'static str) -> Body<'static> {
    Body::Refresh { token: token.into() }
}

fn sub_refresh(channel: &'static str, token: &'static str) -> Body<'static> {
    Body::SubRefresh { channel: channel.into(), token: token.into() }
}

// --- Order of commands ----------------------------------------------------------------------

#[test]
fn connect_comes_first_and_once() {
    for body in [
        subscribe("a"),
        publish("a", "1"),
        Body::Rpc,
        Body::Ping,
        Body::Send { active: false },
        Body::Pong,
    ] {
        let what = format!("{body:?}");
        assert_eq!(Desk::new(policy()).told(1, body), "close 3501", "{what}");
    }
    assert_eq!(Desk::open(policy()).told(2, connect("user=42")), "close 3501");
    assert_eq!(Desk::new(policy()).told(0, connect("user=42")), "close 3501");
}

#[test]
fn only_send_and_pong_go_without_id() {
    for body in [subscribe("a"), unsubscribe("a"), history("a", 1), refresh("user=42"), Body::Rpc] {
        let what = format!("{body:?}");
        assert_eq!(Desk::open(policy()).told(0, body), "close 3501", "{what}");
    }
    assert_eq!(Desk::open(policy()).told(0, Body::Send { active: false }), "close 3508");
    assert_eq!(Desk::open(policy()).told(0, Body::Pong), "close 3501", "no ping was sent");
    assert_eq!(Desk::open(policy()).told(2, Body::Rpc), "2 error 104");
    assert_eq!(Desk::open(policy()).told(2, Body::Ping), "2 error 108");
}

#[test]
fn a_command_needs_its_channel() {
    let all = [
        subscribe(""),
        unsubscribe(""),
        publish("", "1"),
        presence(""),
        Body::PresenceStats { channel: "".into() },
        history("", 1),
        sub_refresh("", "user=42"),
    ];
    for body in all {
        let what = format!("{body:?}");
        assert_eq!(Desk::open(policy()).told(2, body), "close 3501", "{what}");
    }
}

// --- Connect --------------------------------------------------------------------------------

#[test]
fn tokens_say_who_connects() {
    let anonymous = client(|c| c.allow_anonymous_connect_without_token = true);
    let named = client(|c| c.disallow_anonymous_connection_tokens = true);
    let long: &'static str = "x".repeat(limits::TOKEN_BYTES_MAX + 1).leak();
    for (policy, token, want) in [
        (policy(), "user=42", "1 connect"),
        (policy(), "user=42;exp=10", "1 connect ttl=10"),
        (policy(), "user=", "1 connect"),
        (policy(), "", "close 3501"),
        (policy(), "bad", "close 3500"),
        (policy(), long, "close 3500"),
        (policy(), "user=42;exp=0", "1 error 109"),
        (anonymous.clone(), "", "1 connect"),
        (anonymous, "bad", "close 3500"),
        (client(|c| c.insecure = true), "", "1 connect"),
        (named.clone(), "user=", "close 3507"),
        (named.clone(), "user=42", "1 connect"),
        (named, "", "close 3501"),
    ] {
        assert_eq!(Desk::new(policy).told(1, connect(token)), want, "{token:.20}");
    }
}

#[test]
fn after_a_refused_connect_nothing_goes() {
    for body in [subscribe("a"), connect("user=42"), Body::Rpc] {
        let mut d = Desk::new(policy());
        assert_eq!(d.told(1, connect("user=42;exp=0")), "1 error 109");
        assert_eq!(d.session.phase(), Phase::Refused);
        assert_eq!(d.told(2, body), "close 3501");
    }
    let mut d = Desk::new(policy());
    d.send(1, connect("exp=0"));
    assert_eq!(d.deadline(), "5000 1 error 109; close 3502");
    assert_eq!(Desk::new(policy()).deadline(), "10000 close 3502", "never a connect");
}

#[test]
fn server_side_subscriptions_come_with_the_connect() {
    let personal = client(|c| {
        c.subscribe_to_user_personal_channel = true;
        c.user_personal_channel_namespace = "user".into();
    });
    let two = client(|c| c.channel_limit = 2);
    let anonymous = client(|c| c.insecure = true);
    for (policy, token, subs, want) in [
        (policy(), "user=42;subs=a,b", &[][..], "1 connect a b"),
        (policy(), "user=42;subs=a,a", &["a"], "1 connect a"),
        (policy(), "user=42;subs=$a,shut:b", &[], "1 connect $a shut:b"),
        (policy(), "user=42;subs=forced:a", &[], "1 connect forced:a+p+r@0"),
        (
            policy(),
            "user=42",
            &["a", "$a", "shut:a", "user:a#42", "user:a#4"],
            "1 connect a user:a#42",
        ),
        (policy(), "user=", &["a", "anon:a", "user:#"], "1 connect anon:a"),
        (policy(), "user=42", &["nope:a"], "close 3501"),
        (policy(), "user=42", &["lower:A"], "close 3501"),
        (policy(), "user=42;subs=nope:a", &[], "close 3501"),
        (personal.clone(), "user=42", &[], "1 connect user:#42"),
        (personal.clone(), "user=42;subs=a", &["user:#42"], "1 connect a user:#42"),
        (personal, "user=", &[], "1 connect"),
        (two.clone(), "user=42;subs=a,b", &[], "1 connect a b"),
        (two, "user=42;subs=a,b,c", &[], "close 3505"),
        (anonymous, "", &["shut:a", "$a"], "1 connect shut:a"),
    ] {
        let mut d = Desk::new(policy);
        assert_eq!(d.told(1, connect_with(token, subs)), want, "{token} {subs:?}");
    }
}

#[test]
fn a_connect_recovers_its_server_side_subscriptions() {
    let mut d = Desk::new(policy());
    for data in ["1", "2"] {
        d.publish("forced:a", data);
    }
    let channel = "forced:a".into();
    let position = Subscribe { channel, recover: true, offset: 1, ..Default::default() };
    let body = Connect { token: "user=42;subs=forced:a".into(), subs: vec![position] };
    assert_eq!(d.told(1, Body::Connect(body)), "1 connect forced:a+p+r@1 all [2]");
}

#[test]
fn commands_wait_for_the_connect() {
    let mut d = Desk::new(policy());
    d.slow = true;
    d.send(1, connect("user=42;subs=a,b"));
    d.send(2, subscribe("a"));
    d.send(3, subscribe("c"));
    assert!(d.session.must_wait());
    assert_eq!(d.look(), "");
    d.settle();
    assert_eq!(d.look(), "1 connect a b; 2 error 105; 3 subscribe");
}

#[test]
fn a_home_that_refuses_ends_the_connect() {
    let mut d = Desk::new(policy());
    d.slow = true;
    d.send(1, connect("user=42;subs=a,b"));
    let cannot = Answer::Error(ClientError::LIMIT_EXCEEDED);
    d.run(|s, cx, fx| s.on_answer(0, &"a".into(), cannot, cx, fx));
    assert_eq!(d.look(), "close 3004");
    d.settle();
    assert_eq!(d.counted("b"), (0, 0));
}

// --- Subscribe ------------------------------------------------------------------------------

#[test]
fn subscribes_are_checked_in_the_order_of_the_protocol() {
    let long: &'static str = "x".repeat(256).leak();
    let mut d = Desk::open(client(|c| c.channel_limit = 2));
    let with = |channel: &'static str, change: fn(&mut Subscribe<'static>)| {
        let mut s = Subscribe { channel: channel.into(), ..Default::default() };
        change(&mut s);
        Body::Subscribe(s)
    };
    for (body, want) in [
        (subscribe("a"), "2 subscribe"),
        (subscribe(long), "2 error 107"),
        (subscribe("caf\u{e9}"), "2 error 107"),
        (subscribe("lower:A"), "2 error 107"),
        (with("a", |s| s.kind = 1), "2 error 105"),
        (subscribe("nope:a"), "2 error 102"),
        (with("nope:a", |s| s.kind = 1), "2 error 102"),
        (with("b", |s| s.kind = 1), "2 error 103"),
        (with("$b", |s| s.filtered = true), "2 error 103"),
        (with("b", |s| s.filtered = true), "2 error 107"),
        (subscribe("shut:a"), "2 error 103"),
        (subscribe("b"), "2 subscribe"),
        (subscribe("a"), "2 error 105"),
        (subscribe("c"), "2 error 106"),
        (subscribe("nope:a"), "2 error 106"),
        (subscribe(long), "2 error 107"),
        (unsubscribe("b"), "2 unsubscribe"),
        (with("b", |s| s.delta = "fossil".into()), "2 subscribe"),
        (unsubscribe("b"), "2 unsubscribe"),
        (with("b", |s| s.delta = "other".into()), "close 3501"),
    ] {
        let what = format!("{body:?}");
        assert_eq!(d.told(2, body), want, "{what:.100}");
    }
}

#[test]
fn who_may_subscribe() {
    let insecure = client(|c| c.insecure = true);
    for (policy, user, channel, want) in [
        (policy(), "user=42", "a", "2 subscribe"),
        (policy(), "user=", "a", "2 error 103"),
        (policy(), "user=", "anon:a", "2 subscribe"),
        (policy(), "user=42", "$a", "2 error 103"),
        (policy(), "user=42", "shut:a", "2 error 103"),
        (policy(), "user=42", "user:a#42", "2 subscribe"),
        (policy(), "user=42", "user:a#1,42", "2 subscribe"),
        (policy(), "user=42", "user:a#1,4", "2 error 103"),
        (policy(), "user=", "user:a#", "2 error 103"),
        (policy(), "user=42", "user:a", "2 error 103"),
        (insecure.clone(), "user=", "shut:a", "2 subscribe"),
        (insecure, "user=", "$a", "2 error 103"),
    ] {
        let mut d = Desk::new(policy);
        d.send(1, connect(user));
        d.look();
        assert_eq!(d.told(2, subscribe(channel)), want, "{user} {channel}");
    }
}

#[test]
fn subscription_tokens_decide() {
    let me = ME.to_string();
    let mine: &'static str = format!("user=42;channel=$a;client={me}").leak();
    for (token, want) in [
        ("user=42;channel=$a", "2 subscribe"),
        ("user=42;channel=$a;data={}", "2 subscribe data={}"),
        ("user=42;channel=$a;exp=10", "2 subscribe ttl=10"),
        (mine, "2 subscribe"),
        ("user=42;channel=$a;client=other", "close 3500"),
        ("user=43;channel=$a", "close 3500"),
        ("channel=$a", "close 3500"),
        ("user=42;channel=$b", "close 3500"),
        ("user=42", "close 3500"),
        ("bad", "2 error 103"),
        ("user=42;channel=$a;exp=0", "2 error 109"),
        ("user=42;channel=$a;until=0", "2 error 109"),
    ] {
        let mut d = Desk::open(policy());
        assert_eq!(d.told(2, subscribe_token("$a", token)), want, "{token}");
    }
}

// --- Publish, presence, history -------------------------------------------------------------

/// Who is allowed what: bits of (client, subscriber, anonymous).
const WAYS: [(bool, bool, bool); 8] = [
    (false, false, false),
    (true, false, false),
    (false, true, false),
    (false, false, true),
    (true, true, false),
    (true, false, true),
    (false, true, true),
    (true, true, true),
];

#[test]
fn permissions_by_client_subscriber_and_anonymous() {
    for (named, subscriber, anonymous) in WAYS {
        let policy = plain(ChannelOptions {
            allow_subscribe_for_client: true,
            allow_subscribe_for_anonymous: true,
            presence: true,
            history_size: 3,
            history_ttl_ms: 60_000,
            allow_publish_for_client: named,
            allow_publish_for_subscriber: subscriber,
            allow_publish_for_anonymous: anonymous,
            allow_presence_for_client: named,
            allow_presence_for_subscriber: subscriber,
            allow_presence_for_anonymous: anonymous,
            allow_history_for_client: named,
            allow_history_for_subscriber: subscriber,
            allow_history_for_anonymous: anonymous,
            ..Default::default()
        });
        for (user, subscribes) in [("42", false), ("42", true), ("", false), ("", true)] {
            let mut d = Desk::new(policy.clone());
            d.send(1, connect(if user.is_empty() { "user=" } else { "user=42" }));
            if subscribes {
                d.send(2, subscribe("a"));
            }
            let may = (named && (!user.is_empty() || anonymous)) || (subscriber && subscribes);
            let stats = Body::PresenceStats { channel: "a".into() };
            for body in [publish("a", "{}"), presence("a"), stats, history("a", 1)] {
                d.look();
                let what = format!("{body:?} {user} {subscribes} {named} {subscriber} {anonymous}");
                assert_eq!(d.told(3, body) != "3 error 103", may, "{what}");
            }
        }
    }
}

#[test]
fn what_is_off_is_told_before_what_is_forbidden() {
    for (body, want) in [
        (presence("shut:a"), "2 error 108"),
        (Body::PresenceStats { channel: "shut:a".into() }, "2 error 108"),
        (history("shut:a", 1), "2 error 108"),
        (presence("room:a"), "2 error 103"),
        (history("history:a", 1), "2 error 103"),
        (publish("shut:a", "1"), "2 error 103"),
        (publish("nope:a", "1"), "2 error 102"),
        (presence("nope:a"), "2 error 102"),
        (history("lower:A", 1), "2 error 107"),
        (publish("object:a", ""), "2 error 107"),
        (publish("object:a", "[]"), "2 error 107"),
        (publish("object:a", "{}"), "2 publish"),
    ] {
        let what = format!("{body:?}");
        assert_eq!(Desk::open(policy()).told(2, body), want, "{what}");
    }
    let mut d = Desk::open(client(|c| c.insecure = true));
    assert_eq!(d.told(2, presence("room:a")), "2 presence 0");
    assert_eq!(d.told(3, presence("shut:a")), "3 error 108", "off is off");
}

#[test]
fn history_pages() {
    let mut d = Desk::open(client(|c| {
        c.insecure = true;
        c.history_max_publication_limit = 2;
    }));
    for data in ["1", "2", "3"] {
        assert_eq!(d.told(2, publish("history:a", data)), "2 publish");
    }
    let page = |limit, since: Option<(u64, &'static str)>, reverse| {
        let since = since.map(|(offset, epoch)| (offset, epoch.into()));
        Body::History(History { channel: "history:a".into(), limit, since, reverse })
    };
    for (body, want) in [
        (page(0, None, false), "2 history [] @3"),
        (page(1, None, false), "2 history [1] @3"),
        (page(-1, None, false), "2 history [1, 2] @3"),
        (page(9, None, true), "2 history [3, 2] @3"),
        (page(9, Some((1, "")), false), "2 history [2, 3] @3"),
        (page(9, Some((2, "")), true), "2 history [1] @3"),
        (page(9, Some((0, "")), true), "2 error 107"),
        (page(9, Some((1, "other")), false), "2 error 112"),
    ] {
        let what = format!("{body:?}");
        assert_eq!(d.told(2, body), want, "{what}");
    }
}

#[test]
fn members_come_and_go() {
    let mut d = Desk::open(client(|c| c.insecure = true));
    d.send(2, subscribe("room:a"));
    assert_eq!(d.counted("room:a"), (1, 1));
    d.look();
    assert_eq!(d.told(3, Body::PresenceStats { channel: "room:a".into() }), "3 stats 1 1");
    d.send(4, unsubscribe("room:a"));
    assert_eq!(d.counted("room:a"), (0, 0));
    d.send(5, subscribe("a"));
    assert_eq!(d.counted("a"), (1, 0), "no presence without a namespace");
    let token = "user=42;channel=b;on=presence";
    d.send(6, subscribe_token("b", token));
    assert_eq!(d.counted("b"), (1, 1), "the token overrides");
}

#[test]
fn joins_and_leaves_are_pushed_to_who_may_see_them() {
    let asks = |channel: &'static str, token: &'static str| {
        let (channel, token) = (channel.into(), token.into());
        Body::Subscribe(Subscribe { channel, token, join_leave: true, ..Default::default() })
    };
    for (insecure, body, want) in [
        (true, asks("room:a", ""), true),
        (true, subscribe("room:a"), false),
        (true, asks("a", ""), false),
        (false, asks("room:a", ""), false),
        (false, subscribe_token("room:a", "user=42;channel=room:a;on=push"), true),
    ] {
        let what = format!("{body:?}");
        let mut d = Desk::open(client(|c| c.insecure = insecure));
        d.send(2, body);
        let key = d.hub.find("room:a").or_else(|| d.hub.find("a")).unwrap();
        let groups = &d.hub.get_mut(key).unwrap().groups;
        assert_eq!(groups[0].encoding.join_leave, want, "{insecure} {what}");
    }
}

// --- Positions and recovery -----------------------------------------------------------------

#[test]
fn positioned_and_recoverable_when_asked_and_allowed_or_forced() {
    let o = |change: fn(&mut ChannelOptions)| {
        let mut o = ChannelOptions {
            history_size: 3,
            history_ttl_ms: 60_000,
            allow_subscribe_for_client: true,
            ..Default::default()
        };
        change(&mut o);
        o
    };
    // By what the client asks for: nothing, positioned, recoverable.
    for (options, want) in [
        (o(|_| {}), ["", "", ""]),
        (o(|o| o.allow_positioning = true), ["", "+p@0", ""]),
        (o(|o| o.allow_recovery = true), ["", "", "+p+r@0"]),
        (o(|o| o.allow_history_for_client = true), ["", "+p@0", "+p+r@0"]),
        (o(|o| o.allow_history_for_subscriber = true), ["", "+p@0", "+p+r@0"]),
        (o(|o| o.force_positioning = true), ["+p@0", "+p@0", "+p@0"]),
        (o(|o| o.force_recovery = true), ["+p+r@0", "+p+r@0", "+p+r@0"]),
        (
            o(|o| {
                o.force_recovery = true;
                o.history_size = 0;
            }),
            ["", "", ""],
        ),
    ] {
        for (ask, want) in [(0, want[0]), (1, want[1]), (2, want[2])] {
            let mut d = Desk::open(plain(options.clone()));
            let (channel, positioned, recoverable) = ("a".into(), ask == 1, ask == 2);
            let s = Subscribe { channel, positioned, recoverable, ..Default::default() };
            let said = d.told(2, Body::Subscribe(s));
            assert_eq!(said, format!("2 subscribe{want}"), "{ask} {options:?}");
        }
    }
}

#[test]
fn tokens_override_positioning() {
    for (token, want) in [
        ("user=42;channel=history:a;on=recovery", "2 subscribe+p+r@0"),
        ("user=42;channel=history:a;on=positioning", "2 subscribe+p@0"),
        ("user=42;channel=history:a", "2 subscribe"),
    ] {
        let mut d = Desk::open(policy());
        assert_eq!(d.told(2, subscribe_token("history:a", token)), want, "{token}");
    }
}

#[test]
fn recovery_tells_the_requested_offset_or_the_top() {
    for (channel, offset, epoch, flag, want) in [
        ("recover:a", 3, "", 0, "2 subscribe+p+r@3 all [4, 5]"),
        ("recover:a", 2, "same", 0, "2 subscribe+p+r@2 all [3, 4, 5]"),
        ("recover:a", 5, "same", 0, "2 subscribe+p+r@5 all []"),
        ("recover:a", 1, "same", 0, "2 subscribe+p+r@5 lost"),
        ("recover:a", 6, "same", 0, "2 subscribe+p+r@5 lost"),
        ("recover:a", 3, "other", 0, "2 subscribe+p+r@5 lost"),
        ("recover:a", 3, "same", 3, "2 subscribe+p+r@3 all [4, 5]"),
        ("recover:a", 3, "other", 1, "2 subscribe+p+r@5 lost"),
        ("recover:a", 3, "other", 2, "2 error 112"),
        ("recover:a", 1, "same", 3, "2 error 112"),
        ("history:a", 1, "same", 2, "2 subscribe"),
        ("cache:a", 1, "same", 0, "2 subscribe+p+r@1 all [5]"),
        ("cache:a", 9, "other", 0, "2 subscribe+p+r@4 all [5]"),
        ("cache:a", 5, "same", 0, "2 subscribe+p+r@5 all []"),
        ("auto:a", 5, "same", 0, "2 subscribe+p@0 all [5]"),
    ] {
        let mut d = Desk::open(policy());
        for data in ["1", "2", "3", "4", "5"] {
            d.publish(channel, data);
        }
        let epoch = if epoch == "same" { d.epoch(channel) } else { epoch.to_owned() };
        let said = d.told(2, recover(channel, offset, &epoch, flag));
        assert_eq!(said, want, "{channel} {offset} {epoch} {flag}");
        let subscribed = usize::from(!want.contains("error"));
        assert_eq!(d.counted(channel).0, subscribed);
        assert_eq!(d.session.subscription_count(), subscribed);
    }
}

#[test]
fn a_cache_is_delivered_without_being_asked_for() {
    let mut d = Desk::open(policy());
    assert_eq!(d.told(2, subscribe("auto:a")), "2 subscribe+p@0 lost");
    d.publish("auto:a", "1");
    d.publish("auto:a", "2");
    d.send(3, unsubscribe("auto:a"));
    d.look();
    assert_eq!(d.told(4, subscribe("auto:a")), "4 subscribe+p@0 all [2]");
    assert_eq!(d.told(5, subscribe("cache:a")), "5 subscribe");
    let channel = "auto:b".into();
    let flagged = Body::Subscribe(Subscribe { channel, flag: 3, ..Default::default() });
    assert_eq!(d.told(6, flagged), "6 subscribe+p@0 lost", "112 only for who asks to recover");
}

#[test]
fn lost_publications_end_what_follows_positions() {
    let mut d = Desk::open(policy());
    d.send(2, subscribe("forced:a"));
    d.send(3, subscribe("a"));
    d.look();
    d.run(|s, _, fx| s.lost_publications("a", fx));
    d.run(|s, _, fx| s.lost_publications("unknown", fx));
    assert_eq!(d.look(), "");
    d.run(|s, _, fx| s.lost_publications("forced:a", fx));
    assert_eq!(d.look(), "push unsubscribe forced:a 2500");
    let mut d = Desk::new(policy());
    d.send(1, connect("user=42;subs=forced:a"));
    d.run(|s, _, fx| s.lost_publications("forced:a", fx));
    assert_eq!(d.look(), "1 connect forced:a+p+r@0; close 3010");
}

// --- Ends that come while a subscription is pending -----------------------------------------

#[test]
fn unsubscribes_wait_for_their_subscribe() {
    let mut d = Desk::open(policy());
    d.slow = true;
    d.send(2, subscribe("room:a"));
    d.send(3, unsubscribe("room:a"));
    d.send(4, subscribe("room:a"));
    d.send(5, unsubscribe("room:a"));
    d.send(6, unsubscribe("room:a"));
    d.send(7, subscribe("room:a"));
    assert_eq!(d.look(), "");
    d.settle();
    let want = "2 subscribe; 3 unsubscribe; 4 subscribe; 5 unsubscribe; 6 unsubscribe; 7 subscribe";
    assert_eq!(d.look(), want);
    assert_eq!(d.counted("room:a"), (1, 1));
    assert_eq!(d.told(8, unsubscribe("never")), "8 unsubscribe", "it never fails");
}

#[test]
fn a_refused_subscribe_is_answered_before_its_unsubscribe() {
    let mut d = Desk::open(policy());
    d.slow = true;
    d.send(2, recover("recover:a", 3, "other", 2));
    d.send(3, unsubscribe("recover:a"));
    d.settle();
    assert_eq!(d.look(), "2 error 112; 3 unsubscribe");
    assert_eq!(d.counted("recover:a"), (0, 0));
}

#[test]
fn the_server_takes_nothing_away_before_it_is_answered() {
    let mut d = Desk::open(policy());
    d.slow = true;
    d.send(2, subscribe("room:a"));
    d.run(|s, _, fx| s.unsubscribe_by_server("room:a", Unsubscribed::SERVER, fx));
    d.send(3, subscribe("room:a"));
    d.settle();
    assert_eq!(d.look(), "2 subscribe; push unsubscribe room:a 2000; 3 subscribe");
    assert_eq!(d.counted("room:a"), (1, 1), "a late leave does not take the new member");
    d.run(|s, _, fx| s.unsubscribe_by_server("room:a", Unsubscribed::SERVER, fx));
    d.settle();
    assert_eq!(d.look(), "push unsubscribe room:a 2000");
    assert_eq!(d.counted("room:a"), (0, 0));
}

#[test]
fn the_server_changes_subscriptions_of_a_connecting_client() {
    let subscribe = |d: &mut Desk, channel: &str| {
        let options = SubscriptionOptions::default();
        d.run(|s, cx, fx| s.subscribe_by_server(channel, options, None, None, cx, fx));
    };
    let unsubscribe = |d: &mut Desk, channel: &str| {
        d.run(|s, _, fx| s.unsubscribe_by_server(channel, Unsubscribed::SERVER, fx));
    };
    let mut d = Desk::new(policy());
    d.slow = true;
    d.send(1, connect("user=42;subs=a,b,c"));
    assert!(d.home_turn() && d.answer_turn());
    unsubscribe(&mut d, "a"); // answered, but not told
    unsubscribe(&mut d, "b"); // not answered
    subscribe(&mut d, "d");
    subscribe(&mut d, "nope:d");
    d.settle();
    assert_eq!(d.look(), "1 connect c d");
    subscribe(&mut d, "forced:e");
    subscribe(&mut d, "c");
    d.settle();
    assert_eq!(d.look(), "push subscribe forced:e+p+r@0");
    let mut d = Desk::new(policy());
    d.slow = true;
    d.send(1, connect("user=42;subs=a"));
    unsubscribe(&mut d, "a");
    d.settle();
    assert_eq!(d.look(), "1 connect a; push unsubscribe a 2000");
}

#[test]
fn a_close_gives_everything_back_once() {
    let mut d = Desk::open(policy());
    d.send(2, subscribe("a"));
    d.send(3, subscribe("room:a"));
    d.slow = true;
    d.send(4, subscribe("room:b"));
    d.close();
    assert_eq!(d.to_home.len(), 3, "one question, two leaves");
    d.run(|s, _, fx| s.close(fx));
    assert_eq!(d.to_home.len(), 3);
    assert!(d.home_turn());
    assert_eq!(d.counted("room:b"), (1, 1), "granted, but nobody is there any more");
    d.settle();
    for channel in ["a", "room:a", "room:b"] {
        assert_eq!(d.counted(channel), (0, 0), "{channel}");
    }
    assert_eq!(d.hub.subscription_count(), 0);
}

// --- Time -----------------------------------------------------------------------------------

#[test]
fn the_first_ping_comes_between_half_an_interval_and_a_whole_one() {
    for random in [0, 1, 12_500, 12_501, 999_999_937, u64::MAX] {
        let mut d = Desk::new(policy());
        d.random = random;
        d.send(1, connect("user=42"));
        let at = d.session.deadline_ms(&d.policy);
        assert!((12_500..=25_000).contains(&at), "{random}: {at}");
    }
    let mut d = Desk::open(client(|c| c.ping_interval_ms = 0));
    assert_eq!(d.session.deadline_ms(&d.policy), u64::MAX);
    assert_eq!(d.told(0, Body::Pong), "close 3501");
}

#[test]
fn pings_want_pongs() {
    let mut d = Desk::open(policy());
    assert_eq!(d.deadline(), "25000 ping");
    d.ms += 3_000;
    assert_eq!(d.told(0, Body::Pong), "");
    assert_eq!(d.deadline(), "50000 ping", "the interval counts from ping to ping");
    assert_eq!(d.deadline(), "58000 close 3012");
    let mut d = Desk::open(policy());
    d.deadline();
    assert_eq!(d.told(0, Body::Pong), "");
    assert_eq!(d.told(0, Body::Pong), "close 3501", "one for each ping");
    let mut d = Desk::open(client(|c| c.pong_timeout_ms = 0));
    assert_eq!((d.deadline(), d.deadline()), ("25000 ping".into(), "50000 ping".into()));
    assert_eq!(d.told(0, Body::Pong), "close 3501", "none is wanted");
}

#[test]
fn connections_expire_unless_refreshed() {
    let silent = || client(|c| c.ping_interval_ms = 0);
    let mut d = Desk::new(silent());
    assert_eq!(d.told(1, connect("user=42;exp=10")), "1 connect ttl=10");
    assert_eq!(d.deadline(), "35000 close 3005", "10 s and the grace");
    for (token, want) in [
        ("user=42;exp=20", "2 refresh ttl=15"),
        ("user=42", "2 refresh"),
        ("user=42;exp=5", "close 3005"),
        ("bad", "close 3500"),
        ("user=43;exp=20", "close 3500"),
        ("user=42;exp=20;subs=a", "close 3010"),
    ] {
        let mut d = Desk::new(silent());
        d.send(1, connect("user=42;exp=10"));
        d.look();
        d.ms = 5_000;
        assert_eq!(d.told(2, refresh(token)), want, "{token}");
    }
    let mut d = Desk::new(silent());
    d.send(1, connect("user=42;exp=10"));
    d.send(2, refresh("user=42;exp=20"));
    d.look();
    assert_eq!(d.deadline(), "45000 close 3005");
}

#[test]
fn a_refresh_keeps_the_channels_of_the_token() {
    for (before, after, want) in [
        ("user=42;subs=a,b", "user=42;subs=b,a", "2 refresh"),
        ("user=42;subs=a,a", "user=42;subs=a,a", "2 refresh"),
        ("user=42;subs=a,b", "user=42;subs=a", "close 3010"),
        ("user=42;subs=a,b", "user=42;subs=a,a", "close 3010"),
        ("user=42;subs=a", "user=42;subs=a,b", "close 3010"),
    ] {
        let mut d = Desk::new(policy());
        d.send(1, connect_with(before, &["c"]));
        d.look();
        assert_eq!(d.told(2, refresh(after)), want, "{before} {after}");
    }
}

#[test]
fn the_server_refreshes() {
    let mut d = Desk::open(policy());
    d.run(|s, cx, fx| s.refreshed_by_server(false, Some(UNIX_MS + 9_001), cx, fx));
    d.run(|s, cx, fx| s.refreshed_by_server(false, None, cx, fx));
    assert_eq!(d.look(), "push refresh Some(10); push refresh None");
    d.run(|s, cx, fx| s.refreshed_by_server(false, Some(UNIX_MS), cx, fx));
    assert_eq!(d.look(), "close 3005");
    let mut d = Desk::open(policy());
    d.run(|s, cx, fx| s.refreshed_by_server(true, None, cx, fx));
    assert_eq!(d.look(), "close 3005");
}

#[test]
fn subscriptions_expire_unless_refreshed() {
    for (token, want) in [
        ("user=42;channel=$a;exp=20", "3 sub_refresh ttl=15; 45000 push unsubscribe $a 2501"),
        ("user=42;channel=$a", "3 sub_refresh; never"),
        ("user=42;channel=$a;exp=5", "3 error 109; 35000 push unsubscribe $a 2501"),
        ("user=42;channel=$a;until=5", "3 error 110; 35000 push unsubscribe $a 2501"),
        ("", "3 error 107; 35000 push unsubscribe $a 2501"),
        ("bad", "3 error 103; 35000 push unsubscribe $a 2501"),
        ("user=42;channel=$b", "close 3500"),
        ("user=43;channel=$a", "close 3500"),
    ] {
        let mut d = Desk::open(client(|c| c.ping_interval_ms = 0));
        d.send(2, subscribe_token("$a", "user=42;channel=$a;exp=10"));
        d.look();
        d.ms = 5_000;
        let mut said = d.told(3, sub_refresh("$a", token));
        if !d.closed {
            let never = d.session.deadline_ms(&d.policy) == u64::MAX;
            said += &format!("; {}", if never { "never".into() } else { d.deadline() });
        }
        assert_eq!(said, want, "{token}");
    }
}

#[test]
fn what_cannot_be_refreshed() {
    let mut d = Desk::open(policy());
    assert_eq!(d.told(2, sub_refresh("a", "user=42;channel=a")), "2 error 103");
    d.send(3, subscribe("a"));
    d.look();
    assert_eq!(d.told(4, sub_refresh("a", "user=42;channel=a")), "close 3501");
}

#[test]
fn a_server_side_subscription_expires_with_its_connection() {
    let mut d = Desk::open(client(|c| c.ping_interval_ms = 0));
    let (options, until) = (SubscriptionOptions::default(), Some(UNIX_MS + 10_000));
    d.run(|s, cx, fx| s.subscribe_by_server("a", options, None, until, cx, fx));
    d.settle();
    assert_eq!(d.look(), "push subscribe a ttl=10");
    assert_eq!(d.deadline(), "35000 close 3006");
    assert_eq!(d.counted("a"), (0, 0));
}

#[test]
fn a_pending_subscription_is_answered_before_it_expires() {
    let mut d = Desk::open(client(|c| c.ping_interval_ms = 0));
    d.slow = true;
    d.send(2, subscribe_token("$a", "user=42;channel=$a;exp=10"));
    assert_eq!(d.session.deadline_ms(&d.policy), u64::MAX);
    d.ms = 60_000;
    d.run(|s, cx, fx| s.on_deadline(cx, fx));
    d.settle();
    assert_eq!(d.look(), "2 subscribe ttl=10");
    d.run(|s, cx, fx| s.on_deadline(cx, fx));
    assert_eq!(d.look(), "push unsubscribe $a 2501");
}

#[test]
fn too_many_commands_then_too_many_errors() {
    let mut d = Desk::open(client(|c| {
        c.message_rate_limit = 1;
        c.message_rate_burst = 3;
    }));
    assert_eq!(d.told(2, Body::Rpc), "2 error 104");
    assert_eq!(d.told(3, Body::Rpc), "3 error 104");
    assert_eq!(d.told(4, Body::Rpc), "4 error 111");
    assert_eq!(d.told(0, Body::Send { active: false }), "", "no reply, but counted");
    d.ms = 1_000;
    assert_eq!(d.told(5, Body::Rpc), "5 error 104");
    // One of the five so far was forgiven in that second.
    for id in 0..limits::ERRORS_AT_ONCE_MAX - 4 {
        assert_eq!(d.told(id + 6, Body::Rpc), format!("{} error 111", id + 6));
    }
    assert_eq!(d.told(7, Body::Rpc), "7 error 111; close 3013");

    let mut d = Desk::open(client(|c| c.message_rate_limit = 0));
    for _ in 0..limits::ERRORS_AT_ONCE_MAX {
        d.send(2, Body::Rpc);
    }
    d.look();
    assert_eq!(d.told(2, Body::Rpc), "2 error 104; close 3509");
}

#[test]
fn pongs_need_no_rate() {
    let mut d = Desk::open(client(|c| {
        c.message_rate_limit = 1;
        c.message_rate_burst = 1;
    }));
    d.deadline();
    for id in 2..5 {
        d.send(id, Body::Rpc);
    }
    d.look();
    assert_eq!(d.told(0, Body::Pong), "");
    assert_eq!(d.deadline(), "50000 ping");
}

#[test]
fn too_many_questions_wait() {
    let mut d = Desk::open(client(|c| {
        c.insecure = true;
        c.message_rate_limit = 0;
    }));
    d.slow = true;
    for id in 0..300 {
        d.send(id + 2, publish("a", "1"));
    }
    assert_eq!(d.to_home.len(), usize::from(limits::REQUESTS_IN_FLIGHT_MAX));
    d.settle();
    assert_eq!(d.said.len(), 300);
}

// --- Any order ------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug)]
enum Step {
    Subscribe(usize),
    Unsubscribe(usize),
    ServerSubscribe(usize),
    ServerUnsubscribe(usize),
    Refused(usize),
    HomeTurn,
    AnswerTurn,
    Quiet,
}

const NAMES: [&str; 3] = ["room:a", "recover:b", "c"];

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0..NAMES.len();
    prop_oneof![
        4 => channel().prop_map(Step::Subscribe),
        4 => channel().prop_map(Step::Unsubscribe),
        1 => channel().prop_map(Step::ServerSubscribe),
        2 => channel().prop_map(Step::ServerUnsubscribe),
        1 => channel().prop_map(Step::Refused),
        6 => Just(Step::HomeTurn),
        6 => Just(Step::AnswerTurn),
        1 => Just(Step::Quiet),
    ]
}

fn take(d: &mut Desk, id: &mut u32, step: Step) {
    let mut command = |d: &mut Desk, body| {
        *id += 1;
        d.send(*id, body);
    };
    match step {
        Step::Subscribe(c) => command(d, subscribe(NAMES[c])),
        Step::Unsubscribe(c) => command(d, unsubscribe(NAMES[c])),
        Step::Refused(c) => command(d, recover(NAMES[c], 7, "other", 2)),
        Step::ServerSubscribe(c) => d.run(|s, cx, fx| {
            s.subscribe_by_server(NAMES[c], SubscriptionOptions::default(), None, None, cx, fx);
        }),
        Step::ServerUnsubscribe(c) => {
            d.run(|s, _, fx| s.unsubscribe_by_server(NAMES[c], Unsubscribed::SERVER, fx));
        }
        Step::HomeTurn => drop(d.home_turn()),
        Step::AnswerTurn => drop(d.answer_turn()),
        Step::Quiet => {
            d.settle();
            agree(d);
        }
    }
}

/// With nothing under way, session, hub and home know the same subscriptions.
fn agree(d: &mut Desk) {
    let mine = d.session.channels();
    assert_eq!(d.hub.subscription_count(), mine.len());
    for name in NAMES {
        let one = usize::from(mine.iter().any(|c| **c == *name));
        let member = if name == "room:a" { one } else { 0 };
        assert_eq!(d.counted(name), (one, member), "{name}");
        assert_eq!(d.hub.find(name).is_some(), one == 1, "{name}");
    }
}

/// What the client is subscribed to, as far as it was told.
fn believed(said: &[String], asked: &[(u32, &str)]) -> Vec<Arc<str>> {
    let mut have: Vec<Arc<str>> = Vec::new();
    for line in said {
        let words: Vec<&str> =
            line.split(' ').map(|w| w.split(['+', '@']).next().unwrap_or(w)).collect();
        let name = |id: &str| asked.iter().find(|(n, _)| n.to_string() == id).map(|(_, c)| *c);
        match words[..] {
            ["1", "connect", ref channels @ ..] => {
                have.extend(channels.iter().map(|c| Arc::from(*c)));
            }
            ["push", "subscribe", channel, ..] => have.push(channel.into()),
            ["push", "unsubscribe", channel, ..] => have.retain(|c| **c != *channel),
            [id, "subscribe", ..] => have.extend(name(id).map(Arc::from)),
            [id, "unsubscribe"] => have.retain(|c| Some(&**c) != name(id)),
            _ => {}
        }
    }
    have.sort();
    have
}

#[test]
fn who_fell_behind_is_told_or_goes() {
    let kept = ChannelOptions {
        history_size: 10,
        history_ttl_ms: 60_000,
        force_recovery: true,
        allow_subscribe_for_client: true,
        ..Default::default()
    };
    let bare = ChannelOptions { history_size: 0, force_recovery: false, ..kept.clone() };
    let mut p = plain(kept);
    p.channel.namespaces = vec![Namespace { name: "bare".into(), options: bare }];
    for (subscribed, precious, want) in [
        ("news", true, "push unsubscribe news 2500"),
        ("news", false, "push unsubscribe news 2500"),
        ("bare:a", true, "close 3008"),
        ("bare:a", false, ""),
        ("", true, "close 3010"),
        ("", false, ""),
    ] {
        let mut d = Desk::open(p.clone());
        let lost = if subscribed.is_empty() { "left" } else { subscribed };
        if !subscribed.is_empty() {
            d.told(2, subscribe(subscribed));
        }
        d.run(|s, _, fx| s.fell_behind(lost, precious, fx));
        assert_eq!(d.look(), want, "{subscribed:?} {precious}");
    }
}

#[test]
fn read_marks_come_with_the_subscription_and_again_when_some_were_left_out() {
    let receipts = ChannelOptions {
        feature: Some(Feature::Receipts),
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        ..Default::default()
    };
    let mut p = plain(ChannelOptions::default());
    p.channel.namespaces = vec![Namespace { name: "read".into(), options: receipts }];
    let mut d = Desk::open(p.clone());
    assert_eq!(d.told(2, subscribe("read:a")), "2 subscribe", "there are none yet");
    assert_eq!(d.told(3, publish("read:a", r#"{"read":7}"#)), "3 publish");
    assert_eq!(d.told(4, publish("read:a", "7")), "4 error 107");
    assert_eq!(d.told(5, publish("read:a", r#"{"user":"x","read":7}"#)), "5 error 107");
    d.run(|s, _, fx| s.fell_behind("read:a", true, fx));
    assert_eq!(d.look(), "push unsubscribe read:a 2500", "the client subscribes again");
    d.settle();
    assert_eq!(d.told(6, subscribe("read:a")), r#"6 subscribe {"receipts":{"42":7}}"#);
    d.gates = Gates { receipts: ReceiptsGate::Refused, ..Gates::default() };
    assert_eq!(d.told(7, publish("read:a", r#"{"read":8}"#)), "7 error 503");
}

#[test]
fn the_load_line_takes_features_and_leaves_the_core() {
    let open = ChannelOptions {
        presence: true,
        history_size: 10,
        history_ttl_ms: 60_000,
        force_recovery: true,
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        allow_presence_for_client: true,
        allow_history_for_client: true,
        ..Default::default()
    };
    let bare = ChannelOptions { history_size: 0, force_recovery: false, ..open.clone() };
    let namespace = |name: &str, options: &ChannelOptions, class, feature| Namespace {
        name: name.into(),
        options: ChannelOptions { class, feature, ..options.clone() },
    };
    let mut p = plain(open.clone());
    p.channel.namespaces = vec![
        namespace("typing", &bare, Class::Ephemeral, Some(Feature::Typing)),
        namespace("cursor", &bare, Class::State, None),
    ];
    let mut d = Desk::open(p);
    let at = |level| {
        let row = &LEVELS[level as usize];
        let normal = Gates::default();
        Gates {
            history_rows: row.history_rows,
            history_interval_ms: row.history_interval_ms,
            typing: row.typing,
            ephemeral_factor: row.typing.and(normal.ephemeral_factor),
            presence: row.presence,
            apis: row.apis,
            ..normal
        }
    };
    assert_eq!(d.told(2, subscribe("typing:a")), "2 subscribe");
    d.slow = true;
    // What goes to the home is answered when the home has answered.
    let publish_typing = |d: &mut Desk, id: u32, goes: bool| {
        let at_once = d.told(id, publish("typing:a", "{}"));
        d.settle();
        let later = d.look();
        let (first, second) = match goes {
            true => (String::new(), format!("{id} publish")),
            false => (format!("{id} left out"), String::new()),
        };
        assert_eq!((at_once, later), (first, second), "{id}");
    };
    publish_typing(&mut d, 3, true);
    publish_typing(&mut d, 4, false);
    d.ms += 3_000;
    publish_typing(&mut d, 5, true);
    d.slow = false;
    d.gates = at(Level::Degraded);
    d.ms += 10_000;
    assert_eq!(d.told(6, publish("typing:a", "{}")), "6 error 503");
    assert_eq!(d.told(7, publish("news", "{}")), "7 publish");
    assert_eq!(d.told(8, history("news", 5)), "8 history [1] @1");
    assert_eq!(d.told(9, history("news", 5)), "9 error 503", "one page in five seconds");
    assert_eq!(d.told(10, history("news", 0)), "10 history [] @1", "the position is not a page");
    assert_eq!(d.told(11, presence("news")), "11 presence 0");
    d.gates = at(Level::Critical);
    d.ms += 10_000;
    assert_eq!(d.told(12, history("news", 5)), "12 error 503");
    assert_eq!(d.told(13, presence("news")), "13 error 503");
    assert_eq!(d.told(14, publish("cursor:a", "{}")), "14 error 503");
    assert_eq!(d.told(15, publish("news", "{}")), "15 publish", "the core is never given up");
    let epoch = d.epoch("news");
    let told = d.told(16, recover("news", 0, &epoch, 0));
    assert_eq!(told, "16 subscribe+p+r@0 all [1, 2]", "recovery always works");
}

proptest! {
    /// Commands and orders of the server in any order, answers at any time: every command is
    /// answered once and in turn for its channel, the client knows what it is subscribed to, and
    /// in the end nothing is left at the home.
    #[test]
    fn nothing_is_left_behind(
        steps in proptest::collection::vec(step(), 0..60),
        token in any::<bool>(), closes in any::<bool>(),
    ) {
        let mut d = Desk::new(policy());
        d.slow = true;
        d.send(1, connect(if token { "user=42;subs=room:a,recover:b" } else { "user=42" }));
        let (mut id, mut asked) = (1, Vec::new());
        for step in steps {
            if let Step::Subscribe(c) | Step::Unsubscribe(c) | Step::Refused(c) = step {
                asked.push((id + 1, NAMES[c]));
            }
            take(&mut d, &mut id, step);
        }
        if !closes {
            d.settle();
            agree(&mut d);
            for n in 1..=id {
                let start = format!("{n} ");
                let answers = d.said.iter().filter(|s| s.starts_with(&start)).count();
                prop_assert_eq!(answers, 1, "{}: {:?}", n, d.said);
            }
            let mut mine = d.session.channels();
            mine.sort();
            prop_assert_eq!(believed(&d.said, &asked), mine, "{:?}", d.said);
        }
        d.close();
        d.settle();
        for name in NAMES {
            prop_assert_eq!(d.counted(name), (0, 0));
        }
        prop_assert_eq!(d.hub.subscription_count(), 0);
    }
}

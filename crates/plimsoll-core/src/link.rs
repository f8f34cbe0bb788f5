//! Channels that live on a backbone: what their home on this node does.
//!
//! The home keeps a copy of each channel that has subscribers here: the newest publications of its
//! stream, and who is there. The copy follows what the backbone delivers, offset by offset, so that
//! what sessions ask (positions, recovery, presence) is answered from one place and in one step, as
//! it is without a backbone. Who subscribes first waits until the copy is there. A hole in the
//! offsets stops what follows until the missing part was read; if that is gone, all subscribers are
//! told.

mod exchange;
mod news;
#[cfg(test)]
mod tests;

pub use exchange::{
    Arrival, Asker, Call, Figures, Member, Members, News, Opened, Out, Replica, Unavailable,
};

use crate::codes::ClientError;
use crate::home::{Answer, Home, Outcome, PublishRequest, Request, SubscribeRequest};
use crate::limits;
use crate::map::{self, Map};
use crate::model::ClientId;
use crate::policy::ChannelOptions;
use plimsoll_overload::feature::Feature;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

/// How far a channel's copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not there yet.
    Opening,
    /// Follows what is delivered.
    Live,
    /// Something is missing and is being read. `again`: more may be missing since that was asked.
    Reading { again: bool },
    /// Something is missing and could not be read: tried again then.
    Stale { retry_ms: u64 },
}

struct Linked {
    stage: Stage,
    /// Subscribes that wait for the copy.
    waiting: Vec<(Asker, SubscribeRequest)>,
    /// What came while the copy was not live.
    early: VecDeque<Arrival>,
    /// The first of it made us read: it does not join on to the copy.
    questionable: bool,
    /// Readings since then that did not help.
    doubts: u8,
    /// Some of it was dropped.
    overflown: bool,
    /// Somebody who waits has seen more than the copy, which was read again for that.
    reread: bool,
    /// Not read again before for one who claims to have seen more.
    ahead_ms: u64,
    /// When the broker is shown that the channel is in use; `u64::MAX` = it is not planned.
    renew_ms: u64,
    /// Members of other nodes, and which.
    members: Map<ClientId, u64>,
    /// There are too many to know all of them here.
    too_many: bool,
    /// When who is there is asked again; `u64::MAX` = there is no need.
    roster_ms: u64,
    /// Nobody here wants it any more, and it is given back then; `u64::MAX` = somebody does.
    linger_ms: u64,
}

/// The links of all channels of one home worker.
pub struct Link {
    channels: Map<Arc<str>, Linked>,
    out: VecDeque<Out>,
    /// Channels that something is to be done with, and when. Moments that were put off are still
    /// listed.
    dues: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    /// This node.
    node: u64,
    linger_ms: u64,
    seed: u64,
    figures: Figures,
}

impl Link {
    /// Without channels. `node` is this node, `linger_ms` how long a channel without subscribers is
    /// kept, `seed` feeds hashing.
    pub fn new(node: u64, linger_ms: u64, seed: u64) -> Self {
        Self {
            channels: map::with_seed(seed ^ 8),
            out: VecDeque::new(),
            dues: BinaryHeap::new(),
            node,
            linger_ms,
            seed,
            figures: Figures::default(),
        }
    }

    /// Channels that are open, or are being opened.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The next thing to be done, in order.
    pub fn take_out(&mut self) -> Option<Out> {
        self.out.pop_front()
    }

    /// What happened since the last call.
    pub fn take_figures(&mut self) -> Figures {
        std::mem::take(&mut self.figures)
    }

    /// Does one thing to one channel. `None`: the answer comes later.
    pub fn handle(
        &mut self,
        home: &mut Home,
        asker: Asker,
        name: &Arc<str>,
        request: Request,
        now_ms: u64,
    ) -> Option<Outcome> {
        let rules = home.rules();
        let options = match rules.resolve(name) {
            Ok(resolved) => resolved.options,
            Err(e) => return Some(refused(e)),
        };
        let channel = Arc::clone(name);
        match request {
            Request::Subscribe(r) => return self.subscribe(home, asker, name, r, now_ms),
            Request::Unsubscribe { member, announce } => {
                return Some(self.unsubscribe(home, asker, name, member, announce, now_ms));
            }
            Request::Publish(r) => return self.publish(home, asker, name, options, r, now_ms),
            Request::Presence | Request::PresenceStats if self.knows_members(name) => {
                return Some(home.handle(asker.worker(), name, request, now_ms));
            }
            Request::Presence => self.call(Call::Presence { asker, channel }),
            Request::PresenceStats => self.call(Call::Stats { asker, channel }),
            Request::History { .. } | Request::HistoryRemove if !options.has_history() => {
                return Some(refused(ClientError::NOT_AVAILABLE));
            }
            Request::History { since, limit, reverse } => {
                self.call(Call::History { asker, channel, since, limit, reverse });
            }
            Request::HistoryRemove => self.call(Call::Clear { asker, channel }),
        }
        None
    }

    fn publish(
        &mut self,
        home: &mut Home,
        asker: Asker,
        name: &Arc<str>,
        options: &ChannelOptions,
        request: PublishRequest,
        now_ms: u64,
    ) -> Option<Outcome> {
        let channel = Arc::clone(name);
        match options.feature {
            Some(Feature::Receipts) => {
                let theirs = request.clone();
                let outcome = home.handle(asker.worker(), name, Request::Publish(request), now_ms);
                if matches!(outcome.answer, Answer::Published(_)) {
                    self.call(Call::Mark { channel, request: theirs });
                }
                return Some(outcome);
            }
            Some(Feature::Typing) if home.leaves_out(name, &request, now_ms) => {
                return Some(Outcome { answer: Answer::Published(None), event: None });
            }
            _ => self.call(Call::Publish { asker, channel, request }),
        }
        None
    }

    fn subscribe(
        &mut self,
        home: &mut Home,
        asker: Asker,
        name: &Arc<str>,
        request: SubscribeRequest,
        now_ms: u64,
    ) -> Option<Outcome> {
        if !self.channels.contains_key(name) {
            if self.channels.len() >= limits::CHANNELS_PER_WORKER_MAX {
                return Some(refused(ClientError::LIMIT_EXCEEDED));
            }
            let opening = Linked::new(self.seed);
            self.channels.insert(Arc::clone(name), opening);
            self.call(Call::Open { channel: Arc::clone(name) });
        }
        let linked = self.channels.get_mut(name)?;
        linked.linger_ms = u64::MAX;
        if linked.stage == Stage::Live {
            if !is_ahead(home, name, &request) || now_ms < linked.ahead_ms {
                return Some(self.grant(home, asker, name, request, now_ms));
            }
            // What a client claims may be anything: it stops the others for one reading a second.
            linked.ahead_ms = now_ms + limits::STALE_RETRY_MS;
            linked.reread = true;
            self.read(home, name);
        } else if matches!(linked.stage, Stage::Stale { .. }) {
            self.read(home, name);
        }
        let linked = self.channels.get_mut(name)?;
        if linked.waiting.len() >= limits::OPENING_SUBSCRIBES_MAX {
            return Some(refused(ClientError::TOO_MANY_REQUESTS));
        }
        linked.waiting.push((asker, request));
        None
    }

    /// Subscribes from the copy, which is live.
    fn grant(
        &mut self,
        home: &mut Home,
        asker: Asker,
        name: &Arc<str>,
        request: SubscribeRequest,
        now_ms: u64,
    ) -> Outcome {
        let (member, announce) = (request.member.clone(), request.announce);
        let outcome = home.handle(asker.worker(), name, Request::Subscribe(request), now_ms);
        let granted = matches!(outcome.answer, Answer::Subscribed(_));
        if let Some(info) = member.filter(|_| granted) {
            if let Some(linked) = self.channels.get_mut(name) {
                linked.members.remove(&info.client);
            }
            self.call(Call::Member { channel: Arc::clone(name), info, here: true, announce });
        }
        if !granted {
            self.plan_linger(home, name, now_ms);
        }
        outcome
    }

    fn unsubscribe(
        &mut self,
        home: &mut Home,
        asker: Asker,
        name: &Arc<str>,
        member: Option<ClientId>,
        announce: bool,
        now_ms: u64,
    ) -> Outcome {
        let info = member.and_then(|client| home.member(name, client));
        let request = Request::Unsubscribe { member, announce };
        let outcome = home.handle(asker.worker(), name, request, now_ms);
        if let Some(info) = info {
            self.call(Call::Member { channel: Arc::clone(name), info, here: false, announce });
        }
        self.plan_linger(home, name, now_ms);
        outcome
    }

    /// A channel that nobody here wants is kept for a while: many come back at once.
    fn plan_linger(&mut self, home: &Home, name: &Arc<str>, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        let wanted = home.subscriber_count(name) > 0 || !linked.waiting.is_empty();
        if wanted || linked.linger_ms != u64::MAX {
            return;
        }
        linked.linger_ms = now_ms.saturating_add(self.linger_ms);
        self.dues.push(Reverse((linked.linger_ms, Arc::clone(name))));
    }

    /// When [`Link::on_time`] has something to do; `None` = never.
    pub fn due_ms(&self) -> Option<u64> {
        self.dues.peek().map(|Reverse((at, _))| *at)
    }

    /// Gives back what nobody wants, and reads again what could not be read.
    pub fn on_time(&mut self, home: &mut Home, now_ms: u64) {
        for _ in 0..limits::DUE_CHANNELS_PER_TURN {
            if self.due_ms().is_none_or(|at| at > now_ms) {
                return;
            }
            let Some(Reverse((_, name))) = self.dues.pop() else { return };
            let Some(linked) = self.channels.get_mut(&name) else { continue };
            if linked.linger_ms <= now_ms {
                self.close(home, &name);
                continue;
            }
            if linked.roster_ms <= now_ms {
                // Asked, and due again when there is no answer.
                linked.roster_ms = u64::MAX - 1;
                self.call(Call::Roster { channel: Arc::clone(&name) });
            }
            let Some(linked) = self.channels.get_mut(&name) else { continue };
            if matches!(linked.stage, Stage::Stale { retry_ms } if retry_ms <= now_ms) {
                self.read(home, &name);
            } else if linked.renew_ms <= now_ms {
                linked.renew_ms = u64::MAX;
                if linked.stage == Stage::Live {
                    self.read(home, &name);
                }
            }
        }
    }

    fn close(&mut self, home: &mut Home, name: &Arc<str>) {
        self.channels.remove(name);
        home.drop_copy(name);
        self.call(Call::Close { channel: Arc::clone(name) });
    }

    /// Something is missing and cannot be read: tries again later.
    fn go_stale(&mut self, name: &Arc<str>, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        let retry_ms = now_ms + limits::STALE_RETRY_MS;
        linked.stage = Stage::Stale { retry_ms };
        self.dues.push(Reverse((retry_ms, Arc::clone(name))));
        self.refuse_waiting(name);
    }

    /// Asks for what is missing.
    fn read(&mut self, home: &Home, name: &Arc<str>) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        linked.stage = Stage::Reading { again: false };
        let since = home.position(name);
        self.call(Call::Read { channel: Arc::clone(name), since });
    }

    /// A broker forgets a channel that is not used for long, and a reading is a use.
    fn plan_renewal(&mut self, home: &Home, name: &Arc<str>, now_ms: u64) {
        let Some(position) = home.position(name) else { return };
        let rules = home.rules();
        let Ok(resolved) = rules.resolve(name) else { return };
        let Some(linked) = self.channels.get_mut(name).filter(|l| l.renew_ms == u64::MAX) else {
            return;
        };
        let keep_ms = match position.offset {
            0 => resolved.options.history_meta_ttl_ms.min(limits::EMPTY_STREAM_MS),
            _ => resolved.options.history_meta_ttl_ms,
        };
        linked.renew_ms = now_ms.saturating_add(keep_ms / 3);
        self.dues.push(Reverse((linked.renew_ms, Arc::clone(name))));
    }

    fn knows_members(&self, name: &str) -> bool {
        self.channels
            .get(name)
            .is_some_and(|l| l.stage == Stage::Live && !l.too_many && l.roster_ms == u64::MAX)
    }

    fn call(&mut self, call: Call) {
        self.out.push_back(Out::Call(call));
    }
}

impl Linked {
    fn new(seed: u64) -> Self {
        Self {
            stage: Stage::Opening,
            waiting: Vec::new(),
            early: VecDeque::new(),
            questionable: false,
            doubts: 0,
            overflown: false,
            reread: false,
            ahead_ms: 0,
            renew_ms: u64::MAX,
            members: map::with_seed(seed ^ 9),
            too_many: false,
            roster_ms: u64::MAX,
            linger_ms: u64::MAX,
        }
    }
}

/// Has the client seen more than the copy? It comes from another node, and the copy is behind by a
/// moment; or the copy is not there.
fn is_ahead(home: &Home, name: &str, request: &SubscribeRequest) -> bool {
    if !request.positioned {
        return false;
    }
    let Some(position) = home.position(name) else { return true };
    let Some(since) = &request.recover else { return false };
    (since.epoch.is_empty() || *since.epoch == *position.epoch.as_str())
        && since.offset > position.offset
}

fn refused(error: ClientError) -> Outcome {
    Outcome { answer: Answer::Error(error), event: None }
}

//! The home of channels: history, presence and who is interested, on the one worker that owns a
//! channel. Everything that must have one order for everybody passes here.

mod copy;
mod due;
mod exchange;
mod presence;
mod signals;

pub use copy::Extended;
pub use exchange::{
    Answer, Event, Figures, Outcome, PublishRequest, Request, SubscribeRequest, Subscribed, Trace,
};

use crate::channel::Channels;
use crate::codes::ClientError;
use crate::history::{Retention, Stream};
use crate::limits;
use crate::map::{self, Map};
use crate::model::{ClientId, Epoch, Publication, Since, StreamPosition};
use crate::policy::{ChannelOptions, RecoveryMode};
use crate::presence::Roster;
use crate::receipts::Marks;
use crate::typing::Typists;
use plimsoll_overload::feature::Feature;
use plimsoll_overload::gates::Gates;
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

struct Channel {
    stream: Option<Stream>,
    roster: Option<Box<Roster>>,
    marks: Option<Box<Marks>>,
    typists: Option<Box<Typists>>,
    /// Subscriptions by worker index.
    interest: SmallVec<[u32; 4]>,
    version: Option<Box<Version>>,
    /// When the sweep looks at this channel; `u64::MAX` = not planned.
    sweep_ms: u64,
    /// When something is to be told; `u64::MAX` = nothing is planned.
    due_ms: u64,
}

/// The last version published, remembered for a while.
struct Version {
    number: u64,
    epoch: Box<str>,
    until_ms: u64,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            stream: None,
            roster: None,
            marks: None,
            typists: None,
            interest: SmallVec::new(),
            version: None,
            sweep_ms: u64::MAX,
            due_ms: u64::MAX,
        }
    }
}

/// All channels of one home worker.
pub struct Home {
    channels: Map<Arc<str>, Channel>,
    rules: Arc<Channels>,
    recovery_limit: usize,
    seed: u64,
    epochs: u64,
    sweeps: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    /// Channels that have something to tell, and when.
    dues: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    /// Channels that keep something back until the gates change.
    held: Map<Arc<str>, ()>,
    /// What is told beside the events of requests.
    told: VecDeque<(Arc<str>, Event)>,
    /// Read marks of all channels.
    marks: usize,
    gates: Gates,
    figures: Figures,
    keys: Map<(Arc<str>, Box<str>), Option<StreamPosition>>,
    key_order: VecDeque<(u64, Arc<str>, Box<str>)>,
}

/// The sweep looks at a channel at most so often; reads see exact expiry anyway.
const SWEEP_MS: u64 = 1_000;
/// And at least so often, or once in a time to live if that is longer.
const SWEEP_LATEST_MS: u64 = 60_000;

impl Home {
    /// Without channels. `seed` feeds epochs and hashing: random in a server.
    pub fn new(rules: Arc<Channels>, recovery_limit: usize, seed: u64) -> Self {
        Self {
            channels: map::with_seed(seed),
            rules,
            recovery_limit,
            seed,
            epochs: 0,
            sweeps: BinaryHeap::new(),
            dues: BinaryHeap::new(),
            held: map::with_seed(seed ^ 4),
            told: VecDeque::new(),
            marks: 0,
            gates: Gates::default(),
            figures: Figures::default(),
            keys: map::with_seed(seed ^ 1),
            key_order: VecDeque::new(),
        }
    }

    /// Channels with any state.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// No channel has state.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Gives back what a crowd that has left needed.
    pub fn shrink(&mut self) {
        self.channels.shrink_to_fit();
    }

    /// Channels that have subscribers, with how many.
    pub fn subscribed(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.channels.iter().filter_map(|(name, c)| {
            let n: usize = c.interest.iter().map(|n| *n as usize).sum();
            (n > 0).then_some((name, n))
        })
    }

    /// Subscribers of a channel.
    pub fn subscriber_count(&self, channel: &str) -> usize {
        let interest = self.channels.get(channel).map(|c| c.interest.iter());
        interest.map_or(0, |workers| workers.map(|n| *n as usize).sum())
    }

    /// Workers with subscribers of a channel.
    pub fn interested(&self, channel: &str) -> SmallVec<[u16; 8]> {
        let Some(c) = self.channels.get(channel) else { return SmallVec::new() };
        c.interest.iter().zip(0u16..).filter(|(n, _)| **n > 0).map(|(_, w)| w).collect()
    }

    /// Does one thing to one channel. `from` is the asking worker (`None`: the API).
    pub fn handle(
        &mut self,
        from: Option<u16>,
        name: &Arc<str>,
        request: Request,
        now_ms: u64,
    ) -> Outcome {
        let rules = Arc::clone(&self.rules);
        let resolved = match rules.resolve(name) {
            Ok(resolved) => resolved,
            Err(e) => return Outcome { answer: Answer::Error(e), event: None },
        };
        let options = resolved.options;
        let mut event = None;
        let answer = match request {
            Request::Subscribe(r) => self.subscribe(from, name, options, r, now_ms),
            Request::Unsubscribe { member, announce } => {
                self.unsubscribe(from, name, options, member.map(|m| (m, announce)), now_ms)
            }
            Request::Publish(r) => match options.feature {
                Some(Feature::Receipts) => self.read(name, options, r, now_ms),
                Some(Feature::Typing) if self.leaves_out(name, &r, now_ms) => {
                    Answer::Published(None)
                }
                _ => self.publish(name, options, r, now_ms, &mut event),
            },
            Request::Presence => self.presence(name),
            Request::PresenceStats => self.stats(name),
            Request::History { since, limit, reverse } => {
                self.history(name, options, since.as_ref(), limit, reverse, now_ms)
            }
            Request::HistoryRemove => {
                if let Some(s) = self.channels.get_mut(name).and_then(|c| c.stream.as_mut()) {
                    s.clear();
                }
                Answer::Done
            }
        };
        Outcome { answer, event }
    }

    /// Forgets what has expired. Call it about once a second.
    pub fn sweep(&mut self, now_ms: u64) {
        while let Some(Reverse((at, _))) = self.sweeps.peek()
            && *at <= now_ms
        {
            let Some(Reverse((_, name))) = self.sweeps.pop() else { return };
            if let Some(c) = self.channels.get_mut(&name) {
                c.sweep_ms = u64::MAX;
            }
            self.settle(&name, now_ms);
        }
        while let Some((until, _, _)) = self.key_order.front()
            && (*until <= now_ms || self.key_order.len() > limits::IDEMPOTENCY_KEYS_MAX)
        {
            if let Some((_, channel, key)) = self.key_order.pop_front() {
                self.keys.remove(&(channel, key));
            }
        }
    }

    fn subscribe(
        &mut self,
        from: Option<u16>,
        name: &Arc<str>,
        options: &ChannelOptions,
        request: SubscribeRequest,
        now_ms: u64,
    ) -> Answer {
        if !self.has_room(name) {
            return Answer::Error(ClientError::LIMIT_EXCEEDED);
        }
        let limit = self.recovery_limit;
        let positioned = request.positioned && options.has_history();
        let stream = positioned.then(|| self.stream(name, options, now_ms));
        let position = stream.as_ref().map(|s| s.position());
        let recovery =
            stream.zip(request.recover.as_ref()).map(|(s, since)| match options.recovery_mode {
                RecoveryMode::Stream => s.recover(since, limit),
                RecoveryMode::Cache => s.recover_cache(since),
            });
        if request.must_recover && recovery.as_ref().is_some_and(|r| !r.recovered) {
            self.plan_sweep(name, options, now_ms);
            return Answer::Error(ClientError::UNRECOVERABLE_POSITION);
        }
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        if let Some(worker) = from.map(usize::from) {
            if channel.interest.len() <= worker {
                channel.interest.resize(worker + 1, 0);
            }
            channel.interest[worker] += 1;
        }
        let member = request.member.as_ref().map(|info| info.client);
        if let Some(info) = request.member {
            self.enter(name, options, info, request.announce, now_ms);
        }
        self.plan_sweep(name, options, now_ms);
        let since_offset = request.recover.map_or(0, |s| s.offset);
        let announce = request.announce;
        let reader = request.reader.as_deref();
        let marks = reader.and_then(|user| self.marks_for(name, user, now_ms));
        Answer::Subscribed(Subscribed { position, recovery, since_offset, member, announce, marks })
    }

    fn unsubscribe(
        &mut self,
        from: Option<u16>,
        name: &Arc<str>,
        options: &ChannelOptions,
        member: Option<(ClientId, bool)>,
        now_ms: u64,
    ) -> Answer {
        let Some(channel) = self.channels.get_mut(name) else { return Answer::Done };
        if let Some(count) = from.and_then(|w| channel.interest.get_mut(usize::from(w))) {
            *count = count.saturating_sub(1);
        }
        if let Some((client, announce)) = member {
            self.exit(name, options, client, announce, now_ms);
        }
        self.settle(name, now_ms);
        Answer::Done
    }

    fn publish(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        request: PublishRequest,
        now_ms: u64,
        event: &mut Option<Event>,
    ) -> Answer {
        if let Some(key) = &request.idempotency_key
            && let Some(position) = self.keys.get(&(Arc::clone(name), key.clone()))
        {
            return Answer::Published(*position);
        }
        let stored = options.has_history() && !request.skip_history;
        if (stored || request.version.is_some()) && !self.has_room(name) {
            return Answer::Error(ClientError::LIMIT_EXCEEDED);
        }
        if let Some((version, epoch)) = &request.version
            && self.suppressed(name, *version, epoch, options, now_ms)
        {
            let stream = self.channels.get(name).and_then(|c| c.stream.as_ref());
            return Answer::Published(stream.map(|s| s.position()));
        }
        let publication = Publication {
            offset: 0,
            previous: 0,
            epoch: None,
            data: request.data,
            tags: request.tags,
            info: request.info,
            appended_ms: now_ms,
        };
        let (publication, position) = if stored {
            let keep = retention(options);
            let stream = self.stream(name, options, now_ms);
            let p = stream.append(publication, now_ms, keep);
            let position = stream.position();
            self.plan_sweep(name, options, now_ms);
            (p, Some(position))
        } else {
            (Arc::new(publication), None)
        };
        if let Some(key) = request.idempotency_key {
            let until = now_ms.saturating_add(limits::IDEMPOTENCY_MS);
            self.keys.insert((Arc::clone(name), key.clone()), position);
            self.key_order.push_back((until, Arc::clone(name), key));
        }
        *event = Some(Event::Publication(publication));
        Answer::Published(position)
    }

    /// Is the version not above the last one? If it is, it becomes the last one.
    fn suppressed(
        &mut self,
        name: &Arc<str>,
        number: u64,
        epoch: &str,
        options: &ChannelOptions,
        now_ms: u64,
    ) -> bool {
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        if let Some(last) = &channel.version
            && *last.epoch == *epoch
            && number <= last.number
        {
            return true;
        }
        let until_ms = now_ms.saturating_add(options.history_meta_ttl_ms);
        channel.version = Some(Box::new(Version { number, epoch: epoch.into(), until_ms }));
        self.plan_sweep(name, options, now_ms);
        false
    }

    fn history(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        since: Option<&Since>,
        limit: usize,
        reverse: bool,
        now_ms: u64,
    ) -> Answer {
        if !options.has_history() {
            return Answer::Error(ClientError::NOT_AVAILABLE);
        }
        if !self.has_room(name) {
            return Answer::Error(ClientError::LIMIT_EXCEEDED);
        }
        let stream = self.stream(name, options, now_ms);
        let page = stream.page(since, limit, reverse);
        self.plan_sweep(name, options, now_ms);
        page.map_or_else(Answer::Error, Answer::History)
    }

    /// The stream of a channel, made when there is none, with nothing expired in it.
    fn stream(&mut self, name: &Arc<str>, options: &ChannelOptions, now_ms: u64) -> &mut Stream {
        let keep = retention(options);
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        let used = channel.interest.iter().any(|n| *n > 0);
        if let Some(s) = &mut channel.stream {
            s.expire(now_ms, keep);
            if s.is_forgotten(now_ms) && !used {
                channel.stream = None;
            }
        }
        let (seed, epochs) = (self.seed, &mut self.epochs);
        let stream = channel.stream.get_or_insert_with(|| {
            *epochs += 1;
            Stream::new(Epoch::from_random(mix(seed, *epochs)), now_ms, keep)
        });
        stream.touch(now_ms, keep);
        stream
    }

    fn has_room(&self, name: &str) -> bool {
        self.channels.len() < limits::CHANNELS_PER_WORKER_MAX || self.channels.contains_key(name)
    }

    /// Expires, forgets or plans the next look at a channel.
    fn settle(&mut self, name: &Arc<str>, now_ms: u64) {
        let rules = Arc::clone(&self.rules);
        let Ok(resolved) = rules.resolve(name) else { return };
        let Some(channel) = self.channels.get_mut(name) else { return };
        let watched = channel.interest.iter().any(|n| *n > 0);
        if channel.roster.as_ref().is_some_and(|r| r.is_empty() && !(watched && r.owes())) {
            channel.roster = None;
        }
        if let Some(marks) = &mut channel.marks {
            self.marks -= marks.expire(now_ms);
        }
        channel.marks.take_if(|m| m.is_empty());
        if let Some(typists) = &mut channel.typists {
            typists.expire(now_ms);
        }
        channel.typists.take_if(|t| t.is_empty());
        let used = watched || channel.roster.is_some() || channel.marks.is_some();
        if let Some(stream) = &mut channel.stream {
            stream.expire(now_ms, retention(resolved.options));
            if !used && stream.is_forgotten(now_ms) {
                channel.stream = None;
            }
        }
        if channel.version.as_ref().is_some_and(|v| v.until_ms <= now_ms) {
            channel.version = None;
        }
        if !used && channel.stream.is_none() && channel.version.is_none() {
            self.channels.remove(name);
            self.held.remove(name);
        } else {
            self.plan_sweep(name, resolved.options, now_ms);
        }
    }

    /// Sees to it that the channel is looked at again, by one entry in the heap: after a time to
    /// live at the latest, since what is appended later expires before what is planned for.
    fn plan_sweep(&mut self, name: &Arc<str>, options: &ChannelOptions, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if channel.sweep_ms != u64::MAX {
            return;
        }
        let keep = retention(options);
        let stream = channel.stream.as_ref().map(|s| {
            let latest = now_ms.saturating_add(keep.ttl_ms.max(SWEEP_LATEST_MS));
            s.next_expiry_ms(keep).min(latest)
        });
        let version = channel.version.as_ref().map(|v| v.until_ms);
        let marks = channel.marks.as_ref().map(|m| m.look_ms());
        let Some(next) = stream.into_iter().chain(version).chain(marks).min() else { return };
        let next = next.max(now_ms + SWEEP_MS);
        channel.sweep_ms = next;
        self.sweeps.push(Reverse((next, Arc::clone(name))));
    }
}

fn retention(options: &ChannelOptions) -> Retention {
    Retention {
        size: options.history_size,
        ttl_ms: options.history_ttl_ms,
        meta_ttl_ms: options.history_meta_ttl_ms,
    }
}

/// splitmix64: spreads a counter over 64 bits.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;

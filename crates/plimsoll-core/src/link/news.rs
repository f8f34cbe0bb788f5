//! What a link hears from the backbone.

use super::{
    Arrival, Call, Link, Members, News, Opened, Out, Replica, Stage, Unavailable, is_ahead,
};
use crate::codes::ClientError;
use crate::home::{Answer, Event, Extended, Home, Request};
use crate::limits;
use crate::model::{ClientId, Epoch, Publication, StreamPosition};
use plimsoll_overload::feature::Feature;
use std::cmp::Reverse;
use std::sync::Arc;

/// Readings in which a delivery is ahead of its store before it is dropped. Copies of a store may
/// lag for a moment.
const DOUBTS_MAX: u8 = 3;

fn is_stamped(arrival: &Arrival) -> bool {
    matches!(arrival, Arrival::Publication { publication, .. } if publication.offset > 0)
}

impl Link {
    /// Something was heard about a channel.
    pub fn on_news(&mut self, home: &mut Home, name: &Arc<str>, news: News, now_ms: u64) {
        if !self.channels.contains_key(name) {
            // Closed meanwhile.
            return;
        }
        match news {
            News::Opened(Ok(opened)) => self.on_opened(home, name, opened, now_ms),
            News::Opened(Err(Unavailable)) => {
                self.refuse_waiting(name);
                self.channels.remove(name);
                home.drop_copy(name);
            }
            News::Read(read) => self.on_read(home, name, read, now_ms),
            News::Roster(Ok(members)) => self.on_roster(home, name, members, now_ms),
            News::Roster(Err(Unavailable)) => {
                if let Some(linked) = self.channels.get_mut(name) {
                    linked.roster_ms = now_ms + limits::STALE_RETRY_MS;
                    self.dues.push(Reverse((linked.roster_ms, Arc::clone(name))));
                }
            }
            News::Arrived(arrival) => self.on_arrival(home, name, arrival, now_ms),
        }
    }

    /// Deliveries of these channels (`None`: of all) may be missing.
    pub fn on_gap(&mut self, home: &mut Home, channels: Option<&[Arc<str>]>) {
        let names: Vec<Arc<str>> = match channels {
            Some(names) => names.to_vec(),
            None => self.channels.keys().cloned().collect(),
        };
        let rules = home.rules();
        for name in names {
            let Some(linked) = self.channels.get_mut(&name) else { continue };
            let Ok(resolved) = rules.resolve(&name) else { continue };
            let options = resolved.options;
            match linked.stage {
                Stage::Opening => linked.overflown = true,
                Stage::Reading { .. } => linked.stage = Stage::Reading { again: true },
                Stage::Live | Stage::Stale { .. } if options.has_history() => {
                    self.read(home, &name);
                }
                Stage::Live | Stage::Stale { .. } => {}
            }
            if options.presence || options.join_leave {
                if let Some(linked) = self.channels.get_mut(&name) {
                    linked.roster_ms = u64::MAX - 1;
                }
                self.call(Call::Roster { channel: name });
            }
        }
    }

    /// A node has not been heard of for so long that its connections are taken for gone.
    pub fn on_node_gone(&mut self, home: &mut Home, node: u64, now_ms: u64) {
        let mut gone: Vec<(Arc<str>, ClientId)> = Vec::new();
        for (name, linked) in &mut self.channels {
            linked.members.retain(|client, of| {
                if *of == node {
                    gone.push((Arc::clone(name), *client));
                }
                *of != node
            });
        }
        self.figures.ghosts += gone.len() as u64;
        for (channel, client) in gone {
            home.remote_leave(&channel, client, true, now_ms);
            self.call(Call::Forget { channel, client, node });
        }
    }

    fn on_opened(&mut self, home: &mut Home, name: &Arc<str>, opened: Opened, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        if linked.stage != Stage::Opening {
            return;
        }
        if let Some(replica) = opened.replica {
            home.install(name, replica, now_ms);
        }
        linked.too_many = opened.members.too_many;
        for (info, node) in opened.members.list {
            if node != self.node {
                linked.members.insert(info.client, node);
                home.remote_join(name, info, false, now_ms);
            }
        }
        if std::mem::take(&mut linked.overflown) && home.position(name).is_some() {
            return self.read(home, name);
        }
        self.go_live(home, name, now_ms);
    }

    fn on_read(
        &mut self,
        home: &mut Home,
        name: &Arc<str>,
        read: Result<Replica, Unavailable>,
        now_ms: u64,
    ) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        let Stage::Reading { again } = linked.stage else { return };
        let again = again || std::mem::take(&mut linked.overflown);
        let questionable = std::mem::take(&mut linked.questionable);
        let Ok(replica) = read else {
            linked.questionable = questionable;
            return self.go_stale(name, now_ms);
        };
        let top = replica.position;
        let joins = home.position(name).is_some_and(|at| {
            at.epoch == top.epoch && at.offset >= replica.floor && at.offset <= top.offset
        });
        if joins {
            self.figures.healed += replica.publications.len() as u64;
            for publication in replica.publications {
                self.extend(home, name, publication, top.epoch, now_ms);
            }
            if replica.whole {
                // A broker may count on without a publication in this channel.
                home.rise(name, top);
            }
        } else {
            home.install(name, replica, now_ms);
            self.figures.lost += 1;
            self.out.push_back(Out::Event(Arc::clone(name), Event::Lost));
        }
        if questionable && self.is_ahead_of_store(name, top) {
            return self.go_stale(name, now_ms);
        }
        if let Some(linked) = self.channels.get_mut(name) {
            linked.doubts = 0;
        }
        let behind = home.position(name).is_some_and(|at| at.offset < top.offset);
        if again || (joins && behind) {
            return self.read(home, name);
        }
        self.go_live(home, name, now_ms);
    }

    /// What was read is newer than what made us read. If that is of another life of the stream, it
    /// is of an earlier one. If it still does not join on, the store lags behind what it told.
    fn is_ahead_of_store(&mut self, name: &Arc<str>, top: StreamPosition) -> bool {
        let Some(linked) = self.channels.get_mut(name) else { return false };
        let Some(Arrival::Publication { publication, epoch }) = linked.early.front() else {
            return false;
        };
        if *epoch != Some(top.epoch) {
            linked.early.pop_front();
            return false;
        }
        linked.questionable = publication.previous > top.offset;
        if linked.questionable && linked.doubts >= DOUBTS_MAX {
            // Nobody has what would come before it: whatever it is, it is not of this store.
            linked.early.pop_front();
            linked.questionable = false;
        }
        linked.doubts += u8::from(linked.questionable);
        linked.questionable
    }

    /// The copy is there: what came meanwhile follows, and who waited is answered.
    fn go_live(&mut self, home: &mut Home, name: &Arc<str>, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        linked.stage = Stage::Live;
        while let Some(linked) = self.channels.get_mut(name)
            && linked.stage == Stage::Live
            && let Some(arrival) = linked.early.pop_front()
        {
            self.apply(home, name, arrival, now_ms);
        }
        let Some(linked) = self.channels.get_mut(name).filter(|l| l.stage == Stage::Live) else {
            return;
        };
        let ahead = linked.waiting.iter().any(|(_, r)| is_ahead(home, name, r));
        if ahead && !std::mem::replace(&mut linked.reread, ahead) {
            // What was read may be older than what they saw on another node.
            return self.read(home, name);
        }
        linked.reread = false;
        for (asker, request) in std::mem::take(&mut linked.waiting) {
            let outcome = self.grant(home, asker, name, request, now_ms);
            self.out.push_back(Out::Answer(asker, Arc::clone(name), outcome.answer));
        }
        self.plan_renewal(home, name, now_ms);
        self.plan_linger(home, name, now_ms);
    }

    /// A temporary error: clients ask again by themselves, later each time.
    pub(super) fn refuse_waiting(&mut self, name: &Arc<str>) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        for (asker, _) in std::mem::take(&mut linked.waiting) {
            let answer = Answer::Error(ClientError::INTERNAL);
            self.out.push_back(Out::Answer(asker, Arc::clone(name), answer));
        }
    }

    fn on_arrival(&mut self, home: &mut Home, name: &Arc<str>, arrival: Arrival, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        if linked.stage == Stage::Live {
            return self.apply(home, name, arrival, now_ms);
        }
        if linked.early.len() >= limits::EARLY_ARRIVALS_MAX {
            // Those with offsets are read again; without making room one arrival for each reading
            // would be enough to go on for ever.
            linked.overflown = true;
            linked.early.retain(|a| !is_stamped(a));
            linked.questionable = false;
        }
        if linked.early.len() < limits::EARLY_ARRIVALS_MAX {
            linked.early.push_back(arrival);
        }
    }

    fn apply(&mut self, home: &mut Home, name: &Arc<str>, arrival: Arrival, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        match arrival {
            Arrival::Publication { publication, epoch: Some(epoch) } if publication.offset > 0 => {
                self.extend(home, name, publication, epoch, now_ms);
            }
            Arrival::Publication { publication, .. } => {
                let event = Event::Publication(Arc::new(Publication { offset: 0, ..publication }));
                self.out.push_back(Out::Event(Arc::clone(name), event));
            }
            Arrival::Mark(request) => {
                let rules = home.rules();
                let of_receipts =
                    rules.resolve(name).is_ok_and(|r| r.options.feature == Some(Feature::Receipts));
                if of_receipts {
                    home.handle(None, name, Request::Publish(request), now_ms);
                }
            }
            Arrival::Join { info, node, announce } => {
                // Told twice after a break: there is nothing new in it.
                let known = linked.members.get(&info.client) == Some(&node);
                if node != self.node && !known {
                    linked.members.insert(info.client, node);
                    home.remote_join(name, info, announce, now_ms);
                }
            }
            Arrival::Leave { client, announce } => {
                if linked.members.remove(&client).is_some() {
                    home.remote_leave(name, client, announce, now_ms);
                }
            }
        }
    }

    /// The next publication of a stream, or not.
    fn extend(
        &mut self,
        home: &mut Home,
        name: &Arc<str>,
        publication: Publication,
        epoch: Epoch,
        now_ms: u64,
    ) {
        match home.extend(name, publication, epoch, now_ms) {
            Extended::Next(publication) => {
                let event = Event::Publication(publication);
                self.out.push_back(Out::Event(Arc::clone(name), event));
            }
            Extended::Old => self.figures.repeated += 1,
            Extended::Hole(publication) => {
                self.figures.gaps += 1;
                if let Some(linked) = self.channels.get_mut(name) {
                    let arrival = Arrival::Publication { publication, epoch: Some(epoch) };
                    linked.early.push_front(arrival);
                    linked.questionable = true;
                }
                self.read(home, name);
            }
        }
    }

    /// Who is there by the backbone is made to agree with who is there by this copy: what others
    /// said is theirs, and what is said of this node is ours.
    fn on_roster(&mut self, home: &mut Home, name: &Arc<str>, members: Members, now_ms: u64) {
        let Some(linked) = self.channels.get_mut(name) else { return };
        linked.roster_ms = u64::MAX;
        linked.too_many = members.too_many;
        if members.too_many {
            return;
        }
        let mut left = std::mem::take(&mut linked.members);
        let mut ours: Vec<_> = home.members(name);
        ours.retain(|info| !left.contains_key(&info.client));
        for (info, node) in members.list {
            let known = left.remove(&info.client).is_some();
            if node != self.node {
                linked.members.insert(info.client, node);
                if !known {
                    home.remote_join(name, info, true, now_ms);
                }
            } else if let Some(at) = ours.iter().position(|o| o.client == info.client) {
                ours.swap_remove(at);
            } else {
                let (client, channel) = (info.client, Arc::clone(name));
                self.out.push_back(Out::Call(Call::Forget { channel, client, node }));
            }
        }
        for client in left.into_keys() {
            home.remote_leave(name, client, true, now_ms);
        }
        for info in ours {
            let (channel, here, announce) = (Arc::clone(name), true, true);
            self.call(Call::Member { channel, info, here, announce });
        }
    }
}

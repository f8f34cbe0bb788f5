use super::*;
use crate::channel::Channels;
use crate::home::{Event, Subscribed};
use crate::model::{ClientInfo, ConnKey, Epoch, Publication, Since, StreamPosition};
use crate::policy::{ChannelPolicy, RecoveryMode};
use proptest::prelude::*;

const ME: u64 = 1;
const YOU: u64 = 2;

fn home(presence: bool) -> Home {
    let without_namespace = ChannelOptions {
        history_size: 10,
        history_ttl_ms: 1_000_000,
        allow_recovery: true,
        presence,
        join_leave: presence,
        recovery_mode: RecoveryMode::Stream,
        ..ChannelOptions::default()
    };
    let policy = ChannelPolicy { without_namespace, ..ChannelPolicy::default() };
    Home::new(Arc::new(Channels::new(policy).unwrap()), 8, 7)
}

fn asker(id: u32) -> Asker {
    Asker::Session { worker: 0, conn: ConnKey { slot: id, generation: 1 }, id }
}

fn publication(offset: u64, previous: u64) -> Publication {
    let data = offset.to_string().into();
    let (epoch, tags, info) = (None, None, None);
    Publication { offset, previous, epoch, data, tags, info, appended_ms: 0 }
}

/// A broker with one channel, and this node's link to it.
struct Model {
    epoch: Epoch,
    epochs: u64,
    /// Offset and the one before, all that were ever published in this epoch.
    all: Vec<(u64, u64)>,
    floor: u64,
    top: u64,
    subscribed: bool,
    up: bool,
    /// On its way to the node: publications with their epoch, or (`None`) a gap.
    wire: VecDeque<Option<(u64, u64, Epoch)>>,
}

impl Model {
    fn publish(&mut self, skip: u64) {
        let previous = self.all.last().map_or(0, |(offset, _)| *offset);
        let offset = self.top + 1 + skip;
        self.top = offset;
        self.all.push((offset, previous));
        if self.subscribed && self.up {
            self.wire.push_back(Some((offset, previous, self.epoch)));
        }
    }

    fn page(&self, after: u64, newest: Option<usize>) -> Replica {
        let stored = self.all.iter().filter(|(o, _)| *o > self.floor.max(after));
        let stored: Vec<_> = stored.map(|(o, p)| publication(*o, *p)).collect();
        let skip = newest.map_or(0, |n| stored.len().saturating_sub(n));
        let floor = match skip {
            0 => self.floor,
            _ => stored[skip].offset - 1,
        };
        let position = StreamPosition { epoch: self.epoch, offset: self.top };
        Replica { position, floor, publications: stored[skip..].to_vec(), whole: true }
    }

    fn read(&self, since: Option<StreamPosition>) -> Replica {
        match since {
            Some(s) if s.epoch == self.epoch && (self.floor..=self.top).contains(&s.offset) => {
                self.page(s.offset, None)
            }
            _ => self.page(0, Some(8)),
        }
    }
}

/// A subscriber, as far as it knows.
#[derive(Clone)]
struct Client {
    epoch: Epoch,
    offset: u64,
    live: bool,
}

struct World {
    home: Home,
    link: Link,
    model: Model,
    name: Arc<str>,
    calls: VecDeque<Call>,
    /// Answers of the broker that were read and not yet told.
    answers: VecDeque<News>,
    clients: Vec<Client>,
    lost: u32,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        let epoch = Epoch::from_random(1);
        let (all, wire) = (Vec::new(), VecDeque::new());
        Self {
            home: home(false),
            link: Link::new(ME, 50, 3),
            model: Model {
                epoch,
                epochs: 1,
                all,
                floor: 0,
                top: 0,
                subscribed: false,
                up: true,
                wire,
            },
            name: "a".into(),
            calls: VecDeque::new(),
            answers: VecDeque::new(),
            clients: Vec::new(),
            lost: 0,
            now_ms: 0,
        }
    }

    fn subscribe(&mut self, from: Option<usize>) {
        let id = self.clients.len() as u32;
        let known = from.and_then(|at| self.clients.get(at)).cloned();
        let since =
            known.as_ref().map(|c| Since { offset: c.offset, epoch: c.epoch.as_str().into() });
        self.clients
            .push(known.map_or(Client { epoch: self.model.epoch, offset: 0, live: false }, |c| {
                Client { live: false, ..c }
            }));
        let request = SubscribeRequest { positioned: true, recover: since, ..Default::default() };
        let request = Request::Subscribe(request);
        let outcome = self.link.handle(&mut self.home, asker(id), &self.name, request, self.now_ms);
        if let Some(outcome) = outcome {
            self.answered(id as usize, outcome.answer);
        }
        self.drain();
    }

    fn answered(&mut self, at: usize, answer: Answer) {
        let client = &mut self.clients[at];
        let Answer::Subscribed(Subscribed { position: Some(position), recovery, .. }) = answer
        else {
            return;
        };
        client.live = true;
        if let Some(recovery) = recovery.filter(|r| r.recovered) {
            // Everything between where it stood and the position, each once.
            let missing = |o: &u64| *o > client.offset && *o <= position.offset;
            let want: Vec<u64> = self.model.all.iter().map(|(o, _)| *o).filter(missing).collect();
            let got: Vec<u64> = recovery.publications.iter().map(|p| p.offset).collect();
            assert_eq!(client.epoch, position.epoch);
            if position.epoch == self.model.epoch {
                assert_eq!(got, want);
            }
        }
        (client.epoch, client.offset) = (position.epoch, position.offset);
    }

    fn drain(&mut self) {
        while let Some(out) = self.link.take_out() {
            match out {
                Out::Answer(Asker::Session { id, .. }, _, answer) => {
                    self.answered(id as usize, answer);
                }
                Out::Answer(..) => {}
                Out::Event(_, event) => self.event(&event),
                Out::Call(call) => self.calls.push_back(call),
            }
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Publication(p) => {
                let live = self.clients.iter_mut().filter(|c| c.live);
                for client in live {
                    assert!(p.offset > client.offset, "{} after {}", p.offset, client.offset);
                    assert!(p.previous <= client.offset, "a hole before {}", p.offset);
                    client.offset = p.offset;
                }
            }
            Event::Lost => {
                self.lost += 1;
                // They are told, and come back by themselves.
                for at in 0..self.clients.len() {
                    if std::mem::take(&mut self.clients[at].live) {
                        self.unsubscribe_home();
                    }
                }
            }
            Event::Presence(_) => {}
        }
    }

    fn unsubscribe_home(&mut self) {
        let request = Request::Unsubscribe { member: None, announce: false };
        self.link.handle(&mut self.home, asker(0), &self.name, request, self.now_ms);
    }

    fn unsubscribe(&mut self, at: usize) {
        if let Some(client) = self.clients.get_mut(at)
            && std::mem::take(&mut client.live)
        {
            self.unsubscribe_home();
            self.drain();
        }
    }

    /// The broker does one thing that was asked; it is told later.
    fn serve(&mut self) {
        let Some(call) = self.calls.pop_front() else { return };
        let up = self.model.up;
        match call {
            Call::Open { .. } => {
                self.model.subscribed = up;
                let members = Members::default();
                let opened = Opened { replica: Some(self.model.read(None)), members };
                self.answers.push_back(News::Opened(if up {
                    Ok(opened)
                } else {
                    Err(Unavailable)
                }));
            }
            Call::Close { .. } => {
                self.model.subscribed = false;
                // What is on its way comes to a channel that is not open any more.
            }
            Call::Read { since, .. } => {
                let read = if up { Ok(self.model.read(since)) } else { Err(Unavailable) };
                self.answers.push_back(News::Read(read));
            }
            _ => {}
        }
    }

    fn tell(&mut self) {
        if let Some(news) = self.answers.pop_front() {
            self.link.on_news(&mut self.home, &self.name, news, self.now_ms);
            self.drain();
        }
    }

    fn deliver(&mut self) {
        match self.model.wire.pop_front() {
            Some(Some((offset, previous, epoch))) => {
                let publication = publication(offset, previous);
                let arrival = Arrival::Publication { publication, epoch: Some(epoch) };
                let news = News::Arrived(arrival);
                self.link.on_news(&mut self.home, &self.name, news, self.now_ms);
            }
            Some(None) => self.link.on_gap(&mut self.home, None),
            None => {}
        }
        self.drain();
    }

    fn cut(&mut self) {
        self.model.up = false;
        self.model.wire.clear();
    }

    fn heal(&mut self) {
        if !std::mem::replace(&mut self.model.up, true) {
            self.model.wire.push_back(None);
        }
    }

    fn flush(&mut self) {
        self.model.epochs += 1;
        self.model.epoch = Epoch::from_random(self.model.epochs);
        self.model.all.clear();
        (self.model.floor, self.model.top) = (0, 0);
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.link.on_time(&mut self.home, self.now_ms);
        self.home.sweep(self.now_ms);
        self.drain();
    }

    fn step(&mut self, op: u8, n: u8) {
        let some = usize::from(n) % self.clients.len().max(1);
        match op % 16 {
            0..=3 => self.model.publish(u64::from(n % 3)),
            4 => self.subscribe(None),
            5 => self.subscribe(Some(some)),
            6 => self.unsubscribe(some),
            7 | 8 => self.serve(),
            9 | 10 => self.tell(),
            11 | 12 => self.deliver(),
            13 if n < 60 => self.cut(),
            13 if n < 200 => self.heal(),
            13 if n < 210 => self.flush(),
            13 => self.model.floor = self.model.floor.max(self.model.top.saturating_sub(9)),
            14 => self.pass(u64::from(n)),
            _ => self.deliver(),
        }
    }

    fn settle(&mut self) {
        self.heal();
        self.model.publish(0);
        for _ in 0..200 {
            self.serve();
            self.tell();
            self.deliver();
            self.pass(20);
        }
        assert!(self.calls.is_empty() && self.answers.is_empty() && self.model.wire.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever happens on the way, a subscriber sees each publication once, in order, or is told;
    /// and in the end everybody who was not told has all of them.
    #[test]
    fn nothing_is_missed_in_silence(
        ops in proptest::collection::vec((any::<u8>(), any::<u8>()), 0..300),
    ) {
        let mut w = World::new();
        for (op, n) in ops {
            w.step(op, n);
        }
        w.settle();
        for client in w.clients.iter().filter(|c| c.live) {
            prop_assert_eq!((client.epoch, client.offset), (w.model.epoch, w.model.top));
        }
        let live = w.clients.iter().filter(|c| c.live).count();
        prop_assert_eq!(w.home.subscriber_count("a"), live);
        prop_assert_eq!(w.model.subscribed, live > 0, "given back when nobody is left");
    }
}

#[test]
fn a_hole_is_filled_before_what_follows() {
    let mut w = World::new();
    w.subscribe(None);
    w.serve();
    w.tell();
    assert!(w.clients[0].live);
    for _ in 0..3 {
        w.model.publish(0);
    }
    w.model.wire.remove(0); // lost on the way, and nobody knows
    w.deliver();
    w.deliver();
    assert_eq!(w.clients[0].offset, 0, "nothing before the hole is filled");
    w.serve();
    w.tell();
    assert_eq!((w.clients[0].offset, w.lost), (3, 0));
    assert_eq!(
        w.link.take_figures(),
        Figures { gaps: 1, healed: 3, repeated: 2, ..Default::default() }
    );
}

#[test]
fn a_client_of_a_faster_node_waits_for_the_copy() {
    let mut w = World::new();
    w.subscribe(None);
    w.serve();
    w.tell();
    w.model.publish(0);
    w.model.publish(0);
    // It saw both elsewhere; here none has come yet.
    w.clients.push(Client { epoch: w.model.epoch, offset: 2, live: false });
    w.subscribe(Some(1));
    assert!(!w.clients[2].live, "not told that its position is wrong");
    w.serve();
    w.tell();
    assert!(w.clients[2].live && w.clients[2].offset == 2);
    w.deliver();
    w.deliver();
    assert_eq!(w.link.take_figures().repeated, 2);
}

#[test]
fn a_broker_may_count_on_without_us() {
    let mut w = World::new();
    w.subscribe(None);
    w.serve();
    w.tell();
    w.model.top += 5; // something in other channels
    w.link.on_gap(&mut w.home, None);
    w.drain();
    w.serve();
    w.tell();
    assert!(w.calls.is_empty(), "read once");
    assert_eq!(w.home.position("a").map(|p| p.offset), Some(5));
    w.model.publish(0);
    w.deliver();
    assert_eq!((w.clients[0].offset, w.lost), (6, 0));
}

#[test]
fn what_cannot_be_opened_is_a_temporary_error() {
    let mut w = World::new();
    w.cut();
    let name = Arc::clone(&w.name);
    let request = Request::Subscribe(SubscribeRequest::default());
    assert!(w.link.handle(&mut w.home, asker(0), &name, request, 0).is_none());
    let Some(Out::Call(Call::Open { .. })) = w.link.take_out() else { panic!("not opened") };
    w.link.on_news(&mut w.home, &name, News::Opened(Err(Unavailable)), 0);
    let Some(Out::Answer(_, _, Answer::Error(error))) = w.link.take_out() else {
        panic!("not answered")
    };
    assert!(error.temporary && w.link.is_empty() && w.home.is_empty());
}

fn member(n: u8, user: &str) -> ClientInfo {
    let (conn_info, chan_info) = (None, None);
    ClientInfo { user: user.into(), client: ClientId([n; 16]), conn_info, chan_info }
}

/// A home with one member of this node, number 1, and what the link wanted for it.
fn present() -> (Home, Link, Arc<str>) {
    let (mut home, mut link, name) = (home(true), Link::new(ME, 0, 3), Arc::<str>::from("a"));
    let request = SubscribeRequest {
        member: Some(member(1, "u")),
        announce: true,
        ..SubscribeRequest::default()
    };
    link.handle(&mut home, asker(0), &name, Request::Subscribe(request), 0);
    let members = Members { list: vec![(member(2, "v"), YOU)], too_many: false };
    let opened = Opened { replica: None, members };
    link.on_news(&mut home, &name, News::Opened(Ok(opened)), 0);
    let outs: Vec<Out> = std::iter::from_fn(|| link.take_out()).collect();
    assert!(matches!(outs[1], Out::Call(Call::Member { here: true, announce: true, .. })));
    (home, link, name)
}

fn clients(home: &mut Home, link: &mut Link, name: &Arc<str>) -> Vec<u8> {
    let asked = link.handle(home, Asker::Caller { ticket: 1 }, name, Request::Presence, 0);
    let Some(Outcome { answer: Answer::Presence(members), .. }) = asked else {
        panic!("not answered from the copy")
    };
    let mut ids: Vec<u8> = members.iter().map(|m| m.client.0[0]).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn members_of_all_nodes_are_one_roster() {
    let (mut home, mut link, name) = present();
    let hear = |home: &mut Home, link: &mut Link, arrival| {
        link.on_news(home, &name, News::Arrived(arrival), 0);
    };
    let join = |n, node| Arrival::Join { info: member(n, "w"), node, announce: true };
    let leave = |n| Arrival::Leave { client: ClientId([n; 16]), announce: true };
    hear(&mut home, &mut link, join(3, YOU));
    hear(&mut home, &mut link, join(3, YOU));
    hear(&mut home, &mut link, leave(1));
    assert_eq!(clients(&mut home, &mut link, &name), [1, 2, 3], "ours are not theirs to remove");
    hear(&mut home, &mut link, leave(2));
    assert_eq!(clients(&mut home, &mut link, &name), [1, 3]);
    link.on_node_gone(&mut home, YOU, 0);
    assert_eq!(clients(&mut home, &mut link, &name), [1]);
    assert!(matches!(link.take_out(), Some(Out::Call(Call::Forget { node: YOU, .. }))));
}

#[test]
fn after_a_gap_rosters_agree_again() {
    let (mut home, mut link, name) = present();
    link.on_gap(&mut home, None);
    let asked: Vec<Out> = std::iter::from_fn(|| link.take_out()).collect();
    assert!(asked.iter().any(|o| matches!(o, Out::Call(Call::Roster { .. }))));
    // 2 has gone, 4 has come, 5 is an entry of ours that we know nothing of, and ours is missing.
    let noted = vec![(member(4, "w"), YOU), (member(5, "x"), ME)];
    let noted = Members { list: noted, too_many: false };
    link.on_news(&mut home, &name, News::Roster(Ok(noted)), 0);
    link.on_news(&mut home, &name, News::Read(Err(Unavailable)), 0);
    let outs: Vec<Out> = std::iter::from_fn(|| link.take_out()).collect();
    assert!(matches!(
        &outs[0],
        Out::Call(Call::Forget { client: ClientId([5, ..]), node: ME, .. })
    ));
    let Out::Call(Call::Member { info, here: true, .. }) = &outs[1] else { panic!("{outs:?}") };
    assert_eq!(info.client.0[0], 1);
    assert_eq!(home.members("a").len(), 2);
}

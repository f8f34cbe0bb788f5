//! What is subscribed to: the wish, by partition, and how far it has come.
//!
//! The wish stands here, the links only carry it out. So a link that is made anew, or a partition
//! that goes to another server, is asked for again from here, and the order of subscribe and
//! unsubscribe is that of the lock of the partition.

use super::keys::{Keys, Kind};
use crate::contract::Failure;
use crate::limits;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot};

/// Takes a lock; a panic elsewhere has left nothing half done that matters more than going on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call of `subscribe`, shared by all channels that it waits for.
pub(super) struct Call {
    state: Mutex<CallState>,
}

struct CallState {
    left: usize,
    results: Vec<Result<(), Failure>>,
    done: Option<oneshot::Sender<()>>,
}

impl Call {
    pub(super) fn new(channels: usize) -> (Arc<Self>, oneshot::Receiver<()>) {
        let (done, wait) = oneshot::channel();
        // What is never answered is unknown.
        let results = vec![Err(Failure::Unknown); channels];
        let state = CallState { left: channels, results, done: Some(done) };
        (Arc::new(Self { state: Mutex::new(state) }), wait)
    }

    fn answer(&self, index: usize, result: Result<(), Failure>) {
        let mut state = lock(&self.state);
        if let Some(slot) = state.results.get_mut(index) {
            *slot = result;
        }
        state.left = state.left.saturating_sub(1);
        if state.left == 0
            && let Some(done) = state.done.take()
        {
            let _ = done.send(());
        }
    }

    pub(super) fn results(&self) -> Vec<Result<(), Failure>> {
        lock(&self.state).results.clone()
    }
}

type Waiter = (Arc<Call>, usize);

struct Entry {
    /// The order that will confirm it; a confirmation of an earlier one says nothing.
    seq: u64,
    confirmed: bool,
    /// It was confirmed once: it is asked for again until it is there.
    kept: bool,
    waiters: Vec<Waiter>,
}

/// What is wanted of one partition.
#[derive(Default)]
struct Part {
    /// The link of the server in charge.
    link: Option<Arc<Orders>>,
    entries: HashMap<Arc<str>, Entry>,
}

/// What a link has to ask the server for.
pub(super) struct Orders {
    queue: Mutex<Queue>,
    pub(super) wake: Notify,
}

#[derive(Default)]
struct Queue {
    /// The link is there: orders can be given.
    is_up: bool,
    orders: VecDeque<Order>,
    overflowed: bool,
}

/// One channel to subscribe to or to unsubscribe from.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) subscribe: bool,
    pub(super) partition: usize,
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) seq: u64,
    /// It was there before: deliveries may be missing.
    pub(super) restores: bool,
}

impl Orders {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), wake: Notify::new() })
    }

    /// Begins or ends to take orders; those not carried out are dropped.
    pub(super) fn set_up(&self, is_up: bool) {
        *lock(&self.queue) = Queue { is_up, ..Queue::default() };
    }

    fn give(&self, order: Order) -> Result<(), Failure> {
        let mut queue = lock(&self.queue);
        if !queue.is_up {
            return Err(Failure::Down);
        }
        if queue.orders.len() >= limits::REDIS_SUBSCRIBE_QUEUE_MAX {
            queue.overflowed |= !order.subscribe;
            return Err(Failure::Busy);
        }
        queue.orders.push_back(order);
        drop(queue);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) fn push(&self, order: Order) {
        // A link that is down is told everything when it comes up.
        let _ = self.give(order);
    }

    /// The next orders that make one command: the same verb, and one partition if `by_partition`.
    pub(super) fn next(&self, by_partition: bool) -> Vec<Order> {
        let mut queue = lock(&self.queue);
        let Some(first) = queue.orders.pop_front() else { return Vec::new() };
        let mut out = vec![first];
        while out.len() < limits::SUBSCRIBE_BATCH_MAX
            && let Some(next) = queue.orders.front()
            && next.subscribe == out[0].subscribe
            && (!by_partition || next.partition == out[0].partition)
            && let Some(next) = queue.orders.pop_front()
        {
            out.push(next);
        }
        out
    }

    /// Unsubscriptions were lost: only a new link helps.
    pub(super) fn overflowed(&self) -> bool {
        lock(&self.queue).overflowed
    }
}

/// All that is wanted.
pub(super) struct Registry {
    parts: Box<[Mutex<Part>]>,
    seq: AtomicU64,
    keys: Keys,
}

impl Registry {
    pub(super) fn new(keys: Keys) -> Self {
        let parts = (0..keys.partitions()).map(|_| Mutex::default()).collect();
        Self { parts, seq: AtomicU64::new(1), keys }
    }

    pub(super) fn next_seq(&self) -> u64 {
        self.seq.fetch_add(1, Relaxed)
    }

    fn part(&self, partition: usize) -> MutexGuard<'_, Part> {
        lock(&self.parts[partition % self.parts.len()])
    }

    fn order(&self, partition: usize, name: &Arc<str>, subscribe: bool) -> Order {
        Order {
            subscribe,
            partition,
            kind: Kind::Channel,
            name: Arc::clone(name),
            seq: self.next_seq(),
            restores: false,
        }
    }

    /// Wants a channel; the call gets an answer sooner or later.
    pub(super) fn subscribe(&self, name: &Arc<str>, call: &Arc<Call>, index: usize) {
        let partition = self.keys.partition(name);
        let mut part = self.part(partition);
        let Some(link) = part.link.clone() else { return call.answer(index, Err(Failure::Down)) };
        if let Some(entry) = part.entries.get_mut(name) {
            if entry.confirmed {
                return call.answer(index, Ok(()));
            }
            entry.waiters.push((Arc::clone(call), index));
            return;
        }
        let order = self.order(partition, name, true);
        let seq = order.seq;
        if let Err(failure) = link.give(order) {
            return call.answer(index, Err(failure));
        }
        let waiters = vec![(Arc::clone(call), index)];
        let entry = Entry { seq, confirmed: false, kept: false, waiters };
        part.entries.insert(Arc::clone(name), entry);
    }

    /// Does not want it any more.
    pub(super) fn unsubscribe(&self, name: &Arc<str>) {
        let partition = self.keys.partition(name);
        let mut part = self.part(partition);
        let Some(entry) = part.entries.remove(name) else { return };
        if let Some(link) = &part.link {
            link.push(self.order(partition, name, false));
        }
        for (call, index) in entry.waiters {
            call.answer(index, Err(Failure::Unknown));
        }
        if part.entries.is_empty() {
            part.entries.shrink_to_fit();
        }
    }

    /// The server has subscribed us.
    pub(super) fn confirmed(&self, order: &Order) {
        let mut part = self.part(order.partition);
        let Some(entry) = part.entries.get_mut(&order.name) else { return };
        if entry.seq == order.seq {
            entry.confirmed = true;
            entry.kept = true;
            for (call, index) in std::mem::take(&mut entry.waiters) {
                call.answer(index, Ok(()));
            }
        }
    }

    /// The server has refused to. What was there before stays wanted.
    pub(super) fn refused(&self, order: &Order, failure: Failure) {
        let mut part = self.part(order.partition);
        let Some(entry) = part.entries.get_mut(&order.name) else { return };
        if entry.seq != order.seq {
            return;
        }
        entry.confirmed = false;
        for (call, index) in std::mem::take(&mut entry.waiters) {
            call.answer(index, Err(failure));
        }
        if !entry.kept {
            part.entries.remove(&order.name);
        }
    }

    /// The very name that was subscribed, if it still is, by this link.
    pub(super) fn find(
        &self,
        partition: usize,
        name: &str,
        link: &Arc<Orders>,
    ) -> Option<Arc<str>> {
        let part = self.part(partition);
        part.link.as_ref().filter(|l| Arc::ptr_eq(l, link))?;
        part.entries.get_key_value(name).map(|(name, _)| Arc::clone(name))
    }

    /// A link is gone, or a partition is in other hands: nothing of these is subscribed.
    pub(super) fn lost(&self, partition: usize) {
        let mut part = self.part(partition);
        part.entries.retain(|_, entry| {
            entry.confirmed = false;
            for (call, index) in std::mem::take(&mut entry.waiters) {
                call.answer(index, Err(Failure::Unknown));
            }
            entry.kept
        });
    }

    /// Puts a partition into the hands of a link and orders all that is wanted of it there. Answers
    /// how many of the orders restore something.
    pub(super) fn restore(&self, partition: usize, link: &Arc<Orders>) -> usize {
        let mut guard = self.part(partition);
        let part = &mut *guard;
        part.link = Some(Arc::clone(link));
        let mut count = 0;
        for (name, entry) in &mut part.entries {
            let order = Order { restores: entry.kept, ..self.order(partition, name, true) };
            entry.seq = order.seq;
            entry.confirmed = false;
            count += usize::from(entry.kept);
            link.push(order);
        }
        count
    }

    /// Whose partition is it?
    pub(super) fn is_of(&self, partition: usize, link: &Arc<Orders>) -> bool {
        self.part(partition).link.as_ref().is_some_and(|l| Arc::ptr_eq(l, link))
    }

    /// Nobody is in charge of a partition.
    pub(super) fn orphan(&self, partition: usize) {
        self.part(partition).link = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> (Registry, Arc<Orders>) {
        let registry = Registry::new(Keys::new("p", 1));
        let link = Orders::new();
        link.set_up(true);
        registry.restore(0, &link);
        (registry, link)
    }

    #[test]
    fn a_confirmation_of_an_earlier_order_says_nothing() {
        let (registry, link) = registry();
        let name: Arc<str> = "a".into();
        let (first, _) = Call::new(1);
        registry.subscribe(&name, &first, 0);
        registry.unsubscribe(&name);
        let (second, mut done) = Call::new(1);
        registry.subscribe(&name, &second, 0);
        let (one, two, three) = (link.next(false), link.next(false), link.next(false));
        assert!(one[0].subscribe && !two[0].subscribe && three[0].subscribe);
        registry.confirmed(&one[0]);
        assert!(done.try_recv().is_err());
        registry.confirmed(&three[0]);
        done.try_recv().unwrap();
        assert_eq!(second.results(), [Ok(())]);
        assert_eq!(first.results(), [Err(Failure::Unknown)]);
    }

    #[test]
    fn only_what_was_confirmed_is_restored() {
        let (registry, link) = registry();
        let (call, _done) = Call::new(2);
        registry.subscribe(&"a".into(), &call, 0);
        let order = link.next(false).remove(0);
        registry.confirmed(&order);
        registry.subscribe(&"b".into(), &call, 1);
        link.set_up(false);
        registry.lost(0);
        assert_eq!(call.results(), [Ok(()), Err(Failure::Unknown)]);
        let (down, _) = Call::new(1);
        registry.subscribe(&"c".into(), &down, 0);
        assert_eq!(down.results(), [Err(Failure::Down)]);
        link.set_up(true);
        registry.restore(0, &link);
        let orders = link.next(false);
        assert_eq!(orders.len(), 1);
        assert!(orders[0].restores && &*orders[0].name == "a");
        registry.refused(&orders[0], Failure::Refused);
        assert!(registry.find(0, "a", &link).is_some(), "it stays wanted");
    }

    #[test]
    fn commands_are_of_one_verb_and_at_most_so_long() {
        let (registry, link) = registry();
        let names: Vec<Arc<str>> = (0..1_000).map(|n| n.to_string().into()).collect();
        let (call, _done) = Call::new(1_000);
        for (index, name) in names.iter().enumerate() {
            registry.subscribe(name, &call, index);
        }
        registry.unsubscribe(&names[3]);
        assert_eq!(link.next(false).len(), 512);
        assert_eq!(link.next(false).len(), 488);
        assert_eq!(link.next(false).len(), 1);
        assert!(link.next(false).is_empty());
    }
}

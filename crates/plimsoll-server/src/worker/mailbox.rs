//! Letters between threads: one box for each pair, one lock for each batch, one wake for each
//! batch and only when the reader may sleep.
//!
//! A lock that is held for a `Vec` append costs about as much as the two atomic operations that a
//! lock-free ring needs for *each* letter, needs no unsafe code and can be model-checked
//! (docs/adr/0003). The writer keeps what does not fit, in order.

#[cfg(loom)]
use loom::sync::{Mutex, atomic::AtomicBool, atomic::Ordering};
use std::sync::Arc;
#[cfg(not(loom))]
use std::sync::{Mutex, atomic::AtomicBool, atomic::Ordering};

/// Wakes a sleeping reader: an eventfd in a worker.
pub trait Wake: Send + Sync {
    /// Makes the reader's wait return, now or when it begins.
    fn wake(&self);
}

/// Whether a reader may be asleep, and how to wake it.
pub struct Sleeper {
    asleep: Mutex<bool>,
    wake: Box<dyn Wake>,
}

impl Sleeper {
    /// Awake.
    pub fn new(wake: Box<dyn Wake>) -> Arc<Self> {
        Arc::new(Self { asleep: Mutex::new(false), wake })
    }

    /// Called by the reader before it looks at its boxes ([`Mailbox::is_empty`]) for the last time
    /// before waiting. That look takes each box's lock: either it comes after a writer's and sees
    /// the letters, or before it, and then the writer sees `asleep`.
    pub fn about_to_sleep(&self) {
        self.set(true);
    }

    /// Called by the reader after its wait.
    pub fn awake(&self) {
        self.set(false);
    }

    /// Called by a writer after it put something into a box.
    fn rouse(&self) {
        if self.set(false) {
            self.wake.wake();
        }
    }

    /// Sets whether the reader may be asleep, and says what was so before.
    fn set(&self, asleep: bool) -> bool {
        self.asleep.lock().is_ok_and(|mut was| std::mem::replace(&mut *was, asleep))
    }
}

/// A bounded box of letters with one reader.
pub struct Mailbox<T> {
    letters: Mutex<Vec<T>>,
    /// A hint that saves the reader the lock in each turn. Not relied on before a sleep.
    filled: AtomicBool,
    most: usize,
    reader: Arc<Sleeper>,
}

impl<T> Mailbox<T> {
    /// An empty box for at most `most` letters.
    pub fn new(most: usize, reader: Arc<Sleeper>) -> Self {
        let letters = Mutex::new(Vec::new());
        Self { letters, filled: AtomicBool::new(false), most, reader }
    }

    /// Moves as much of `batch` as there is room for into the box, in order, and wakes the
    /// reader if it may sleep. What did not fit stays in `batch`.
    pub fn post(&self, batch: &mut Vec<T>) {
        if batch.is_empty() {
            return;
        }
        {
            let Ok(mut letters) = self.letters.lock() else { return };
            let room = self.most.saturating_sub(letters.len()).min(batch.len());
            if letters.is_empty() && room == batch.len() {
                std::mem::swap(&mut *letters, batch);
            } else {
                letters.extend(batch.drain(..room));
            }
            self.filled.store(true, Ordering::Release);
        }
        self.reader.rouse();
    }

    /// Is nothing in it? Certain, at the price of the lock.
    pub fn is_empty(&self) -> bool {
        self.letters.lock().map_or(true, |letters| letters.is_empty())
    }

    /// Takes all letters, in order, into `into` (which must be empty: the buffers are exchanged).
    pub fn take(&self, into: &mut Vec<T>) {
        if !self.filled.load(Ordering::Acquire) {
            return;
        }
        let Ok(mut letters) = self.letters.lock() else { return };
        std::mem::swap(&mut *letters, into);
        self.filled.store(false, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    struct Nobody;
    impl Wake for Nobody {
        fn wake(&self) {}
    }

    #[test]
    fn what_does_not_fit_stays_in_order() {
        let b = Mailbox::new(3, Sleeper::new(Box::new(Nobody)));
        let mut batch = vec![1, 2, 3, 4, 5];
        b.post(&mut batch);
        assert_eq!(batch, [4, 5]);
        b.post(&mut batch);
        assert_eq!(batch, [4, 5], "full");
        let mut got = Vec::new();
        b.take(&mut got);
        assert_eq!(got, [1, 2, 3]);
        got.clear();
        b.post(&mut batch);
        b.take(&mut got);
        assert_eq!((got, batch.len()), (vec![4, 5], 0));
    }
}

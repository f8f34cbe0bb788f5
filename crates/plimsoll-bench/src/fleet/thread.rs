//! A thread of the fleet.

use super::Counters;
use super::handle::{Order, Report, Shared};
use crate::ledger::{Log, Recorder};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// A thread of the fleet, with every n-th client.
pub(super) struct Thread {
    at: usize,
    shared: Arc<Shared>,
    orders: Receiver<Order>,
    #[expect(dead_code, reason = "the epoll loop waits on it")]
    alarm: Arc<OwnedFd>,
    counters: Counters,
    recorder: Recorder,
}

impl Thread {
    pub fn new(
        at: usize,
        shared: Arc<Shared>,
        orders: Receiver<Order>,
        alarm: Arc<OwnedFd>,
    ) -> io::Result<Self> {
        let counters = Counters::default();
        Ok(Self { at, shared, orders, alarm, counters, recorder: Recorder::default() })
    }

    /// Runs until it is told to finish.
    pub fn run(self) -> Log {
        while let Ok(order) = self.orders.recv() {
            match order {
                Order::Report(round) => {
                    let counters = self.counters.clone();
                    self.shared.tell(self.at, Report { round, counters, ..Report::default() });
                }
                Order::Finish => break,
                _ => {}
            }
        }
        self.recorder.finish()
    }
}

//! What the API and the process order.

use super::super::letter::{Order, Report, Selection, UserOrder};
use super::{Core, Io};
use plimsoll_core::codes::{Disconnect, Unsubscribed};
use plimsoll_core::limits;
use plimsoll_core::link::Asker;

impl Core {
    pub(super) fn on_order(&mut self, ticket: u64, order: Order, io: &mut impl Io) {
        let report = match order {
            Order::Home { channel, request, received_us } => {
                let asker = Asker::Caller { ticket };
                let (answer, event) = self.at_home(asker, &channel, request, io);
                self.distribute(&channel, event, received_us, io);
                // Without an answer the backbone reports.
                let Some(answer) = answer else { return };
                Report::Home(answer)
            }
            Order::Users(selection, order) => {
                let slots = self.selected(&selection);
                for slot in &slots {
                    self.order_one(*slot, &order, io);
                }
                Report::Users(slots.len())
            }
            Order::Channels => {
                let listed = self.home.subscribed().take(limits::CHANNELS_LISTED_MAX);
                Report::Channels(listed.map(|(name, n)| (name.clone(), n)).collect())
            }
            Order::Notice { json, greeting, spread_ms } => {
                self.notices.greet_with(greeting);
                let slots = self.conns.slots();
                self.notices.begin(&json, slots, self.now.mono_ms, spread_ms);
                Report::Noted
            }
            Order::Echo => Report::Echo,
            Order::Stop => {
                self.stopping = true;
                for slot in self.conns.slots() {
                    self.close(slot, Disconnect::SHUTDOWN, io);
                }
                Report::Stopping
            }
        };
        io.report(ticket, report);
    }

    /// Connections that are meant: of the user, or (without one) with the client id.
    fn selected(&mut self, selection: &Selection) -> Vec<u32> {
        let candidates: Vec<u32> = if selection.user.is_empty() {
            match selection.client {
                Some(_) => self.conns.slots(),
                None => Vec::new(),
            }
        } else {
            self.users.get(&*selection.user).map(|s| s.to_vec()).unwrap_or_default()
        };
        let meant = |slot: &u32| {
            let session = self.conns.get_mut(*slot).and_then(|c| c.session_mut());
            session.is_some_and(|s| {
                selection.client.is_none_or(|c| c == s.client())
                    && !selection.except.contains(&s.client())
            })
        };
        candidates.into_iter().filter(meant).collect()
    }

    fn order_one(&mut self, slot: u32, order: &UserOrder, io: &mut impl Io) {
        match order {
            UserOrder::Disconnect(d) => self.close(slot, d.clone(), io),
            UserOrder::Unsubscribe { channel } if channel.is_empty() => {
                self.with_session(slot, io, |s, _, fx| {
                    for channel in s.channels() {
                        s.unsubscribe_by_server(&channel, Unsubscribed::SERVER, fx);
                    }
                });
            }
            UserOrder::Unsubscribe { channel } => self.with_session(slot, io, |s, _, fx| {
                s.unsubscribe_by_server(channel, Unsubscribed::SERVER, fx);
            }),
            UserOrder::Subscribe { channel, options, recover, expires_at_ms } => {
                self.with_session(slot, io, |s, cx, fx| {
                    let (options, recover) = (options.clone(), recover.clone());
                    s.subscribe_by_server(channel, options, recover, *expires_at_ms, cx, fx);
                });
            }
            UserOrder::Refresh { expired, expires_at_ms } => {
                self.with_session(slot, io, |s, cx, fx| {
                    s.refreshed_by_server(*expired, *expires_at_ms, cx, fx);
                });
            }
        }
    }
}

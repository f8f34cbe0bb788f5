//! Between the home of channels and the backbone.

use super::super::letter::{Letter, Report};
use super::{Core, Io};
use plimsoll_core::home::Answer;
use plimsoll_core::link::{Asker, Call, Out};
use plimsoll_core::model::ConnKey;
use std::sync::Arc;

impl Core {
    /// The backbone has something to say.
    pub(super) fn on_backbone(&mut self, letter: Letter, io: &mut impl Io) {
        let Some(link) = &mut self.link else { return };
        let now_ms = self.now.mono_ms;
        let mut received_us = self.received_us;
        match letter {
            Letter::News { channel, news, received_us: at_us } => {
                received_us = at_us;
                link.on_news(&mut self.home, &channel, news, now_ms);
            }
            Letter::Gap(None) => link.on_gap(&mut self.home, None),
            Letter::Gap(Some(channels)) => link.on_gap(&mut self.home, Some(&channels)),
            Letter::NodeGone(node) => link.on_node_gone(&mut self.home, node, now_ms),
            _ => {}
        }
        self.spread_told(received_us, io);
    }

    pub(super) fn link_on_time(&mut self, io: &mut impl Io) {
        let Some(link) = &mut self.link else { return };
        if link.due_ms().is_some_and(|at| at <= self.now.mono_ms) {
            link.on_time(&mut self.home, self.now.mono_ms);
            self.spread_told(self.received_us, io);
        }
    }

    /// Does what the link wants done.
    pub(super) fn put_out(&mut self, out: Out, received_us: u64, io: &mut impl Io) {
        match out {
            Out::Answer(asker, channel, answer) => self.answer(asker, channel, answer, io),
            Out::Event(channel, event) => self.spread(&channel, &event, received_us, io),
            Out::Call(call) => {
                if let Call::Publish { request, .. } = &call {
                    self.count_publication(request.data.len());
                }
                io.call(call);
            }
        }
    }

    fn answer(&mut self, asker: Asker, channel: Arc<str>, answer: Answer, io: &mut impl Io) {
        match asker {
            Asker::Session { conn: ConnKey { generation: 0, .. }, .. } => {}
            Asker::Session { worker, conn, id } if worker == self.id => {
                self.on_answer(conn, id, &channel, answer, io);
            }
            Asker::Session { worker, conn, id } => {
                io.post(worker, Letter::Answer { conn, id, channel, answer });
            }
            Asker::Caller { ticket } => io.report(ticket, Report::Home(answer)),
        }
    }
}

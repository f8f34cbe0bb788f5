//! Publications that are not messages: read marks and typing notices.

use super::{Answer, Event, Home, PublishRequest};
use crate::codes::ClientError;
use crate::limits;
use crate::model::Publication;
use crate::policy::ChannelOptions;
use crate::receipts::{self, Marks, Noted};
use plimsoll_overload::gates::ReceiptsGate;
use std::sync::Arc;

impl Home {
    /// A publication in a channel of receipts: a mark, never a message.
    pub(super) fn read(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        request: PublishRequest,
        now_ms: u64,
    ) -> Answer {
        let figures = match self.note_mark(name, options, request, now_ms) {
            Ok(Noted::Risen) => &mut self.figures.marks_risen,
            Ok(_) => &mut self.figures.marks_old,
            Err(error) => {
                self.figures.marks_refused += 1;
                return Answer::Error(error);
            }
        };
        *figures += 1;
        Answer::Published(None)
    }

    fn note_mark(
        &mut self,
        name: &Arc<str>,
        options: &ChannelOptions,
        request: PublishRequest,
        now_ms: u64,
    ) -> Result<Noted, ClientError> {
        if self.gates.receipts == ReceiptsGate::Refused {
            return Err(ClientError::FEATURE_OFF);
        }
        let reading = receipts::parse(&request.data).ok_or(ClientError::BAD_REQUEST)?;
        let user: Arc<str> = match (request.info, reading.user) {
            (Some(info), None) if info.user.is_empty() => {
                return Err(ClientError::PERMISSION_DENIED);
            }
            (Some(info), None) => info.user,
            (None, Some(user)) => user.into(),
            // A client speaks for itself only; a back end has to say for whom.
            _ => return Err(ClientError::BAD_REQUEST),
        };
        let full = self.marks >= limits::READ_MARKS_MAX;
        let marks = self.channels.get(name).and_then(|c| c.marks.as_ref());
        let known = marks.is_some_and(|m| m.knows(&user));
        if !self.has_room(name) || (full && !known) {
            return Err(ClientError::LIMIT_EXCEEDED);
        }
        let seed = self.seed ^ 6;
        let channel = self.channels.entry(Arc::clone(name)).or_default();
        let marks = channel.marks.get_or_insert_with(|| Box::new(Marks::new(seed)));
        let before = marks.len();
        let noted = marks.note(&user, reading.offset, now_ms, options.receipts_ttl_ms);
        self.marks += marks.len() - before;
        if noted == Noted::Risen {
            self.plan_marks(name, now_ms);
        }
        self.plan_sweep(name, options, now_ms);
        if noted == Noted::Full { Err(ClientError::LIMIT_EXCEEDED) } else { Ok(noted) }
    }

    /// What has risen is told after an interval, or kept back until the gates change.
    fn plan_marks(&mut self, name: &Arc<str>, now_ms: u64) {
        let Some(marks) = self.channels.get_mut(name).and_then(|c| c.marks.as_mut()) else {
            return;
        };
        if let ReceiptsGate::Pushed { interval_ms } = self.gates.receipts {
            marks.plan(now_ms + u64::from(interval_ms));
            return self.plan_due(name);
        }
        marks.unplan();
        if !self.held.contains_key(name) {
            self.held.insert(Arc::clone(name), ());
        }
    }

    /// Tells what has risen, when it is due.
    pub(super) fn push_marks(&mut self, name: &Arc<str>, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let watched = channel.interest.iter().any(|n| *n > 0);
        let Some(marks) = channel.marks.as_mut().filter(|m| m.push_ms() <= now_ms) else { return };
        if !matches!(self.gates.receipts, ReceiptsGate::Pushed { .. }) {
            return self.plan_marks(name, now_ms);
        }
        // Who subscribes later gets all of them with the reply.
        if let Some(data) = marks.take().filter(|_| watched) {
            self.figures.mark_pushes += 1;
            let event = Event::Publication(of_server(data, now_ms));
            self.told.push_back((Arc::clone(name), event));
        }
    }

    /// The marks as they are, for a new subscriber.
    pub(super) fn marks_for(
        &self,
        name: &str,
        user: &str,
        now_ms: u64,
    ) -> Option<Arc<Publication>> {
        let marks = self.channels.get(name)?.marks.as_ref()?;
        marks.snapshot(user).map(|data| of_server(data, now_ms))
    }

    /// Is this typing notice left out: at this load, in so large a room, or so soon after the
    /// last one of the same user? The one before says the same, and still holds.
    pub(crate) fn leaves_out(&mut self, name: &str, request: &PublishRequest, now_ms: u64) -> bool {
        let Some(channel) = self.channels.get_mut(name) else { return false };
        let subscribers: u32 = channel.interest.iter().sum();
        if subscribers == 0 {
            return false;
        }
        let typing = self.gates.typing.filter(|typing| subscribers <= typing.members_max);
        let Some(typing) = typing else {
            self.figures.typing_dropped += 1;
            return true;
        };
        let Some(info) = request.info.as_ref().filter(|info| !info.user.is_empty()) else {
            return false;
        };
        let typists = channel.typists.get_or_insert_default();
        let taken = typists.take(&info.user, now_ms, typing.interval_ms.into());
        self.figures.typing_throttled += u64::from(!taken);
        !taken
    }
}

fn of_server(data: Box<str>, now_ms: u64) -> Arc<Publication> {
    let (epoch, tags, info) = (None, None, None);
    Arc::new(Publication { offset: 0, previous: 0, epoch, data, tags, info, appended_ms: now_ms })
}

//! Deliveries: one task for each subscribed channel.

use super::streams::Streams;
use crate::contract::{Delivery, Event, Stamp};
use async_nats::{Message, Subscriber};
use futures_util::StreamExt;
use plimsoll_core::model::StreamPosition;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A header of what is no publication but stands where a history was cleared.
pub(super) const CLEARED: &str = "Plimsoll-Cleared";

/// A subscribed channel.
pub(super) struct Subscribed {
    /// Dropped: the task ends.
    pub(super) _stop: oneshot::Sender<()>,
}

/// Follows a channel until it is stopped.
pub(super) fn follow(
    channel: Arc<str>,
    mut subscriber: Subscriber,
    streams: Arc<Streams>,
) -> Subscribed {
    let (stop, mut stopped) = oneshot::channel();
    tokio::spawn(async move {
        // A cleared history leaves an offset that is no publication: the one after it follows the
        // one before it.
        let mut cleared: Option<(u64, u64)> = None;
        let mut events = Vec::with_capacity(1);
        loop {
            let message = tokio::select! {
                biased;
                _ = &mut stopped => break,
                message = subscriber.next() => message,
            };
            let Some(message) = message else { break };
            match read(&channel, message, &streams, &mut cleared).await {
                Some(event) => events.push(event),
                None => continue,
            }
            streams.shared.deliveries.fetch_add(1, Ordering::Relaxed);
            streams.shared.sink.take(&mut events);
        }
        let _ = subscriber.unsubscribe().await;
    });
    Subscribed { _stop: stop }
}

async fn read(
    channel: &Arc<str>,
    message: Message,
    streams: &Streams,
    cleared: &mut Option<(u64, u64)>,
) -> Option<Event> {
    let garbage = |why| Some(Event::Garbage { channel: Some(Arc::clone(channel)), why });
    let without_history = streams.shared.is_plain(&message.subject);
    let headers = message.headers.as_ref();
    let header = |name: &str| headers.and_then(|h| h.get(name)).map(|v| v.as_str());
    if without_history {
        let (channel, body) = (Arc::clone(channel), message.payload);
        return Some(Event::Delivery(Delivery { channel, body, stamp: None }));
    }
    let number = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok());
    let (Some(stream), Some(offset), Some(mut previous)) =
        (header("Nats-Stream"), number("Nats-Sequence"), number("Nats-Last-Sequence"))
    else {
        return garbage("a publication without its sequence");
    };
    let Some(epoch) = streams.epoch_of(stream, offset).await else {
        return garbage("a publication of an unknown stream");
    };
    if let Some((at, before)) = *cleared
        && previous == at
    {
        previous = before;
    }
    if header(CLEARED).is_some() {
        *cleared = Some((offset, previous));
        return None;
    }
    let stamp = Stamp { position: StreamPosition { epoch, offset }, previous };
    let (channel, body) = (Arc::clone(channel), message.payload);
    Some(Event::Delivery(Delivery { channel, body, stamp: Some(stamp) }))
}

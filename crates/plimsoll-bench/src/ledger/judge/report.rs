//! What was found, until it is told.

use super::publications::{Publication, Publications};
use super::streams::Streams;
use super::{NONE, Outcome};
use crate::ledger::{Ledger, Rule, Violation};
use crate::limits::VIOLATIONS_MAX;
use crate::topology::{ChannelId, ClientId};
use std::collections::BTreeMap;

/// A broken rule. Numbers are [`NONE`] where there is nothing to name.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub client: ClientId,
    pub channel: ChannelId,
    pub stream: u32,
    pub offset: Option<u64>,
    pub publication: u32,
    pub text: String,
}

impl Found {
    pub fn new(text: String) -> Self {
        let (client, channel, stream, publication) = (NONE, NONE, NONE, NONE);
        Self { client, channel, stream, offset: None, publication, text }
    }

    pub fn by(self, client: ClientId) -> Self {
        Self { client, ..self }
    }

    pub fn on(self, channel: ChannelId) -> Self {
        Self { channel, ..self }
    }

    pub fn at(self, stream: u32, offset: u64) -> Self {
        let offset = Some(offset).filter(|offset| *offset > 0);
        Self { stream, offset, ..self }
    }

    pub fn of(self, publication: u32) -> Self {
        Self { publication, ..self }
    }
}

/// The first violations by time, and how many there were.
#[derive(Default)]
pub(super) struct Report {
    kept: Vec<(u64, Rule, Found)>,
    pub broken: BTreeMap<Rule, u64>,
}

impl Report {
    /// A rule was broken. It is described only if it is among the first.
    pub fn add(&mut self, rule: Rule, at_us: u64, found: impl FnOnce() -> Found) {
        *self.broken.entry(rule).or_default() += 1;
        if self.kept.len() < VIOLATIONS_MAX {
            return self.kept.push((at_us, rule, found()));
        }
        if let Some(last) = self.kept.iter_mut().max_by_key(|(at_us, ..)| *at_us)
            && at_us < last.0
        {
            *last = (at_us, rule, found());
        }
    }

    /// The violations by time, in words.
    pub fn tell(
        mut self,
        ledger: &Ledger,
        publications: &Publications,
        streams: &Streams,
    ) -> (Vec<Violation>, BTreeMap<Rule, u64>) {
        self.kept.sort_by_key(|(at_us, rule, _)| (*at_us, *rule));
        let names = Names { ledger, publications, streams };
        (
            self.kept.iter().map(|(at_us, rule, f)| names.violation(*at_us, *rule, f)).collect(),
            self.broken,
        )
    }
}

struct Names<'a> {
    ledger: &'a Ledger,
    publications: &'a Publications,
    streams: &'a Streams,
}

impl Names<'_> {
    fn violation(&self, at_us: u64, rule: Rule, found: &Found) -> Violation {
        let since = |us: u64| us.saturating_sub(self.ledger.run.started_us);
        let publication = self.publications.get(found.publication).or_else(|| self.standing(found));
        let channel = self.ledger.channels.get(found.channel as usize);
        let seen = publication.filter(|p| p.is_seen());
        let mut made = Violation {
            rule,
            at_us: since(at_us),
            channel: channel.map(|channel| channel.name.to_string()),
            epoch: self.streams.get(found.stream).map(|stream| stream.epoch.to_string()),
            offset: found.offset,
            client: Some(found.client).filter(|client| *client != NONE),
            publication: publication.map(|p| format!("{}#{}", p.publisher, p.sequence)),
            published_us: publication.map(|p| since(p.sent_us)),
            answered_us: publication.filter(|p| p.answered_us > 0).map(|p| since(p.answered_us)),
            received_us: seen.map(|p| since(p.seen_us)),
            received_by: seen.map(|p| p.seen_by),
            text: String::new(),
        };
        made.text = sentence(&made, &found.text, publication.map(|p| p.outcome));
        made
    }

    /// The publication that stands where something was found.
    fn standing(&self, found: &Found) -> Option<&Publication> {
        let offset = found.offset?;
        let mut all = self.publications.list.iter();
        all.find(|p| p.is_placed() && (p.stream, p.offset) == (found.stream, offset))
    }
}

fn sentence(v: &Violation, what: &str, outcome: Option<Outcome>) -> String {
    let mut text = format!("{:?} at {}", v.rule, seconds(v.at_us));
    if let Some(channel) = &v.channel {
        text += &format!(", channel {channel}");
    }
    if let (Some(epoch), Some(offset)) = (&v.epoch, v.offset) {
        text += &format!(", offset {offset} of epoch {epoch}");
    }
    if let Some(client) = v.client {
        text += &format!(", client {client}");
    }
    text += &format!(": {what}");
    let (Some(name), Some(sent)) = (&v.publication, v.published_us) else {
        return text;
    };
    text += &format!("; {name} was published at {}", seconds(sent));
    if let Some(answered) = v.answered_us {
        let how = match outcome {
            Some(Outcome::Refused(code)) => format!("refused ({code})"),
            Some(Outcome::Acknowledged) => "acknowledged".to_owned(),
            _ => "given up".to_owned(),
        };
        text += &format!(", {how} at {}", seconds(answered));
    }
    match (v.received_us, v.received_by) {
        (Some(at), Some(by)) => {
            text += &format!(", first received at {} by client {by}", seconds(at));
        }
        _ => text += ", received by nobody",
    }
    text
}

fn seconds(us: u64) -> String {
    format!("{}.{:06} s", us / 1_000_000, us % 1_000_000)
}

/// Why a run is void: books that contradict themselves.
#[derive(Default)]
pub(super) struct Faults {
    list: Vec<String>,
}

impl Faults {
    pub fn add(&mut self, text: impl FnOnce() -> String) {
        if self.list.len() < VIOLATIONS_MAX {
            let text = text();
            if !self.list.contains(&text) {
                self.list.push(text);
            }
        }
    }

    pub fn into_list(self) -> Vec<String> {
        self.list
    }
}

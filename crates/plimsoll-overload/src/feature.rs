//! What can be given up, and in which order.

/// How precious a message is. A class is given up only when everything below it already is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// K0: replies to connect, subscribe and publish, pings, disconnects, notices, errors. Never
    /// shed.
    Control,
    /// K1: publications of channels with history. Never lost silently: delivered, or recoverable,
    /// or the client is told of the gap. What has no class is this.
    #[default]
    Durable,
    /// K2: presence, counters, read marks, cursors. The latest value per key: first conflated,
    /// then slower, then stopped.
    State,
    /// K3: typing, join and leave, bursts of reactions. Best effort; dropped first, at the source.
    Ephemeral,
}

impl Class {
    /// All of them, the most precious first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Durable, Self::State, Self::Ephemeral];

    /// Its name in configuration and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Durable => "durable",
            Self::State => "state",
            Self::Ephemeral => "ephemeral",
        }
    }

    /// The class of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == text)
    }
}

/// What a level may slow down or switch off. Whatever is not one of these is the core: allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// "… is typing".
    Typing,
    /// Who is there.
    Presence,
    /// Who has read how far.
    Receipts,
    /// Link previews and integrations.
    Previews,
    /// Browsing old messages. Recovery after a reconnect is another thing.
    History,
    /// New connections.
    Connections,
    /// Calls of the API that serve no conversation: statistics, lists.
    Apis,
    /// Getting the missed messages after a reconnect. Always on; paced under load.
    Recovery,
}

/// How many features there are.
pub const FEATURES_COUNT: usize = 8;

impl Feature {
    /// All of them.
    pub const ALL: [Self; FEATURES_COUNT] = [
        Self::Typing,
        Self::Presence,
        Self::Receipts,
        Self::Previews,
        Self::History,
        Self::Connections,
        Self::Apis,
        Self::Recovery,
    ];

    /// Its name in configuration, notices and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::Presence => "presence",
            Self::Receipts => "receipts",
            Self::Previews => "previews",
            Self::History => "history",
            Self::Connections => "connections",
            Self::Apis => "apis",
            Self::Recovery => "recovery",
        }
    }

    /// The feature of that name. `None` means: not one that is ever given up.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name() == text)
    }
}

/// How a feature is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureState {
    /// As always.
    On,
    /// Slower, less, or for fewer.
    Reduced,
    /// Not now.
    Off,
}

impl FeatureState {
    /// Its name in notices.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Reduced => "reduced",
            Self::Off => "off",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        assert!(Class::ALL.iter().all(|c| Class::parse(c.name()) == Some(*c)));
        assert!(Feature::ALL.iter().all(|f| Feature::parse(f.name()) == Some(*f)));
        assert_eq!(Feature::parse("publish"), None);
        assert_eq!(Class::default(), Class::Durable);
        assert!(Feature::ALL.iter().enumerate().all(|(at, f)| *f as usize == at));
    }
}

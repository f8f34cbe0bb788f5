//! A workload by flags: they are named like the keys of the file, and win over it.

use crate::workload::Draft;
use clap::{Args, ValueEnum};
use plimsoll_capacity::profile::{Receipts, RoomSizes};

/// What people do.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct RunFlags {
    /// Clients [default: concurrent_users of the workload, which is 1000].
    #[arg(long, visible_alias = "users")]
    pub clients: Option<u32>,
    /// How long, as 90s or 5m [default: 60s].
    #[arg(long)]
    pub duration: Option<String>,
    /// Rooms each client is in [default: 2].
    #[arg(long)]
    pub avg_rooms_per_user: Option<f64>,
    /// Clients of an average room [default: 50].
    #[arg(long)]
    pub avg_users_per_room: Option<f64>,
    /// equal, exponential, or power_law:EXPONENT (1.5 to 4) [default: exponential].
    #[arg(long, value_parser = room_sizes)]
    pub room_sizes: Option<RoomSizes>,
    /// Messages of each client per minute [default: 2].
    #[arg(long)]
    pub msgs_per_user_per_minute: Option<f64>,
    /// Bytes of a message [default: 200, and for each message from half to one and a half of it].
    #[arg(long)]
    pub avg_message_bytes: Option<f64>,
    /// Bytes of a message, at least.
    #[arg(long)]
    pub payload_bytes_min: Option<u32>,
    /// Bytes of a message, at most.
    #[arg(long)]
    pub payload_bytes_max: Option<u32>,
    /// Typing events for each message [default: 1].
    #[arg(long)]
    pub typing_per_message: Option<f64>,
    /// What becomes of read receipts [default: watermark].
    #[arg(long, value_enum)]
    pub receipts: Option<ReceiptsFlag>,
    /// Push joins and leaves to the room (of the server that is started).
    #[arg(long)]
    pub join_leave: bool,
    /// Mean length of a session in minutes, 0 = nobody leaves [default: 30].
    #[arg(long)]
    pub session_minutes: Option<f64>,
    /// Connections cut per second [default: each client once in ten minutes].
    #[arg(long)]
    pub cuts_per_s: Option<f64>,
    /// Share of the cuts in which the client leaves and comes back as new [default: 0].
    #[arg(long)]
    pub leaves_ratio: Option<f64>,
    /// Subscriptions ended and made anew per second [default: 0].
    #[arg(long)]
    pub resubscribes_per_s: Option<f64>,
    /// The middle third of the run is a peak, with so many times of everything [default: 2].
    #[arg(long)]
    pub peak_multiplier: Option<f64>,
    /// Namespace of the rooms; it needs history and recovery [default: room].
    #[arg(long)]
    pub rooms_namespace: Option<String>,
    /// Namespace of typing and receipts; without history [default: live].
    #[arg(long)]
    pub signals_namespace: Option<String>,
}

/// [`Receipts`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReceiptsFlag {
    /// There are none.
    Off,
    /// Each reader's receipt goes to the whole room.
    Broadcast,
    /// Each reader's receipt goes to the author.
    Author,
    /// One watermark a second for each room in which something is said.
    Watermark,
}

impl From<ReceiptsFlag> for Receipts {
    fn from(flag: ReceiptsFlag) -> Self {
        match flag {
            ReceiptsFlag::Off => Self::Off,
            ReceiptsFlag::Broadcast => Self::Broadcast,
            ReceiptsFlag::Author => Self::Author,
            ReceiptsFlag::Watermark => Self::Watermark,
        }
    }
}

impl RunFlags {
    /// The draft with what is said here.
    pub fn over(&self, mut draft: Draft) -> Draft {
        let Draft { profile, run } = &mut draft;
        replace(&mut profile.avg_rooms_per_user, self.avg_rooms_per_user);
        replace(&mut profile.avg_users_per_room, self.avg_users_per_room);
        replace(&mut profile.room_sizes, self.room_sizes);
        replace(&mut profile.msgs_per_user_per_minute, self.msgs_per_user_per_minute);
        replace(&mut profile.avg_message_bytes, self.avg_message_bytes);
        replace(&mut profile.typing_per_message, self.typing_per_message);
        replace(&mut profile.receipts, self.receipts.map(Receipts::from));
        replace(&mut profile.join_leave, self.join_leave.then_some(true));
        replace(&mut profile.session_minutes, self.session_minutes);
        replace(&mut profile.peak_multiplier, self.peak_multiplier);
        run.clients = self.clients.or(run.clients);
        run.duration = self.duration.clone().or(run.duration.take());
        run.payload_bytes_min = self.payload_bytes_min.or(run.payload_bytes_min);
        run.payload_bytes_max = self.payload_bytes_max.or(run.payload_bytes_max);
        run.cuts_per_s = self.cuts_per_s.or(run.cuts_per_s);
        run.leaves_ratio = self.leaves_ratio.or(run.leaves_ratio);
        run.resubscribes_per_s = self.resubscribes_per_s.or(run.resubscribes_per_s);
        run.rooms_namespace = self.rooms_namespace.clone().or(run.rooms_namespace.take());
        run.signals_namespace = self.signals_namespace.clone().or(run.signals_namespace.take());
        draft
    }
}

fn replace<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn room_sizes(text: &str) -> Result<RoomSizes, String> {
    match text {
        "equal" => Ok(RoomSizes::Equal),
        "exponential" => Ok(RoomSizes::Exponential),
        _ => {
            let exponent = text.strip_prefix("power_law:").and_then(|n| n.parse().ok());
            let exponent = exponent.filter(|n| (1.5..=4.0).contains(n));
            let error = "must be equal, exponential or power_law:EXPONENT, from 1.5 to 4";
            Ok(RoomSizes::PowerLaw(exponent.ok_or(error)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file() {
        let text = "[workload]\navg_users_per_room = 7\navg_rooms_per_user = 3\n\
                    [run]\nclients = 20\nduration = \"9s\"";
        let flags = RunFlags {
            clients: Some(30),
            avg_users_per_room: Some(8.0),
            receipts: Some(ReceiptsFlag::Author),
            ..RunFlags::default()
        };
        let made = flags.over(Draft::parse(text).unwrap());
        assert_eq!(made.run.clients, Some(30));
        assert_eq!(made.run.duration.as_deref(), Some("9s"));
        assert_eq!(made.profile.avg_users_per_room, 8.0);
        assert_eq!(made.profile.avg_rooms_per_user, 3.0);
        assert_eq!(made.profile.receipts, Receipts::Author);
        assert!(!made.profile.join_leave);
    }

    #[test]
    fn sizes_of_rooms() {
        assert_eq!(room_sizes("equal"), Ok(RoomSizes::Equal));
        assert_eq!(room_sizes("power_law:2.5"), Ok(RoomSizes::PowerLaw(2.5)));
        for bad in ["", "power_law", "power_law:", "power_law:1", "power_law:nan"] {
            assert!(room_sizes(bad).is_err(), "{bad}");
        }
    }
}

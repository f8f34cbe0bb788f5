//! When clients come back. Pure.
//!
//! The delays are those of the client libraries' sources: they decide what a server sees after it
//! dropped everyone.

/// How a client of a kind comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Profile {
    /// centrifuge-js.
    CentrifugeJs,
    /// pusher-js.
    PusherJs,
    /// phoenix.js.
    Phoenix,
    /// socket.io.
    SocketIo,
    /// Ours: spread evenly over a window of so many milliseconds.
    Paced(u32),
    /// Never.
    Never,
}

/// How a connection, or the try to make one, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By the server with this close code, or broken off by anyone without one (1006).
    Closed(u16),
    /// No connection was made, or the upgrade was refused: a browser cannot tell them apart.
    Refused,
    /// The connect command was answered by an error.
    Error {
        /// Its code.
        code: u32,
        /// Whether it says that trying again is worth while.
        temporary: bool,
    },
    /// The answer did not come in time.
    NoAnswer,
}

/// A close without a close frame.
pub const NO_CLOSE_FRAME: u16 = 1006;
/// The token is expired: clients fetch a new one and come back.
const TOKEN_EXPIRED: u32 = 109;

impl Profile {
    /// Milliseconds until the next try; `None`: it does not come back.
    ///
    /// `attempt` counts the tries since the last successful connect reply, from 0. `random` is
    /// from 0 to 1; for [`Profile::Paced`] it is the client's place in the window.
    pub fn delay(&self, end: End, attempt: u32, random: f64) -> Option<u32> {
        match self {
            Self::CentrifugeJs => centrifuge(end, attempt, random),
            Self::PusherJs => pusher(end, attempt),
            Self::Phoenix => Some(phoenix(attempt)),
            Self::SocketIo => Some(socket_io(attempt, random)),
            Self::Paced(window_ms) => Some((f64::from(*window_ms) * random) as u32),
            Self::Never => None,
        }
    }

    /// How long it waits for the answer to its connect command, in milliseconds.
    pub fn patience_ms(&self) -> u32 {
        match self {
            Self::CentrifugeJs => 5_000,
            Self::PusherJs => 15_000,
            Self::SocketIo => 20_000,
            Self::Phoenix | Self::Paced(_) | Self::Never => 10_000,
        }
    }
}

/// min(20 s, 0.5 s + U(0, min(20 s, 0.5 s × 2^n))).
fn centrifuge(end: End, attempt: u32, random: f64) -> Option<u32> {
    let returns = match end {
        // 1009: what it sends is too big, which another try would not change.
        End::Closed(code) => !matches!(code, 1009 | 3500..=3999 | 4500..=4999),
        End::Error { code, temporary } => temporary || code < 100 || code == TOKEN_EXPIRED,
        End::Refused | End::NoAnswer => true,
    };
    let spread_ms = f64::from(doubled(500, attempt, 20_000)) * random;
    returns.then_some((500 + spread_ms as u32).min(20_000))
}

/// Fixed times, so that herds stay in step.
fn pusher(end: End, attempt: u32) -> Option<u32> {
    let by_code = |code: u32| match code {
        4000..=4099 | 4300.. => None,
        4200..=4299 => Some(0),
        _ => Some(1_000),
    };
    match end {
        End::Closed(code) => by_code(u32::from(code)),
        End::Error { code, .. } => by_code(code),
        // Its strategies wait out a timer that doubles.
        End::Refused => Some(doubled(15_000, attempt, 60_000)),
        End::NoAnswer => Some(1_000),
    }
}

fn phoenix(attempt: u32) -> u32 {
    const STEPS_MS: [u32; 9] = [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000];
    STEPS_MS.get(attempt as usize).copied().unwrap_or(5_000)
}

/// 1 s × 2^n, ± 50 %, at most 5 s.
fn socket_io(attempt: u32, random: f64) -> u32 {
    let middle_ms = f64::from(doubled(1_000, attempt, 5_000));
    ((middle_ms * (0.5 + random)) as u32).min(5_000)
}

fn doubled(first: u32, times: u32, max: u32) -> u32 {
    first.saturating_mul(1u32.checked_shl(times).unwrap_or(u32::MAX)).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GONE: End = End::Closed(NO_CLOSE_FRAME);

    fn check(profile: Profile, cases: &[(End, u32, f64, Option<u32>)]) {
        for &(end, attempt, random, expect) in cases {
            let delay = profile.delay(end, attempt, random);
            assert_eq!(delay, expect, "{profile:?} {end:?} {attempt} {random}");
        }
    }

    #[test]
    fn centrifuge_js_backs_off_with_jitter() {
        let error = |code, temporary| End::Error { code, temporary };
        check(
            Profile::CentrifugeJs,
            &[
                (GONE, 0, 0.0, Some(500)),
                (GONE, 0, 1.0, Some(1_000)),
                (GONE, 1, 1.0, Some(1_500)),
                (GONE, 3, 0.5, Some(2_500)),
                (GONE, 6, 0.5, Some(10_500)),
                (GONE, 6, 1.0, Some(20_000)),
                (GONE, u32::MAX, 0.0, Some(500)),
                (End::Refused, 0, 0.5, Some(750)),
                (End::NoAnswer, 0, 0.5, Some(750)),
                (End::Closed(3001), 0, 0.0, Some(500)),
                (End::Closed(3499), 0, 0.0, Some(500)),
                (End::Closed(3500), 0, 0.0, None),
                (End::Closed(3999), 0, 0.0, None),
                (End::Closed(4000), 0, 0.0, Some(500)),
                (End::Closed(4500), 0, 0.0, None),
                (End::Closed(4999), 0, 0.0, None),
                (End::Closed(1009), 0, 0.0, None),
                (error(99, false), 0, 0.0, Some(500)),
                (error(109, false), 0, 0.0, Some(500)),
                (error(100, false), 0, 0.0, None),
                (error(100, true), 0, 0.0, Some(500)),
            ],
        );
    }

    #[test]
    fn pusher_js_keeps_fixed_times() {
        check(
            Profile::PusherJs,
            &[
                (End::Closed(4200), 0, 0.7, Some(0)),
                (End::Closed(4299), 9, 0.7, Some(0)),
                (End::Closed(4100), 9, 0.7, Some(1_000)),
                (End::Closed(4199), 0, 0.1, Some(1_000)),
                (End::Closed(1001), 0, 0.1, Some(1_000)),
                (GONE, 5, 0.1, Some(1_000)),
                (End::Closed(1012), 0, 0.1, Some(1_000)),
                (End::Closed(4000), 0, 0.1, None),
                (End::Closed(4099), 0, 0.1, None),
                (End::Closed(4300), 0, 0.1, None),
                (End::Error { code: 4301, temporary: true }, 0, 0.1, None),
                (End::Refused, 0, 0.1, Some(15_000)),
                (End::Refused, 1, 0.1, Some(30_000)),
                (End::Refused, 2, 0.1, Some(60_000)),
                (End::Refused, 40, 0.1, Some(60_000)),
            ],
        );
    }

    #[test]
    fn the_others_have_their_tables() {
        let phoenix = [10, 50, 100, 150, 200, 250, 500, 1_000, 2_000, 5_000, 5_000];
        for (attempt, ms) in phoenix.into_iter().enumerate() {
            check(Profile::Phoenix, &[(GONE, attempt as u32, 0.9, Some(ms))]);
        }
        check(
            Profile::SocketIo,
            &[
                (GONE, 0, 0.0, Some(500)),
                (GONE, 0, 1.0, Some(1_500)),
                (GONE, 1, 0.5, Some(2_000)),
                (GONE, 2, 0.0, Some(2_000)),
                (GONE, 2, 1.0, Some(5_000)),
                (GONE, 31, 0.0, Some(2_500)),
                (GONE, 40, 0.0, Some(2_500)),
            ],
        );
        check(
            Profile::Paced(20_000),
            &[
                (GONE, 3, 0.0, Some(0)),
                (GONE, 0, 0.25, Some(5_000)),
                (End::Closed(3500), 0, 0.5, Some(10_000)),
            ],
        );
        check(Profile::Never, &[(GONE, 0, 0.5, None), (End::Refused, 0, 0.5, None)]);
    }
}

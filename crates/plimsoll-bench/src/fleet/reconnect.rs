//! When clients come back. Pure.

/// How a client of a kind comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

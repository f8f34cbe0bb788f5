//! What peers are told when something is refused or ends.
//!
//! Numbers and texts are those of the Centrifugo client protocol v2; other dialects map them.

use std::borrow::Cow;

/// An error in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// 100–113 as in the protocol; 503 is ours, in the range the protocol leaves free.
    pub code: u32,
    /// Fixed text.
    pub message: &'static str,
    /// May the client try again as it is?
    pub temporary: bool,
}

/// A connection's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// 3000–3499 and 4000–4499: the client comes back; 3500–3999 and 4500–4999: it does not.
    /// Below 3000: a WebSocket close code.
    pub code: u16,
    /// Plain text, never parseable as JSON, at most 123 bytes.
    pub reason: Cow<'static, str>,
}

/// A subscription's end, told by a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribed {
    /// Below 2500: final. From 2500: the client subscribes again by itself.
    pub code: u32,
    /// Fixed text.
    pub reason: &'static str,
}

macro_rules! errors {
    ($($name:ident = $code:literal $message:literal $temporary:literal: $doc:literal;)*) => {
        impl ClientError {
            $(#[doc = $doc]
            pub const $name: Self =
                Self { code: $code, message: $message, temporary: $temporary };)*
            /// Every error the server may answer.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

errors! {
    INTERNAL = 100 "internal server error" true: "Something behind the server failed.";
    UNAUTHORIZED = 101 "unauthorized" false: "Not authenticated.";
    UNKNOWN_CHANNEL = 102 "unknown channel" false: "The namespace does not exist.";
    PERMISSION_DENIED = 103 "permission denied" false: "Not allowed to do this here.";
    METHOD_NOT_FOUND = 104 "method not found" false: "No such RPC method.";
    ALREADY_SUBSCRIBED = 105 "already subscribed" false: "Subscribed to this channel already.";
    LIMIT_EXCEEDED = 106 "limit exceeded" false: "Too many channels, or too large an answer.";
    BAD_REQUEST = 107 "bad request" false: "A value of the request is not acceptable.";
    NOT_AVAILABLE = 108 "not available" false: "The feature is off for this channel.";
    TOKEN_EXPIRED = 109 "token expired" false: "Fetch a new token and try again.";
    EXPIRED = 110 "expired" false: "The connection or subscription has expired.";
    TOO_MANY_REQUESTS = 111 "too many requests" true: "Over a rate limit; try again later.";
    FEATURE_OFF = 503 "temporarily unavailable" true: "Given up while the node is overloaded.";
    UNRECOVERABLE_POSITION = 112 "unrecoverable position" false: "History does not go back so far.";
}

macro_rules! disconnects {
    ($($name:ident = $code:literal $reason:literal: $doc:literal;)*) => {
        impl Disconnect {
            $(#[doc = $doc]
            pub const $name: Self = Self { code: $code, reason: Cow::Borrowed($reason) };)*
            /// Every disconnect the server may send by itself.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

disconnects! {
    CONNECTION_CLOSED = 3000 "connection closed": "The peer closed.";
    SHUTDOWN = 3001 "shutdown": "The node stops.";
    SERVER_ERROR = 3004 "internal server error": "A fault of the server.";
    EXPIRED = 3005 "connection expired": "The token expired and was not refreshed.";
    SUBSCRIPTION_EXPIRED = 3006 "subscription expired": "A server-side subscription expired.";
    SLOW = 3008 "slow": "More was queued than the client took.";
    WRITE_ERROR = 3009 "write error": "The socket took nothing for too long.";
    INSUFFICIENT_STATE = 3010 "insufficient state": "Publications were lost; recover.";
    FORCE_RECONNECT = 3011 "force reconnect": "Asked to connect again.";
    NO_PONG = 3012 "no pong": "A ping was not answered.";
    TOO_MANY_REQUESTS = 3013 "too many requests": "Kept on over the rate limit.";
    INVALID_TOKEN = 3500 "invalid token": "The token is not acceptable.";
    BAD_REQUEST = 3501 "bad request": "What was sent is not the protocol.";
    STALE = 3502 "stale": "Connected, but not authenticated in time.";
    FORCE_DISCONNECT = 3503 "force disconnect": "The API disconnected the user.";
    CONNECTION_LIMIT = 3504 "connection limit": "The user has too many connections.";
    CHANNEL_LIMIT = 3505 "channel limit": "Too many server-side channels.";
    INAPPROPRIATE_PROTOCOL = 3506 "inappropriate protocol": "Wrong dialect for this endpoint.";
    PERMISSION_DENIED = 3507 "permission denied": "Anonymous users are not allowed.";
    NOT_AVAILABLE = 3508 "not available": "No handler for asynchronous messages.";
    TOO_MANY_ERRORS = 3509 "too many errors": "Nothing but errors from this connection.";
    IDLE_SHED = 4001 "idle, node is overloaded": "Idle for long, and the node needs the room.";
    IDLE = 4501 "idle": "The user did nothing for as long as the tier allows.";
}

impl Disconnect {
    /// A WebSocket protocol violation, with its RFC 6455 close code.
    pub fn websocket(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

impl Unsubscribed {
    /// The API took the subscription away.
    pub const SERVER: Self = Self { code: 2000, reason: "server unsubscribe" };
    /// Publications were lost; the client subscribes again with recovery.
    pub const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: "insufficient state" };
    /// The subscription token expired and was not refreshed.
    pub const EXPIRED: Self = Self { code: 2501, reason: "subscription expired" };
}

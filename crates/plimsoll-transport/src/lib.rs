//! WebSocket and HTTP framing without I/O.

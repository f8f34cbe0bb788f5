//! The worker without sockets.

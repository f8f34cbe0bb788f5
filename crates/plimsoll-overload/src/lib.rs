//! Knows the load, and says what to give up first.
//!
//! Pure: signals and `now` come in, gates come out. It knows no server.

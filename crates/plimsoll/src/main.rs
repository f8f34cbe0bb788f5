//! Plimsoll: a real-time messaging server that knows its load line.

fn main() {}

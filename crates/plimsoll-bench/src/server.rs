//! A server process of our own, and what a server process uses.

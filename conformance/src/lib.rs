//! Real clients, real faults and bad input against the real binary.

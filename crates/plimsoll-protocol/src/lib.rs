//! The Centrifugo client protocol: bytes to commands, replies to bytes.

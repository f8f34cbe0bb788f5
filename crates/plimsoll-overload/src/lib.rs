//! Knows the load, and says what to give up first.
//!
//! Pure: signals and `now` come in, gates come out. It knows no server.
//!
//! [`signals`] → [`smooth`] → [`score`] → [`level`] for people, and → [`actions`] for the hot
//! resource; [`gates`] puts both together, [`overrides`] let people decide. [`controller`] does all
//! of it once per sample.

pub mod actions;
pub mod admission;
pub mod alert;
pub mod breaker;
pub mod controller;
pub mod emergency;
pub mod feature;
pub mod gates;
pub mod gradient;
pub mod level;
pub mod limits;
pub mod notice;
pub mod overrides;
pub mod picture;
pub mod recovery;
pub mod reference;
pub mod retry;
pub mod score;
pub mod signals;
pub mod smooth;
mod spread;
pub mod storm;

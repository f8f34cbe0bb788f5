//! Runs the node and says where it listens.

use plimsoll_server::config::Config;
use plimsoll_server::control::{self, Addresses};
use plimsoll_server::telemetry::log;
use std::io::Write;
use std::process::ExitCode;

/// Runs a node until it is told to stop. `development`: everything is allowed, and it says so.
pub fn serve(config: Config, development: bool) -> ExitCode {
    log::install(config.log);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    match control::run(config, development, |addresses| announce(addresses, development)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plimsoll: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Two lines that programs read, and in development a third for people.
fn announce(addresses: Addresses, development: bool) {
    let mut out = std::io::stdout().lock();
    // Whoever closed the standard output does not want to know.
    let _ = writeln!(out, "clients: http://{}/", addresses.clients);
    let _ = writeln!(out, "admin:   http://{}/", addresses.admin);
    if development {
        let _ = writeln!(out, "development server: everything is allowed, on loopback only");
    }
    let _ = out.flush();
}

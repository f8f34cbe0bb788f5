//! The command line: what each command reads, prints and returns.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Parser, Subcommand};
use plimsoll_server::auth::{self, Secret, TokenRequest};
use plimsoll_server::config::{self, Config, ConfigError, units};
use plimsoll_server::control::capacity;

use crate::serve;

/// Names and values of variables.
type Environment = Vec<(String, String)>;

/// A real-time messaging server. Without a command: a development server on loopback, where
/// everything is allowed.
#[derive(Debug, Parser)]
#[command(
    name = "plimsoll",
    version,
    about,
    disable_help_subcommand = true,
    args_conflicts_with_subcommands = true
)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(Serve),
    /// Check a configuration file: print `ok`, or what is wrong with it.
    CheckConfig {
        /// The file (TOML).
        file: PathBuf,
    },
    /// Print the reference of the configuration (Markdown).
    ConfigDoc,
    /// Print a token for trying things out.
    Token(Token),
    /// Put load on a server, and judge what came of it.
    Bench(plimsoll_bench::cli::Bench),
    /// Plan how many nodes a workload needs, and what they cost.
    Plan(crate::plan::Plan),
    /// Print the status of a running node.
    Status {
        /// Admin address of the node.
        #[arg(long, default_value = "http://127.0.0.1:9000")]
        admin: String,
        /// Admin key; or in the environment, PLIMSOLL_ADMIN_KEY.
        #[arg(long)]
        key: Option<String>,
        /// The whole object, for programs.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Configuration file (TOML).
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// What can be said on the command line instead of in the configuration.
#[derive(Debug, Args)]
struct Flags {
    /// Address for clients and the HTTP API (server.listen).
    #[arg(long)]
    listen: Option<String>,
    /// Address for metrics, health and admin calls (server.admin_listen).
    #[arg(long)]
    admin_listen: Option<String>,
    /// Worker threads, 0 = one per core (server.workers).
    #[arg(long)]
    workers: Option<String>,
    /// error, warn, info, debug or trace (log.level).
    #[arg(long)]
    log_level: Option<String>,
    /// text or json (log.format).
    #[arg(long)]
    log_format: Option<String>,
}

#[derive(Debug, Args)]
struct Token {
    /// User id; an empty one makes an anonymous user.
    #[arg(long)]
    user: String,
    /// Make a subscription token for this channel.
    #[arg(long)]
    channel: Option<String>,
    /// How long it is good for, as 1h or 30m; 0 = forever.
    #[arg(long, default_value = "1h")]
    ttl: String,
    /// Info shown to other users, as JSON.
    #[arg(long)]
    info: Option<String>,
    /// Configuration file with client.token.hmac_secret_key.
    #[arg(long, conflicts_with = "secret")]
    config: Option<PathBuf>,
    /// The HMAC secret itself. Others on this machine may see it while the command runs.
    #[arg(long)]
    secret: Option<String>,
}

/// Runs the command.
pub fn run(cli: Cli) -> ExitCode {
    let result = match cli.command {
        None => development(cli.flags),
        Some(Command::Serve(serve)) => serve.run(),
        Some(Command::CheckConfig { file }) => check_config(&file),
        Some(Command::ConfigDoc) => {
            print(&config::reference());
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Token(token)) => token.run(),
        Some(Command::Bench(bench)) => Ok(bench.run()),
        Some(Command::Plan(plan)) => plan.run(),
        Some(Command::Status { admin, key, json }) => status(&admin, key, json),
    };
    result.unwrap_or_else(|message| {
        eprintln!("{message}");
        ExitCode::FAILURE
    })
}

fn development(flags: Flags) -> Result<ExitCode, String> {
    let flags = flags.given();
    let config = config::load_development(environment()?.into_iter(), &flags).map_err(lines)?;
    Ok(serve::serve(config, true))
}

impl Flags {
    fn given(self) -> Vec<(&'static str, String)> {
        let all = [
            ("server.listen", self.listen),
            ("server.admin_listen", self.admin_listen),
            ("server.workers", self.workers),
            ("log.level", self.log_level),
            ("log.format", self.log_format),
        ];
        all.into_iter().filter_map(|(path, value)| Some((path, value?))).collect()
    }
}

impl Serve {
    fn run(self) -> Result<ExitCode, String> {
        let config = read(self.config.as_deref(), &self.flags.given())?;
        Ok(serve::serve(config, false))
    }
}

fn check_config(file: &Path) -> Result<ExitCode, String> {
    let config = read(Some(file), &[])?;
    warn(&config);
    // Read here as at the start: a node must not fail on what was found to be good.
    let capacity = capacity::load(&config).map_err(|error| format!("error: {error}\n1 error"))?;
    if let Some(what) = capacity.source.and_then(|source| source.mismatch) {
        eprintln!("warning: capacity.file is of another build or machine, and counts: {what}");
    }
    print("ok\n");
    Ok(ExitCode::SUCCESS)
}

impl Token {
    fn run(self) -> Result<ExitCode, String> {
        let ttl_ms = units::parse_duration(&self.ttl)
            .ok_or_else(|| format!("--ttl: not a duration, as 1h or 30m: {:?}", self.ttl))?;
        let tokens = match self.secret {
            Some(secret) => {
                let mut tokens = auth::TokenConfig::default();
                tokens.connection.hmac_secret_key = Secret::new(secret);
                tokens
            }
            None => read(self.config.as_deref(), &[])?.token,
        };
        let request = TokenRequest {
            user: self.user,
            channel: self.channel,
            ttl_ms: (ttl_ms > 0).then_some(ttl_ms),
            info: self.info,
        };
        let token = auth::sign(&tokens, &request, unix_ms()).map_err(|error| match error {
            auth::SignError::NoSecret => format!(
                "{error}: give --secret, --config, or {}",
                "PLIMSOLL_CLIENT_TOKEN_HMAC_SECRET_KEY in the environment"
            ),
            _ => error.to_string(),
        })?;
        print(&format!("{token}\n"));
        Ok(ExitCode::SUCCESS)
    }
}

fn status(admin: &str, key: Option<String>, json: bool) -> Result<ExitCode, String> {
    let key = key.or_else(|| std::env::var("PLIMSOLL_ADMIN_KEY").ok());
    let body = crate::status::get(admin, "/admin/status", key.as_deref())
        .map_err(|error| format!("{admin}: {error}"))?;
    let text = match json {
        true => format!("{}\n", body.trim_end()),
        false => crate::status::for_people(&body).map_err(|error| format!("{admin}: {error}"))?,
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

/// The checked configuration of `file`, the environment and `flags`, or what is wrong with it.
fn read(file: Option<&Path>, flags: &[(&str, String)]) -> Result<Config, String> {
    let text = match file {
        None => None,
        Some(path) => {
            let name = path.display().to_string();
            let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
            Some((name, text))
        }
    };
    let file = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    config::load(file, environment()?.into_iter(), flags).map_err(lines)
}

/// Our variables of the environment. Others may hold anything; ours must be text.
fn environment() -> Result<Environment, String> {
    std::env::vars_os()
        .filter(|(name, _)| config::is_ours(&name.to_string_lossy()))
        .map(|(name, value)| match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            (Ok(name), Err(_)) => Err(format!("environment {name}: is not UTF-8")),
            (Err(name), _) => Err(format!("environment {}: is not UTF-8", name.display())),
        })
        .collect()
}

fn lines(errors: Vec<ConfigError>) -> String {
    let count = match errors.len() {
        1 => "1 error".to_owned(),
        n => format!("{n} errors"),
    };
    let lines: Vec<String> = errors.iter().map(|error| format!("error: {error}\n")).collect();
    format!("{}{count}", lines.concat())
}

fn warn(config: &Config) {
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
}

/// Prints to standard output; a reader that has gone away is no reason to fail loudly.
fn print(text: &str) {
    use std::io::Write;
    let _ = write!(std::io::stdout(), "{text}");
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["plimsoll"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["plimsoll", "serve", "--listen", "127.0.0.1:1"]).is_ok());
        assert!(Cli::try_parse_from(["plimsoll", "token"]).is_err());
        // Flags before a command would be those of the development server, and unheard.
        let before = ["plimsoll", "--listen", "127.0.0.1:1", "serve"];
        assert!(Cli::try_parse_from(before).is_err());
    }

    #[test]
    fn all_errors_are_printed_one_per_line() {
        let error = |path: &str| ConfigError {
            path: path.into(),
            message: "is wrong".into(),
            ..ConfigError::default()
        };
        assert_eq!(lines(vec![error("a")]), "error: a: is wrong\n1 error");
        let two = lines(vec![error("a"), error("b")]);
        assert_eq!(two, "error: a: is wrong\nerror: b: is wrong\n2 errors");
    }
}

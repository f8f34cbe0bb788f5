//! `plimsoll plan`: from a workload to nodes, headroom and cost.

use clap::{Args, ValueEnum};
use plimsoll_capacity::measured::{self, CapacityFile, Fingerprint};
use plimsoll_capacity::plan::assumptions::Assumption;
use plimsoll_capacity::plan::draft::{self, Draft};
use plimsoll_capacity::plan::limits::Node;
use plimsoll_capacity::plan::scaling::Law;
use plimsoll_capacity::plan::{Input, NoNumber, Options, PlanError, Survive};
use plimsoll_capacity::prices::{self, Prices};
use plimsoll_capacity::profile::ServerCapacity;
use plimsoll_capacity::report;
use plimsoll_capacity::{plan, sensitivity, simple};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Exit status when the input is good and no number of nodes carries it.
const NO_NUMBER: u8 = 3;

/// Plan how many nodes a workload needs, and what they cost.
///
/// What is not given is taken from the worked example (a million users, two rooms of fifty, a
/// message a minute), and the answer says so. Exit status: 0 = a plan, 1 = bad input, 3 = no number
/// of nodes carries this.
#[derive(Debug, Args)]
pub struct Plan {
    /// File (TOML) with a table [workload], and perhaps [server]; flags overrule it.
    #[arg(long, value_name = "FILE")]
    workload: Option<PathBuf>,
    /// What a node carries, as measured by `plimsoll bench capacity`.
    #[arg(long, value_name = "FILE")]
    capacity: Option<PathBuf>,
    /// Use a capacity file of another version.
    #[arg(long)]
    stale_ok: bool,
    #[command(flatten)]
    users: WorkloadFlags,
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    options: OptionFlags,
    /// How to plan. `simple` is the usual formula, for comparison.
    #[arg(long, value_enum, default_value_t = Model::Full, help_heading = "Answer")]
    model: Model,
    /// Say how the answer moves when each input is halved, and doubled.
    #[arg(long, help_heading = "Answer")]
    sensitivity: bool,
    /// Print JSON.
    #[arg(long, help_heading = "Answer")]
    json: bool,
    /// Write a report to this file.
    #[arg(long, value_name = "FILE", help_heading = "Answer")]
    html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Model {
    /// Everything that is known.
    Full,
    /// Four quotients and a factor.
    Simple,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lose {
    /// Nothing.
    Nothing,
    /// One node.
    Node,
    /// One zone.
    Zone,
}

/// Values stay text here, so that one place says what is wrong with them.
macro_rules! values {
    ($(#[$doc:meta])* $name:ident, $heading:literal:
        $($(#[$about:meta])* $field:ident $(= $missing:literal)?),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Args)]
        #[command(next_help_heading = $heading)]
        struct $name {
            // A negative number is a value to be refused by its name, not an unknown flag.
            $($(#[$about])* #[arg(long, value_name = "VALUE", allow_negative_numbers = true
                $(, num_args = 0..=1, default_missing_value = $missing)?)]
            $field: Option<String>,)+
        }

        impl $name {
            /// Names and texts of those that were given.
            fn given(&self) -> impl Iterator<Item = (&'static str, &str)> {
                let all = [$((stringify!($field), self.$field.as_deref())),+];
                all.into_iter().filter_map(|(name, text)| Some((name, text?)))
            }
        }
    };
}

values! {
    /// A workload by flags.
    WorkloadFlags, "Workload":
    /// Connections at one time.
    concurrent_users,
    /// What concurrent_users is: peak (default) or mean.
    concurrent_users_are,
    /// Rooms each user is in.
    avg_rooms_per_user,
    /// Members of an average room.
    avg_users_per_room,
    /// Messages each user sends per minute.
    msgs_per_user_per_minute,
    /// Bytes of a message.
    avg_message_bytes,
    /// Peak over average, 1 to 100.
    peak_multiplier,
    /// Hours of a day at peak, 0 to 24.
    daily_peak_duration_hours,
    /// equal, exponential, or power-law:EXPONENT (1.5 to 4).
    room_sizes,
    /// Typing events for each message.
    typing_per_message,
    /// off, broadcast, author, or watermark.
    receipts,
    /// Rooms are told of joins and leaves.
    join_leave = "true",
    /// Mean length of a session, minutes; 0 = nobody comes or goes.
    session_minutes,
    /// Seconds between pings; 0 = none.
    ping_interval_seconds,
    /// Messages merged into one frame; 1 = none.
    deliveries_per_frame,
    /// Authors get what they publish.
    author_sees_own = "true",
    /// TLS ends at the node.
    tls = "true",
    /// Monthly active users for each concurrent one.
    monthly_users_per_concurrent,
}

values! {
    /// A server by flags.
    ServerFlags, "Server (without --capacity)":
    /// Connections of a node.
    max_connections,
    /// Publications a node accepts per second.
    max_msgs_per_second_in,
    /// Deliveries of a node per second.
    max_msgs_per_second_out,
    /// Megabits a node sends per second.
    max_bandwidth_mbps,
    /// New connections of a node per second.
    max_connects_per_second,
    /// Price of a node per hour (with --capacity too).
    cost_per_hour,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Plan")]
struct OptionFlags {
    /// Use 1 / (1 + HEADROOM) of everything, instead of 70 % of connections and 60 % of rates.
    #[arg(long, allow_negative_numbers = true)]
    headroom: Option<String>,
    /// What may be lost at peak.
    #[arg(long, value_enum, default_value_t = Lose::Node)]
    survive: Lose,
    /// Zones the nodes stand in.
    #[arg(long, default_value = "3", allow_negative_numbers = true)]
    zones: String,
    /// Contention between nodes, 0 to 1 (Universal Scalability Law).
    #[arg(long, allow_negative_numbers = true)]
    usl_sigma: Option<String>,
    /// Coherence between nodes, 0 to 1.
    #[arg(long, allow_negative_numbers = true)]
    usl_kappa: Option<String>,
    /// Take both from the capacity file, where they are measured over the workers of one node.
    #[arg(long, requires = "capacity", conflicts_with_all = ["usl_sigma", "usl_kappa"])]
    usl_from_capacity: bool,
    /// Prices (TOML), instead of the built-in ones.
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Name of the node in the prices.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Deliveries per second of one broker node, instead of the prices' figure.
    #[arg(long, allow_negative_numbers = true)]
    broker_deliveries_per_second: Option<String>,
}

impl Plan {
    /// Prints the plan.
    pub fn run(self) -> Result<ExitCode, String> {
        if self.model == Model::Simple {
            return self.simple();
        }
        let input = self.input()?;
        let mut plan = match plan::plan(&input) {
            Ok(plan) => plan,
            Err(PlanError::Input(errors)) => return Err(errors.to_string()),
            Err(PlanError::NoNumber(none)) => return self.no_number(&none),
        };
        if self.sensitivity || self.html.is_some() {
            plan.sensitivity = sensitivity::sensitivity(&input, &plan);
        }
        if let Some(path) = &self.html {
            let page = report::html::page(&input, &plan);
            std::fs::write(path, page).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if !self.sensitivity {
            plan.sensitivity.clear();
        }
        let text = if self.json {
            plan.to_json().map_err(|e| e.to_string())? + "\n"
        } else {
            report::table::table(&plan)
        };
        print(&text);
        Ok(ExitCode::SUCCESS)
    }

    fn simple(&self) -> Result<ExitCode, String> {
        if self.html.is_some() || self.sensitivity || self.capacity.is_some() {
            return Err("--model simple knows no --capacity, --html and --sensitivity".into());
        }
        let draft = self.draft()?;
        let (workload, _) = draft.workload().map_err(|e| e.to_string())?;
        let server = draft.server().map_err(|e| e.to_string())?;
        let headroom = number("headroom", self.options.headroom.as_deref())?;
        let prices = self.prices()?;
        let plan = simple::plan(&workload, &server, headroom.unwrap_or(simple::HEADROOM))
            .map_err(|e| e.to_string())?;
        let text = if self.json {
            plan.to_json().map_err(|e| e.to_string())? + "\n"
        } else {
            report::table::simple(&plan, &prices.currency)
        };
        print(&text);
        Ok(ExitCode::SUCCESS)
    }

    fn no_number(&self, none: &NoNumber) -> Result<ExitCode, String> {
        if self.json {
            print(&(none.to_json().map_err(|e| e.to_string())? + "\n"));
        } else {
            eprintln!("{none}");
        }
        Ok(ExitCode::from(NO_NUMBER))
    }

    fn draft(&self) -> Result<Draft, String> {
        let mut draft = Draft::default();
        if let Some(path) = &self.workload {
            draft.file(&read(path, draft::FILE_BYTES_MAX)?).map_err(|e| told(path, e))?;
        }
        for (name, text) in self.users.given() {
            draft.set_workload(name, text).map_err(|e| e.to_string())?;
        }
        for (name, text) in self.server.given() {
            draft.set_server(name, text).map_err(|e| e.to_string())?;
        }
        Ok(draft)
    }

    fn input(&self) -> Result<Input, String> {
        let draft = self.draft()?;
        let (workload, mut notes) = draft.workload().map_err(|e| e.to_string())?;
        let server = draft.server().map_err(|e| e.to_string())?;
        let prices = self.prices()?;
        let name = self.options.node.as_deref().unwrap_or(&prices.default_node);
        let of_name = prices.node(name).map_err(|e| e.to_string())?;
        let (node, law) = self.node(server, &mut notes)?;
        let zones = number("zones", Some(&self.options.zones))?.unwrap_or_default();
        // What is left to check of it is checked with the rest; a fraction would be cut off.
        if zones.fract() != 0.0 || zones < 0.0 {
            return Err(format!("zones: {zones} is not allowed; give a whole number from 2 on"));
        }
        let options = Options {
            survive: match self.options.survive {
                Lose::Nothing => Survive::Nothing,
                Lose::Node => Survive::Node,
                Lose::Zone => Survive::Zone,
            },
            zones: zones as u64,
            headroom: number("headroom", self.options.headroom.as_deref())?,
            law,
        };
        let cost_per_hour = server.cost_per_hour.unwrap_or(of_name);
        Ok(Input { workload, node, prices, cost_per_hour, options, notes })
    }

    fn node(
        &self,
        server: ServerCapacity,
        notes: &mut Vec<Assumption>,
    ) -> Result<(Node, Law), String> {
        let sigma = number("usl_sigma", self.options.usl_sigma.as_deref())?.unwrap_or_default();
        let kappa = number("usl_kappa", self.options.usl_kappa.as_deref())?.unwrap_or_default();
        let law = Law { sigma, kappa };
        let Some(path) = &self.capacity else {
            if server.says_anything() {
                return Ok((Node::Figures(server), law));
            }
            notes.push(Assumption::new("not given", "a node: that of the worked example is taken"));
            let example = ServerCapacity::example();
            let cost_per_hour = server.cost_per_hour;
            return Ok((Node::Figures(ServerCapacity { cost_per_hour, ..example }), law));
        };
        if server.says_anything() {
            return Err("give --capacity, or a server's figures, not both".into());
        }
        let file = self.capacity_file(path)?;
        let law = match file.scaling.filter(|_| self.options.usl_from_capacity) {
            Some(usl) => Law { sigma: usl.sigma, kappa: usl.kappa },
            None if self.options.usl_from_capacity => {
                return Err(format!("{}: has no scalability law", path.display()));
            }
            None => law,
        };
        Ok((Node::Measured(Box::new(file)), law))
    }

    fn capacity_file(&self, path: &Path) -> Result<CapacityFile, String> {
        let text = read(path, measured::FILE_BYTES_MAX)?;
        let file = measured::read(&text).map_err(|e| told(path, e))?;
        // One may plan for another machine than this, but not with figures of another build.
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let here = Fingerprint { version, ..file.fingerprint.clone() };
        if let (Err(other), false) = (file.fits(&here), self.stale_ok) {
            return Err(format!(
                "{}: {}; measure again, or give --stale-ok",
                path.display(),
                other.differences_text()
            ));
        }
        Ok(file)
    }

    fn prices(&self) -> Result<Prices, String> {
        let mut prices = match &self.options.prices {
            None => Prices::read(prices::EMBEDDED).map_err(|e| e.to_string())?,
            Some(path) => {
                let text = read(path, draft::FILE_BYTES_MAX)?;
                Prices::read(&text).map_err(|e| told(path, e))?
            }
        };
        let name = "broker_deliveries_per_second";
        let given = self.options.broker_deliveries_per_second.as_deref();
        if let Some(figure) = number(name, given)? {
            prices.broker.deliveries_per_second = figure;
        }
        Ok(prices)
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Option<f64>, String> {
    text.map(|text| draft::number(name, text)).transpose().map_err(|e| e.to_string())
}

fn told(path: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

/// The text of a file, if it is not longer than `most`; what is longer is not read to its end.
fn read(path: &Path, most: usize) -> Result<String, String> {
    let file = File::open(path).map_err(|e| told(path, e))?;
    let mut text = String::new();
    let limit = most as u64 + 1;
    file.take(limit).read_to_string(&mut text).map_err(|e| told(path, e))?;
    if text.len() > most {
        return Err(told(path, format!("is longer than {most} bytes")));
    }
    Ok(text)
}

/// Prints to standard output; a reader that has gone away is no reason to fail loudly.
fn print(text: &str) {
    use std::io::Write;
    let _ = write!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        plan: Plan,
    }

    fn parsed(flags: &str) -> Plan {
        Line::try_parse_from(format!("plan {flags}").split_whitespace()).unwrap().plan
    }

    fn planned(flags: &str) -> plan::Plan {
        plan::plan(&parsed(flags).input().unwrap()).unwrap()
    }

    #[test]
    fn flags_make_a_plan() {
        let server = "--max-connections 100_000 --max-msgs-per-second-out 50000";
        let features = "--typing-per-message 1 --join-leave --session-minutes 30 --receipts author";
        let check = |flags: &str, needed, node, zone| {
            let found = planned(&format!("{server} {flags}"));
            let found = (found.servers_needed, found.survive_one_node, found.survive_one_zone);
            assert_eq!(found, (needed, Some(node), Some(zone)), "{flags}");
        };
        check("--peak-multiplier 1", 28, 29, 42);
        check("", 55, 56, 84);
        check(&format!("{features} --peak-multiplier 1"), 86, 87, 129);
        check(features, 171, 172, 258);
        assert_eq!(planned("--survive zone --headroom 0.5").servers_to_run, 75);
        assert_eq!(planned("--cost-per-hour 2").cost.node_per_hour, 2.0);
        assert_eq!(planned("--node large").cost.node_per_hour, 0.4);
    }

    #[test]
    fn nonsense_is_told_by_its_name() {
        let check = |flags: &str, part: &str| {
            let error = parsed(flags)
                .input()
                .map_err(|e| e.to_string())
                .and_then(|input| plan::plan(&input).map_err(|e| e.to_string()));
            let error = error.unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("--concurrent-users 0", "concurrent_users: 0 is not allowed");
        check("--concurrent-users -5", "concurrent_users: -5 is not allowed");
        check("--concurrent-users 1e18", "concurrent_users: 1000000000000000000");
        check("--peak-multiplier NaN", "peak_multiplier: NaN");
        check("--headroom -1", "headroom: -1");
        check("--zones 2.5", "zones: 2.5");
        check("--zones -1", "zones: -1 is not allowed");
        check("--node golden", "node: \"golden\" is not allowed");
        check("--broker-deliveries-per-second 0", "broker.deliveries_per_second: 0");
        check("--workload no-such-file.toml", "no-such-file.toml");
        check("--capacity x.json --max-connections 5", "not both");
    }
}

//! The layers: file, environment, flags, each over the one before. All that is wrong is
//! collected, so that one run shows everything.

use std::collections::BTreeMap;

use plimsoll_core::limits;
use plimsoll_core::policy::{ChannelOptions, Namespace};
use plimsoll_overload::overrides::{self, ACCEPT_VARIABLE, LEVEL_VARIABLE, Order};

use super::check;
use super::nearest::nearest;
use super::table::{ABSENT, ENV_PREFIX, NAMESPACES, OPTION_KEYS, Slot, env_name, slots};
use super::value::{Member, Node, Value, from_json, from_toml};
use super::{Config, ConfigError, Place};

/// Reads and checks a configuration: `file` (its name for messages, and its TOML text), then
/// `env` (all variables; those of other programs are passed over), then `flags` (path and
/// value).
pub fn load(
    file: Option<(&str, &str)>,
    env: impl Iterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Config, Vec<ConfigError>> {
    let loader = Loader::new(Config::default());
    loader.run(file, env, flags)
}

/// Like [`load`], over [`Config::development`] and without a file. Unless `allowed_origins` is
/// given, the pages of the address listened on are let in.
pub fn load_development(
    env: impl Iterator<Item = (String, String)>,
    flags: &[(&str, String)],
) -> Result<Config, Vec<ConfigError>> {
    let mut loader = Loader::new(Config::development());
    loader.own_pages = true;
    loader.run(None, env, flags)
}

/// Variables that have no key, and no prefix: deployments know them by these names.
const AT_START: [&str; 2] = [LEVEL_VARIABLE, ACCEPT_VARIABLE];

/// Whether a variable of the environment is meant for this server.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(ENV_PREFIX) || AT_START.contains(&name)
}

/// Who gave a value.
enum Source<'a> {
    File { name: &'a str, text: &'a str },
    Env(&'a str),
    Flag,
}

impl Source<'_> {
    fn place(&self, at: Option<usize>) -> Place {
        match self {
            Self::File { name, text } => {
                let before = text.get(..at.unwrap_or(0)).unwrap_or(text);
                let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
                let start = before.rfind('\n').map_or(0, |end| end + 1);
                let column = before.get(start..).map_or(0, |part| part.chars().count()) + 1;
                Place::File { name: (*name).to_owned(), line, column }
            }
            Self::Env(name) => Place::Env((*name).to_owned()),
            Self::Flag => Place::Flag,
        }
    }
}

struct Loader {
    config: Config,
    errors: Vec<ConfigError>,
    /// Where each key's value came from, for what is found wrong later.
    places: BTreeMap<String, Place>,
    slots: Vec<(String, Slot)>,
    own_pages: bool,
}

impl Loader {
    fn new(config: Config) -> Self {
        Self {
            config,
            errors: Vec::new(),
            places: BTreeMap::new(),
            slots: slots(),
            own_pages: false,
        }
    }

    fn run(
        mut self,
        file: Option<(&str, &str)>,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Config, Vec<ConfigError>> {
        if let Some((name, text)) = file {
            self.file(name, text);
        }
        let mut variables: Vec<_> = env.filter(|(name, _)| is_ours(name)).collect();
        variables.sort();
        for (name, value) in variables {
            match AT_START.contains(&name.as_str()) {
                true => self.at_start(&name, &value),
                false => self.variable(&name, value),
            }
        }
        for (path, value) in flags {
            let node = Node { at: None, value: Value::Plain(value.clone()) };
            self.member(path, Place::Flag, &node, &Source::Flag);
        }
        if self.own_pages && !self.places.contains_key("client.allowed_origins") {
            self.config.allow_own_pages();
        }
        // Values that could not be read stand at their defaults; what follows from those would
        // be noise.
        if self.errors.is_empty() {
            self.errors = check::check(&mut self.config, &self.places);
        }
        if self.errors.is_empty() { Ok(self.config) } else { Err(self.errors) }
    }

    fn file(&mut self, name: &str, text: &str) {
        let source = Source::File { name, text };
        let (members, unreadable) = from_toml(text);
        for problem in &unreadable {
            self.fail(source.place(problem.at), "", problem.message.clone(), None);
        }
        // A broken line shifts what follows into other sections.
        if unreadable.is_empty() {
            self.table(&members, "", &source);
        }
    }

    /// One of the two variables that have no key: they are overrides, and end.
    fn at_start(&mut self, name: &str, value: &str) {
        let order = match name {
            LEVEL_VARIABLE => overrides::parse_degradation_level(value),
            _ => overrides::parse_accept_new_connections(value),
        };
        let overload = &mut self.config.overload;
        match order {
            Ok(Some(Order::PinLevel(level))) => overload.level_at_start = Some(level),
            Ok(Some(Order::AcceptNewConnections(accept))) => overload.closed_at_start = !accept,
            Ok(Some(Order::PinAction(..)) | None) => (),
            Err(error) => {
                let shown: String = value.chars().take(40).collect();
                let message = format!("must be {}, not {shown:?}", error.expected);
                self.fail(Place::Env(name.to_owned()), "", message, None);
            }
        }
    }

    fn variable(&mut self, name: &str, value: String) {
        if is_of_kubernetes(name, &value) {
            return;
        }
        let path = self.slots.iter().map(|(path, _)| path).find(|path| env_name(path) == name);
        match path.cloned() {
            Some(path) => {
                let node = Node { at: None, value: Value::Plain(value) };
                self.member(&path, Place::Env(name.to_owned()), &node, &Source::Env(name));
            }
            None => {
                let names: Vec<String> = self.slots.iter().map(|(p, _)| env_name(p)).collect();
                let near = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
                let message = "no setting has this name".to_owned();
                self.fail(Place::Env(name.to_owned()), "", message, near);
            }
        }
    }

    fn table(&mut self, members: &[Member], section: &str, source: &Source<'_>) {
        for member in members {
            let path = match section {
                "" => member.name.clone(),
                _ => format!("{section}.{}", member.name),
            };
            self.member(&path, source.place(member.at), &member.node, source);
        }
    }

    /// One key, or a section of them.
    fn member(&mut self, path: &str, place: Place, node: &Node, source: &Source<'_>) {
        let inside = format!("{path}.");
        if let Some(at) = self.slots.iter().position(|(known, _)| known == path) {
            self.apply(at, path, &place, node, source);
            self.places.insert(path.to_owned(), place);
        } else if self.slots.iter().any(|(known, _)| known.starts_with(&inside)) {
            match &node.value {
                Value::Table(members) => self.table(members, path, source),
                other => {
                    let message = format!("is a section, not {}", other.describe());
                    self.fail(place, path, message, None);
                }
            }
        } else {
            self.unknown(path, place);
        }
    }

    fn apply(&mut self, at: usize, path: &str, place: &Place, node: &Node, source: &Source<'_>) {
        let Some((_, slot)) = self.slots.get(at) else { return };
        let config = &mut self.config;
        let result = match slot {
            Slot::Main(key) => key.apply(config, &node.value),
            Slot::Token(key, at) => key.apply(at(config), &node.value),
            Slot::Options(key, at) => key.apply(at(config), &node.value),
            Slot::Tier(key, at) => key.apply(at(config), &node.value),
            Slot::Quota(key, at) => key.apply(at(config), &node.value),
            Slot::Namespaces => return self.namespaces(place, node, source),
        };
        if let Err(message) = result {
            self.fail(place.clone(), path, message, None);
        }
    }

    fn namespaces(&mut self, place: &Place, node: &Node, source: &Source<'_>) {
        let parsed = match &node.value {
            Value::Plain(text) => match from_json(text) {
                Ok(node) => Some(node),
                Err(why) => {
                    let message = format!("must be a list of objects in JSON: {why}");
                    return self.fail(place.clone(), NAMESPACES, message, None);
                }
            },
            _ => None,
        };
        let node = parsed.as_ref().unwrap_or(node);
        let Value::List(items) = &node.value else {
            let message = format!("must be a list of tables, not {}", node.value.describe());
            return self.fail(place.clone(), NAMESPACES, message, None);
        };
        if items.len() > limits::NAMESPACES_MAX {
            let message = format!("has more than {} entries", limits::NAMESPACES_MAX);
            return self.fail(place.clone(), NAMESPACES, message, None);
        }
        let mut list = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = format!("{NAMESPACES}[{at}]");
            self.places.insert(path.clone(), source.place(item.at));
            match &item.value {
                Value::Table(members) => list.push(self.namespace(&path, members, source)),
                other => {
                    let message = format!("must be a table, not {}", other.describe());
                    self.fail(source.place(item.at), &path, message, None);
                }
            }
        }
        self.config.policy.channel.namespaces = list;
    }

    fn namespace(&mut self, path: &str, members: &[Member], source: &Source<'_>) -> Namespace {
        let mut namespace = Namespace { name: String::new(), options: ChannelOptions::default() };
        for member in members {
            let path = format!("{path}.{}", member.name);
            let place = source.place(member.at);
            let value = &member.node.value;
            let key = OPTION_KEYS.iter().find(|key| key.path == member.name);
            let result = match (member.name.as_str(), key, value) {
                ("name", _, Value::Text(name)) => {
                    name.clone_into(&mut namespace.name);
                    Ok(())
                }
                ("name", ..) => Err(format!("must be a text, not {}", value.describe())),
                (_, Some(key), _) => key.apply(&mut namespace.options, value),
                (given, None, _) => {
                    let names = OPTION_KEYS.iter().map(|key| key.path).chain(["name"]);
                    let near = nearest(given, names).map(str::to_owned);
                    self.fail(place.clone(), &path, "unknown option".into(), near);
                    Ok(())
                }
            };
            if let Err(message) = result {
                self.fail(place.clone(), &path, message, None);
            }
            self.places.insert(path, place);
        }
        namespace
    }

    fn unknown(&mut self, path: &str, place: Place) {
        let below = |start: &str| {
            path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if let Some((_, why)) = ABSENT.iter().find(|(start, _)| below(start)) {
            return self.fail(place, path, (*why).to_owned(), None);
        }
        let near = self.near_path(path);
        self.fail(place, path, "unknown key".into(), near);
    }

    /// The known path meant by `path`: one like it, or one elsewhere with the same last name.
    fn near_path(&self, path: &str) -> Option<String> {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let depth = path.split('.').count();
        // A mistyped section is compared with sections: paths cut to the same depth.
        let cut = |known: &str| known.split('.').take(depth).collect::<Vec<_>>().join(".");
        let known: Vec<String> = self.slots.iter().map(|(known, _)| cut(known)).collect();
        let siblings = known.iter().filter_map(|known| {
            let (own, last) = known.rsplit_once('.').unwrap_or(("", known));
            (own == section).then_some(last)
        });
        let sibling = nearest(name, siblings).map(|last| match section {
            "" => last.to_owned(),
            _ => format!("{section}.{last}"),
        });
        sibling
            .or_else(|| nearest(path, known.iter().map(String::as_str)).map(str::to_owned))
            .or_else(|| {
                let all = self.slots.iter().map(|(known, _)| known);
                all.clone().find(|known| known.rsplit('.').next() == Some(name)).cloned()
            })
    }

    fn fail(&mut self, place: Place, path: &str, message: String, suggestion: Option<String>) {
        let path = path.to_owned();
        self.errors.push(ConfigError { place, path, message, suggestion });
    }
}

/// Kubernetes sets `PLIMSOLL_SERVICE_HOST`, `PLIMSOLL_PORT=tcp://…` and the like in every pod
/// once a Service is named `plimsoll` (or `plimsoll-…`). They are not meant for us.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let protocol = |text: &str| ["TCP", "UDP", "SCTP"].iter().any(|p| text.starts_with(p));
    let port_of_protocol = name.split("_PORT_").skip(1).any(|rest| {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        after.len() < rest.len() && after.strip_prefix('_').is_some_and(protocol)
    });
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || port_of_protocol
}

/// A file read without the checks between keys.
#[cfg(test)]
pub(super) fn read_unchecked(text: &str) -> (Config, Vec<ConfigError>) {
    let mut loader = Loader::new(Config::default());
    loader.file("test", text);
    (loader.config, loader.errors)
}

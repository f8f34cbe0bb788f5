//! `/admin/overload`: the load line, and what people decide instead of it.
//!
//! GET shows it, POST sets one override, DELETE ends one or all. A POST must be JSON by its
//! header: a form of a foreign page cannot be, so no page makes a browser do it.

use super::http::{BodyError, Reply, body_within, json as reply_json};
use crate::config::units::parse_duration;
use crate::load::signals::named;
use crate::load::watch::{View, rounded};
use crate::node::Node;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request as HttpRequest, StatusCode};
use plimsoll_core::limits::OVERLOAD_BODY_BYTES_MAX;
use plimsoll_overload::actions::Action;
use plimsoll_overload::emergency::STEPS;
use plimsoll_overload::level::Level;
use plimsoll_overload::overrides::{Audit, Order, Override, Request, Subject};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Who asks, where the body does not say it.
const AUTHOR_HEADER: &str = "x-author";

/// Answers a request whose key was checked.
pub async fn handle(request: HttpRequest<Incoming>, peer: IpAddr, node: &Node) -> Reply {
    let author = author_of(request.headers(), peer);
    let subject = request.uri().query().and_then(subject_in).map(str::to_owned);
    let result = match *request.method() {
        Method::GET => return ok(&overview(&node.watch.view())),
        Method::POST if !is_json(request.headers()) => Err(Refusal(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON, and \
                Content-Type must say application/json"
                .into(),
        )),
        Method::POST => match read(request).await {
            Ok(bytes) => set(node, &bytes, author),
            Err(refusal) => Err(refusal),
        },
        Method::DELETE => match read(request).await {
            Ok(bytes) => clear(node, &bytes, subject, author),
            Err(refusal) => Err(refusal),
        },
        _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "GET, POST or DELETE".into())),
    };
    match result {
        Ok(audits) => ok(&done(node, &audits)),
        Err(Refusal(status, error)) => reply_json(status, format!("{}\n", json!({"error": error}))),
    }
}

/// The load line for `/admin/status`.
pub fn load(view: &View) -> Value {
    let outcome = &view.outcome;
    let pressures: Map<String, Value> = outcome
        .pressures
        .iter()
        .map(|(resource, p)| (resource.name().to_owned(), json!(p.map(rounded))))
        .collect();
    let actions: Map<String, Value> =
        outcome.strengths.iter().map(|(a, s)| (a.name().to_owned(), json!(rounded(s)))).collect();
    let overrides: Vec<_> = view.overrides.iter().map(|o| shown(o, view.now_ms)).collect();
    json!({
        "enabled": view.enabled,
        "level": outcome.level.number(),
        "level_name": outcome.level.name(),
        "score": rounded(outcome.score),
        "hot_resource": outcome.hot_resource.map(|r| r.name()),
        "storm": outcome.storm,
        "pressures": pressures,
        "actions": actions,
        "accept_new_connections": view.accepts_new_connections(),
        "override": overrides,
    })
}

/// An override, with what is left of it.
fn shown(o: &Override, now_ms: u64) -> Value {
    let mut shown = json!({
        "reason": o.reason,
        "author": o.author,
        "left_s": o.until_ms.saturating_sub(now_ms).div_ceil(1_000),
    });
    match o.order {
        Order::PinLevel(level) => shown["pin_level"] = json!(level.number()),
        Order::PinAction(action, strength) => {
            shown["pin_action"] = json!(action.name());
            shown["strength"] = json!(strength);
        }
        Order::AcceptNewConnections(accept) => shown["accept_new_connections"] = json!(accept),
    }
    shown
}

/// All there is to see.
fn overview(view: &View) -> Value {
    let outcome = &view.outcome;
    let gates = &outcome.gates;
    let signals: Map<String, Value> = named(&view.signals)
        .map(|(name, value)| (name.to_owned(), json!(rounded(value))))
        .collect();
    let steps: Vec<_> =
        STEPS.iter().filter(|row| outcome.plan.takes(row.step)).map(|row| row.name).collect();
    let mut all = load(view);
    all["signals"] = signals.into();
    all["pinned"] = json!(outcome.pinned);
    all["transitions_total"] = json!(outcome.transitions_total);
    all["emergency_steps"] = json!(steps);
    all["work_level"] = json!(gates.work_level.number());
    all["admission"] = json!(gates.admission.name());
    all["accepts_per_second"] = json!(rounded(gates.accepts_per_s));
    all["history_rows"] = json!(gates.history_rows);
    all["batching_window_ms"] = json!(gates.batching_window_ms);
    all["publish_factor"] = json!(rounded(f64::from(gates.publish_factor)));
    all
}

fn done(node: &Node, audits: &[Audit]) -> Value {
    let view = node.watch.view();
    let lines: Vec<String> = audits.iter().map(ToString::to_string).collect();
    let effect = match view.enabled {
        true => "at the next sample, within 250 ms",
        false => "shown only: overload.enabled = false",
    };
    let overrides: Vec<_> = view.overrides.iter().map(|o| shown(o, view.now_ms)).collect();
    json!({ "effect": effect, "audit": lines, "override": overrides })
}

fn ok(value: &Value) -> Reply {
    reply_json(StatusCode::OK, format!("{value:#}\n"))
}

/// Why nothing was done.
#[derive(Debug, PartialEq, Eq)]
struct Refusal(StatusCode, String);

fn bad(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, why.into())
}

async fn read(request: HttpRequest<Incoming>) -> Result<Vec<u8>, Refusal> {
    match body_within(request, OVERLOAD_BODY_BYTES_MAX).await {
        Ok(bytes) => Ok(bytes.to_vec()),
        Err(BodyError::TooLarge) => {
            let why = format!("the body may have {OVERLOAD_BODY_BYTES_MAX} bytes");
            Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, why))
        }
        Err(BodyError::Broken) => Err(bad("the body did not come")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// Without a name, the address is who it was.
fn author_of(headers: &HeaderMap, peer: IpAddr) -> String {
    let given = headers.get(AUTHOR_HEADER).and_then(|value| value.to_str().ok());
    given.filter(|name| !name.trim().is_empty()).map_or_else(|| peer.to_string(), str::to_owned)
}

fn subject_in(query: &str) -> Option<&str> {
    query.split('&').find_map(|pair| pair.strip_prefix("subject="))
}

/// What a POST says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    pin_level: Option<Value>,
    pin_action: Option<String>,
    strength: Option<f64>,
    accept_new_connections: Option<bool>,
    ttl: Option<String>,
    reason: Option<String>,
    author: Option<String>,
}

fn set(node: &Node, body: &[u8], author: String) -> Result<Vec<Audit>, Refusal> {
    let (order, wanted, ttl_ms) = wanted(body)?;
    let author = wanted.author.unwrap_or(author);
    let reason = wanted.reason.unwrap_or_default();
    let request = Request { ttl_ms, reason: &reason, author: &author };
    node.watch.set_override(order, &request).map_err(|error| bad(error.to_string()))
}

fn wanted(body: &[u8]) -> Result<(Order, Wanted, Option<u64>), Refusal> {
    let wanted: Wanted =
        serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))?;
    let order = order_of(&wanted)?;
    let ttl_ms = match wanted.ttl.as_deref() {
        None => None,
        Some(text) => Some(parse_duration(text).ok_or_else(|| {
            bad("ttl: must be a duration with its unit, as \"30m\" or \"1h30m\"")
        })?),
    };
    Ok((order, wanted, ttl_ms))
}

fn order_of(wanted: &Wanted) -> Result<Order, Refusal> {
    match (&wanted.pin_level, &wanted.pin_action, wanted.accept_new_connections) {
        (Some(level), None, None) => level_of(level).map(Order::PinLevel),
        (None, Some(name), None) => {
            let action = action_of(name).map_err(|why| bad(format!("pin_action: {why}")))?;
            let strength = wanted
                .strength
                .ok_or_else(|| bad("pin_action: needs a strength, a number from 0 to 1"))?;
            Ok(Order::PinAction(action, strength))
        }
        (None, None, Some(accept)) => Ok(Order::AcceptNewConnections(accept)),
        _ => Err(bad("give one of pin_level, pin_action and accept_new_connections")),
    }
}

fn level_of(value: &Value) -> Result<Level, Refusal> {
    let text = match value {
        Value::Number(n) => n.to_string(),
        Value::String(text) => text.clone(),
        _ => String::new(),
    };
    let levels = "pin_level: must be 0 to 4, or normal, warning, degraded, critical, emergency";
    Level::parse(&text).ok_or_else(|| bad(levels))
}

fn action_of(name: &str) -> Result<Action, String> {
    Action::parse(name).ok_or_else(|| {
        let names: Vec<_> = Action::ALL.iter().map(|a| a.name()).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// What a DELETE may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unwanted {
    subject: Option<String>,
    author: Option<String>,
}

fn clear(
    node: &Node,
    body: &[u8],
    subject: Option<String>,
    author: String,
) -> Result<Vec<Audit>, Refusal> {
    let unwanted = match body {
        [] => Unwanted::default(),
        body => serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))?,
    };
    let subject = subject.or(unwanted.subject).as_deref().map(subject_of).transpose()?;
    Ok(node.watch.clear_override(subject, &unwanted.author.unwrap_or(author)))
}

fn subject_of(name: &str) -> Result<Subject, Refusal> {
    match name {
        "level" => Ok(Subject::Level),
        "accept_new_connections" => Ok(Subject::AcceptNewConnections),
        name => action_of(name).map(Subject::Action).map_err(|why| {
            bad(format!("subject: must be level, accept_new_connections, or an action: {why}"))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::control::capacity;
    use crate::load::watch::Watch;
    use crate::worker::core::LoadLine;
    use hyper::header::HeaderValue;

    #[test]
    fn orders() {
        let check = |body: &str, expect: Result<(&str, Option<u64>), &str>| {
            let found = wanted(body.as_bytes()).map(|(o, _, ttl)| (o.to_string(), ttl));
            match (&found, expect) {
                (Ok((order, ttl)), Ok(expect)) => assert_eq!((order.as_str(), *ttl), expect),
                (Err(Refusal(status, why)), Err(expect)) => {
                    assert_eq!(*status, StatusCode::BAD_REQUEST);
                    assert!(why.contains(expect), "{body}: {why}");
                }
                _ => panic!("{body}: {found:?}"),
            }
        };
        check(r#"{"pin_level":3}"#, Ok(("pin_level=critical", None)));
        check(r#"{"pin_level":"normal","ttl":"30m"}"#, Ok(("pin_level=normal", Some(1_800_000))));
        let action = r#"{"pin_action":"widen_batching","strength":0.5}"#;
        check(action, Ok(("pin_action=widen_batching strength=0.5", None)));
        let closed = r#"{"accept_new_connections":false,"reason":"x","author":"y"}"#;
        check(closed, Ok(("accept_new_connections=false", None)));
        check("", Err("the body: EOF"));
        check("{}", Err("give one of"));
        check(r#"{"pin_level":1,"accept_new_connections":true}"#, Err("give one of"));
        for level in ["5", "-1", "1.5", "true", "null", "\"high\""] {
            let body = format!(r#"{{"pin_level":{level}}}"#);
            let why = if level == "null" { "give one of" } else { "pin_level: must be 0 to 4" };
            check(&body, Err(why));
        }
        check(r#"{"pin_level":1,"ttl":"30"}"#, Err("ttl: must be a duration"));
        check(r#"{"pin_level":1,"tll":"30m"}"#, Err("unknown field `tll`"));
        check(r#"{"pin_action":"nap","strength":1}"#, Err("must be one of widen_batching, "));
        check(r#"{"pin_action":"shed_queues"}"#, Err("needs a strength"));
    }

    #[test]
    fn subjects() {
        assert_eq!(subject_of("level"), Ok(Subject::Level));
        let action = Ok(Subject::Action(Action::ShedQueues));
        assert_eq!(subject_of("shed_queues"), action);
        assert!(subject_of("lvl").is_err());
        assert_eq!(subject_in("api_key=k&subject=level"), Some("level"));
    }

    #[test]
    fn who_and_what_a_request_is() {
        let mut headers = HeaderMap::new();
        let peer = IpAddr::from([127, 0, 0, 1]);
        assert_eq!((author_of(&headers, peer).as_str(), is_json(&headers)), ("127.0.0.1", false));
        headers.insert(AUTHOR_HEADER, HeaderValue::from_static("ann"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/JSON; charset=utf-8"));
        assert_eq!((author_of(&headers, peer).as_str(), is_json(&headers)), ("ann", true));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert!(!is_json(&headers));
    }

    #[test]
    fn the_status_shows_the_load_line() {
        let config = Config::default();
        let watch = Watch::new(&config, &capacity::load(&config).unwrap()).unwrap();
        let why = Request { ttl_ms: Some(60_000), reason: "drill <1>", author: "ann" };
        watch.set_override(Order::PinLevel(Level::Critical), &why).unwrap();
        watch.set_override(Order::AcceptNewConnections(false), &why).unwrap();
        let strength = Order::PinAction(Action::ShedQueues, 0.25);
        watch.set_override(strength, &why).unwrap();
        watch.begin(&LoadLine::default());
        let all = overview(&watch.view());
        let found = [&all["level"], &all["level_name"], &all["score"], &all["hot_resource"]];
        assert_eq!(found, [&json!(3), &json!("critical"), &json!(0.0), &Value::Null]);
        assert_eq!(all["actions"]["shed_queues"], 0.25);
        assert_eq!(all["actions"].as_object().unwrap().len(), Action::ALL.len());
        assert_eq!(all["pressures"]["cpu"], Value::Null);
        assert_eq!(
            (&all["accept_new_connections"], &all["history_rows"]),
            (&json!(false), &json!(0))
        );
        let pin = &all["override"][0];
        assert_eq!((&pin["pin_level"], &pin["reason"]), (&json!(3), &json!("drill <1>")));
        assert!(pin["left_s"].as_u64().is_some_and(|s| (1..=60).contains(&s)), "{pin}");
        assert_eq!(watch.clear_override(Some(Subject::Level), "bob").len(), 1);
        assert_eq!(watch.view().overrides.len(), 2);
    }
}

//! Comparing `Origin` with the list of those allowed.

/// Scheme, host and port, compared as a whole and never as text within text.
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    port: u16,
}

/// Whether a request from `origin` may open a connection.
///
/// A pattern is `*`, an origin, or an origin whose host starts with `*.`, which stands for one or
/// more labels. A missing `Origin` passes: only browsers send it, and only they carry cookies the
/// page did not set.
pub fn origin_allowed(origin: Option<&[u8]>, patterns: &[String]) -> bool {
    let Some(origin) = origin else { return true };
    if patterns.iter().any(|pattern| pattern == "*") {
        return true;
    }
    let Ok(origin) = std::str::from_utf8(origin) else { return false };
    if origin == "null" {
        return patterns.iter().any(|pattern| pattern == "null");
    }
    let Some(origin) = parse(origin).filter(|origin| is_host(origin.host)) else { return false };
    patterns.iter().any(|pattern| matches(&origin, pattern))
}

fn matches(origin: &Origin<'_>, pattern: &str) -> bool {
    let Some(pattern) = parse(pattern) else { return false };
    if !origin.scheme.eq_ignore_ascii_case(pattern.scheme) || origin.port != pattern.port {
        return false;
    }
    match pattern.host.strip_prefix("*.") {
        Some(parent) => {
            // `is_host` has seen to it that no label is empty.
            let cut = origin.host.len().checked_sub(parent.len() + 1).filter(|cut| *cut > 0);
            let suffix = cut.and_then(|cut| origin.host.get(cut..));
            let suffix = suffix.and_then(|suffix| suffix.strip_prefix('.'));
            is_name(parent) && suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case(parent))
        }
        None => origin.host.eq_ignore_ascii_case(pattern.host),
    }
}

fn parse(text: &str) -> Option<Origin<'_>> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme_ok = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    if scheme.is_empty() || !scheme_ok {
        return None;
    }
    let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if scheme.eq_ignore_ascii_case("https") => 443,
        None if scheme.eq_ignore_ascii_case("http") => 80,
        None => 0,
    };
    Some(Origin { scheme, host, port })
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.'),
        None => is_name(host),
    }
}

fn is_name(host: &str) -> bool {
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    })
}

//! The demo page, in development only.

use super::http::{Reply, reply};
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};

macro_rules! files {
    ($($path:literal $kind:literal $file:literal;)*) => {
        &[$(($path, $kind, include_bytes!(concat!("../../../../ui/demo/", $file)))),*]
    };
}

const FILES: &[(&str, &str, &[u8])] = files! {
    "/" "text/html; charset=utf-8" "index.html";
    "/demo/app.js" "text/javascript; charset=utf-8" "app.js";
    "/demo/client.js" "text/javascript; charset=utf-8" "client.js";
    "/demo/view.js" "text/javascript; charset=utf-8" "view.js";
    "/demo/icon.svg" "image/svg+xml" "icon.svg";
    "/demo/style.css" "text/css; charset=utf-8" "style.css";
};

/// Nothing but its own files and its own WebSocket.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'";

/// A file of the page.
pub fn file(path: &str) -> Option<Reply> {
    let (_, kind, bytes) = FILES.iter().find(|(known, _, _)| *known == path)?;
    let mut reply = reply(StatusCode::OK, kind, *bytes);
    let policy = HeaderValue::from_static(POLICY);
    reply.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    Some(reply)
}

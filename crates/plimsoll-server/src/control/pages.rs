//! Pages that are part of the program: the demo on the public port, in development only, and the
//! operator's page on the admin listener.

use super::http::{Reply, reply};
use hyper::StatusCode;
use hyper::header::{
    CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};

/// Path, kind and bytes.
type File = (&'static str, &'static str, &'static [u8]);

macro_rules! files {
    ($dir:literal: $($path:literal $kind:literal $file:literal;)*) => {
        &[$(($path, $kind, include_bytes!(concat!("../../../../ui/", $dir, "/", $file)))),*]
    };
}

const DEMO: &[File] = files! { "demo":
    "/" "text/html; charset=utf-8" "index.html";
    "/demo/app.js" "text/javascript; charset=utf-8" "app.js";
    "/demo/client.js" "text/javascript; charset=utf-8" "client.js";
    "/demo/view.js" "text/javascript; charset=utf-8" "view.js";
    "/demo/icon.svg" "image/svg+xml" "icon.svg";
    "/demo/style.css" "text/css; charset=utf-8" "style.css";
};

const ADMIN: &[File] = files! { "admin":
    "/" "text/html; charset=utf-8" "index.html";
    "/page/app.js" "text/javascript; charset=utf-8" "app.js";
    "/page/parts.js" "text/javascript; charset=utf-8" "parts.js";
    "/page/style.css" "text/css; charset=utf-8" "style.css";
};

/// Nothing but its own files and its own WebSocket.
const DEMO_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self' ws: wss:; img-src 'self' data:; base-uri 'none'; form-action 'none'";

/// Nothing but its own files and its own calls, and in nobody's frame: it has buttons.
const ADMIN_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the demo.
pub fn demo(path: &str) -> Option<Reply> {
    file(DEMO, path, DEMO_POLICY)
}

/// A file of the operator's page. It holds no figure: those need the key.
pub fn admin(path: &str) -> Option<Reply> {
    file(ADMIN, path, ADMIN_POLICY)
}

fn file(files: &'static [File], path: &str, policy: &'static str) -> Option<Reply> {
    let (_, kind, bytes) = files.iter().find(|(known, _, _)| *known == path)?;
    let mut reply = reply(StatusCode::OK, kind, *bytes);
    let headers: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in headers {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Some(reply)
}

//! One POST of JSON to a URL of the operator's.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use plimsoll_core::limits;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;

/// From the look-up of the name to the head of the answer.
const TIMEOUT: Duration = Duration::from_millis(limits::WEBHOOK_MS);

/// Where to post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `host:port`, to connect to.
    address: String,
    /// As it stands in the URL.
    host: HeaderValue,
    path: Uri,
}

/// Why a URL cannot be posted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("must be a URL, as http://alerts.internal:9093/hook")]
    NotAUrl,
    /// TLS, or something else.
    #[error("must begin with http:// (for https, post to a proxy beside the server)")]
    NotHttp,
    /// Name and password before the host.
    #[error("must not hold a name and a password")]
    HasUser,
}

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// No answer in time.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Late,
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// The connection broke, or the answer is not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The request cannot be written down.
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    /// Another answer than a good one.
    #[error("it answered {0}")]
    Status(u16),
}

impl Target {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let uri: Uri = url.parse().map_err(|_| TargetError::NotAUrl)?;
        let authority = uri.authority().ok_or(TargetError::NotAUrl)?;
        match uri.scheme_str() {
            Some("http") => (),
            Some(_) => return Err(TargetError::NotHttp),
            None => return Err(TargetError::NotAUrl),
        }
        if authority.as_str().contains('@') {
            return Err(TargetError::HasUser);
        }
        let (host, port) = (authority.host(), authority.port_u16());
        if host.is_empty() || (port.is_none() && authority.as_str() != host) {
            return Err(TargetError::NotAUrl);
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Self {
            address: format!("{host}:{}", port.unwrap_or(80)),
            host: HeaderValue::from_str(authority.as_str()).map_err(|_| TargetError::NotAUrl)?,
            path: path.parse().map_err(|_| TargetError::NotAUrl)?,
        })
    }

    /// Posts `json`. Only a status from 200 to 299 is a success. The answer's body is not read.
    pub async fn post(&self, json: &str) -> Result<(), PostError> {
        match tokio::time::timeout(TIMEOUT, self.exchange(json)).await {
            Ok(result) => result,
            Err(_) => Err(PostError::Late),
        }
    }

    async fn exchange(&self, json: &str) -> Result<(), PostError> {
        let stream = TcpStream::connect(&self.address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request =
            Request::post(&self.path).body(Full::new(Bytes::from(json.to_owned())))?;
        request.headers_mut().insert(HOST, self.host.clone());
        let kind = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, kind);
        let mut answer = pin!(sender.send_request(request));
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // It may end with the answer. If it ends without one, the answer says why.
            _ = connection => answer.await,
        };
        match answer?.status() {
            status if status.is_success() => Ok(()),
            status => Err(PostError::Status(status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn urls() {
        let check = |url: &str, expect: Result<(&str, &str), TargetError>| {
            let found = Target::parse(url);
            let found = found.as_ref().map(|t| (t.address.as_str(), t.path.path()));
            assert_eq!(found.map_err(|e| *e), expect, "{url}");
        };
        check("http://a.example/hook", Ok(("a.example:80", "/hook")));
        check("http://127.0.0.1:9093", Ok(("127.0.0.1:9093", "/")));
        check("http://[::1]:9/x?y=z", Ok(("[::1]:9", "/x")));
        check("https://a.example/", Err(TargetError::NotHttp));
        check("http://me:pw@a.example/", Err(TargetError::HasUser));
        for bad in ["", "a.example", "/hook", "http://", "http://a b/", "http://a:99999/"] {
            check(bad, Err(TargetError::NotAUrl));
        }
    }

    /// Posts to a server that answers `answer`; what it got, and what came of it.
    async fn posted(answer: &'static str) -> (String, Result<(), String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            let mut piece = [0; 1024];
            while !got.ends_with(b"{}") {
                let n = stream.read(&mut piece).unwrap();
                got.extend_from_slice(&piece[..n]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(got).unwrap()
        });
        let result = Target::parse(&url).unwrap().post("{}").await;
        (server.join().unwrap(), result.map_err(|e| e.to_string()))
    }

    #[tokio::test]
    async fn a_post() {
        let (got, result) = posted("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        let got = got.to_ascii_lowercase();
        assert!(got.starts_with("post /hook?a=b http/1.1\r\n"), "{got}");
        for header in ["host: 127.0.0.1:", "content-type: application/json", "content-length: 2"] {
            assert!(got.contains(&format!("\r\n{header}")), "{header} in {got}");
        }
        let (_, result) = posted("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(result, Err("it answered 500".to_owned()));
        let (_, result) = posted("SSH-2.0-x\r\n\r\n").await;
        assert!(result.is_err());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = Target::parse(&format!("http://{closed}/")).unwrap();
        assert!(matches!(target.post("{}").await, Err(PostError::Connect(_))));
    }
}

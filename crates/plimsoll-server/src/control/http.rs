//! HTTP on the public port, on sockets that the workers hand over, and what the two HTTP
//! servers share.

use super::{api, pages};
use crate::node::{HandedOff, Node};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use plimsoll_core::limits;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

/// A response with a whole body.
pub type Reply = Response<Full<Bytes>>;

/// Serves what the workers hand over, until they are gone.
pub async fn serve_handed_off(
    mut sockets: mpsc::Receiver<HandedOff>,
    node: Arc<Node>,
    development: bool,
) {
    let room = Arc::new(Semaphore::new(limits::HTTP_CONNECTIONS_MAX));
    let calls = Arc::new(Semaphore::new(limits::API_IN_FLIGHT_MAX));
    while let Some(HandedOff { stream, read, place }) = sockets.recv().await {
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let (node, calls) = (Arc::clone(&node), Arc::clone(&calls));
        tokio::spawn(async move {
            let handle = |request| {
                let (node, calls) = (Arc::clone(&node), Arc::clone(&calls));
                async move { public(request, &node, &calls, development).await }
            };
            serve_connection(Prefixed { read, at: 0, stream }, handle).await;
            drop((permit, place));
        });
    }
}

/// Answers the requests of one connection. A header that does not come in time ends it.
pub async fn serve_connection<F>(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    handle: impl Fn(Request<Incoming>) -> F,
) where
    F: Future<Output = Reply>,
{
    let service = service_fn(|request| {
        let reply = handle(request);
        async move { Ok::<_, Infallible>(reply.await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(limits::HANDSHAKE_MS))
        .max_headers(limits::HEAD_COUNT_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn public(
    request: Request<Incoming>,
    node: &Arc<Node>,
    calls: &Semaphore,
    development: bool,
) -> Reply {
    let path = request.uri().path();
    if let Some(method) = path.strip_prefix("/api/").map(str::to_owned) {
        let Ok(_permit) = calls.try_acquire() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many requests under way\n");
        };
        return api::handle(request, &method, node).await;
    }
    if development
        && request.method() == Method::GET
        && let Some(reply) = pages::demo(path)
    {
        return reply;
    }
    text(StatusCode::NOT_FOUND, "not found\n")
}

/// Why a body could not be read.
pub enum BodyError {
    /// Over the limit.
    TooLarge,
    /// The peer went away or sent no valid body.
    Broken,
}

/// Reads a body, at most the limit, within the time of a handshake.
pub async fn body(request: Request<Incoming>) -> Result<Bytes, BodyError> {
    body_within(request, limits::API_BODY_BYTES_MAX).await
}

/// Reads a body of at most `bytes_max`, within the time of a handshake.
pub async fn body_within(request: Request<Incoming>, bytes_max: usize) -> Result<Bytes, BodyError> {
    let limited = Limited::new(request.into_body(), bytes_max);
    let patience = Duration::from_millis(limits::HANDSHAKE_MS);
    match tokio::time::timeout(patience, limited.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        _ => Err(BodyError::Broken),
    }
}

/// The key of a request: `X-API-Key`, `Authorization: apikey KEY`, or `?api_key=KEY`.
pub fn key_of<'a>(headers: &'a HeaderMap, query: Option<&'a str>) -> Option<&'a [u8]> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes());
    }
    if let Some(value) = headers.get("authorization").map(HeaderValue::as_bytes) {
        return value.strip_prefix(b"apikey ");
    }
    query?.split('&').find_map(|pair| pair.strip_prefix("api_key=")).map(str::as_bytes)
}

/// A reply of plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "text/plain; charset=utf-8", body)
}

/// A reply of JSON.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    reply(status, "application/json", body)
}

/// A reply.
pub fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// A stream whose first bytes were read already.
struct Prefixed {
    read: Vec<u8>,
    at: usize,
    stream: TcpStream,
}

impl AsyncRead for Prefixed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = self.read.get(self.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let n = rest.len().min(into.remaining());
        into.put_slice(rest.get(..n).unwrap_or_default());
        self.at += n;
        if self.at == self.read.len() {
            self.read = Vec::new();
            self.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Prefixed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_three_ways() {
        let mut headers = HeaderMap::new();
        assert_eq!(key_of(&headers, Some("a=b&api_key=k")), Some(&b"k"[..]));
        assert_eq!(key_of(&headers, None), None);
        headers.insert("authorization", HeaderValue::from_static("apikey secret"));
        assert_eq!(key_of(&headers, None), Some(&b"secret"[..]));
        headers.insert("x-api-key", HeaderValue::from_static("other"));
        assert_eq!(key_of(&headers, None), Some(&b"other"[..]));
    }
}

//! The state of a node: one GET over HTTP/1.0, which needs no HTTP client, and a page for people.

mod page;

pub use page::for_people;

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting, sending and each read may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer; a status takes a few KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Body of `path` at `base` (`http://host:port`), or why there is none.
pub fn get(base: &str, path: &str, key: Option<&str>) -> Result<String, String> {
    let host = base.strip_prefix("http://").ok_or("must begin with http://")?;
    let host = host.trim_end_matches('/');
    if key.is_some_and(|key| !key.bytes().all(|b| b.is_ascii_graphic())) {
        return Err("the admin key has characters that a header cannot carry".into());
    }
    let address = host.to_socket_addrs().map_err(|e| e.to_string())?.next();
    let address = address.ok_or("no such host")?;
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| error.to_string())?;
    let answer = exchange(&mut stream, host, path, key).map_err(|error| error.to_string())?;
    body(&answer)
}

fn exchange(
    stream: &mut TcpStream,
    host: &str,
    path: &str,
    key: Option<&str>,
) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let key = key.map(|key| format!("Authorization: apikey {key}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{key}\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The body of `answer` if its status is 200.
fn body(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        Some("401") => Err("the admin key is wrong or missing (--key)".into()),
        Some(status) => Err(format!("the node answered {status}: {}", body.trim())),
        None => Err("the answer is not HTTP".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn answers() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").as_deref(), Ok("{}"));
        assert!(body(b"HTTP/1.1 401 Unauthorized\r\n\r\n").unwrap_err().contains("--key"));
        assert!(body(b"HTTP/1.1 503 X\r\n\r\nbusy\n").unwrap_err().ends_with("503: busy"));
        for bad in [&b""[..], b"\xff\r\n\r\n", b"220 mail\r\n"] {
            assert!(body(bad).is_err());
        }
    }

    #[test]
    fn a_node_is_asked_with_the_key() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let node = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 512];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"ready\":true}").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        assert_eq!(get(&base, "/admin/status", Some("k")).as_deref(), Ok("{\"ready\":true}"));
        let request = node.join().unwrap();
        assert!(request.starts_with("GET /admin/status HTTP/1.0\r\n"), "{request}");
        assert!(request.contains("\r\nAuthorization: apikey k\r\n"), "{request}");
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        assert!(get("127.0.0.1:9", "/", None).is_err());
        assert!(get("http://127.0.0.1:9", "/", Some("a\r\nb")).unwrap_err().contains("header"));
    }
}

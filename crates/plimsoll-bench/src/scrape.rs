//! Asks a server for its metrics: one GET, and the text format of Prometheus.

use crate::clock;
use crate::limits;
use crate::server::Usage;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long connecting, sending and each read may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where metrics are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    host: String,
    path: String,
}

impl Endpoint {
    /// The metrics of a server of our own, by its admin address.
    pub fn of_admin(address: SocketAddr) -> Self {
        Self { address, host: address.to_string(), path: "/metrics".into() }
    }

    /// From `http://host:port/path`; the path is `/metrics` unless there is one.
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("http://").ok_or("must begin with http://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.len() > 1 { path } else { "/metrics" };
        Ok(Self { address: resolve(host, 80)?, host: host.into(), path: path.into() })
    }

    /// The metrics now.
    pub fn read(&self) -> Result<Metrics, String> {
        let answer = self.get().map_err(|error| format!("{}: {error}", self.host))?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
        match head.split(' ').nth(1) {
            Some("200") => Ok(Metrics::parse(body)),
            status => Err(format!("{}: answered {}", self.host, status.unwrap_or("no HTTP"))),
        }
    }

    fn get(&self) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let request = format!("GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", self.path, self.host);
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(limits::METRICS_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The first address of `host` or `host:port`.
pub fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    if host.is_empty() || host.contains('@') {
        return Err("has no host".into());
    }
    let found = host.to_socket_addrs().or_else(|error| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, tail)| !tail.ends_with(']'));
        if has_port { Err(error) } else { format!("{host}:{port}").to_socket_addrs() }
    });
    let found = found.map_err(|error| format!("{host}: {error}"))?.next();
    found.ok_or_else(|| format!("{host}: no such host"))
}

/// Values by name with labels, as they are written: `name{a="b"}`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text; what is no sample is passed over.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            // A label may hold spaces, the value does not: the name ends at the last brace.
            let end = line.rfind('}').map_or_else(|| line.find(' '), |brace| Some(brace + 1))?;
            let (name, rest) = line.split_at(end);
            let value = rest.split_whitespace().next()?.parse().ok()?;
            Some((name.to_owned(), value))
        });
        Self(samples.take(limits::METRICS_SAMPLES_MAX).collect())
    }

    /// Adds those of another process, for figures that are counted.
    pub fn add(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            if let Some(sum) = self.0.get_mut(name) {
                *sum += value;
            } else if self.0.len() < limits::METRICS_SAMPLES_MAX {
                self.0.insert(name.clone(), *value);
            }
        }
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// A counter, as far as it is there.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.get(name).map(|value| value.max(0.0) as u64)
    }

    /// CPU time and memory of the process that answered.
    pub fn usage(&self) -> Option<Usage> {
        let cpu_s = self.get("process_cpu_seconds_total")?;
        Some(Usage {
            at_us: clock::now_us(),
            cpu_us: (cpu_s.max(0.0) * 1e6) as u64,
            rss_bytes: self.count("process_resident_memory_bytes").unwrap_or_default(),
            descriptors: self.count("process_open_fds").unwrap_or_default(),
            ..Usage::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn samples() {
        let text = "# HELP a words\n# TYPE a counter\na 3\n\
            b{x=\"y z\",w=\"}\"} 1.5 123\n\nbad\nc x\n\
                    process_cpu_seconds_total 0.25\nprocess_open_fds 7\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a"), Some(3.0));
        assert_eq!(metrics.get("b{x=\"y z\",w=\"}\"}"), Some(1.5));
        assert_eq!(metrics.get("c"), None);
        let usage = metrics.usage().unwrap();
        assert_eq!((usage.cpu_us, usage.descriptors, usage.rss_bytes), (250_000, 7, 0));
        assert_eq!(Metrics::parse("").usage(), None);
    }

    #[test]
    fn addresses() {
        let check = |url: &str| Endpoint::parse(url).map(|e| (e.address.to_string(), e.path));
        let ok = |address: &str, path: &str| Ok((address.to_owned(), path.to_owned()));
        assert_eq!(check("http://127.0.0.1:9/"), ok("127.0.0.1:9", "/metrics"));
        assert_eq!(check("http://127.0.0.1"), ok("127.0.0.1:80", "/metrics"));
        assert_eq!(check("http://[::1]:9/m?x"), ok("[::1]:9", "/m?x"));
        assert_eq!(check("http://[::1]"), ok("[::1]:80", "/metrics"));
        for bad in ["127.0.0.1:9", "https://127.0.0.1/", "http://", "http://a:b@127.0.0.1:1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_server_is_asked() {
        let check = |answer: &'static str| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::of_admin(listener.local_addr().unwrap());
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = vec![0; 512];
                let n = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                assert!(request[..n].starts_with(b"GET /metrics HTTP/1.0\r\n"));
            });
            let metrics = endpoint.read();
            server.join().unwrap();
            metrics
        };
        assert_eq!(check("HTTP/1.1 200 OK\r\n\r\na 1\n").unwrap().count("a"), Some(1));
        assert!(check("HTTP/1.1 401 No\r\n\r\n").unwrap_err().contains("401"));
        assert!(check("nonsense").is_err());
    }
}

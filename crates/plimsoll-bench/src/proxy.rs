//! A TCP proxy that can fail on purpose: it stands between two programs, and holds back, delays or
//! resets what goes through it.
//!
//! A black hole loses nothing: as with a real partition, bytes wait until it ends or somebody gives
//! up. Two threads for each connection: it is for hundreds of them.

use crate::limits;
use socket2::SockRef;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// For a connection to the other side.
const CONNECT: Duration = Duration::from_secs(5);
/// Between two looks whether a black hole has ended, and the proxy with it.
const LOOK: Duration = Duration::from_millis(50);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They go on.
    Pass,
    /// They wait; connections are taken, and nothing comes of them.
    BlackHole,
    /// Each piece waits so long.
    Delay(Duration),
}

/// A proxy for one address; its connections are reset when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    mode: Mutex<Mode>,
    changed: Condvar,
    over: AtomicBool,
    next: AtomicU64,
    connections: Mutex<BTreeMap<u64, Arc<Pair>>>,
}

#[derive(Debug)]
struct Pair {
    client: TcpStream,
    server: TcpStream,
    reset: AtomicBool,
}

impl Proxy {
    /// Listens on a free loopback port and passes everything to `to`.
    pub fn start(to: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to,
            mode: Mutex::new(Mode::Pass),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
            next: AtomicU64::new(0),
            connections: Mutex::new(BTreeMap::new()),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("proxy".into()).spawn(move || accept(&listener, &theirs))?;
        Ok(Self { address, shared })
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does this from now on.
    pub fn set(&self, mode: Mode) {
        *lock(&self.shared.mode) = mode;
        self.shared.changed.notify_all();
    }

    /// Connections that go through it.
    pub fn connections(&self) -> usize {
        lock(&self.shared.connections).len()
    }

    /// Resets every n-th connection on both sides at once, and says how many.
    pub fn reset_one_of(&self, n: usize) -> usize {
        let all = lock(&self.shared.connections);
        let some: Vec<_> = all.values().step_by(n.max(1)).cloned().collect();
        drop(all);
        some.iter().for_each(|pair| pair.reset());
        some.len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        // The thread that accepts sees the end when something comes.
        let _ = TcpStream::connect_timeout(&self.address, CONNECT);
        self.reset_one_of(1);
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until bytes may go on; `false`: never.
    fn may_go(&self) -> bool {
        let mut mode = lock(&self.mode);
        while *mode == Mode::BlackHole && !self.is_over() {
            let waited = self.changed.wait_timeout(mode, LOOK);
            mode = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let delay = match *mode {
            Mode::Delay(delay) => delay,
            Mode::Pass | Mode::BlackHole => Duration::ZERO,
        };
        drop(mode);
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        !self.is_over()
    }
}

impl Pair {
    /// Both sides see a reset as soon as their threads have let go.
    fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
        for stream in [&self.client, &self.server] {
            // One that has ended already needs no reset.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let Ok(client) = client else { continue };
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        // One too many is closed at once.
        if lock(&shared.connections).len() >= limits::PROXY_CONNECTIONS_MAX {
            continue;
        }
        let shared = Arc::clone(shared);
        let builder = thread::Builder::new().name("proxy-up".into());
        // Without a thread the connection is closed.
        let _ = builder.spawn(move || connection(client, number, &shared));
    }
}

fn connection(client: TcpStream, number: u64, shared: &Arc<Shared>) {
    if !shared.may_go() {
        return;
    }
    let Ok(server) = TcpStream::connect_timeout(&shared.to, CONNECT) else {
        // As if nobody listened there.
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let pair = Arc::new(Pair { client, server, reset: AtomicBool::new(false) });
    lock(&shared.connections).insert(number, Arc::clone(&pair));
    let (back, theirs) = (Arc::clone(&pair), Arc::clone(shared));
    let down = thread::Builder::new().name("proxy-down".into()).spawn(move || {
        pass(&back, &back.server, &back.client, &theirs);
    });
    if let Ok(down) = down {
        pass(&pair, &pair.client, &pair.server, shared);
        let _ = down.join();
    }
    lock(&shared.connections).remove(&number);
}

/// Passes on what comes until it ends; then the other side is told so.
fn pass(pair: &Pair, mut from: &TcpStream, mut to: &TcpStream, shared: &Shared) {
    let mut buffer = vec![0; limits::PROXY_BUFFER_BYTES];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => {
                // A reset goes on as one.
                pair.reset();
                break;
            }
        };
        if !shared.may_go() || pair.reset.load(Ordering::Relaxed) {
            break;
        }
        if to.write_all(buffer.get(..read).unwrap_or_default()).is_err() {
            pair.reset();
            break;
        }
    }
    if !pair.reset.load(Ordering::Relaxed) {
        let _ = to.shutdown(Shutdown::Write);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let (mut from, mut to) = (&stream, &stream);
                    let _ = io::copy(&mut from, &mut to);
                });
            }
        });
        address
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn ask(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text)?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn bytes_go_through_and_ends_too() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = client(&proxy);
        let long = vec![7; 300_000];
        assert_eq!(ask(&mut stream, b"hello").unwrap(), b"hello");
        let mut writer = stream.try_clone().unwrap();
        let sent = long.clone();
        let writing = thread::spawn(move || writer.write_all(&sent));
        let mut back = vec![0; long.len()];
        stream.read_exact(&mut back).unwrap();
        writing.join().unwrap().unwrap();
        assert!(back == long);
        assert_eq!(proxy.connections(), 1);
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.connections() > 0 {
            assert!(Instant::now() < deadline, "the connection is still there");
            thread::yield_now();
        }
    }

    #[test]
    fn a_black_hole_holds_back_and_loses_nothing() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"a").unwrap(), b"a");
        proxy.set(Mode::BlackHole);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut new = client(&proxy);
        new.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        for stream in [&mut stream, &mut new] {
            let error = ask(stream, b"b").unwrap_err();
            assert!(matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        }
        proxy.set(Mode::Pass);
        for stream in [&mut stream, &mut new] {
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut answer = [0; 1];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"b");
        }
    }

    #[test]
    fn a_delay_takes_its_time() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream, b"a").unwrap(), b"a");
        proxy.set(Mode::Delay(Duration::from_millis(60)));
        let start = Instant::now();
        assert_eq!(ask(&mut stream, b"b").unwrap(), b"b");
        assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    }

    #[test]
    fn half_of_the_connections_are_reset() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut all: Vec<_> = (0..10).map(|_| client(&proxy)).collect();
        for stream in &mut all {
            assert_eq!(ask(stream, b"a").unwrap(), b"a");
        }
        assert_eq!(proxy.reset_one_of(2), 5);
        let mut gone = 0;
        for stream in &mut all {
            match ask(stream, b"b") {
                Ok(answer) => assert_eq!(answer, b"b"),
                Err(error) => {
                    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
                    assert!(kinds.contains(&error.kind()), "{error}");
                    gone += 1;
                }
            }
        }
        assert_eq!(gone, 5);
    }

    #[test]
    fn nobody_behind_it_is_a_reset() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let proxy = Proxy::start(nobody).unwrap();
        assert!(ask(&mut client(&proxy), b"a").is_err());
    }
}

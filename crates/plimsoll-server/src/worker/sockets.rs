//! The worker's sockets: the side of [`Io`] that talks to the kernel and to other threads.

use super::core::{Io, Sent};
use super::letter::{Letter, Report};
use super::mailbox::Mailbox;
use crate::node::{HandedOff, Links, SocketPlace};
use plimsoll_core::limits;
use plimsoll_core::link::Call;
use rustix::event::epoll;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

/// Descriptors by slot, and the ways out of a worker.
pub struct Sockets {
    pub(super) epoll: OwnedFd,
    /// Socket and generation.
    fds: Vec<Option<OwnedFd>>,
    generations: Vec<u32>,
    outgoing: Vec<Vec<Letter>>,
    boxes: Vec<Arc<Mailbox<Letter>>>,
    calls: Vec<Call>,
    /// This worker's box at the bridge to the backbone.
    bridge: Option<Arc<Mailbox<Call>>>,
    links: Links,
    rng: fastrand::Rng,
    started: Instant,
    log: ProblemLog,
}

/// At most so many lines a second about connections.
struct ProblemLog {
    second: u64,
    lines: u32,
    suppressed: u64,
}

impl Sockets {
    /// Without connections. `boxes` holds this worker's letter boxes at the others.
    pub fn new(
        id: u16,
        epoll: OwnedFd,
        boxes: Vec<Arc<Mailbox<Letter>>>,
        links: Links,
        started: Instant,
    ) -> Self {
        Self {
            epoll,
            fds: Vec::new(),
            generations: Vec::new(),
            outgoing: boxes.iter().map(|_| Vec::new()).collect(),
            boxes,
            calls: Vec::new(),
            bridge: links.calls.as_ref().and_then(|c| c.get(usize::from(id))).cloned(),
            links,
            rng: fastrand::Rng::new(),
            started,
            log: ProblemLog { second: 0, lines: 0, suppressed: 0 },
        }
    }

    /// Takes a place for a socket that is about to be accepted; false when there is none left.
    pub fn reserve(&self) -> bool {
        self.links.room.enter()
    }

    /// Gives that place back: no socket came.
    pub fn unreserve(&self) {
        self.links.room.leave();
    }

    /// Takes an accepted socket, which has a place, under a slot and watches it.
    pub fn adopt(&mut self, slot: u32, generation: u32, fd: OwnedFd) -> rustix::io::Result<()> {
        let data = epoll::EventData::new_u64(u64::from(generation) << 32 | u64::from(slot));
        if let Err(error) = epoll::add(&self.epoll, &fd, data, epoll::EventFlags::IN) {
            self.unreserve();
            return Err(error);
        }
        let at = slot as usize;
        if at >= self.fds.len() {
            self.fds.resize_with(at + 1, || None);
            self.generations.resize(at + 1, 0);
        }
        self.fds[at] = Some(fd);
        self.generations[at] = generation;
        Ok(())
    }

    /// After the last connection has left: gives the tables back.
    pub fn rest(&mut self) {
        self.fds = Vec::new();
        self.generations = Vec::new();
    }

    /// Is an event for this generation of the slot still of interest?
    pub fn is_current(&self, slot: u32, generation: u32) -> bool {
        self.generations.get(slot as usize) == Some(&generation) && self.fd(slot).is_some()
    }

    /// Reads what there is, without waiting.
    pub fn receive(&self, slot: u32, buffer: &mut [u8]) -> Result<usize, Errno> {
        let Some(fd) = self.fd(slot) else { return Err(Errno::BADF) };
        rustix::net::recv(fd, buffer, rustix::net::RecvFlags::DONTWAIT).map(|(n, _)| n)
    }

    /// Posts all letters that gathered. True when some did not fit and wait here.
    pub fn post_all(&mut self) -> bool {
        let mut waiting = false;
        for (batch, letters) in self.outgoing.iter_mut().zip(&self.boxes) {
            letters.post(batch);
            waiting |= !batch.is_empty();
        }
        if let Some(bridge) = &self.bridge {
            bridge.post(&mut self.calls);
            waiting |= !self.calls.is_empty();
        }
        waiting
    }

    /// Log lines held back so far.
    pub fn suppressed_lines(&self) -> u64 {
        self.log.suppressed
    }

    fn fd(&self, slot: u32) -> Option<&OwnedFd> {
        self.fds.get(slot as usize).and_then(Option::as_ref)
    }

    fn take(&mut self, slot: u32) -> Option<OwnedFd> {
        self.fds.get_mut(slot as usize).and_then(Option::take)
    }
}

impl Io for Sockets {
    fn send(&mut self, slot: u32, bytes: &[u8]) -> Sent {
        let Some(fd) = self.fds.get(slot as usize).and_then(Option::as_ref) else {
            return Sent::Gone;
        };
        match rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(n) => Sent::Some(n),
            Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => Sent::Full,
            Err(_) => Sent::Gone,
        }
    }

    fn watch(&mut self, slot: u32, readable: bool, writable: bool) {
        let Some(fd) = self.fd(slot) else { return };
        let generation = self.generations.get(slot as usize).copied().unwrap_or_default();
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, readable);
        flags.set(epoll::EventFlags::OUT, writable);
        let data = epoll::EventData::new_u64(u64::from(generation) << 32 | u64::from(slot));
        // A failure shows as a hang-up of the same socket.
        let _ = epoll::modify(&self.epoll, fd, data, flags);
    }

    fn shut(&mut self, slot: u32) {
        if let Some(fd) = self.fd(slot) {
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn close(&mut self, slot: u32) {
        if self.take(slot).is_some() {
            self.unreserve();
        }
    }

    fn hand_off(&mut self, slot: u32, read: Vec<u8>) {
        let Some(fd) = self.take(slot) else { return };
        let _ = epoll::delete(&self.epoll, fd.as_fd());
        let (stream, place) = (TcpStream::from(fd), SocketPlace::held(&self.links.room));
        if self.links.handed_off.try_send(HandedOff { stream, read, place }).is_err() {
            self.problem(slot, "no room for another HTTP connection", 503);
        }
    }

    fn post(&mut self, to: u16, letter: Letter) {
        if let Some(batch) = self.outgoing.get_mut(usize::from(to)) {
            batch.push(letter);
        }
    }

    fn is_congested(&self, to: u16) -> bool {
        self.outgoing.get(usize::from(to)).is_some_and(|b| b.len() > limits::MAIL_BACKLOG_MAX)
    }

    fn call(&mut self, call: Call) {
        self.calls.push(call);
    }

    fn is_backbone_congested(&self) -> bool {
        self.calls.len() > limits::MAIL_BACKLOG_MAX
    }

    fn report(&mut self, ticket: u64, report: Report) {
        self.links.tickets.answer(ticket, report);
    }

    fn random(&mut self) -> u64 {
        self.rng.u64(..)
    }

    fn micros(&mut self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn admit(&mut self, limit: usize) -> bool {
        self.links.population.admit(limit)
    }

    fn dismiss(&mut self) {
        self.links.population.dismiss();
    }

    fn enter_user(&mut self, user: &Arc<str>, limit: usize) -> bool {
        self.links.population.enter(user, limit)
    }

    fn leave_user(&mut self, user: &Arc<str>) {
        self.links.population.leave(user);
    }

    fn problem(&mut self, slot: u32, what: &'static str, code: u16) {
        let second = self.started.elapsed().as_secs();
        if self.log.second != second {
            (self.log.second, self.log.lines) = (second, 0);
        }
        self.log.lines += 1;
        if self.log.lines > limits::PROBLEM_LINES_PER_SECOND {
            self.log.suppressed += 1;
            return;
        }
        let peer = self.fd(slot).and_then(|fd| rustix::net::getpeername(fd).ok().flatten());
        let peer = peer.and_then(|a| std::net::SocketAddr::try_from(a).ok());
        let peer = peer.map_or_else(|| "gone".to_owned(), |a| a.to_string());
        tracing::info!(target: "plimsoll::connection", %peer, code, "{what}");
    }
}

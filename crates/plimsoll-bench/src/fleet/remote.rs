//! A process of a fleet, from both sides: the parent that starts it, and the child that is one.
//!
//! The child is this program again, called `bench agent`. Orders come on its standard input,
//! figures go out on its standard output, and its books lie in a file. When its input ends, its
//! parent is gone, and it ends as well.

use super::FleetConfig;
use super::handle::{Fleet, Order};
use super::shared::Shared;
use super::wire::{Places, Said, Start, Told};
use crate::ledger::{Ledger, Log, Run};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// A child process that is a part of the fleet.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Taken when it is to end.
    orders: Mutex<Option<ChildStdin>>,
    /// Tells how many threads broke, if it ended as it should.
    reader: Option<JoinHandle<Option<usize>>>,
    books: PathBuf,
}

impl Process {
    /// Starts the child that is the fleet's `process`-th; its files stand in `folder`.
    pub fn start(
        config: &FleetConfig,
        process: u32,
        folder: &Path,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let (topology, books) = (folder.join("topology"), folder.join(format!("books-{process}")));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "agent"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (orders, said) = (child.stdin.take(), child.stdout.take());
        let pipes = orders.zip(said).ok_or(io::ErrorKind::BrokenPipe);
        let (mut orders, said) = pipes?;
        let start = Start::new(config, process, topology, books.clone());
        write_line(&mut orders, &start)?;
        let at = process as usize;
        let builder = std::thread::Builder::new().name(format!("fleet-process-{process}"));
        let reader = builder.spawn(move || listen(BufReader::new(said), at, &shared))?;
        Ok(Self { child, orders: Mutex::new(Some(orders)), reader: Some(reader), books })
    }

    /// Tells it what to do. One that is gone takes no orders; its end is noticed elsewhere.
    pub fn order(&self, order: &Order) {
        self.tell(&Told::of(order));
    }

    /// Its threads sleep no more.
    pub fn stay_awake(&self) {
        self.tell(&Told::Awake);
    }

    fn tell(&self, told: &Told) {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(orders) = orders.as_mut() {
            let _ = write_line(orders, told);
        }
    }

    /// Waits for its end, after it was told to finish: its books, and how many threads broke.
    pub fn end(&mut self) -> Option<(Vec<Log>, usize)> {
        let broken = self.reader.take().and_then(|reader| reader.join().ok().flatten());
        self.close();
        let logs = Ledger::load(&self.books).ok()?.logs;
        Some((logs, broken?))
    }

    fn close(&mut self) {
        let orders = self.orders.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(orders.take());
        // Its input has ended, so that it ends.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.close();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Writes the topology for the children.
pub fn write_topology(config: &FleetConfig, folder: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(folder.join("topology"))?);
    serde_json::to_writer(&mut file, &Places::of(&config.topology))?;
    file.flush()
}

/// Passes on what a child says, until it ends.
fn listen(said: impl BufRead, at: usize, shared: &Shared) -> Option<usize> {
    let mut finished = None;
    for line in said.lines().map_while(Result::ok) {
        let Ok(said) = serde_json::from_str::<Said>(&line) else { break };
        finished = finished.or(said.finished);
        shared.tell(at, said.report());
    }
    shared.tell_end(at);
    finished
}

fn write_line(out: &mut impl Write, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// What `bench agent` does: it is a process of a fleet.
pub fn agent() -> ExitCode {
    match serve(io::stdin().lock(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("a process of the fleet ends: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(orders: impl BufRead, out: &mut impl Write) -> io::Result<()> {
    let mut lines = orders.lines();
    let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let start: Start = serde_json::from_str(&first)?;
    let places: Places = serde_json::from_reader(BufReader::new(File::open(&start.topology)?))?;
    let mut fleet = Fleet::start_part(start.config(places.topology()), start.process)?;
    for line in lines {
        match serde_json::from_str(&line?)? {
            Told::Apply { load, at_us } => fleet.order_load(load.load(), at_us),
            Told::Awake => fleet.stay_awake(),
            Told::Quiet => fleet.order(&Order::Quiet),
            Told::DropAll => fleet.order(&Order::DropAll),
            Told::Probe => fleet.order(&Order::Probe),
            Told::Report { round } => {
                write_line(out, &Said::of(fleet.report(round), None))?;
            }
            Told::Finish => {
                let (logs, broken) = fleet.end();
                let run = Run::new("a part", 0, 0);
                let (channels, stored, comparisons) = (Vec::new(), Vec::new(), Vec::new());
                let ledger = Ledger { run, channels, logs, stored, comparisons };
                ledger.save(&start.books)?;
                let last = fleet.last_report();
                return write_line(out, &Said::of(last, Some(broken)));
            }
        }
    }
    Ok(())
}

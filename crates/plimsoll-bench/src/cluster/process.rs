//! A process of a broker: started, stopped, killed, paused, and started again where it was.

use crate::limits;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// From the start of a process until it accepts connections.
const START: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);

/// See the module. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    arguments: Vec<String>,
    /// Its working directory, with what it keeps.
    pub folder: PathBuf,
    /// Where it accepts connections.
    pub address: SocketAddr,
    child: Option<Child>,
}

impl Process {
    /// Starts it in a folder, which is made, and waits until it accepts connections.
    pub fn start(
        program: PathBuf,
        arguments: Vec<String>,
        folder: PathBuf,
        address: SocketAddr,
    ) -> Result<Self, String> {
        fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut made = Self { program, arguments, folder, address, child: None };
        made.start_again()?;
        Ok(made)
    }

    /// Starts it again.
    pub fn start_again(&mut self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.program.display());
        let log = self.folder.join("log");
        let log = File::options().create(true).append(true).open(log).map_err(told)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(log.try_clone().map_err(told)?).stderr(log);
        self.child = Some(command.spawn().map_err(told)?);
        let deadline = Instant::now() + START;
        while TcpStream::connect_timeout(&self.address, LOOK).is_err() {
            if !self.is_alive() || Instant::now() >= deadline {
                let log = tail(&self.folder);
                return Err(format!("{} does not start: {log}", self.program.display()));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Its number; none when it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it where it is, or lets it go on.
    pub fn pause(&self, paused: bool) {
        let signal = if paused { Signal::STOP } else { Signal::CONT };
        send(self.pid(), signal);
    }

    /// Takes away everything that it keeps.
    pub fn empty(&self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.folder.display());
        for entry in fs::read_dir(&self.folder).map_err(told)? {
            let path = entry.map_err(told)?.path();
            let gone = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            gone.map_err(told)?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a signal to a process, unless it has ended.
pub fn send(pid: Option<u32>, signal: Signal) {
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}

/// Runs a program to its end and gives its output; an error unless it succeeds in time.
pub fn run(program: &Path, arguments: &[String], patience: Duration) -> Result<String, String> {
    let name = program.display();
    let told = |error: std::io::Error| format!("{name}: {error}");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(told)?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let reading = [thread::spawn(move || text(out)), thread::spawn(move || text(errors))];
    let deadline = Instant::now() + patience;
    let status = loop {
        match child.try_wait().map_err(told)? {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => thread::sleep(LOOK),
        }
    };
    let [out, errors] = reading.map(|reader| reader.join().unwrap_or_default());
    match status {
        Some(status) if status.success() => Ok(out),
        Some(_) => Err(format!("{name} {}: {out}{errors}", arguments.join(" "))),
        None => Err(format!("{name} {}: not done after {patience:?}", arguments.join(" "))),
    }
}

fn text(pipe: Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(pipe) = pipe {
        // What is no text is not shown.
        let _ = pipe.take(limits::SERVER_LOG_BYTES_MAX).read_to_string(&mut text);
    }
    text
}

fn tail(folder: &Path) -> String {
    let log = text(File::open(folder.join("log")).ok());
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n")
}

//! A ledger as a file: frames of a kind, a length, so many bytes and their checksum, and a last
//! frame that tells how many there were. Nothing is allocated because a file says so: a frame has
//! a largest size, and lists grow with what was read.

use super::events::Events;
use super::varint::{put, put_difference, take, take_difference, take_u32};
use super::{Channel, Comparison, Ledger, Log, Run, Stamp, Stored};
use crate::limits::{
    LEDGER_BYTES_MAX, LEDGER_LOGS_MAX, LOG_CHUNK_BYTES, LOG_NAME_BYTES_MAX, LOG_NAMES_MAX,
};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

const MAGIC: &[u8; 16] = b"plimsoll-ledger\n";
const VERSION: u32 = 1;
/// Bytes of a frame's content at most: a piece of a log.
const FRAME_BYTES_MAX: usize = LOG_CHUNK_BYTES;
/// Lists go into a new frame after so many bytes; one entry more always fits.
const FRAME_BYTES_FULL: usize = FRAME_BYTES_MAX / 2;

/// JSON of the [`Run`].
const RUN: u8 = 1;
/// Channels: whether it has history, length of the name, name.
const CHANNELS: u8 = 2;
/// A log begins: whether it is full.
const LOG: u8 = 3;
/// Its names: length, name.
const NAMES: u8 = 4;
/// A piece of its records.
const RECORDS: u8 = 5;
/// A history begins: channel, top, length of the epoch, epoch.
const STORED: u8 = 6;
/// Its publications: offset, 1 and the stamp or 0.
const PUBLICATIONS: u8 = 7;
/// JSON of a [`Comparison`].
const COMPARISON: u8 = 8;
/// The number of frames before this one.
const END: u8 = 9;

/// Why a file could not be read as a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It begins otherwise.
    #[error("it is no ledger of plimsoll bench")]
    NotALedger,
    /// A format that this version does not know.
    #[error("it has format {0}, and this version reads format {VERSION}")]
    Version(u32),
    /// It ends too early.
    #[error("it ends in the middle, in part {0}")]
    Truncated(u64),
    /// Bytes are not what was written.
    #[error("part {0} is damaged: its checksum is another")]
    Checksum(u64),
    /// The bytes are whole, and make no sense.
    #[error("part {0} makes no sense: {1}")]
    Malformed(u64, &'static str),
}

impl Ledger {
    /// Writes the ledger to a file, over what was there.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = Writer { out: BufWriter::new(File::create(path)?), frames: 0 };
        file.out.write_all(MAGIC)?;
        file.out.write_all(&VERSION.to_le_bytes())?;
        file.frame(RUN, &serde_json::to_vec(&self.run)?)?;
        file.list(CHANNELS, &self.channels, |out, _, channel| {
            out.push(u8::from(channel.history));
            put_text(out, &channel.name);
        })?;
        for log in &self.logs {
            file.frame(LOG, &[u8::from(log.full)])?;
            file.list(NAMES, &log.names, |out, _, name| put_text(out, name))?;
            for chunk in &log.chunks {
                file.frame(RECORDS, chunk)?;
            }
        }
        for stored in &self.stored {
            let mut head = Vec::new();
            put(&mut head, u64::from(stored.channel));
            put(&mut head, stored.top);
            put_text(&mut head, &stored.epoch);
            file.frame(STORED, &head)?;
            file.list(PUBLICATIONS, &stored.publications, |out, before, (offset, stamp)| {
                put_difference(out, before.map_or(0, |(offset, _)| *offset), *offset);
                put_stamp(out, *stamp);
            })?;
        }
        for comparison in &self.comparisons {
            file.frame(COMPARISON, &serde_json::to_vec(comparison)?)?;
        }
        file.frame(END, &file.frames.to_le_bytes())?;
        file.out.flush()
    }

    /// Reads a ledger from a file. What it returns can be judged, whatever the file was.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let file = File::open(path)?;
        Self::read(BufReader::new(file.take(LEDGER_BYTES_MAX)))
    }

    fn read(input: impl Read) -> Result<Self, LoadError> {
        let mut reader = Reader { input, frame: 0, content: Vec::new() };
        let mut magic = [0; MAGIC.len()];
        let mut version = [0; 4];
        if reader.fill(&mut magic).is_err() || magic != *MAGIC || reader.fill(&mut version).is_err()
        {
            return Err(LoadError::NotALedger);
        }
        let version = u32::from_le_bytes(version);
        if version != VERSION {
            return Err(LoadError::Version(version));
        }
        if reader.frame()? != RUN {
            return Err(reader.malformed("it does not begin with the run"));
        }
        let mut ledger = Self {
            run: reader.json::<Run>()?,
            channels: Vec::new(),
            logs: Vec::new(),
            stored: Vec::new(),
            comparisons: Vec::new(),
        };
        while reader.part(&mut ledger)? {}
        ledger.check().map_err(|what| reader.malformed(what))?;
        Ok(ledger)
    }

    /// What no frame shows by itself.
    fn check(&self) -> Result<(), &'static str> {
        let is_channel = |stored: &Stored| self.channels.get(stored.channel as usize).is_some();
        if !self.stored.iter().all(is_channel) {
            return Err("a history of a channel that is not there");
        }
        let is_whole = |log: &Log| Events::of(log).all(|event| event.is_ok());
        if !self.logs.iter().all(is_whole) {
            return Err("a log has records that cannot be read");
        }
        Ok(())
    }
}

struct Writer {
    out: BufWriter<File>,
    frames: u64,
}

impl Writer {
    fn frame(&mut self, kind: u8, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).ok().filter(|n| *n as usize <= FRAME_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("a part of the ledger is too long"))?;
        let length = length.to_le_bytes();
        self.out.write_all(&[kind])?;
        self.out.write_all(&length)?;
        self.out.write_all(content)?;
        self.out.write_all(&checksum(kind, &length, content))?;
        self.frames += 1;
        Ok(())
    }

    /// Writes a list in as many frames as it takes. `write` gets the entry before in the frame.
    fn list<T>(
        &mut self,
        kind: u8,
        list: &[T],
        write: impl Fn(&mut Vec<u8>, Option<&T>, &T),
    ) -> io::Result<()> {
        let mut content = Vec::new();
        let mut before = None;
        for entry in list {
            write(&mut content, before, entry);
            before = Some(entry);
            if content.len() >= FRAME_BYTES_FULL {
                self.frame(kind, &content)?;
                content.clear();
                before = None;
            }
        }
        if content.is_empty() { Ok(()) } else { self.frame(kind, &content) }
    }
}

fn checksum(kind: u8, length: &[u8; 4], content: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(length);
    hasher.update(content);
    hasher.finalize().to_le_bytes()
}

struct Reader<R> {
    input: R,
    /// Frames read.
    frame: u64,
    content: Vec<u8>,
}

impl<R: Read> Reader<R> {
    fn malformed(&self, what: &'static str) -> LoadError {
        LoadError::Malformed(self.frame, what)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => LoadError::Truncated(self.frame),
            _ => LoadError::Io(error),
        })
    }

    /// Reads a frame's content and returns its kind.
    fn frame(&mut self) -> Result<u8, LoadError> {
        self.frame += 1;
        let (mut kind, mut length, mut sum) = ([0], [0; 4], [0; 4]);
        self.fill(&mut kind)?;
        self.fill(&mut length)?;
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(self.malformed("it is too long"));
        }
        let mut content = std::mem::take(&mut self.content);
        content.resize(bytes, 0);
        self.fill(&mut content)?;
        self.content = content;
        self.fill(&mut sum)?;
        let [kind] = kind;
        if sum != checksum(kind, &length, &self.content) {
            return Err(LoadError::Checksum(self.frame));
        }
        Ok(kind)
    }

    fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, LoadError> {
        serde_json::from_slice(&self.content).map_err(|_| self.malformed("its JSON is not ours"))
    }

    /// Reads one part; false: it was the last.
    fn part(&mut self, ledger: &mut Ledger) -> Result<bool, LoadError> {
        let kind = self.frame()?;
        if kind == END {
            let before = (self.frame - 1).to_le_bytes();
            let is_over = self.input.read(&mut [0])? == 0;
            if self.content != before || !is_over {
                return Err(self.malformed("it is the last, and not where it was written"));
            }
            return Ok(false);
        }
        let mut content = &self.content[..];
        let read = match kind {
            CHANNELS => each(&mut content, |content| {
                let history = take(content)? != 0;
                ledger.channels.push(Channel { name: take_text(content)?, history });
                Some(())
            }),
            LOG if ledger.logs.len() < LEDGER_LOGS_MAX => take(&mut content).map(|full| {
                ledger.logs.push(Log { full: full != 0, ..Log::default() });
            }),
            NAMES => ledger.logs.last_mut().and_then(|log| {
                each(&mut content, |content| {
                    log.names.push(take_text(content)?);
                    (log.names.len() <= LOG_NAMES_MAX).then_some(())
                })
            }),
            RECORDS => ledger.logs.last_mut().map(|log| log.chunks.push(content.to_vec())),
            STORED => take_stored(&mut content).map(|stored| ledger.stored.push(stored)),
            PUBLICATIONS => ledger.stored.last_mut().and_then(|stored| {
                let mut offset = 0;
                each(&mut content, |content| {
                    offset = take_difference(content, offset)?;
                    stored.publications.push((offset, take_stamp(content)?));
                    Some(())
                })
            }),
            COMPARISON => {
                ledger.comparisons.push(self.json::<Comparison>()?);
                Some(())
            }
            _ => None,
        };
        read.ok_or_else(|| self.malformed("it cannot be read"))?;
        Ok(true)
    }
}

/// Reads entries until nothing is left.
fn each(content: &mut &[u8], mut one: impl FnMut(&mut &[u8]) -> Option<()>) -> Option<()> {
    while !content.is_empty() {
        one(content)?;
    }
    Some(())
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(LOG_NAME_BYTES_MAX)];
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn take_text(input: &mut &[u8]) -> Option<Box<str>> {
    let length = usize::try_from(take(input)?).ok().filter(|n| *n <= LOG_NAME_BYTES_MAX)?;
    let (text, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(std::str::from_utf8(text).ok()?.into())
}

fn put_stamp(out: &mut Vec<u8>, stamp: Option<Stamp>) {
    out.push(u8::from(stamp.is_some()));
    if let Some(Stamp { publisher, sequence, due_us, crc }) = stamp {
        put(out, u64::from(publisher));
        put(out, u64::from(sequence));
        put(out, due_us);
        put(out, u64::from(crc));
    }
}

/// The outer `None`: it cannot be read.
fn take_stamp(input: &mut &[u8]) -> Option<Option<Stamp>> {
    if take(input)? == 0 {
        return Some(None);
    }
    let (publisher, sequence) = (take_u32(input)?, take_u32(input)?);
    let (due_us, crc) = (take(input)?, take_u32(input)?);
    Some(Some(Stamp { publisher, sequence, due_us, crc }))
}

fn take_stored(input: &mut &[u8]) -> Option<Stored> {
    let (channel, top) = (take_u32(input)?, take(input)?);
    Some(Stored { channel, top, epoch: take_text(input)?, publications: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Recorder, Via, judge};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    /// A small whole file.
    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(&ledger(3, 9)));

    /// More than one frame of everything that can have more.
    fn ledger(channels: u32, deliveries: u32) -> Ledger {
        let stamp =
            |sequence| Stamp { publisher: 1, sequence, due_us: u64::MAX, crc: sequence ^ 77 };
        let mut recorder = Recorder::default();
        for n in 0..deliveries {
            recorder.stray(n.into(), n, &format!("żółw:{n}"));
            recorder.received(n.into(), n, n % 7, n.into(), Some(stamp(n)), Via::Recovered);
        }
        let publications: Vec<_> = (1..=u64::from(deliveries))
            .map(|n| (n, (n % 3 > 0).then(|| stamp(n as u32))))
            .collect();
        let stored = |channel| {
            let publications = publications.clone();
            Stored { channel, epoch: "e".into(), top: 9, publications }
        };
        Ledger {
            run: Run { history_size: Some(3), ..Run::new("a run", 5, u64::MAX) },
            channels: (0..channels)
                .map(|n| Channel { name: format!("c{n}").into(), history: n % 2 == 0 })
                .collect(),
            logs: vec![recorder.finish(), Recorder::bounded(0).finish(), Log::default()],
            stored: vec![stored(0), stored(1)],
            comparisons: vec![Comparison { name: "x".into(), expected: 1, found: 2 }],
        }
    }

    fn bytes(ledger: &Ledger) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().unwrap();
        ledger.save(file.path()).unwrap();
        std::fs::read(file.path()).unwrap()
    }

    #[test]
    fn what_is_saved_is_loaded() {
        for ledger in [ledger(2, 0), ledger(30_000, 40_000)] {
            let file = tempfile::NamedTempFile::new().unwrap();
            ledger.save(file.path()).unwrap();
            let loaded = Ledger::load(file.path()).unwrap();
            assert!(loaded == ledger);
            assert_eq!(judge(&loaded), judge(&ledger));
        }
    }

    #[test]
    fn files_that_are_none_are_told() {
        let whole = bytes(&ledger(3, 3));
        let check = |bytes: &[u8], expect: &str| {
            let error = Ledger::read(bytes).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        check(b"", "no ledger");
        check(b"plimsoll-ledger", "no ledger");
        check(b"{\"json\": 1, \"more\": 2}", "no ledger");
        let mut newer = whole.clone();
        newer[MAGIC.len()] = 2;
        check(&newer, "format 2");
        check(&whole[..whole.len() - 1], "ends in the middle");
        check(&whole[..MAGIC.len() + 4], "ends in the middle");
        check(&[&whole[..], b"x"].concat(), "the last");
        let mut long = whole.clone();
        long[MAGIC.len() + 4 + 1..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        check(&long, "too long");
    }

    /// A file of frames with right checksums and whatever content.
    fn framed(frames: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut out = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        let run = serde_json::to_vec(&Run::new("", 0, 0)).unwrap();
        let end = (END, (frames.len() as u64 + 1).to_le_bytes().to_vec());
        for (kind, content) in [(RUN, run)].iter().chain(frames).chain([&end]) {
            let length = (content.len() as u32).to_le_bytes();
            out.push(*kind);
            out.extend_from_slice(&length);
            out.extend_from_slice(content);
            out.extend_from_slice(&checksum(*kind, &length, content));
        }
        out
    }

    #[test]
    fn frames_out_of_place_are_told() {
        let check = |frames: &[(u8, Vec<u8>)], expect: Option<&str>| {
            let error = Ledger::read(&framed(frames)[..]).err().map(|e| e.to_string());
            let as_expected = match (&error, expect) {
                (Some(error), Some(expect)) => error.contains(expect),
                (error, expect) => error.is_none() && expect.is_none(),
            };
            assert!(as_expected, "{error:?}, expected {expect:?}");
        };
        check(&[], None);
        check(&[(LOG, vec![0]), (RECORDS, vec![])], None);
        check(&[(RECORDS, vec![])], Some("part 2"));
        check(&[(LOG, vec![0]), (RECORDS, vec![0])], Some("records"));
        check(&[(NAMES, vec![])], Some("part 2"));
        check(&[(PUBLICATIONS, vec![])], Some("part 2"));
        check(&[(STORED, vec![0, 0, 0])], Some("not there"));
        check(&[(CHANNELS, vec![0, 1, b'c']), (STORED, vec![0, 0, 0])], None);
        check(&[(CHANNELS, vec![0, 9, b'c'])], Some("part 2"));
        check(&[(CHANNELS, vec![0, 1, 0xff])], Some("part 2"));
        check(&[(77, vec![])], Some("part 2"));
        check(&[(COMPARISON, b"{}".to_vec())], Some("JSON"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn one_changed_byte_is_noticed(at in any::<prop::sample::Index>(), change in 1..=255u8) {
            let mut bytes = WHOLE.clone();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(Ledger::read(&bytes[..]).is_err());
        }

        #[test]
        fn a_shortened_file_is_noticed(at in any::<prop::sample::Index>()) {
            let bytes = &WHOLE[..at.index(WHOLE.len())];
            prop_assert!(Ledger::read(bytes).is_err());
        }

        /// Right checksums over noise: an error or a ledger that can be judged, never a panic.
        #[test]
        fn hostile_files_are_harmless(
            frames in prop::collection::vec(
                (1..10u8, prop::collection::vec(prop_oneof![0..14u8, any::<u8>()], 0..60)), 0..12)
        ) {
            let mut all = vec![(CHANNELS, vec![1, 1, b'a', 0, 1, b'b']), (LOG, vec![0])];
            all.push((NAMES, vec![1, b'e', 0]));
            all.extend(frames);
            if let Ok(ledger) = Ledger::read(&framed(&all)[..]) {
                judge(&ledger);
            }
        }
    }
}

//! Files of the kernel, kept open and read again from their start.

use super::Notice;
use plimsoll_core::limits::KERNEL_FILE_BYTES_MAX;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What all files share: one buffer, and what is to be told.
pub(super) struct Desk {
    buffer: Box<[u8]>,
    /// At most two for each file, and taken by the caller.
    pub notices: Vec<Notice>,
}

impl Desk {
    pub fn new() -> Self {
        Self { buffer: vec![0; KERNEL_FILE_BYTES_MAX].into(), notices: Vec::new() }
    }

    /// Says that a signal is missing.
    pub fn tell(&mut self, signal: &'static str, path: &Path, reason: impl ToString) {
        self.notices.push(Notice { signal, path: path.into(), reason: reason.to_string() });
    }

    /// Reads a file that is not kept. `None` if it cannot be read or understood; nothing is told.
    pub fn once<T>(&mut self, path: &Path, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let file = File::open(path).ok()?;
        parse(read(&file, &mut self.buffer).ok()?)
    }
}

/// A file that is read at each sample.
pub(super) struct Kept {
    signal: &'static str,
    path: PathBuf,
    /// `None` from the first failure on: a file that went does not come back.
    file: Option<File>,
    told_nonsense: bool,
}

impl Kept {
    /// Opens it, or tells that it is missing.
    pub fn open(path: PathBuf, signal: &'static str, desk: &mut Desk) -> Self {
        let file = match File::open(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                desk.tell(signal, &path, error);
                None
            }
        };
        Self { signal, path, file, told_nonsense: false }
    }

    /// Reads it. What cannot be read is told and not tried again; what cannot be understood is
    /// told once and tried again, for it may have been caught half written.
    pub fn get<T>(&mut self, desk: &mut Desk, parse: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        let found = match read(self.file.as_ref()?, &mut desk.buffer) {
            Ok(text) => parse(text),
            Err(error) => {
                self.file = None;
                desk.tell(self.signal, &self.path, error);
                return None;
            }
        };
        if found.is_none() && !self.told_nonsense {
            self.told_nonsense = true;
            desk.tell(self.signal, &self.path, "is not in the form we know");
        }
        found
    }
}

fn read<'b>(file: &File, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|r| !r.is_empty()) {
        match file.read_at(rest, filled as u64) {
            Ok(0) => return Ok(buffer.get(..filled).unwrap_or_default()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    // Cut off: the last line may be half a number.
    let end = buffer.iter().rposition(|b| *b == b'\n').unwrap_or(0);
    Ok(buffer.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::parse;

    #[test]
    fn a_long_file_is_cut_at_a_line() {
        let tree = crate::load::tests::Tree::new();
        let path = tree.path().join("long");
        let mut text = "x 1\n".repeat(KERNEL_FILE_BYTES_MAX / 4 - 1);
        text.push_str("y 123\n");
        std::fs::write(&path, &text).unwrap();
        let mut desk = Desk::new();
        let mut kept = Kept::open(path, "test", &mut desk);
        // The limit falls into `y 123`, which would read as `y 12`.
        assert_eq!(kept.get(&mut desk, |t| parse::keyed(t, "y")), None);
        assert_eq!(kept.get(&mut desk, |t| parse::keyed(t, "x")), Some(1));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_once() {
        let tree = crate::load::tests::Tree::new();
        let mut desk = Desk::new();
        // A directory opens, and fails when read.
        let mut kept = Kept::open(tree.path().into(), "test", &mut desk);
        assert!(desk.notices.is_empty());
        for _ in 0..3 {
            assert_eq!(kept.get(&mut desk, parse::number), None);
            assert_eq!(desk.notices.len(), 1);
        }
    }

    #[test]
    fn nonsense_is_told_once_and_read_again() {
        let tree = crate::load::tests::Tree::new();
        let path = tree.path().join("n");
        std::fs::write(&path, "").unwrap();
        let mut desk = Desk::new();
        let mut kept = Kept::open(path.clone(), "test", &mut desk);
        for _ in 0..3 {
            assert_eq!(kept.get(&mut desk, parse::number), None);
        }
        std::fs::write(&path, "5").unwrap();
        assert_eq!(kept.get(&mut desk, parse::number), Some(5));
        assert_eq!(desk.notices.len(), 1);
    }
}

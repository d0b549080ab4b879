//! The log file of the machine's command, kept below a size.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A full log moves to `NAME.1`, over the one that was there.
const LIMIT_BYTES: u64 = 10 << 20;

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit_bytes: u64,
}

impl Log {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        let file = File::options().append(true).create(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes, limit_bytes: LIMIT_BYTES })
    }

    /// Appends what the command printed. On a full disk it is lost; the machine goes on.
    pub(super) fn append(&mut self, printed: &[u8]) {
        if self.bytes >= self.limit_bytes && printed.contains(&b'\n') {
            let _ = self.rotate();
        }
        if self.file.write_all(printed).is_ok() {
            self.bytes += printed.len() as u64;
        }
    }

    /// Appends a line of init's own.
    pub(super) fn say(&mut self, line: &str) {
        self.append(format!("init: {line}\n").as_bytes());
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        self.file = File::options().append(true).create(true).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_moves_aside() {
        let directory = std::env::temp_dir().join(format!("daruma-log-{}", std::process::id()));
        let path = directory.join("a.log");
        let mut log = Log::open(&path).unwrap();
        log.limit_bytes = 10;
        log.append(b"0123456789\n");
        log.append(b"second\n");
        log.say("third");
        assert_eq!(fs::read_to_string(&path).unwrap(), "second\ninit: third\n");
        assert_eq!(fs::read_to_string(directory.join("a.log.1")).unwrap(), "0123456789\n");
        fs::remove_dir_all(&directory).unwrap();
    }
}

//! What a drill prints and writes.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};
use daruma_drill::Progress;
use daruma_drill::record::Entry;
use daruma_drill::report::terminal::{self, Style};
use daruma_drill::report::{self, Report};

/// The style that standard output takes.
pub fn style() -> Style {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() { Style::Colour } else { Style::Plain }
}

/// Prints the timeline as it happens.
pub struct Timeline(pub Style);

impl Progress for Timeline {
    fn entry(&mut self, entry: &Entry) {
        // A reader that went away (a pipe) does not end the drill: it must be undone.
        let _ = std::io::stdout().write_all(terminal::line(entry, self.0).as_bytes());
    }
}

/// Makes the content of a file.
type Make = fn(&Report) -> Result<String>;

/// The files of a report. Those of a large one take a while to make, so each has a thread.
const FILES: [(&str, Make); 3] = [
    ("report.html", |report| Ok(report::html(report))),
    ("report.json", |report| Ok(report.json()?)),
    ("junit.xml", |report| Ok(report::junit(report))),
];

/// Writes report.html, report.json and junit.xml into `directory`.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    thread::scope(|scope| {
        let write = |(name, make): (&str, Make)| {
            let path = directory.join(name);
            fs::write(&path, make(report)?).with_context(|| format!("writing {}", path.display()))
        };
        let writing = FILES.map(|file| scope.spawn(move || write(file)));
        writing.into_iter().try_for_each(|one| one.join().expect("a panic has ended the process"))
    })
}

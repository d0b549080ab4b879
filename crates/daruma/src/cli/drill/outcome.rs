//! What a drill prints and writes.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::Path;

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

/// Writes report.html, report.json and junit.xml into `directory`.
pub fn write(report: &Report, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    let files = [("report.html", report::html(report)), ("report.json", report.json()?), ("junit.xml", report::junit(report))];
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

//! What is broken on purpose: known to the supervisor, kept in a file for the next one.
//!
//! A killed supervisor takes its switch and its machines' processes with it; only files on disks stay, and so only
//! those are taken over.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use daruma_world::machines::{LinkFault, Pressure, PressureId, Program, Signal};
use serde::{Deserialize, Serialize};

use super::protocol::{Faults, PressureStatus, ProgramStatus};
use crate::machine::ballast::is_on_disk;
use crate::machine::{Doing, MachineError};

/// The faults beside those of links, which the switch knows.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    next: PressureId,
    pressures: Vec<PressureStatus>,
    programs: Vec<ProgramStatus>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Written {
    /// Identifiers are not used twice, not even by the next supervisor.
    next: PressureId,
    faults: Faults,
}

impl Journal {
    /// What an earlier supervisor left on the disks of these machines. A file that cannot be read counts as none.
    pub(super) fn open(path: PathBuf, machines: &[&str]) -> Self {
        let written: Written = fs::read(&path).ok().and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default();
        let mut pressures = written.faults.pressures;
        pressures.retain(|it| is_on_disk(&it.pressure) && machines.contains(&it.machine.as_str()));
        Self { path, next: written.next, pressures, programs: Vec::new() }
    }

    /// Writes everything, as a whole or not at all.
    pub(super) fn save(&self, links: &[LinkFault]) -> Result<(), MachineError> {
        let step = || format!("writing {}", self.path.display());
        let written = Written { next: self.next, faults: self.faults(links) };
        let content = serde_json::to_vec_pretty(&written).map_err(std::io::Error::from).doing(step)?;
        let unfinished = self.path.with_extension("json.new");
        let saved = File::create(&unfinished).and_then(|mut file| {
            file.write_all(&content)?;
            fs::rename(&unfinished, &self.path)
        });
        saved.doing(step)
    }

    /// Everything that is broken.
    pub(super) fn faults(&self, links: &[LinkFault]) -> Faults {
        Faults { links: links.to_vec(), pressures: self.pressures.clone(), programs: self.programs.clone() }
    }

    /// The next identifier.
    pub(super) fn draw(&mut self) -> PressureId {
        self.next += 1;
        self.next
    }

    pub(super) fn add(&mut self, id: PressureId, machine: &str, pressure: Pressure) {
        self.pressures.push(PressureStatus { id, machine: machine.to_owned(), pressure });
    }

    /// Takes a pressure out, if it is there.
    pub(super) fn take(&mut self, machine: &str, id: PressureId) -> Option<Pressure> {
        let place = self.pressures.iter().position(|it| it.id == id && it.machine == machine)?;
        Some(self.pressures.remove(place).pressure)
    }

    /// How much longer durable writes of a machine take, all in all.
    pub(super) fn disk_delay(&self, machine: &str) -> Duration {
        let of = |it: &PressureStatus| match it.pressure {
            Pressure::SlowDisk { delay } if it.machine == machine => delay,
            _ => Duration::ZERO,
        };
        self.pressures.iter().map(of).sum()
    }

    /// The pressures that are files on the disk of a machine.
    pub(super) fn on_disk(&self, machine: &str) -> Vec<PressureId> {
        let on_disk = self.pressures.iter().filter(|it| it.machine == machine && is_on_disk(&it.pressure));
        on_disk.map(|it| it.id).collect()
    }

    /// The power of a machine is off. True when that ended something.
    pub(super) fn power_is_off(&mut self, machine: &str) -> bool {
        let before = (self.pressures.len(), self.programs.len());
        self.pressures.retain(|it| it.machine != machine || is_on_disk(&it.pressure));
        self.programs.retain(|it| it.machine != machine);
        before != (self.pressures.len(), self.programs.len())
    }

    /// The machine is no more.
    pub(super) fn forget(&mut self, machine: &str) {
        self.pressures.retain(|it| it.machine != machine);
        self.programs.retain(|it| it.machine != machine);
    }

    /// A signal has reached a program.
    pub(super) fn signalled(&mut self, machine: &str, program: &Program, signal: Signal) {
        if signal == Signal::Terminate {
            // A paused program hears it when it goes on.
            return;
        }
        self.programs.retain(|it| it.machine != machine || it.program != *program);
        let undo = match signal {
            Signal::Pause => Signal::Continue,
            Signal::Stop => Signal::Start,
            _ => return,
        };
        self.programs.push(ProgramStatus { machine: machine.to_owned(), program: program.clone(), undo });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Pressure = Pressure::Memory { bytes: 1 };
    const DISK: Pressure = Pressure::Disk { leave_bytes: 1 };

    fn ids(journal: &Journal) -> Vec<PressureId> {
        journal.faults(&[]).pressures.iter().map(|it| it.id).collect()
    }

    #[test]
    fn files_stay_and_identifiers_are_not_used_twice() {
        let directory = std::env::temp_dir().join(format!("daruma-journal-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let open = || Journal::open(directory.join("faults.json"), &["a", "b"]);
        let mut journal = open();
        for (machine, pressure) in [("a", MEMORY), ("a", DISK), ("b", MEMORY)] {
            let id = journal.draw();
            journal.add(id, machine, pressure);
        }
        journal.signalled("a", &Program::Service("kubelet".to_owned()), Signal::Stop);
        journal.save(&[]).unwrap();
        assert!(journal.power_is_off("a"));
        assert!(!journal.power_is_off("a"));
        assert_eq!((ids(&journal), journal.on_disk("a")), (vec![2, 3], vec![2]));
        assert_eq!(journal.take("b", 2), None, "it is the other machine's");
        assert_eq!(journal.take("a", 2), Some(DISK));
        let mut next = open();
        assert_eq!(ids(&next), [2], "a new supervisor knows the files");
        assert_eq!(next.draw(), 4);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn programs_hold_still_until_they_are_let_go() {
        let mut journal = Journal::open("/nonexistent".into(), &[]);
        let program = Program::Container("c".to_owned());
        let mut check = |signal, expected: &[Signal]| {
            journal.signalled("a", &program, signal);
            let undo: Vec<Signal> = journal.faults(&[]).programs.iter().map(|it| it.undo).collect();
            assert_eq!(undo, expected, "{signal:?}");
        };
        check(Signal::Pause, &[Signal::Continue]);
        check(Signal::Pause, &[Signal::Continue]);
        check(Signal::Terminate, &[Signal::Continue]);
        check(Signal::Continue, &[]);
        check(Signal::Stop, &[Signal::Start]);
        check(Signal::Start, &[]);
        check(Signal::Pause, &[Signal::Continue]);
        check(Signal::Kill, &[]);
    }
}

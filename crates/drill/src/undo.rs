//! Taking faults back. What takes a fault back is data, noted in a journal before the fault is made, so that the
//! next command can do it where this one was killed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use daruma_world::World;
use daruma_world::disk::WriteOptions;
use daruma_world::machines::{LinkFault, MachineError, Machines, PowerState, Program, Signal};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Stage;

/// How long a patch is tried again while the API cannot be reached.
const PATCH_LIMIT: Duration = Duration::from_secs(120);
/// From one try to the next.
const PATCH_PAUSE: Duration = Duration::from_secs(1);
/// How long the server may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// What takes one effect back. Doing it twice, or when there is nothing to take back any more, does no harm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "do")]
pub enum UndoRecord {
    /// Gives power to a machine that is off.
    PowerOn {
        /// Which.
        machine: String,
    },
    /// Ends a hang.
    Resume {
        /// Which machine.
        machine: String,
    },
    /// Takes faults of links away.
    Mend {
        /// The faults.
        faults: Vec<LinkFault>,
    },
    /// Ends a pressure.
    Release {
        /// On which machine.
        machine: String,
        /// Which.
        pressure: u64,
    },
    /// Continues a program that holds still, or starts one that was stopped.
    Signal {
        /// On which machine.
        machine: String,
        /// Which program.
        program: Program,
        /// What is sent.
        signal: Signal,
    },
    /// Sets a clock right.
    Clock {
        /// Of which machine.
        machine: String,
    },
    /// Patches an object of the API back (RFC 6902).
    Patch {
        /// URL path of the object.
        path: String,
        /// The patch.
        patch: Value,
    },
}

/// Why a journal could not be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("journal of undo {path}: {message}")]
pub struct JournalError {
    /// Its path.
    pub path: String,
    /// Why.
    pub message: String,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    /// Identity of the step that made the fault.
    step: String,
    #[serde(flatten)]
    record: UndoRecord,
}

/// What is still to be taken back, oldest first. With a journal, also on disk.
pub(crate) struct UndoLog {
    world: World,
    journal: Option<PathBuf>,
    promises: Mutex<Vec<(u64, Promise)>>,
}

impl UndoLog {
    pub fn new(world: &World, journal: Option<PathBuf>) -> Self {
        Self { world: world.clone(), journal, promises: Mutex::new(Vec::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Promise)>> {
        self.promises.lock().expect("no panic while held")
    }

    /// Notes what takes back what is about to be done.
    pub async fn promise(&self, step: &str, records: Vec<UndoRecord>) -> Result<(), JournalError> {
        {
            let mut promises = self.lock();
            for record in records {
                let id = promises.last().map_or(0, |(id, _)| *id) + 1;
                promises.push((id, Promise { step: step.to_owned(), record }));
            }
        }
        self.save().await
    }

    /// What a step (or every step) has to be taken back, newest first.
    pub fn of(&self, step: Option<&str>) -> Vec<(u64, UndoRecord)> {
        let promises = self.lock();
        let mine = promises.iter().rev().filter(|(_, promise)| step.is_none_or(|step| promise.step == step));
        mine.map(|(id, promise)| (*id, promise.record.clone())).collect()
    }

    /// Notes that something has been taken back.
    pub async fn done(&self, ids: &[u64]) -> Result<(), JournalError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.lock().retain(|(one, _)| !ids.contains(one));
        self.save().await
    }

    async fn save(&self) -> Result<(), JournalError> {
        let Some(path) = &self.journal else { return Ok(()) };
        let promises: Vec<Promise> = self.lock().iter().map(|(_, promise)| promise.clone()).collect();
        let written = if promises.is_empty() {
            match self.world.disk.remove_file(path).await {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        } else {
            let content = serde_json::to_vec_pretty(&promises).expect("a journal is always JSON");
            self.world.disk.write(path, content, WriteOptions { mode: 0o600, durable: true }).await
        };
        written.map_err(|error| JournalError { path: path.display().to_string(), message: error.to_string() })
    }
}

/// Faults of links in force, by a number. They are always set as a whole.
#[derive(Default)]
pub(crate) struct Links(Mutex<BTreeMap<u64, LinkFault>>);

impl Links {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, LinkFault>> {
        self.0.lock().expect("no panic while held")
    }

    /// Adds faults.
    pub async fn add(&self, machines: &dyn Machines, faults: &[LinkFault]) -> Result<(), MachineError> {
        {
            let mut board = self.lock();
            for fault in faults {
                let id = board.last_key_value().map_or(0, |(id, _)| id + 1);
                board.insert(id, fault.clone());
            }
        }
        self.set(machines).await
    }

    /// Takes faults away: one for each that is named. Gives whether one was there.
    pub async fn remove(&self, machines: &dyn Machines, faults: &[LinkFault]) -> Result<bool, MachineError> {
        let mut any = false;
        {
            let mut board = self.lock();
            for fault in faults {
                let found = board.iter().find(|(_, one)| *one == fault).map(|(id, _)| *id);
                if let Some(id) = found {
                    board.remove(&id);
                    any = true;
                }
            }
        }
        self.set(machines).await?;
        Ok(any)
    }

    /// Takes away what `mends` says.
    pub async fn mend(&self, machines: &dyn Machines, mends: impl Fn(&LinkFault) -> bool) -> Result<(), MachineError> {
        self.lock().retain(|_, fault| !mends(fault));
        self.set(machines).await
    }

    async fn set(&self, machines: &dyn Machines) -> Result<(), MachineError> {
        let faults: Vec<LinkFault> = self.lock().values().cloned().collect();
        machines.set_link_faults(faults).await
    }
}

/// Takes one effect back; gives whether there was something to take back.
///
/// # Errors
/// In words.
pub(crate) async fn perform(stage: &Stage, links: &Links, record: &UndoRecord) -> Result<bool, String> {
    let machines = &*stage.machines;
    let outcome = match record {
        UndoRecord::PowerOn { machine } => match power_of(machines, machine).await? {
            PowerState::Off => machines.power_on(machine).await,
            PowerState::On | PowerState::Hung => return Ok(false),
        },
        UndoRecord::Resume { machine } => match power_of(machines, machine).await? {
            PowerState::Hung => machines.resume(machine).await,
            PowerState::On | PowerState::Off => return Ok(false),
        },
        UndoRecord::Mend { faults } => match links.remove(machines, faults).await {
            Ok(false) => return Ok(false),
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        },
        UndoRecord::Release { machine, pressure } => machines.release(machine, *pressure).await,
        UndoRecord::Clock { machine } => machines.set_clock_offset(machine, 0).await,
        UndoRecord::Signal { machine, program, signal } => {
            if power_of(machines, machine).await? != PowerState::On {
                // Its next start starts everything in it.
                return Ok(false);
            }
            if let Program::Container(id) = program
                && machines.living_containers(machine).await.is_ok_and(|living| !living.contains(id))
            {
                return Ok(false);
            }
            machines.signal(machine, program, *signal).await
        }
        UndoRecord::Patch { path, patch } => return patch_back(stage, path, patch).await,
    };
    match outcome {
        Ok(()) => Ok(true),
        // It is as it should be already.
        Err(MachineError::State(_)) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

async fn power_of(machines: &dyn Machines, machine: &str) -> Result<PowerState, String> {
    let list = machines.list().await.map_err(|error| error.to_string())?;
    let found = list.iter().find(|one| one.name == machine);
    found.map(|one| one.power).ok_or_else(|| format!("there is no machine {machine:?} any more"))
}

async fn patch_back(stage: &Stage, path: &str, patch: &Value) -> Result<bool, String> {
    let world = &stage.world;
    let content = Bytes::from(serde_json::to_vec(patch).expect("a patch is always JSON"));
    let deadline = world.monotonic() + PATCH_LIMIT;
    loop {
        let call = stage.client.json(Method::PATCH, path, "application/json-patch+json", Some(content.clone()));
        let error = match world.timeout(ANSWER_LIMIT, call).await {
            Ok(Ok(_)) => return Ok(true),
            Ok(Err(error)) if error.is_not_found() => return Ok(false),
            // Somebody else has changed these fields: they are not what the fault put there.
            Ok(Err(error)) if error.api().is_some_and(|error| error.code == 422) => return Ok(false),
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        if world.monotonic() >= deadline {
            return Err(format!("{path}: {error}"));
        }
        world.sleep(PATCH_PAUSE).await;
    }
}

/// Takes back what a drill that was killed left in its journal, newest first, and removes the journal.
/// Gives what was done, in words; empty where there is no journal.
///
/// # Errors
/// The journal cannot be read, or something could not be taken back (the journal then keeps it).
pub async fn recover(stage: &Stage, journal: &Path) -> Result<Vec<String>, JournalError> {
    let wrong = |message: String| JournalError { path: journal.display().to_string(), message };
    let content = match stage.world.disk.read(journal).await {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let promises: Vec<Promise> = serde_json::from_slice(&content).map_err(|error| wrong(error.to_string()))?;
    let log = UndoLog::new(&stage.world, Some(journal.to_owned()));
    *log.lock() = promises.into_iter().enumerate().map(|(index, promise)| (index as u64, promise)).collect();
    let links = Links::default();
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for (id, record) in log.of(None) {
        match perform(stage, &links, &record).await {
            Ok(_) => {
                done.push(record.to_string());
                log.done(&[id]).await?;
            }
            Err(error) => failed.push(format!("{record}: {error}")),
        }
    }
    if failed.is_empty() { Ok(done) } else { Err(wrong(failed.join("; "))) }
}

impl std::fmt::Display for UndoRecord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PowerOn { machine } => write!(formatter, "{machine} has power again"),
            Self::Resume { machine } => write!(formatter, "{machine} goes on"),
            Self::Mend { faults } if faults.len() == 1 => formatter.write_str("a link is mended"),
            Self::Mend { faults } => write!(formatter, "{} links are mended", faults.len()),
            Self::Release { machine, .. } => write!(formatter, "pressure on {machine} ends"),
            Self::Signal { machine, program, signal } => {
                let done = if *signal == Signal::Start { "starts" } else { "goes on" };
                match program {
                    Program::Service(name) => write!(formatter, "{name} on {machine} {done}"),
                    Program::Container(id) => {
                        write!(formatter, "container {} on {machine} {done}", id.get(..12).unwrap_or(id))
                    }
                }
            }
            Self::Clock { machine } => write!(formatter, "the clock of {machine} is right again"),
            Self::Patch { path, .. } => {
                let name = path.rsplitn(3, '/').take(2).collect::<Vec<_>>();
                write!(formatter, "{} is as before", name.into_iter().rev().collect::<Vec<_>>().join("/"))
            }
        }
    }
}

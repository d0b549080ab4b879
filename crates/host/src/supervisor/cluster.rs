//! The machines of one cluster and what may be done to them when.
#![expect(clippy::disallowed_methods, reason = "the supervisor has no world: it is the machines' clock")]

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use daruma_world::machines::MachineError as Refusal;
use nix::fcntl::{Flock, FlockArg};

use super::beside::Beside;
use super::journal::Journal;
use super::protocol::{ClusterStatus, MachineStatus, State};
use super::{SupervisorConfig, SupervisorError, unknown};
use crate::machine::power::{self, End, Place, Running};
use crate::machine::subnet::uplink_name;
use crate::machine::switch::Switch;
use crate::machine::{Doing, MachineError, MachineSpec, cgroup, disk, link_faults};

/// What is done to one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    On,
    Off,
    Reset,
    Ask { reboot: bool },
    Hang,
    Resume,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) spec: MachineSpec,
    place: Place,
    pub(super) state: State,
    pub(super) running: Option<Running>,
    start_at: Option<Instant>,
    last_end: Option<String>,
}

/// A cluster that is up.
#[derive(Debug)]
pub(super) struct Cluster {
    config: SupervisorConfig,
    cgroup: String,
    pub(super) switch: Switch,
    beside: Vec<Beside>,
    pub(super) machines: Vec<Machine>,
    pub(super) journal: Journal,
    log: File,
    _lock: Flock<File>,
}

impl Cluster {
    /// Removes leftovers, makes the switch and the disks, and switches every machine on.
    pub(super) fn start(config: SupervisorConfig, lock: Flock<File>, log: File) -> Result<Self, SupervisorError> {
        for spec in &config.machines {
            spec.check()?;
        }
        let cgroup = cgroup::cluster_directory(&config.root, &config.cluster);
        cgroup::clean(&cgroup)?;
        let switch = Switch::create(&uplink_name(&config.root, &config.cluster), config.subnet)?;
        let machines = config.machines.iter().map(|spec| Machine::new(spec, &config, &cgroup)).collect();
        let names: Vec<&str> = config.machines.iter().map(|spec| spec.name.as_str()).collect();
        let journal = Journal::open(config.files().faults, &names);
        let mut cluster = Self { config, cgroup, switch, beside: Vec::new(), machines, journal, log, _lock: lock };
        let started = cluster.make_disks().and_then(|()| cluster.plug_programs()).and_then(|()| {
            (0..cluster.machines.len()).try_for_each(|index| cluster.switch_on(index).map_err(SupervisorError::from))
        });
        match started {
            Ok(()) => Ok(cluster),
            Err(error) => {
                // The first error is the one to report.
                let _ = cluster.down(true);
                Err(error)
            }
        }
    }

    fn plug_programs(&mut self) -> Result<(), SupervisorError> {
        for arguments in &self.config.beside {
            let mut program = Beside::new(arguments, &mut self.switch)?;
            program.tend(Instant::now());
            self.beside.push(program);
        }
        Ok(())
    }

    /// Keeps a further program running, unless it is kept already.
    pub(super) fn keep(&mut self, program: Vec<String>) -> Result<(), SupervisorError> {
        if !self.config.beside.contains(&program) {
            let mut kept = Beside::new(&program, &mut self.switch)?;
            kept.tend(Instant::now());
            self.beside.push(kept);
            self.config.beside.push(program);
        }
        Ok(())
    }

    /// All at once: making a disk is another program's work.
    fn make_disks(&self) -> Result<(), SupervisorError> {
        self.machines.iter().try_for_each(Machine::make_directory)?;
        let started: Result<Vec<_>, _> =
            self.machines.iter().map(|machine| disk::make(&machine.place.image(), machine.spec.disk_bytes)).collect();
        for making in started?.into_iter().flatten() {
            disk::finish(making)?;
        }
        Ok(())
    }

    pub(super) fn status(&self) -> ClusterStatus {
        ClusterStatus {
            cluster: self.config.cluster.clone(),
            supervisor_pid: std::process::id(),
            subnet: self.config.subnet,
            uplink: uplink_name(&self.config.root, &self.config.cluster),
            switch_namespace: self.switch.path(),
            machines: self.machines.iter().map(Machine::status).collect(),
            faults: self.journal.faults(self.switch.link_faults()),
        }
    }

    /// Does what a request asks of `name`.
    pub(super) fn act(&mut self, name: &str, act: Act) -> Result<(), SupervisorError> {
        let index = self.find(name)?;
        allowed(name, self.machines[index].state, act).map_err(Refusal::State)?;
        self.do_allowed(index, act)?;
        Ok(())
    }

    /// The place of the machine `name`.
    pub(super) fn find(&self, name: &str) -> Result<usize, SupervisorError> {
        let found = self.machines.iter().position(|machine| machine.spec.name == name);
        found.ok_or_else(|| unknown(name, self.machines.iter().map(|machine| machine.spec.name.as_str())))
    }

    /// Makes a further machine and switches it on.
    pub(super) fn add(&mut self, spec: MachineSpec) -> Result<(), SupervisorError> {
        spec.check()?;
        if self.find(&spec.name).is_ok() {
            return Err(Refusal::State(format!("there is a machine {} already", spec.name)).into());
        }
        if let Some(other) = self.machines.iter().find(|machine| machine.spec.address == spec.address) {
            return Err(Refusal::State(format!("{} has the address {} already", other.spec.name, spec.address)).into());
        }
        let machine = Machine::new(&spec, &self.config, &self.cgroup);
        let image = machine.place.image();
        let made = machine.make_directory().and_then(|()| disk::make(&image, spec.disk_bytes)?.map_or(Ok(()), disk::finish));
        self.machines.push(machine);
        let on = made.and_then(|()| self.switch_on(self.machines.len() - 1));
        if on.is_err() {
            // The first error is the one to report.
            let _ = self.remove(&spec.name);
        }
        Ok(on?)
    }

    /// Cuts a machine's power, mends its links and removes it with its disk.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), SupervisorError> {
        let index = self.find(name)?;
        self.machines[index].start_at = None;
        self.switch_off(index, "it was removed")?;
        let left = link_faults::without(self.switch.link_faults(), name);
        if left != self.switch.link_faults() {
            self.switch.set_link_faults(left)?;
        }
        self.journal.forget(name);
        self.save();
        let machine = self.machines.remove(index);
        disk::wait_until_free(&machine.place.image())?;
        let directory = &machine.place.directory;
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).doing(|| format!("removing {}", directory.display())).map_err(Into::into)
            }
            _ => Ok(()),
        }
    }

    /// Writes the journal. Faults are in force without it too, so a full disk is told and no more.
    pub(super) fn save(&self) {
        if let Err(error) = self.journal.save(self.switch.link_faults()) {
            eprintln!("supervisor: {error}");
        }
    }

    fn do_allowed(&mut self, index: usize, act: Act) -> Result<(), MachineError> {
        match act {
            Act::On => self.switch_on(index),
            Act::Off => {
                self.machines[index].start_at = None;
                self.switch_off(index, "the power was cut")
            }
            Act::Reset => {
                self.switch_off(index, "it was reset")?;
                self.restart_later(index);
                Ok(())
            }
            Act::Ask { reboot } => {
                let machine = &mut self.machines[index];
                if let Some(running) = &machine.running {
                    running.ask(reboot)?;
                    machine.state = State::Stopping;
                }
                Ok(())
            }
            Act::Hang | Act::Resume => self.hang(index, act == Act::Hang),
        }
    }

    fn switch_on(&mut self, index: usize) -> Result<(), MachineError> {
        let machine = &mut self.machines[index];
        machine.start_at = None;
        let kept = self.journal.on_disk(&machine.spec.name);
        let running = power::on(&machine.spec, &machine.place, kept, &mut self.switch, &self.log);
        match running {
            Ok(running) => {
                machine.running = Some(running);
                machine.state = State::Booting;
                Ok(())
            }
            Err(error) => {
                machine.state = State::Off;
                machine.last_end = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn switch_off(&mut self, index: usize, why: &str) -> Result<(), MachineError> {
        let machine = &mut self.machines[index];
        let Some(running) = machine.running.take() else {
            machine.state = State::Off;
            return Ok(());
        };
        machine.state = State::Off;
        machine.last_end = Some(why.to_owned());
        let cut = running.cut(&machine.spec.name, &mut self.switch);
        self.forget_volatile(index);
        cut
    }

    /// Without power, only files are left of what uses a machine up.
    fn forget_volatile(&mut self, index: usize) {
        if self.journal.power_is_off(&self.machines[index].spec.name) {
            self.save();
        }
    }

    fn restart_later(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.state = State::Restarting;
        machine.start_at = Some(Instant::now() + machine.spec.boot_time);
    }

    fn hang(&mut self, index: usize, hung: bool) -> Result<(), MachineError> {
        let machine = &mut self.machines[index];
        let Some(running) = &mut machine.running else { return Ok(()) };
        if hung {
            self.switch.set_port(&machine.spec.name, false)?;
        }
        if let Err(error) = running.freeze(hung) {
            // Half frozen is neither: back to where it was, with the first error to report.
            let _ = running.freeze(!hung);
            let _ = self.switch.set_port(&machine.spec.name, hung);
            return Err(error);
        }
        machine.state = if hung { State::Hung } else { State::Running };
        if hung { Ok(()) } else { self.switch.set_port(&machine.spec.name, true) }
    }

    /// The next instant at which [`Self::advance`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let machines = self.machines.iter().filter_map(|machine| machine.start_at);
        let disks = self.machines.iter().filter_map(|machine| machine.running.as_ref()?.slow_disk_due());
        machines.chain(disks).chain(self.beside.iter().filter_map(Beside::deadline)).min()
    }

    /// Open reports of machines that boot, with their numbers.
    pub(super) fn reports(&self) -> Vec<(usize, BorrowedFd<'_>)> {
        let booting = self.machines.iter().enumerate().filter(|(_, machine)| machine.state == State::Booting);
        booting.filter_map(|(index, machine)| Some((index, machine.running.as_ref()?.line.as_fd()))).collect()
    }

    /// Reads the report of a booting machine. Without one its PID 1 has ended, which [`Self::advance`] sees.
    pub(super) fn hear_report(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        let Some(running) = &mut machine.running else { return };
        machine.state = State::Stopping;
        match running.hear().as_deref().map(str::trim) {
            Some("ready") => {
                machine.state = State::Running;
                let spec = &machine.spec;
                // It is found a second later otherwise.
                if let Err(error) = self.switch.announce(&spec.name, spec.address, spec.mac()) {
                    eprintln!("supervisor: {error}");
                }
            }
            Some(problem) => machine.last_end = Some(format!("it could not boot: {problem}")),
            None => {}
        }
    }

    /// Notes machines whose PID 1 has ended and switches on those whose boot time has passed.
    pub(super) fn advance(&mut self, now: Instant) {
        if let Err(error) = self.switch.tend() {
            eprintln!("supervisor: {error}");
        }
        for program in &mut self.beside {
            program.tend(now);
        }
        for index in 0..self.machines.len() {
            let end = self.machines[index].running.as_ref().and_then(Running::ended);
            if end.is_some() && self.machines[index].state == State::Booting {
                // Its last words may have come since the last look at the line.
                self.hear_report(index);
            }
            let machine = &mut self.machines[index];
            if let Some(running) = &mut machine.running
                && end.is_none()
                && let Err(error) = running.renew_slow_disk(now)
            {
                eprintln!("supervisor: {}: {error}", machine.spec.name);
            }
            if let Some(running) = &mut machine.running
                && let Some(end) = end
            {
                let removed = running.remove(&machine.spec.name, &mut self.switch);
                machine.running = None;
                machine.state = State::Off;
                self.note_end(index, end);
                self.forget_volatile(index);
                if let Err(error) = removed {
                    eprintln!("supervisor: {error}");
                }
            }
            if self.machines[index].start_at.is_some_and(|at| now >= at)
                && let Err(error) = self.switch_on(index)
            {
                eprintln!("supervisor: {}: {error}", self.machines[index].spec.name);
            }
        }
    }

    fn note_end(&mut self, index: usize, end: End) {
        let machine = &mut self.machines[index];
        let crash = |how: String| format!("it crashed: PID 1 {how} without being asked");
        let why = match end {
            End::PowerOff => "it powered itself off".to_owned(),
            End::Reboot => "it rebooted".to_owned(),
            End::Crash(code) if code > 0 => crash(format!("was killed by signal {code}")),
            End::Crash(code) => crash(format!("exited with code {}", -code)),
        };
        eprintln!("supervisor: {}: {why}", machine.spec.name);
        // A boot that failed has said why already.
        if !machine.last_end.as_ref().is_some_and(|last| last.starts_with("it could not boot") && end == End::Crash(-3)) {
            machine.last_end = Some(why);
        }
        if end == End::Reboot {
            self.restart_later(index);
        }
    }

    /// Ends every machine and removes all that was made. Goes on after errors and returns the first.
    pub(super) fn down(mut self, keep_disks: bool) -> Result<(), SupervisorError> {
        let mut first = Ok(());
        self.beside.clear();
        for machine in &mut self.machines {
            let Some(mut running) = machine.running.take() else { continue };
            let name = &machine.spec.name;
            let ended = if keep_disks { running.end(name, &mut self.switch) } else { running.cut(name, &mut self.switch) };
            first = first.and(ended);
        }
        for machine in &self.machines {
            first = first.and(disk::wait_until_free(&machine.place.image()));
        }
        first = first.and(cgroup::clean(&self.cgroup)).and(self.switch.remove());
        let files = self.config.files();
        let mut gone = vec![files.socket, files.pid, files.config];
        if !keep_disks {
            let removed = fs::remove_dir_all(&files.machines).doing(|| format!("removing {}", files.machines.display()));
            first = first.and(removed);
            gone.extend([files.log, files.faults, files.directory.join("subnet")]);
        }
        for path in gone {
            // Absent files are what is wanted.
            let _ = fs::remove_file(path);
        }
        // Others may keep files here; an empty directory goes.
        let _ = fs::remove_dir(files.directory);
        Ok(first?)
    }
}

impl Machine {
    fn new(spec: &MachineSpec, config: &SupervisorConfig, cgroup: &str) -> Self {
        let place = Place { directory: config.files().machines.join(&spec.name), cgroup: cgroup.to_owned() };
        Self { spec: spec.clone(), place, state: State::Off, running: None, start_at: None, last_end: None }
    }

    fn make_directory(&self) -> Result<(), MachineError> {
        let directory = &self.place.directory;
        fs::create_dir_all(directory).doing(|| format!("making {}", directory.display()))
    }

    fn status(&self) -> MachineStatus {
        MachineStatus {
            name: self.spec.name.clone(),
            state: self.state,
            address: self.spec.address,
            service: self.spec.service.clone(),
            boot_id: self.running.as_ref().map(|running| running.boot_id.clone()),
            pid: self.running.as_ref().map(|running| running.pid),
            cpu_millis: (self.spec.cpus * 1000.0).round() as u64,
            memory_bytes: self.spec.memory_bytes,
            last_end: self.last_end.clone(),
        }
    }
}

/// Whether `act` makes sense for a machine in `state`; if not, what to tell.
fn allowed(name: &str, state: State, act: Act) -> Result<(), String> {
    let on = !matches!(state, State::Off | State::Restarting);
    match (act, state) {
        (Act::On, _) if on => Err(format!("{name} is on already")),
        (Act::Off, State::Off) => Err(format!("{name} is off already")),
        (Act::Reset, State::Off) => Err(format!("{name} is off; switch it on instead")),
        (Act::Reset, State::Restarting) => Err(format!("{name} is restarting already")),
        (Act::Ask { .. } | Act::Hang, _) if !on => Err(format!("{name} is off")),
        (Act::Ask { .. }, State::Hung) => Err(format!("{name} is hung: it cannot hear; resume it, or cut its power")),
        (Act::Ask { .. } | Act::Hang, State::Booting) => Err(format!("{name} is booting; try again in a moment")),
        (Act::Ask { .. }, State::Stopping) => Err(format!("{name} is stopping already")),
        (Act::Hang, State::Hung) => Err(format!("{name} is hung already")),
        (Act::Resume, state) if state != State::Hung => Err(format!("{name} is {state}, not hung")),
        _ => Ok(()),
    }
}

/// Takes the lock that a running supervisor holds; `None` when another one has it.
pub(super) fn take_lock(config: &SupervisorConfig) -> Result<Option<Flock<File>>, MachineError> {
    let path = config.files().pid;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.doing(|| format!("opening {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno).doing(|| format!("locking {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_clear() {
        let cases = [
            (State::Running, Act::On, "w is on already"),
            (State::Hung, Act::On, "w is on already"),
            (State::Off, Act::Off, "w is off already"),
            (State::Off, Act::Reset, "w is off; switch it on instead"),
            (State::Off, Act::Hang, "w is off"),
            (State::Hung, Act::Ask { reboot: true }, "w is hung: it cannot hear; resume it, or cut its power"),
            (State::Booting, Act::Ask { reboot: false }, "w is booting; try again in a moment"),
            (State::Running, Act::Resume, "w is running, not hung"),
        ];
        for (state, act, expected) in cases {
            assert_eq!(allowed("w", state, act), Err(expected.to_owned()), "{state:?} {act:?}");
        }
        for (state, act) in [
            (State::Off, Act::On),
            (State::Restarting, Act::On),
            (State::Restarting, Act::Off),
            (State::Hung, Act::Off),
            (State::Hung, Act::Reset),
            (State::Stopping, Act::Off),
        ] {
            assert_eq!(allowed("w", state, act), Ok(()), "{state:?} {act:?}");
        }
    }
}

//! The life of a container: made, started, asked to end, ended, removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daruma_world::World;
use daruma_world::containers::{Container, ContainerConfig, ContainerError, ContainerState, Resources, Result};
use daruma_world::machines::{MachineError, Signal};
use futures::future::BoxFuture;

use super::log::{LogSink, first_lines};
use super::mounted::MountedDisk;
use super::names::spellings;
use super::programs::{Process, ProgramBody};
use super::records::{ContainerRecord, Life, reason_of};
use super::strain::RUNC;
use super::{Inner, images};
use crate::behaviour::Behaviour;
use crate::scope::Scope;

/// How containerd and runc lead up to the reason of a failed start.
const START_PREFIX: &str = "failed to create containerd task: failed to create shim task: OCI runtime create failed: \
                            runc create failed: unable to start container process: ";
/// Exit code of a container that could not be started: containerd `errorStartExitCode`.
const START_ERROR_CODE: i32 = 128;
/// Exit code of a process that SIGKILL or SIGTERM has ended.
const KILLED: i32 = 137;
const TERMINATED: i32 = 143;
/// Exit code of a program that does not know its arguments.
const USAGE: i32 = 1;
/// Writable layers of programs.
const LAYERS: &str = "/var/lib/daruma/engine/layers";

impl Inner {
    pub(super) async fn create_container(self: &Arc<Self>, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        let (log_path, stored) = {
            let state = self.state();
            let sandbox = &state.sandbox(sandbox_id)?.sandbox;
            if !sandbox.ready {
                return Err(ContainerError::Other(format!("sandbox {sandbox_id} is not running")));
            }
            let stored = state.images.find(&config.image).ok_or_else(|| ContainerError::ImageNotFound(config.image.clone()))?;
            (sandbox.config.log_directory.join(&config.log_path), stored.clone())
        };
        self.take(self.config().timing.container).await;
        let id = self.new_id();
        self.record_container(&id, &config.name).await?;
        let (image, created_at) = (stored.image, self.world().now());
        let image_name = image.tags.first().or(image.digests.first()).unwrap_or(&image.id).clone();
        let argv = if config.command.is_empty() { &stored.entrypoint } else { &config.command };
        let argv = argv.iter().chain(&config.args).cloned().collect();
        let container = Container {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            config: Arc::new(config),
            image_ref: image_name.clone(),
            image_id: image.digests.first().unwrap_or(&image.id).clone(),
            created_at,
            state: ContainerState::Created,
            log_path,
        };
        let mut state = self.state();
        let record = ContainerRecord {
            container,
            image_key: image.id,
            behaviour: images::behaviour_of(&state.own_behaviours, &self.config().behaviours, &image_name),
            image_name,
            argv,
            unready: false,
            life: None,
            layer_bytes: 0,
        };
        state.containers.insert(id.clone(), record);
        Ok(id)
    }

    pub(super) async fn start_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let is_new = |inner: &Self| match inner.state().container(id)?.container.state {
            ContainerState::Created => Ok(()),
            _ => Err(ContainerError::Other(format!("container {id} was started before"))),
        };
        is_new(self)?;
        self.take(self.config().timing.container).await;
        let (behaviour, log_path) = {
            let state = self.state();
            let record = state.container(id)?;
            (record.behaviour.clone(), record.container.log_path.clone())
        };
        let failure = behaviour.start_fails.clone().or_else(|| self.fork("unable to start init", RUNC).err());
        if let Some(why) = failure {
            return Err(self.start_failed(id, &format!("{START_PREFIX}{why}")).await);
        }
        self.open_log(id, &behaviour, &log_path).await?;
        is_new(self)?;
        if !self.sandbox_lives(id) {
            return Err(self.start_failed(id, "sandbox container is not running").await);
        }
        self.begin(id);
        Ok(())
    }

    fn sandbox_lives(&self, id: &str) -> bool {
        let state = self.state();
        let sandbox = state.containers.get(id).and_then(|record| state.sandboxes.get(&record.container.sandbox_id));
        sandbox.is_some_and(|record| record.sandbox.ready)
    }

    async fn start_failed(&self, id: &str, text: &str) -> ContainerError {
        let now = self.world().now();
        let sandbox_id = {
            let mut state = self.state();
            state.containers.get_mut(id).map(|record| {
                record.container.state = ContainerState::Exited {
                    started_at: None,
                    finished_at: now,
                    exit_code: START_ERROR_CODE,
                    reason: "StartError".to_owned(),
                    message: text.to_owned(),
                };
                record.container.sandbox_id.clone()
            })
        };
        self.emit(&sandbox_id.unwrap_or_default(), Some(id));
        self.write_state(id).await;
        ContainerError::Start(text.to_owned())
    }

    /// The argument that a container ends of as soon as it starts.
    fn refused_argument(&self, id: &str, behaviour: &Behaviour) -> Option<String> {
        let state = self.state();
        let record = state.containers.get(id).filter(|_| behaviour.refuses_arguments)?;
        record.container.config.args.first().cloned()
    }

    /// Makes the log file, with what the container writes first.
    async fn open_log(&self, id: &str, behaviour: &Behaviour, path: &Path) -> Result<()> {
        if self.scope().is_none() {
            return Ok(());
        }
        let world = self.world();
        let now = world.now();
        let lines: Vec<String> = match (self.refused_argument(id, behaviour), self.identity(id)) {
            (Some(argument), _) => vec![format!("unknown argument {argument:?}")],
            (None, Some(identity)) => {
                behaviour.logs.iter().map(|line| identity.fill(&line.replace("${TIME}", &now.to_string()))).collect()
            }
            (None, None) => Vec::new(),
        };
        let opened = async {
            if let Some(directory) = path.parent() {
                world.disk.create_dir_all(directory, 0o755).await?;
            }
            world.disk.append(path, first_lines(now, &lines)).await
        };
        let opened = opened.await;
        opened.map_err(|error| ContainerError::Start(format!("failed to create the container's log {}: {error}", path.display())))
    }

    /// The process runs from here on.
    fn begin(self: &Arc<Self>, id: &str) {
        let ground = self.ground().expect("a start is under way");
        let (behaviour, program) = {
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(record) = state.containers.get_mut(id) else { return };
            let program = ground
                .scope
                .as_ref()
                .and_then(|_| spellings(&record.image_name).into_iter().find_map(|name| self.config().programs.of(name)));
            record.container.state = ContainerState::Running { started_at: ground.world.now() };
            record.life = Some(Life {
                started: ground.world.monotonic(),
                is_program: program.is_some(),
                slowness_percent: state.strain.slowness_percent,
                ..Life::default()
            });
            let (behaviour, sandbox_id) = (record.behaviour.clone(), record.container.sandbox_id.clone());
            state.turns += 1;
            state.tell(&sandbox_id, Some(id));
            (behaviour, program)
        };
        self.changed.notify_waiters();
        if let Some(body) = program {
            self.run_program(id, &body);
        }
        if self.refused_argument(id, &behaviour).is_some() {
            self.end_at_age(id, Duration::ZERO, USAGE);
            return;
        }
        if let Some((after, exit_code)) = behaviour.exits {
            self.end_at_age(id, after, exit_code);
        }
        self.watch_use(id, &behaviour);
        if !behaviour.ports.is_empty() && self.scope().is_some() {
            self.open_ports(id, &behaviour);
        }
    }

    fn run_program(self: &Arc<Self>, id: &str, body: &ProgramBody) {
        let Some(scope) = self.process_scope(id) else { return };
        let Some(process) = self.process(id, &scope) else { return };
        let (engine, ending, future) = (Arc::downgrade(self), id.to_owned(), body(process));
        scope.spawn("container", async move {
            let exit_code = future.await;
            if let Some(engine) = engine.upgrade() {
                engine.finish(&ending, exit_code, reason_of(exit_code));
            }
        });
        // One whose scope somebody ends was killed.
        let (engine, ending, ended) = (Arc::downgrade(self), id.to_owned(), scope.ended());
        self.world().spawn("container-wait", async move {
            ended.await;
            if let Some(engine) = engine.upgrade() {
                engine.finish(&ending, KILLED, "Error");
            }
        });
    }

    /// What a program is given.
    fn process(&self, id: &str, scope: &Scope) -> Option<Process> {
        let log = self.log_of(id)?;
        let state = self.state();
        let record = state.containers.get(id)?;
        let life = record.life.as_ref()?;
        let sandbox = &state.sandboxes.get(&record.container.sandbox_id)?.sandbox;
        let config = &record.container.config;
        let place = &scope.inner.place;
        let machine = place.name.clone().unwrap_or_default();
        let host_network = sandbox.config.shared.network;
        let hostname = if host_network || sandbox.config.hostname.is_empty() { &machine } else { &sandbox.config.hostname };
        let addresses = if host_network { vec![place.address.into()] } else { sandbox.addresses.clone() };
        let root = PathBuf::from(LAYERS).join(id);
        let mut env = std::collections::BTreeMap::from([("HOSTNAME".to_owned(), hostname.clone())]);
        env.extend(config.env.iter().cloned());
        let world = scope.world();
        let disk = MountedDisk { disk: world.disk.clone(), mounts: config.mounts.clone(), root: root.clone() };
        Some(Process {
            scope: scope.clone(),
            hostname: hostname.clone(),
            machine,
            container_id: id.to_owned(),
            container_name: config.name.clone(),
            image: record.container.image_ref.clone(),
            argv: record.argv.clone(),
            env,
            mounts: config.mounts.clone(),
            addresses,
            host_network,
            sandbox: sandbox.config.as_ref().clone(),
            log,
            world: World { disk: Arc::new(disk), ..world },
            root,
            used: life.used.clone(),
        })
    }

    /// The log of a running container.
    pub(super) fn log_of(&self, id: &str) -> Option<LogSink> {
        let path = {
            let state = self.state();
            let record = state.containers.get(id)?;
            if let Some(log) = &record.life.as_ref()?.log {
                return Some(log.clone());
            }
            record.container.log_path.clone()
        };
        let log = LogSink::new(&self.ground()?.world, &path);
        self.state().containers.get_mut(id)?.life.as_mut()?.log = Some(log.clone());
        Some(log)
    }

    /// The scope of a container's process, made when it is first needed; `None` without a machine, and
    /// where it does not run.
    pub(super) fn process_scope(&self, id: &str) -> Option<Scope> {
        let (made, is_paused) = {
            let mut guard = self.state();
            let state = &mut *guard;
            let record = state.containers.get_mut(id)?;
            let pod = state.sandboxes.get(&record.container.sandbox_id)?.scope.clone()?;
            let life = record.life.as_mut()?;
            if let Some(scope) = &life.scope {
                return Some(scope.clone());
            }
            let scope = pod.child(&record.container.config.name);
            life.scope = Some(scope.clone());
            (scope, life.paused_since.is_some())
        };
        if is_paused {
            made.pause();
        }
        Some(made)
    }

    /// Starts a task that ends with the container's process.
    pub(super) fn spawn_in(&self, id: &str, name: &'static str, task: impl FnOnce(World) -> BoxFuture<'static, ()>) {
        if let Some(scope) = self.process_scope(id) {
            scope.spawn_boxed(name, task(scope.world()));
            return;
        }
        let Some(ground) = self.ground().filter(|ground| ground.scope.is_none()) else { return };
        let started = ground.world.spawn(name, task(ground.world.clone()));
        match self.state().containers.get_mut(id).and_then(|record| record.life.as_mut()) {
            Some(life) => life.tasks.push(started),
            None => started.abort(),
        }
    }

    /// Waits until the process has run so long; pauses do not count.
    pub(super) async fn reach_age(&self, world: &World, id: &str, age: Duration) {
        loop {
            let now = world.monotonic();
            let reached = self.state().containers.get(id).map_or(Duration::ZERO, |record| record.age(now));
            if reached >= age {
                return;
            }
            world.sleep(age.saturating_sub(reached)).await;
        }
    }

    fn end_at_age(self: &Arc<Self>, id: &str, age: Duration, exit_code: i32) {
        let (engine, ending) = (Arc::downgrade(self), id.to_owned());
        self.spawn_in(id, "container-exit", move |world| {
            Box::pin(async move {
                // Even what ends at once has run for a moment.
                world.sleep(Duration::ZERO).await;
                let Some(engine) = engine.upgrade() else { return };
                engine.reach_age(&world, &ending, age).await;
                engine.finish(&ending, exit_code, reason_of(exit_code));
            })
        });
    }

    /// The process has ended. Nothing where it does not run.
    pub(super) fn finish(self: &Arc<Self>, id: &str, exit_code: i32, reason: &str) {
        let Some(ground) = self.ground() else { return };
        let (now, finished_at) = (ground.world.monotonic(), ground.world.now());
        let life = {
            let mut guard = self.state();
            let state = &mut *guard;
            let Some(record) = state.containers.get_mut(id) else { return };
            let (layer, cpu_ns) = (record.layer(now), record.cpu_ns(now));
            let Some(life) = record.life.take() else { return };
            state.turns += 1;
            record.layer_bytes = layer;
            let started_at = match record.container.state {
                ContainerState::Running { started_at } => Some(started_at),
                _ => None,
            };
            record.container.state =
                ContainerState::Exited { started_at, finished_at, exit_code, reason: reason.into(), message: String::new() };
            let sandbox_id = record.container.sandbox_id.clone();
            state.ended_cpu_ns = state.ended_cpu_ns.saturating_add(cpu_ns);
            state.tell(&sandbox_id, Some(id));
            life
        };
        self.changed.notify_waiters();
        if let Some(log) = &life.log {
            log.close();
        }
        if let Some(machine) = &ground.scope {
            let (engine, id) = (self.clone(), id.to_owned());
            machine.spawn("container-record", async move { engine.write_state(&id).await });
        }
        for task in &life.tasks {
            task.abort();
        }
        if let Some(scope) = &life.scope {
            scope.kill();
        }
        drop(life);
    }

    /// Asks a process to end (SIGTERM).
    fn terminate(self: &Arc<Self>, id: &str) {
        let (behaviour, program) = {
            let mut state = self.state();
            let Some(record) = state.containers.get_mut(id) else { return };
            let behaviour = record.behaviour.clone();
            let Some(life) = record.life.as_mut() else { return };
            if life.paused_since.is_some() {
                // The signal waits until it goes on.
                life.must_terminate = true;
                return;
            }
            (behaviour, life.scope.clone().filter(|_| life.is_program))
        };
        if behaviour.ignores_stop {
            return;
        }
        match (program, behaviour.stops) {
            (Some(scope), _) => {
                scope.terminate();
                if scope.is_dead() {
                    self.finish(id, TERMINATED, "Error");
                }
            }
            (None, Some(ending)) if !ending.after.is_zero() => {
                let now = self.age_clock();
                let age = self.state().containers.get(id).map_or(Duration::ZERO, |record| record.age(now));
                self.end_at_age(id, age + ending.after, ending.code);
            }
            (None, Some(ending)) => self.finish(id, ending.code, reason_of(ending.code)),
            (None, None) => self.finish(id, TERMINATED, "Error"),
        }
    }

    pub(super) fn signal(self: &Arc<Self>, id: &str, signal: Signal) -> std::result::Result<(), MachineError> {
        if matches!(signal, Signal::Stop | Signal::Start) {
            return Err(MachineError::State(format!(
                "container {id} is no service: it can be killed, terminated, paused and continued"
            )));
        }
        self.state().running_record(id).map_err(|error| MachineError::State(error.to_string()))?;
        match signal {
            Signal::Kill => self.finish(id, KILLED, "Error"),
            Signal::Terminate => self.terminate(id),
            _ => self.hold(id, signal == Signal::Pause),
        }
        Ok(())
    }

    /// Has a process hold still, or go on.
    fn hold(self: &Arc<Self>, id: &str, still: bool) {
        let now = self.age_clock();
        let (scope, must_terminate) = {
            let mut state = self.state();
            state.steady = None;
            let Some(life) = state.containers.get_mut(id).and_then(|record| record.life.as_mut()) else { return };
            match (life.paused_since, still) {
                (None, true) => life.paused_since = Some(now),
                (Some(since), false) => {
                    life.paused_since = None;
                    life.paused_for += now.saturating_sub(since);
                }
                _ => return,
            }
            (life.scope.clone(), !still && std::mem::take(&mut life.must_terminate))
        };
        match scope {
            Some(scope) if still => scope.pause(),
            Some(scope) => scope.resume(),
            None => {}
        }
        if must_terminate {
            self.terminate(id);
        }
    }

    pub(super) async fn stop_container(self: &Arc<Self>, id: &str, grace: Duration) -> Result<()> {
        if self.state().running_record(id).is_err() {
            return Ok(());
        }
        self.take(self.config().timing.stop).await;
        if !grace.is_zero() {
            self.terminate(id);
            if self.world().timeout(grace, self.ended(id)).await.is_ok() {
                return Ok(());
            }
        }
        self.finish(id, KILLED, "Error");
        Ok(())
    }

    /// Completes once the container does not run.
    pub(super) async fn ended(&self, id: &str) {
        loop {
            let changed = self.changed.notified();
            if !self.state().containers.get(id).is_some_and(ContainerRecord::is_running) {
                return;
            }
            changed.await;
        }
    }

    pub(super) async fn remove_container(self: &Arc<Self>, id: &str) -> Result<()> {
        let (log_path, sandbox_id) = {
            let state = self.state();
            let Some(record) = state.containers.get(id) else { return Ok(()) };
            if record.is_running() {
                return Err(ContainerError::Other(format!("container {id} is running")));
            }
            (record.container.log_path.clone(), record.container.sandbox_id.clone())
        };
        self.take(self.config().timing.stop).await;
        if self.scope().is_some() {
            let world = self.world();
            self.forget_container(id).await;
            remove_logs(&world, &log_path).await;
            // Only programs have written files of their own.
            let _ = world.disk.remove_dir_all(&PathBuf::from(LAYERS).join(id)).await;
        }
        self.emit(&sandbox_id, Some(id));
        self.state().containers.remove(id);
        self.settle_disk();
        Ok(())
    }

    pub(super) fn update_resources(self: &Arc<Self>, id: &str, resources: Resources) -> Result<()> {
        let behaviour = {
            let mut state = self.state();
            let record = state.containers.get_mut(id).ok_or_else(|| ContainerError::NotFound(format!("container {id}")))?;
            Arc::make_mut(&mut record.container.config).resources = resources;
            record.behaviour.clone()
        };
        self.watch_use(id, &behaviour);
        Ok(())
    }
}

/// Removes a log file and those rotated away from it.
async fn remove_logs(world: &World, path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
    let name = name.to_string_lossy().into_owned();
    for (entry, _) in world.disk.read_dir(directory).await.unwrap_or_default() {
        if entry == name || entry.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) {
            // What somebody else has removed is gone as well.
            let _ = world.disk.remove_file(&directory.join(entry)).await;
        }
    }
    if world.disk.read_dir(directory).await.is_ok_and(|rest| rest.is_empty()) {
        let _ = world.disk.remove_dir_all(directory).await;
    }
}

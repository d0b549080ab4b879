//! Commands in containers, and connections to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use daruma_world::containers::{ContainerError, ContainerState, ExecConfig, ExecOutput, ExecSession, Result};
use daruma_world::net::Stream;
use tokio::sync::{mpsc, oneshot};

use super::Inner;
use super::strain::RUNC;

/// Output of a command that its caller gets at most of each stream.
const OUTPUT_BYTES: usize = 16 * 1024;
/// Exit code of a command whose container ended before it.
const KILLED: i32 = 137;
/// How runc leads up to the reason.
const EXEC_PREFIX: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

/// What a command is going to do.
struct Course {
    output: ExecOutput,
    takes: Duration,
    /// The process holds still, and the command in its control group with it.
    is_held: bool,
}

impl Inner {
    fn course(&self, id: &str, command: &[String]) -> Result<Course> {
        if command.is_empty() {
            return Err(ContainerError::Start(format!("{EXEC_PREFIX}no command specified")));
        }
        self.state().running_record(id)?;
        let forked = self.fork("error starting setns process", RUNC);
        forked.map_err(|why| ContainerError::Start(format!("{EXEC_PREFIX}{why}")))?;
        let identity = self.identity(id).unwrap_or_default();
        let now = self.age_clock();
        let state = self.state();
        let record = state.running_record(id)?;
        let is_held = record.life.as_ref().is_some_and(|life| life.paused_since.is_some());
        let limited = |text: &str| {
            let mut bytes = identity.fill(text).into_bytes();
            bytes.truncate(OUTPUT_BYTES);
            bytes
        };
        let fails = state.exec_fails.contains(&record.container.config.name) || !record.is_ready(now);
        let (output, takes) = match record.behaviour.exec(command) {
            Some(rule) => {
                let exit_code = if fails && rule.code == 0 { 1 } else { rule.code };
                let output = ExecOutput { stdout: limited(&rule.stdout), stderr: limited(&rule.stderr), exit_code };
                (output, rule.delay)
            }
            None => {
                let stdout = limited(&command.join(" "));
                (ExecOutput { stdout, stderr: Vec::new(), exit_code: i32::from(fails) }, Duration::ZERO)
            }
        };
        drop(state);
        Ok(Course { output, takes: self.exec_time(takes), is_held })
    }

    /// Takes a command's time; `false` where the container has ended before.
    async fn run(&self, id: &str, course: &Course) -> bool {
        if course.takes.is_zero() && !course.is_held {
            return true;
        }
        let ends = self.ended(id);
        let world = self.world();
        let done = async {
            while self
                .state()
                .running_record(id)
                .is_ok_and(|record| record.life.as_ref().is_some_and(|life| life.paused_since.is_some()))
            {
                world.sleep(Duration::from_millis(100)).await;
            }
            world.sleep(course.takes).await;
        };
        futures::pin_mut!(ends, done);
        matches!(futures::future::select(ends, done).await, futures::future::Either::Right(_))
    }

    pub(super) async fn exec_sync(&self, id: &str, command: &[String], limit: Duration) -> Result<Option<ExecOutput>> {
        let course = self.course(id, command)?;
        if course.takes.is_zero() && !course.is_held {
            return Ok(Some(course.output));
        }
        let limit = if limit.is_zero() { Duration::MAX } else { limit };
        match self.world().timeout(limit, Box::pin(self.run(id, &course))).await {
            Err(_elapsed) => Ok(None),
            Ok(true) => Ok(Some(course.output)),
            Ok(false) => Ok(Some(ExecOutput { exit_code: KILLED, ..ExecOutput::default() })),
        }
    }

    pub(super) fn exec(self: &Arc<Self>, id: &str, config: ExecConfig) -> Result<ExecSession> {
        let course = self.course(id, &config.command)?;
        let (stdin, unread) = if config.stdin {
            let (sender, receiver) = mpsc::channel(16);
            (Some(sender), Some(receiver))
        } else {
            (None, None)
        };
        let ((stdout_sender, stdout), (stderr_sender, stderr)) = (mpsc::channel(1), mpsc::channel(1));
        let (engine, id) = (self.clone(), id.to_owned());
        let (ending, ended) = oneshot::channel();
        // By itself: whoever serves it reads the output to its end before it asks for the exit code.
        self.world().spawn("container-exec", async move {
            // What is typed is taken and not looked at.
            let _unread = unread;
            if !engine.run(&id, &course).await {
                let _ = ending.send(KILLED);
                return;
            }
            for (sender, text) in [(stdout_sender, course.output.stdout), (stderr_sender, course.output.stderr)] {
                if !text.is_empty() {
                    // The reader may have gone; the channel is empty otherwise.
                    let _ = sender.try_send(text);
                }
            }
            let _ = ending.send(course.output.exit_code);
        });
        // Without the machine's power nobody is left to be told.
        let exit_code = Box::pin(async move { Ok(ended.await.unwrap_or(KILLED)) });
        Ok(ExecSession { stdin, stdout, stderr, resize: mpsc::channel(1).0, exit_code })
    }

    pub(super) fn attach(self: &Arc<Self>, id: &str) -> Result<ExecSession> {
        self.state().running_record(id)?;
        let log = self.log_of(id).ok_or_else(|| ContainerError::NotFound(format!("container {id}")))?;
        let (stdout, stderr) = log.attach();
        let (engine, id) = (self.clone(), id.to_owned());
        let exit_code = Box::pin(async move {
            engine.ended(&id).await;
            match engine.state().container(&id)?.container.state {
                ContainerState::Exited { exit_code, .. } => Ok(exit_code),
                _ => Ok(0),
            }
        });
        Ok(ExecSession { stdin: None, stdout, stderr, resize: mpsc::channel(1).0, exit_code })
    }

    pub(super) async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Stream>> {
        let (scope, address) = {
            let state = self.state();
            let record = state.sandbox(sandbox_id)?;
            if !record.sandbox.ready {
                return Err(ContainerError::Other(format!("sandbox {sandbox_id} is not running")));
            }
            (record.scope.clone(), record.sandbox.addresses.first().copied())
        };
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (world, to) = match scope {
            Some(scope) => (scope.world(), localhost),
            None => (self.world(), address.unwrap_or(localhost)),
        };
        let connected = world.net.connect(SocketAddr::new(to, port)).await;
        connected.map_err(|error| {
            ContainerError::Other(format!("failed to connect to localhost:{port} inside namespace {sandbox_id:?}: {error}"))
        })
    }
}

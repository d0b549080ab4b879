//! The shim's loop: children, output, attached sessions, requests.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::container::{Container, Sink, Source, set_nonblocking};
use super::log::LogFile;
use super::protocol::{self, Event, ProcessSpec, Reply, Request, StartSpec};
use super::setup::{self, Sandbox};
use super::spawn::{self, Streams};

/// A connection of the engine.
struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
    fds: Vec<OwnedFd>,
    unsent: Vec<u8>,
    subscribed: bool,
    /// Process to be killed when the connection closes.
    exec: Option<Pid>,
    /// Close once everything is sent.
    closing: bool,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Token<'a> {
    Signals,
    Listener,
    Connection(u64),
    Output(&'a str, usize),
    Stdin(&'a str),
    Source(&'a str, usize),
    Sink(&'a str, usize),
}

/// [`Token`], owned.
enum Ready {
    Signals,
    Listener,
    Connection(u64, PollFlags),
    Output(String, usize),
    Stdin(String),
    Source(String, usize),
    Sink(String, usize),
}

/// All that the shim knows.
pub struct Server {
    sandbox: Sandbox,
    containers: BTreeMap<String, Container>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// The connection that asked for the end.
    stopping: Option<u64>,
}

impl Server {
    /// A shim without containers.
    pub fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, containers: BTreeMap::new(), connections: BTreeMap::new(), next_connection: 0, stopping: None }
    }

    /// Serves until asked to stop.
    pub fn run(mut self) -> ! {
        loop {
            for ready in self.wait() {
                self.handle(ready);
            }
            if let Some(connection) = self.stopping
                && self.containers.values().all(|container| container.ended.is_some())
            {
                self.stop(connection);
            }
        }
    }

    fn wait(&self) -> Vec<Ready> {
        let mut tokens = vec![Token::Signals, Token::Listener];
        let mut set = vec![
            PollFd::new(self.sandbox.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.sandbox.listener.as_fd(), PollFlags::POLLIN),
        ];
        fn add<'a>(
            tokens: &mut Vec<Token<'a>>,
            set: &mut Vec<PollFd<'a>>,
            token: Token<'a>,
            fd: BorrowedFd<'a>,
            flags: PollFlags,
        ) {
            tokens.push(token);
            set.push(PollFd::new(fd, flags));
        }
        for (id, connection) in &self.connections {
            let out = if connection.unsent.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            add(&mut tokens, &mut set, Token::Connection(*id), connection.stream.as_fd(), PollFlags::POLLIN | out);
        }
        for (id, container) in &self.containers {
            for (stream, output) in container.outputs.iter().enumerate() {
                if let Some(fd) = output {
                    add(&mut tokens, &mut set, Token::Output(id, stream), fd.as_fd(), PollFlags::POLLIN);
                }
            }
            if container.stdin_backlog.is_empty() {
                for (index, source) in container.sources.iter().enumerate() {
                    add(&mut tokens, &mut set, Token::Source(id, index), source.fd.as_fd(), PollFlags::POLLIN);
                }
            } else if let Some(fd) = container.input() {
                add(&mut tokens, &mut set, Token::Stdin(id), fd.as_fd(), PollFlags::POLLOUT);
            }
            for (index, sink) in container.sinks.iter().enumerate() {
                // With nothing to write, the poll still tells when the reader goes.
                let flags = if sink.backlog.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
                add(&mut tokens, &mut set, Token::Sink(id, index), sink.fd.as_fd(), flags);
            }
        }
        if poll(&mut set, PollTimeout::NONE).is_err() {
            return Vec::new();
        }
        let mut ready = Vec::new();
        // Later indices first: handling one may remove it from its list.
        for (token, polled) in tokens.iter().zip(&set).rev() {
            let flags = polled.revents().unwrap_or(PollFlags::empty());
            if flags.is_empty() {
                continue;
            }
            ready.push(match *token {
                Token::Signals => Ready::Signals,
                Token::Listener => Ready::Listener,
                Token::Connection(id) => Ready::Connection(id, flags),
                Token::Output(id, stream) => Ready::Output(id.to_owned(), stream),
                Token::Stdin(id) => Ready::Stdin(id.to_owned()),
                Token::Source(id, index) => Ready::Source(id.to_owned(), index),
                Token::Sink(id, index) => Ready::Sink(id.to_owned(), index),
            });
        }
        ready
    }

    fn handle(&mut self, ready: Ready) {
        match ready {
            Ready::Signals => self.reap(),
            Ready::Listener => self.accept(),
            Ready::Connection(id, flags) => self.serve(id, flags),
            Ready::Output(id, stream) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.read_output(stream, 8);
                }
            }
            Ready::Stdin(id) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.write_stdin();
                }
            }
            Ready::Source(id, index) => {
                if let Some(container) = self.containers.get_mut(&id)
                    && index < container.sources.len()
                    && !container.read_source(index)
                {
                    container.drop_source(index);
                }
            }
            Ready::Sink(id, index) => {
                if let Some(container) = self.containers.get_mut(&id)
                    && index < container.sinks.len()
                    && (container.sinks[index].backlog.is_empty() || !container.sinks[index].write(&[]))
                {
                    container.sinks.remove(index);
                }
            }
        }
    }

    /// Takes the exit codes of all children that have ended.
    fn reap(&mut self) {
        let mut info = [0u8; 128 * 8];
        while nix::unistd::read(&self.sandbox.signals, &mut info).is_ok_and(|len| len > 0) {}
        loop {
            let (pid, code) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Err(nix::Error::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let main = self.containers.iter_mut().find(|(_, container)| container.pid == pid && container.ended.is_none());
            if let Some((id, container)) = main {
                let ended = container.end(code);
                let (id, started_ns) = (id.clone(), container.started_ns);
                self.publish(&Event::Exited { container: id, started_ns, at_ns: ended.at_ns, code, oom: ended.oom });
                continue;
            }
            let exec = self.connections.iter_mut().find(|(_, connection)| connection.exec == Some(pid));
            if let Some((_, connection)) = exec {
                connection.exec = None;
                connection.send(&Reply::Exited(code));
                connection.closing = true;
            }
        }
    }

    fn publish(&mut self, event: &Event) {
        for connection in self.connections.values_mut().filter(|connection| connection.subscribed) {
            connection.send(&Reply::Event(event.clone()));
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.sandbox.listener.accept() {
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let connection = Connection {
                stream,
                received: Vec::new(),
                fds: Vec::new(),
                unsent: Vec::new(),
                subscribed: false,
                exec: None,
                closing: false,
            };
            self.connections.insert(self.next_connection, connection);
            self.next_connection += 1;
        }
    }

    fn serve(&mut self, id: u64, flags: PollFlags) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.flush();
        let mut closed = connection.closing && connection.unsent.is_empty();
        if !closed && flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            match protocol::receive_with_fds(connection.stream.as_raw_fd(), &mut connection.received, &mut connection.fds) {
                Ok(0) => closed = true,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(_) => closed = true,
            }
        }
        let end = connection.received.iter().position(|byte| *byte == b'\n');
        if let Some(end) = end {
            let rest = connection.received.split_off(end + 1);
            let line = std::mem::replace(&mut connection.received, rest);
            let fds = std::mem::take(&mut connection.fds);
            match serde_json::from_slice(&line) {
                Ok(request) => self.request(id, request, fds),
                Err(error) => self.answer(id, &Reply::Refused(format!("malformed request: {error}"))),
            }
        }
        if closed
            && let Some(connection) = self.connections.remove(&id)
            && let Some(pid) = connection.exec
        {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn answer(&mut self, id: u64, reply: &Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.send(reply);
        }
    }

    fn request(&mut self, id: u64, request: Request, fds: Vec<OwnedFd>) {
        let reply = match request {
            Request::Subscribe => {
                self.subscribe(id);
                return;
            }
            Request::Start(spec) => self.start(*spec),
            Request::Exec { container, process, stdin } => {
                self.exec(id, &container, &process, stdin, fds);
                return;
            }
            Request::Stop => {
                self.stopping = Some(id);
                self.containers.values().for_each(Container::kill_all);
                return;
            }
            Request::Attach { container, stdin } => self.with_running(&container, |container| attach(container, stdin, fds)),
            Request::Signal { container, signal } => self.with_running(&container, |container| {
                if signal == libc::SIGKILL {
                    container.kill_all();
                    return Reply::Ok;
                }
                // SAFETY: plain call; the process is our child and not reaped yet, so that its id is its own.
                if unsafe { libc::kill(container.pid.as_raw(), signal) } < 0 {
                    return Reply::Refused(format!("kill: {}", io::Error::last_os_error()));
                }
                Reply::Ok
            }),
            Request::Resize { container, columns, rows } => {
                self.with_running(&container, |container| match container.resize(columns, rows) {
                    Ok(()) => Reply::Ok,
                    Err(error) => Reply::Refused(format!("resize: {error}")),
                })
            }
            Request::ReopenLog { container } => self.with_running(&container, |container| match container.log.reopen() {
                Ok(()) => Reply::Ok,
                Err(error) => Reply::Refused(format!("reopen log: {error}")),
            }),
            Request::Forget { container } => {
                if self.containers.get(&container).is_some_and(|container| container.ended.is_some()) {
                    self.containers.remove(&container);
                }
                Reply::Ok
            }
        };
        self.answer(id, &reply);
    }

    fn with_running(&mut self, id: &str, act: impl FnOnce(&mut Container) -> Reply) -> Reply {
        match self.containers.get_mut(id) {
            Some(container) if container.ended.is_none() => act(container),
            _ => Reply::Refused("container is not running".to_owned()),
        }
    }

    fn subscribe(&mut self, id: u64) {
        let mut events = Vec::new();
        for (container, state) in &self.containers {
            let (container, started_ns) = (container.clone(), state.started_ns);
            events.push(match state.ended {
                Some(ended) => Event::Exited { container, started_ns, at_ns: ended.at_ns, code: ended.code, oom: ended.oom },
                None => Event::Started { container, at_ns: started_ns },
            });
        }
        events.push(Event::Complete);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.subscribed = true;
        for event in events {
            connection.send(&Reply::Event(event));
        }
    }

    fn start(&mut self, spec: StartSpec) -> Reply {
        if self.stopping.is_some() {
            return Reply::Refused("the sandbox is stopping".to_owned());
        }
        if self.containers.contains_key(&spec.id) {
            return Reply::Refused("the container was started before".to_owned());
        }
        match self.launch(&spec) {
            Err(text) => Reply::Failed(text),
            Ok(container) => {
                let (pid, at_ns) = (container.pid.as_raw(), container.started_ns);
                self.containers.insert(spec.id.clone(), container);
                self.publish(&Event::Started { container: spec.id, at_ns });
                Reply::Started { pid, at_ns }
            }
        }
    }

    fn launch(&self, spec: &StartSpec) -> Result<Container, String> {
        let text = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let log = LogFile::open(&spec.log).map_err(|error| format!("open log {}: {error}", spec.log.display()))?;
        let (mut outputs, mut stdin, mut streams) = ([None, None], None, Streams::Terminal);
        if !spec.process.tty {
            let (out, out_to) = spawn::pipe().map_err(text("pipe"))?;
            let (err, err_to) = spawn::pipe().map_err(text("pipe"))?;
            outputs = [Some(out), Some(err)];
            let mut stdin_from = None;
            if spec.stdin {
                let (from, to) = spawn::pipe().map_err(text("pipe"))?;
                set_nonblocking(to.as_raw_fd());
                (stdin_from, stdin) = (Some(from), Some(to));
            }
            streams = Streams::Given { stdin: stdin_from, stdout: Some(out_to), stderr: Some(err_to) };
        }
        let pod = self.sandbox.pod.as_ref().map(|(_, namespace)| namespace);
        let spawned = spawn::start(spec, streams, &self.sandbox.own_pid_ns, pod)?;
        if spawned.master.is_some() {
            outputs[0] = spawned.master;
        }
        for fd in outputs.iter().flatten() {
            set_nonblocking(fd.as_raw_fd());
        }
        Ok(Container {
            spec: spec.clone(),
            pid: spawned.pid,
            started_ns: super::nanoseconds(super::now()),
            ended: None,
            outputs,
            stdin,
            stdin_backlog: Default::default(),
            log,
            sinks: Vec::new(),
            sources: Vec::new(),
        })
    }

    fn exec(&mut self, id: u64, container: &str, process: &ProcessSpec, stdin: bool, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        let streams = if process.tty {
            Streams::Terminal
        } else {
            Streams::Given { stdin: if stdin { fds.next() } else { None }, stdout: fds.next(), stderr: fds.next() }
        };
        let result = match self.containers.get(container) {
            Some(container) if container.ended.is_none() => {
                spawn::exec(process, container.pid, streams, &self.sandbox.own_pid_ns)
            }
            _ => Err("container is not running".to_owned()),
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match result {
            Err(text) => {
                connection.send(&Reply::Failed(text));
                connection.closing = true;
            }
            Ok(spawned) => {
                connection.exec = Some(spawned.pid);
                let fds: Vec<_> = spawned.master.iter().map(AsRawFd::as_raw_fd).collect();
                // A fresh connection has room for one short line.
                let _ = protocol::send_with_fds(connection.stream.as_raw_fd(), &protocol::line(&Reply::Ok), &fds);
            }
        }
    }

    /// Everything has ended: gives back what the machine's name spaces hold of us, and ends.
    fn stop(&mut self, connection: u64) -> ! {
        if let Some((pid, _)) = &self.sandbox.pod {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        setup::undo(&self.sandbox.directory);
        self.answer(connection, &Reply::Ok);
        std::process::exit(0)
    }
}

/// Connects an attached session's descriptors to the container's streams.
fn attach(container: &mut Container, stdin: bool, fds: Vec<OwnedFd>) -> Reply {
    for fd in &fds {
        set_nonblocking(fd.as_raw_fd());
    }
    let mut fds = fds.into_iter();
    if stdin && let Some(fd) = fds.next() {
        container.sources.push(Source { fd });
    }
    for (stream, fd) in fds.take(2).enumerate() {
        container.sinks.push(Sink { fd, stream, backlog: Default::default() });
    }
    Reply::Ok
}

impl Connection {
    fn send(&mut self, reply: &Reply) {
        self.unsent.extend(protocol::line(reply));
        self.flush();
    }

    fn flush(&mut self) {
        while !self.unsent.is_empty() {
            match protocol::send_with_fds(self.stream.as_raw_fd(), &self.unsent, &[]) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The poll tells when there is room, or that nobody reads any more.
                Err(_) => return,
            }
        }
    }
}

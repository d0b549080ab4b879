//! The supervisor's loop: signals, clients, reports and restarts in one thread with one poll.
#![expect(clippy::disallowed_methods, reason = "the supervisor has no world: it is the machines' clock")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use daruma_world::machines::MachineError as Refusal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cluster::{Act, Cluster, take_lock};
use super::protocol::{Reply, Request};
use super::{SupervisorConfig, SupervisorError};
use crate::machine::Doing;

/// A request line longer than this ends its client's connection.
const LONGEST_LINE: usize = 1024 * 1024;
const MOST_CLIENTS: usize = 32;

struct Connection {
    stream: UnixStream,
    received: Vec<u8>,
}

/// The supervisor mode of the binary; `config` is the path that [`super::launch`] wrote.
///
/// Prints one line, `ready` or what failed, and goes on silently. Must be entered before any thread exists.
/// Returns the exit code.
pub fn main(config: &Path) -> i32 {
    let started = start(config);
    let told = match &started {
        Ok(_) => "ready".to_owned(),
        Err(error) => error.to_string(),
    };
    // The launcher may have given up; the supervisor stays.
    let _ = writeln!(io::stdout(), "{told}");
    let _ = nix::unistd::dup2_stdout(io::stderr());
    let ended = started.and_then(|(cluster, listener, signals)| serve(cluster, &listener, &signals));
    match ended {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("supervisor: {error}");
            1
        }
    }
}

fn start(path: &Path) -> Result<(Cluster, UnixListener, SignalFd), SupervisorError> {
    let text = fs::read(path).doing(|| format!("reading {}", path.display()))?;
    let config: SupervisorConfig =
        serde_json::from_slice(&text).map_err(io::Error::from).doing(|| format!("reading {}", path.display()))?;
    let files = config.files();
    let Some(mut lock) = take_lock(&config)? else {
        let pid = fs::read_to_string(&files.pid).unwrap_or_default().trim().to_owned();
        return Err(SupervisorError::UpAlready { cluster: config.cluster, pid });
    };
    lock.set_len(0)
        .and_then(|()| writeln!(lock, "{}", std::process::id()))
        .doing(|| format!("writing {}", files.pid.display()))?;
    let mut heard = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        heard.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&heard), None).doing(|| "blocking signals".to_owned())?;
    let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .doing(|| "opening the signals".to_owned())?;
    let log = File::options().append(true).create(true).open(&files.log).doing(|| format!("opening {}", files.log.display()))?;
    let cluster = Cluster::start(config, lock, log)?;
    let _ = fs::remove_file(&files.socket);
    let listener = UnixListener::bind(&files.socket).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let listener = listener.doing(|| format!("listening at {}", files.socket.display()))?;
    Ok((cluster, listener, signals))
}

fn serve(mut cluster: Cluster, listener: &UnixListener, signals: &SignalFd) -> Result<(), SupervisorError> {
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let reports = cluster.reports();
        let mut watched: Vec<BorrowedFd<'_>> = vec![signals.as_fd(), listener.as_fd()];
        watched.extend(connections.iter().map(|connection| connection.stream.as_fd()));
        watched.extend(reports.iter().map(|(_, report)| *report));
        let ready = wait(&watched, cluster.deadline()).doing(|| "waiting for work".to_owned())?;
        let numbers: Vec<usize> = reports.iter().map(|(number, _)| *number).collect();
        let first_report = 2 + connections.len();
        for (number, _) in numbers.iter().zip(&ready[first_report..]).filter(|(_, ready)| **ready) {
            cluster.hear_report(*number);
        }
        while let Some(signal) = signals.read_signal().doing(|| "reading signals".to_owned())? {
            if signal.ssi_signo as i32 != libc::SIGCHLD {
                // Asked to end by the system: the disks stay for the next launch.
                return cluster.down(true);
            }
        }
        cluster.advance(Instant::now());
        for index in (0..connections.len()).rev().filter(|index| ready[2 + index]) {
            let Some(lines) = receive(&mut connections[index]) else {
                connections.swap_remove(index);
                continue;
            };
            for line in lines {
                match read_request(&line) {
                    Ok(Request::Down { keep_disks }) => {
                        let status = cluster.status();
                        let ended = cluster.down(keep_disks);
                        let reply = ended.as_ref().map_or_else(refused, |()| Reply::Done(status));
                        answer(&connections[index].stream, &reply);
                        return ended;
                    }
                    Ok(request) => answer(&connections[index].stream, &perform(&mut cluster, request)),
                    Err(problem) => answer(&connections[index].stream, &Reply::Error(Refusal::Failed(problem))),
                }
            }
        }
        while connections.len() < MOST_CLIENTS
            && let Ok((stream, _)) = listener.accept()
        {
            // One that cannot be set up is dropped, and its client sees the end.
            let limit = Some(Duration::from_secs(5));
            if stream.set_write_timeout(limit).is_ok() && stream.set_nonblocking(true).is_ok() {
                connections.push(Connection { stream, received: Vec::new() });
            }
        }
    }
}

fn wait(watched: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = watched.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(60));
        PollTimeout::from(left.as_micros().div_ceil(1000) as u16)
    });
    match poll(&mut fds, timeout) {
        Ok(_) => Ok(fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect()),
        Err(nix::errno::Errno::EINTR) => Ok(vec![false; watched.len()]),
        Err(errno) => Err(errno.into()),
    }
}

/// The complete lines that have come; `None` when the client has gone or talks nonsense.
fn receive(connection: &mut Connection) -> Option<Vec<Vec<u8>>> {
    let mut buffer = [0; 4096];
    match connection.stream.read(&mut buffer) {
        Ok(0) => return None,
        Ok(count) => connection.received.extend_from_slice(&buffer[..count]),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
        Err(_) => return None,
    }
    let mut lines = Vec::new();
    while let Some(end) = connection.received.iter().position(|byte| *byte == b'\n') {
        lines.push(connection.received.drain(..=end).collect());
    }
    (connection.received.len() <= LONGEST_LINE).then_some(lines)
}

fn read_request(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| format!("this is not a request: {error}"))
}

fn perform(cluster: &mut Cluster, request: Request) -> Reply {
    let done = match request {
        Request::List | Request::Down { .. } => Ok(()),
        Request::On { machine } => cluster.act(&machine, Act::On),
        Request::Off { machine } => cluster.act(&machine, Act::Off),
        Request::Reset { machine } => cluster.act(&machine, Act::Reset),
        Request::Shutdown { machine } => cluster.act(&machine, Act::Ask { reboot: false }),
        Request::Reboot { machine } => cluster.act(&machine, Act::Ask { reboot: true }),
        Request::Hang { machine } => cluster.act(&machine, Act::Hang),
        Request::Resume { machine } => cluster.act(&machine, Act::Resume),
        Request::SetLinkFaults { faults } => cluster.set_link_faults(faults),
        Request::Press { machine, pressure } => match cluster.press(&machine, pressure) {
            Ok(id) => return Reply::Pressed(id),
            Err(error) => Err(error),
        },
        Request::Release { machine, id } => cluster.release(&machine, id),
        Request::Signal { machine, program, signal } => cluster.signal(&machine, &program, signal),
        Request::Add { spec } => cluster.add(*spec),
        Request::Keep { program } => cluster.keep(program),
        Request::Remove { machine } => cluster.remove(&machine),
    };
    done.map_or_else(|error| refused(&error), |()| Reply::Done(cluster.status()))
}

fn refused(error: &SupervisorError) -> Reply {
    Reply::Error(match error {
        SupervisorError::Refused(refusal) => refusal.clone(),
        other => Refusal::Failed(other.to_string()),
    })
}

fn answer(mut stream: &UnixStream, reply: &Reply) {
    let Ok(mut line) = serde_json::to_vec(reply) else { return };
    line.push(b'\n');
    // A client that does not read its reply within the limit loses it.
    let sent = stream.set_nonblocking(false).and_then(|()| stream.write_all(&line));
    let _ = sent.and_then(|()| stream.set_nonblocking(true));
}

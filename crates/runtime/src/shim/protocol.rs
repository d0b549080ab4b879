//! What engine and shim say to each other: JSON lines over a unix stream socket, with file
//! descriptors alongside the first byte of a request.
//!
//! A connection carries one request. `Exec` and `Subscribe` leave it open for what follows.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use daruma_world::containers::{Mount, Security};

/// What a shim is started with (`shim.json` in its directory).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimSpec {
    /// Where the network name space is bound; `None` for the machine's network.
    pub netns: Option<PathBuf>,
    /// Host name; `None` for the machine's.
    pub hostname: Option<String>,
    /// Gets System V IPC and `/dev/shm` of its own, mounted here.
    pub shm: Option<PathBuf>,
    /// Containers share one PID name space.
    pub pod_pid: bool,
    /// Kernel parameters.
    pub sysctls: Vec<(String, String)>,
    /// `cgroup.procs` files that the shim itself joins.
    pub procs_files: Vec<PathBuf>,
}

/// How a process is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The command and its arguments; not empty.
    pub argv: Vec<String>,
    /// The whole environment, `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; made where missing.
    pub cwd: PathBuf,
    /// User of the image (`user[:group]`, names or numbers); the security settings come first.
    pub image_user: String,
    /// Rights.
    pub security: Security,
    /// Has a terminal.
    pub tty: bool,
    /// Written to `oom_score_adj`.
    pub oom_score_adj: i32,
    /// `cgroup.procs` files to join.
    pub procs_files: Vec<PathBuf>,
}

/// Which PID name space a container's processes get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// One of its own.
    Own,
    /// The pod's.
    Pod,
    /// The machine's.
    Machine,
}

/// A container to be started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartSpec {
    /// The container's id.
    pub id: String,
    /// The main process.
    pub process: ProcessSpec,
    /// Layer directories, topmost first.
    pub layers: Vec<PathBuf>,
    /// Writable layer.
    pub upper: PathBuf,
    /// Scratch of overlayfs, on the same file system.
    pub work: PathBuf,
    /// An empty directory on which the root file system is mounted.
    pub rootfs: PathBuf,
    /// Shown at `/dev/shm`.
    pub shm: PathBuf,
    /// Which processes are seen.
    pub pid_namespace: PidNamespace,
    /// Paths of the machine shown inside.
    pub mounts: Vec<Mount>,
    /// Where the cgroup hierarchies are mounted on the machine.
    pub cgroup_mount: PathBuf,
    /// Controllers with a v1 hierarchy of their own (directory names); empty with v2.
    pub cgroup_v1: Vec<String>,
    /// Files that list the container's processes, for killing all of them.
    pub kill_files: Vec<PathBuf>,
    /// File that counts kills by the out-of-memory killer (`oom_kill N`).
    pub oom_file: Option<PathBuf>,
    /// Log file.
    pub log: PathBuf,
    /// Keeps a standard input open.
    pub stdin: bool,
    /// Closes it after the first attach session.
    pub stdin_once: bool,
}

/// Asked by the engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Answers `Event`s: first of every container known, then as they happen.
    Subscribe,
    /// Starts a container. Answers `Started` or `Failed`.
    Start(Box<StartSpec>),
    /// Runs a process. Descriptors without terminal: stdin (where `stdin`), stdout, stderr. With a
    /// terminal: none; its master comes back with `Ok`. Answers `Ok` or `Failed`, then `Exited`.
    /// The process is killed when the connection closes first.
    Exec {
        /// The container.
        container: String,
        /// The process.
        process: Box<ProcessSpec>,
        /// Whether a descriptor for standard input is sent.
        stdin: bool,
    },
    /// Joins the main process's streams. Descriptors: stdin (where `stdin`), stdout, stderr.
    Attach {
        /// The container.
        container: String,
        /// Whether a descriptor for standard input is sent.
        stdin: bool,
    },
    /// Sends a signal to the main process; SIGKILL goes to all processes.
    Signal {
        /// The container.
        container: String,
        /// The signal.
        signal: i32,
    },
    /// Sets the size of the main process's terminal.
    Resize {
        /// The container.
        container: String,
        /// Columns.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// Opens the log file again.
    ReopenLog {
        /// The container.
        container: String,
    },
    /// Forgets an ended container.
    Forget {
        /// The container.
        container: String,
    },
    /// Kills everything, answers `Ok` and ends.
    Stop,
}

/// Answered by the shim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// The container runs.
    Started {
        /// Process id as the machine sees it.
        pid: i32,
        /// Start time, nanoseconds since the epoch.
        at_ns: i64,
    },
    /// The process could not be started; the text is `exec: "x": …` or tells which step failed.
    Failed(String),
    /// Refused.
    Refused(String),
    /// An exec ended.
    Exited(i32),
    /// Something happened.
    Event(Event),
}

/// Something happened to a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Event {
    /// It runs.
    Started {
        /// The container.
        container: String,
        /// Start time, nanoseconds since the epoch.
        at_ns: i64,
    },
    /// It ended.
    Exited {
        /// The container.
        container: String,
        /// Start time.
        started_ns: i64,
        /// End time.
        at_ns: i64,
        /// Exit code; 128 + signal.
        code: i32,
        /// The out-of-memory killer struck in it.
        oom: bool,
    },
    /// All containers known at the subscription were told.
    Complete,
}

/// Encodes a message as one line.
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("protocol messages have string keys only");
    line.push(b'\n');
    line
}

/// Sends `data` whole, with `fds` alongside its first byte. The socket may be non-blocking; a full
/// buffer is then an error of kind `WouldBlock` only before anything was sent.
pub fn send_with_fds(socket: RawFd, data: &[u8], fds: &[RawFd]) -> io::Result<usize> {
    let control = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage] = if fds.is_empty() { &[] } else { &control };
    Ok(sendmsg::<()>(socket, &[io::IoSlice::new(data)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives what is there; descriptors are appended to `fds`. Zero is the end.
pub fn receive_with_fds(socket: RawFd, data: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut buffer = [0u8; 16 * 1024];
    let mut space = nix::cmsg_space!([RawFd; 8]);
    let mut slices = [io::IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just given these descriptors to us; nobody else owns them.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let len = message.bytes;
    data.extend_from_slice(&buffer[..len]);
    Ok(len)
}

/// One request and its first answer, blocking. The stream stays usable for later answers.
pub struct Call {
    /// The connection.
    pub stream: std::os::unix::net::UnixStream,
    /// Received beyond the first answer.
    pub rest: Vec<u8>,
    /// The answer.
    pub reply: Reply,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

/// Connects, asks, and waits for the first answer.
pub fn call(socket: &std::path::Path, request: &Request, fds: &[RawFd]) -> io::Result<Call> {
    let stream = std::os::unix::net::UnixStream::connect(socket)?;
    let data = line(request);
    let mut sent = send_with_fds(stream.as_raw_fd(), &data, fds)?;
    while sent < data.len() {
        sent += send_with_fds(stream.as_raw_fd(), &data[sent..], &[])?;
    }
    let (mut received, mut got) = (Vec::new(), Vec::new());
    loop {
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let rest = received.split_off(end + 1);
            let reply = serde_json::from_slice(&received)?;
            return Ok(Call { stream, rest, reply, fds: got });
        }
        match receive_with_fds(stream.as_raw_fd(), &mut received, &mut got) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

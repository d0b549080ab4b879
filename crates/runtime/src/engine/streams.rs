//! Exec, attach and port-forward. Pipes connect the process and this engine directly; the shim only
//! hands them over.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use daruma_world::containers::{ContainerError, ExecConfig, ExecOutput, ExecSession, Result};
use daruma_world::net::Stream;
use futures::FutureExt;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::{Inner, other};
use crate::shim::protocol::{Call, Reply, Request};

/// Output that [`exec_sync`] keeps of each stream: containerd's `maxExecSyncOutput`… of the kubelet's probes, 16 KiB.
const OUTPUT_BYTES: usize = 16 * 1024;
/// Chunks that wait for a reader.
const CHUNKS: usize = 16;
/// After the end of a process, how long its output may stay open in the hands of its children.
const DRAIN: Duration = Duration::from_secs(2);
/// How runc leads up to the reason.
const EXEC_PREFIX: &str = "OCI runtime exec failed: exec failed: unable to start container process: ";

/// A pipe: our end for tokio, the other for the process.
fn reader() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (from, to) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    crate::shim::set_nonblocking(from.as_raw_fd());
    Ok((pipe::Receiver::from_owned_fd(from)?, to))
}

fn writer() -> io::Result<(pipe::Sender, OwnedFd)> {
    let (from, to) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    crate::shim::set_nonblocking(to.as_raw_fd());
    Ok((pipe::Sender::from_owned_fd(to)?, from))
}

/// Copies a pipe into a channel; the sender returned in `done` is dropped at the end.
fn pump(inner: &Inner, mut from: pipe::Receiver, done: oneshot::Sender<()>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    inner.world.spawn("container-output", async move {
        let mut buffer = vec![0u8; 32 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            if sender.send(buffer[..len].to_vec()).await.is_err() {
                break;
            }
        }
        drop(done);
    });
    receiver
}

/// Copies a channel into a pipe, which is closed when the channel is.
fn feed(inner: &Inner, mut to: pipe::Sender) -> mpsc::Sender<Vec<u8>> {
    let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(CHUNKS);
    inner.world.spawn("container-input", async move {
        while let Some(data) = receiver.recv().await {
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
    });
    sender
}

fn exec_error(error: io::Error) -> ContainerError {
    ContainerError::Other(format!("exec: {error}"))
}

/// Asks the shim to run a process; gives the connection that will tell its end.
async fn launch(inner: &Inner, id: &str, config: &ExecConfig, fds: Vec<OwnedFd>) -> Result<Call> {
    let container = inner.running(id)?;
    let sandbox = inner.sandbox(&container.sandbox_id)?;
    let image =
        inner.images.find(&container.image_key)?.ok_or_else(|| ContainerError::ImageNotFound(container.image_ref.clone()))?;
    let mut as_main = container.clone();
    let main = Arc::make_mut(&mut as_main.config);
    main.command.clone_from(&config.command);
    main.args.clear();
    main.tty = config.tty;
    if config.command.is_empty() {
        return Err(ContainerError::Start(format!("{EXEC_PREFIX}no command specified")));
    }
    let process = inner.process_spec(&as_main, &sandbox, &image)?;
    let stdin = config.stdin && !config.tty;
    let request = Request::Exec { container: id.to_owned(), process: Box::new(process), stdin };
    let call = inner.call(&container.sandbox_id, request, fds).await?;
    match &call.reply {
        Reply::Ok => Ok(call),
        Reply::Failed(text) => Err(ContainerError::Start(format!("{EXEC_PREFIX}{text}"))),
        reply => Err(ContainerError::Other(format!("unexpected answer of the shim: {reply:?}"))),
    }
}

/// Waits for the end of a process that [`launch`] has started.
async fn exit_code(call: Call) -> Result<i32> {
    let gone = |error: io::Error| ContainerError::Other(format!("the container's shim ended before the process: {error}"));
    call.stream.set_nonblocking(true).map_err(gone)?;
    let mut stream = tokio::net::UnixStream::from_std(call.stream).map_err(gone)?;
    let mut received = call.rest;
    loop {
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            return match serde_json::from_slice(&received[..end]) {
                Ok(Reply::Exited(code)) => Ok(code),
                reply => Err(ContainerError::Other(format!("unexpected answer of the shim: {reply:?}"))),
            };
        }
        if stream.read_buf(&mut received).await.map_err(gone)? == 0 {
            return Err(gone(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

pub(super) async fn exec(inner: &Arc<Inner>, id: &str, config: ExecConfig) -> Result<ExecSession> {
    if config.tty {
        let mut call = launch(inner, id, &config, Vec::new()).await?;
        let master = call.fds.pop().ok_or_else(|| ContainerError::Other("the shim sent no terminal".to_owned()))?;
        return terminal_session(inner, config, master, call).map_err(exec_error);
    }
    let (out, out_to) = reader().map_err(exec_error)?;
    let (err, err_to) = reader().map_err(exec_error)?;
    let (mut stdin, mut fds) = (None, Vec::new());
    if config.stdin {
        let (to, from) = writer().map_err(exec_error)?;
        stdin = Some(to);
        fds.push(from);
    }
    fds.extend([out_to, err_to]);
    let call = launch(inner, id, &config, fds).await?;
    let ((done_out, drained_out), (done_err, drained_err)) = (oneshot::channel(), oneshot::channel());
    let world = inner.world.clone();
    Ok(ExecSession {
        stdin: stdin.map(|to| feed(inner, to)),
        stdout: pump(inner, out, done_out),
        stderr: pump(inner, err, done_err),
        resize: mpsc::channel(1).0,
        exit_code: async move {
            let code = exit_code(call).await?;
            let _ = world.timeout(DRAIN, async { futures::join!(drained_out, drained_err) }).await;
            Ok(code)
        }
        .boxed(),
    })
}

/// Streams of a process that has a terminal, whose master we hold.
fn terminal_session(inner: &Arc<Inner>, config: ExecConfig, master: OwnedFd, call: Call) -> io::Result<ExecSession> {
    crate::shim::set_nonblocking(master.as_raw_fd());
    // SAFETY: the descriptor is owned by what is registered, and stays open and the same for as long.
    let master = Arc::new(unsafe { AsyncFd::register(master) }.map_err(|error| error.into_parts().1)?);
    let (output, stdout) = mpsc::channel(CHUNKS);
    let (done, drained) = oneshot::channel::<()>();
    let from = master.clone();
    inner.world.spawn("container-output", async move {
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            let Ok(mut ready) = from.readable().await else { break };
            match ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut buffer)?)) {
                Ok(Ok(len @ 1..)) => {
                    if output.send(buffer[..len].to_vec()).await.is_err() {
                        break;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                // EIO: the last process has closed the terminal.
                Ok(_) => break,
                Err(_would_block) => {}
            }
        }
        drop(done);
    });
    let mut stdin = None;
    if config.stdin {
        let (sender, mut receiver) = mpsc::channel::<Vec<u8>>(CHUNKS);
        let to = master.clone();
        inner.world.spawn("container-input", async move {
            while let Some(data) = receiver.recv().await {
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let Ok(mut ready) = to.writable().await else { return };
                    match ready.try_io(|fd| Ok(nix::unistd::write(fd.get_ref(), rest)?)) {
                        Ok(Ok(len)) => rest = &rest[len..],
                        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                        Ok(Err(_)) => return,
                        Err(_would_block) => {}
                    }
                }
            }
        });
        stdin = Some(sender);
    }
    let (resize, mut sizes) = mpsc::channel(4);
    inner.world.spawn("container-terminal", async move {
        while let Some((columns, rows)) = sizes.recv().await {
            // The terminal may be gone already.
            let _ = crate::terminal::set_size(master.get_ref().as_raw_fd(), columns, rows);
        }
    });
    let world = inner.world.clone();
    Ok(ExecSession {
        stdin,
        stdout,
        stderr: mpsc::channel(1).1,
        resize,
        exit_code: async move {
            let code = exit_code(call).await?;
            let _ = world.timeout(DRAIN, drained).await;
            Ok(code)
        }
        .boxed(),
    })
}

pub(super) async fn exec_sync(inner: &Arc<Inner>, id: &str, command: Vec<String>, limit: Duration) -> Result<Option<ExecOutput>> {
    let (mut out, out_to) = reader().map_err(exec_error)?;
    let (mut err, err_to) = reader().map_err(exec_error)?;
    let config = ExecConfig { command, tty: false, stdin: false };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let run = async {
        let call = launch(inner, id, &config, vec![out_to, err_to]).await?;
        let code = async {
            let code = exit_code(call).await;
            (code, inner.world.monotonic())
        };
        let output = async { futures::join!(collect(&mut out, &mut stdout), collect(&mut err, &mut stderr)) };
        futures::pin_mut!(code, output);
        match futures::future::select(code, output).await {
            futures::future::Either::Left(((code, _), output)) => {
                let _ = inner.world.timeout(DRAIN, output).await;
                code
            }
            futures::future::Either::Right((_, code)) => code.await.0,
        }
    };
    let limit = if limit.is_zero() { Duration::from_secs(365 * 86_400) } else { limit };
    // Dropping the connection makes the shim kill the process.
    match inner.world.timeout(limit, run).await {
        Err(_elapsed) => Ok(None),
        Ok(code) => {
            let exit_code = code?;
            Ok(Some(ExecOutput { stdout, stderr, exit_code }))
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn collect(from: &mut pipe::Receiver, kept: &mut Vec<u8>) {
    let mut buffer = vec![0u8; 8 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let room = OUTPUT_BYTES - kept.len();
        kept.extend_from_slice(&buffer[..len.min(room)]);
    }
}

pub(super) async fn attach(inner: &Arc<Inner>, id: &str, stdin: bool, tty: bool) -> Result<ExecSession> {
    let container = inner.running(id)?;
    let attach_error = |error: io::Error| ContainerError::Other(format!("attach: {error}"));
    let (out, out_to) = reader().map_err(attach_error)?;
    let (err, err_to) = reader().map_err(attach_error)?;
    let (mut input, mut fds) = (None, Vec::new());
    let stdin = stdin && container.config.stdin;
    if stdin {
        let (to, from) = writer().map_err(attach_error)?;
        input = Some(to);
        fds.push(from);
    }
    fds.extend([out_to, err_to]);
    let request = Request::Attach { container: id.to_owned(), stdin };
    inner.call(&container.sandbox_id, request, fds).await?;
    let ((done_out, drained_out), (done_err, drained_err)) = (oneshot::channel(), oneshot::channel());
    let (resize, mut sizes) = mpsc::channel(4);
    let (weak, sandbox, container_id) = (Arc::downgrade(inner), container.sandbox_id.clone(), id.to_owned());
    if tty {
        inner.world.spawn("container-terminal", async move {
            while let Some((columns, rows)) = sizes.recv().await {
                let Some(inner) = weak.upgrade() else { return };
                let request = Request::Resize { container: container_id.clone(), columns, rows };
                // It may have ended already.
                let _ = inner.call(&sandbox, request, Vec::new()).await;
            }
        });
    }
    let (inner_at_end, id_at_end) = (inner.clone(), id.to_owned());
    Ok(ExecSession {
        stdin: input.map(|to| feed(inner, to)),
        stdout: pump(inner, out, done_out),
        stderr: pump(inner, err, done_err),
        resize,
        exit_code: async move {
            // The shim closes the streams when the container ends; its state follows.
            let _ = futures::join!(drained_out, drained_err);
            let _ = inner_at_end.world.timeout(DRAIN, inner_at_end.ended(&id_at_end)).await;
            match inner_at_end.container(&id_at_end)?.state {
                daruma_world::containers::ContainerState::Exited { exit_code, .. } => Ok(exit_code),
                _ => Ok(0),
            }
        }
        .boxed(),
    })
}

pub(super) async fn port_forward(inner: &Arc<Inner>, sandbox_id: &str, port: u16) -> Result<Box<dyn Stream>> {
    let sandbox = inner.sandbox(sandbox_id)?;
    if !sandbox.ready {
        return Err(ContainerError::Other(format!("sandbox {sandbox_id} is not running")));
    }
    let namespace = if sandbox.config.shared.network { None } else { Some(inner.netns(sandbox_id)) };
    let (sender, receiver) = oneshot::channel();
    // A thread of its own, as it changes the name space that it lives in and ends there.
    std::thread::Builder::new()
        .name("port-forward".to_owned())
        .spawn(move || {
            let connect = || -> io::Result<TcpStream> {
                if let Some(path) = namespace {
                    let namespace = std::fs::File::open(path)?;
                    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
                }
                let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
                    .or_else(|error| TcpStream::connect(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).map_err(|_| error))?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            };
            // The asker may have gone.
            let _ = sender.send(connect());
        })
        .map_err(other("start a thread"))?;
    let stream = receiver.await.map_err(|_| ContainerError::Other("the connecting thread ended".to_owned()))?;
    let stream = stream
        .and_then(tokio::net::TcpStream::from_std)
        .map_err(other(format_args!("failed to connect to localhost:{port} inside namespace {sandbox_id:?}")))?;
    Ok(Box::new(stream))
}

//! Verbs for a simulated cluster that runs in another process, and the socket that carries them.
#![expect(clippy::disallowed_methods, reason = "the socket is served beside the simulation")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use daruma_cluster::boot::flags;
use serde::{Deserialize, Serialize};

/// Which simulated cluster.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Name of the simulated cluster.
    #[arg(long, default_value = "sim")]
    pub name: String,
    /// Directory that holds all clusters.
    #[arg(long, env = "DARUMA_ROOT", default_value = "/var/lib/daruma")]
    pub root: PathBuf,
}

impl Which {
    /// The cluster's directory.
    pub fn directory(&self) -> PathBuf {
        self.root.join(&self.name)
    }
}

/// What can be asked of a running simulation.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Stop the virtual clock. It still moves by the milliseconds that requests take.
    Pause(Which),
    /// Let the clock run again.
    Continue(Which),
    /// Let so much virtual time pass as fast as possible, then stop the clock.
    Step {
        #[command(flatten)]
        which: Which,
        /// How much, e.g. 10s or 5m.
        #[arg(value_parser = flags::duration)]
        time: Duration,
    },
    /// Set how many virtual seconds pass in a real one.
    Speed {
        #[command(flatten)]
        which: Which,
        /// E.g. 60.
        #[arg(value_parser = speed)]
        speed: f64,
    },
    /// Tell the virtual time, the pace and the machines.
    Status(Which),
    /// The machines' power switches and cables.
    Node {
        #[command(flatten)]
        which: Which,
        /// What to do.
        #[arg(value_enum)]
        act: Act,
        /// The machine.
        machine: String,
    },
}

/// What can be done to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Act {
    /// Cut the power.
    Off,
    /// Give power.
    On,
    /// Cut the power and give it again.
    Reset,
    /// End everything in order and turn off.
    Shutdown,
    /// Shutdown, then power again.
    Reboot,
    /// Hold still.
    Hang,
    /// End a hang.
    Resume,
    /// Cut its cable.
    Cut,
    /// Mend its cable.
    Mend,
}

/// A request on the socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// See [`Verb::Pause`] and [`Verb::Continue`].
    Pause(bool),
    /// See [`Verb::Step`].
    Step(Duration),
    /// See [`Verb::Speed`].
    Speed(f64),
    /// See [`Verb::Status`].
    Status,
    /// See [`Verb::Node`].
    Node(Act, String),
}

/// A request and where its answer goes.
pub type Asked = (Request, mpsc::Sender<Result<String, String>>);

/// A number of virtual seconds a real second.
pub fn speed(text: &str) -> Result<f64, String> {
    let refused = || format!("{text:?} is no speed; write how many virtual seconds pass in a real one, e.g. 60");
    text.parse().ok().filter(|speed| (0.01..=1e6).contains(speed)).ok_or_else(refused)
}

/// Asks a running simulation and prints its answer.
pub fn run(verb: &Verb) -> Result<()> {
    let (which, request) = match verb {
        Verb::Pause(which) => (which, Request::Pause(true)),
        Verb::Continue(which) => (which, Request::Pause(false)),
        Verb::Step { which, time } => (which, Request::Step(*time)),
        Verb::Speed { which, speed } => (which, Request::Speed(*speed)),
        Verb::Status(which) => (which, Request::Status),
        Verb::Node { which, act, machine } => (which, Request::Node(*act, machine.clone())),
    };
    let path = socket(&which.directory());
    let mut stream = UnixStream::connect(&path)
        .with_context(|| format!("no simulated cluster {:?} runs; start one with `daruma sim up`", which.name))?;
    writeln!(stream, "{}", serde_json::to_string(&request)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).context("reading the answer")?;
    match serde_json::from_str::<Result<String, String>>(&line).context("the simulation ended")? {
        Ok(text) => println!("{text}"),
        Err(error) => bail!(error),
    }
    Ok(())
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("sim.sock")
}

/// Listens on a thread of its own; requests arrive at `sender`, and `wake` is called after each.
pub fn listen(directory: &Path, sender: mpsc::Sender<Asked>, wake: impl Fn() + Send + 'static) -> Result<()> {
    let path = socket(directory);
    let listener = UnixListener::bind(&path).with_context(|| format!("listening at {}", path.display()))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A caller that went away, or talks nonsense, gets no answer.
            let _ = answer(stream, &sender, &wake);
        }
    });
    Ok(())
}

fn answer(mut stream: UnixStream, sender: &mpsc::Sender<Asked>, wake: &impl Fn()) -> Result<()> {
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let (reply, replies) = mpsc::channel();
    sender.send((serde_json::from_str(&line)?, reply))?;
    wake();
    let reply: Result<String, String> = replies.recv().unwrap_or_else(|_| Err("the simulation ended".into()));
    writeln!(stream, "{}", serde_json::to_string(&reply)?)?;
    Ok(())
}

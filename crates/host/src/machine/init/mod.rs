//! A machine's PID 1: builds the file system, brings the card up, keeps the command running, buries the dead.
//!
//! It stays single-threaded and small: a machine that runs out of memory must lose a container, not this.

mod command;
mod facts;
mod log;
mod mounts;
mod processes;
mod reaper;
mod seed;
mod service;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use daruma_world::links::{Prefix, Route};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use super::power::{Boot, inherited};
use super::{CARD, Doing, MachineError, ballast, oom};
use crate::netlink::namespace::set_kernel_parameter;
use crate::netlink::route::Owner;
use crate::netlink::{Socket, address, link, route};

pub(crate) use facts::{FACTS_FILE, MachineFacts};

/// The PID 1 mode of the binary. Must be entered before any thread exists.
///
/// `args` are the words after the mode: the numbers of the inherited descriptors of the machine's
/// description, the line to the supervisor and the disk.
pub fn init_main(args: &[String]) -> ! {
    let fds: Vec<i32> = args.iter().filter_map(|word| word.parse().ok()).collect();
    let [told, line, disk] = fds.as_slice() else {
        eprintln!("init: this mode is started by the supervisor only");
        std::process::exit(2);
    };
    if std::process::id() != 1 {
        eprintln!("init: this mode must be the first process of a machine");
        std::process::exit(2);
    }
    #[expect(unsafe_code, reason = "takes over inherited descriptors")]
    // SAFETY: the supervisor passes three open descriptors by number and nothing here has touched them.
    let (told, line, disk) = unsafe { (inherited(*told), inherited(*line), inherited(*disk)) };
    close_on_exec(&[&line]);
    let mut line = UnixStream::from(line);
    match boot(told, disk) {
        Ok((boot, log)) => {
            // A supervisor that no longer listens has its reasons; the machine runs.
            let _ = line.write_all(b"ready\n");
            reaper::run(boot.spec, log, line)
        }
        Err(error) => {
            // One write: half a report is none.
            let _ = line.write_all(format!("{error}\n").as_bytes());
            eprintln!("init: {error}");
            std::process::exit(3);
        }
    }
}

fn boot(told: OwnedFd, disk: OwnedFd) -> Result<(Boot, log::Log), MachineError> {
    block_signals().doing(|| "blocking signals".to_owned())?;
    close_on_exec(&[&told, &disk]);
    let boot: Boot = serde_json::from_reader(io::BufReader::new(File::from(told)))
        .map_err(io::Error::from)
        .doing(|| "reading the machine's description".to_owned())?;
    oom::protect_init();
    nix::unistd::sethostname(&boot.spec.hostname).doing(|| "setting the host name".to_owned())?;
    let host = mounts::HostView::read()?;
    mounts::build(&boot, &host)?;
    drop(disk);
    mounts::enter(&boot.stage)?;
    facts::publish(&boot, &host)?;
    network(&boot).doing(|| "configuring the network card".to_owned())?;
    seed::write(&boot, &host)?;
    ballast::sweep(&boot.pressures);
    let log = log::Log::open(&boot.spec.log_file).doing(|| format!("opening {}", boot.spec.log_file.display()))?;
    Ok((boot, log))
}

fn network(boot: &Boot) -> io::Result<()> {
    for group in ["all", "default"] {
        set_kernel_parameter(&format!("ipv6/conf/{group}/disable_ipv6"), "1", true)?;
        set_kernel_parameter(&format!("ipv4/conf/{group}/rp_filter"), "2", true)?;
    }
    set_kernel_parameter("ipv4/ip_forward", "1", true)?;
    let mut socket = Socket::route()?;
    link::set_up(&mut socket, "lo", true)?;
    address::replace(&mut socket, CARD, Prefix::new(boot.spec.address, boot.spec.prefix))?;
    link::set_up(&mut socket, CARD, true)?;
    match boot.spec.gateway {
        Some(gateway) => route::replace(&mut socket, &Route::via(CARD, gateway, Prefix::ALL), Owner::Machine),
        None => Ok(()),
    }
}

/// Every signal that PID 1 answers comes through a descriptor; see [`reaper`].
fn block_signals() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?)
}

fn close_on_exec(fds: &[&OwnedFd]) {
    for fd in fds {
        let flag = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(fd, flag).expect("an open descriptor takes the flag");
    }
    debug_assert!(fds.iter().all(|fd| fd.as_raw_fd() > 2), "the standard descriptors stay open");
}

//! The process that holds packets back: it is told of each, waits, and lets it pass. Packets never leave the kernel.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;

use crate::netlink::namespace;
use crate::netlink::{Socket, queue};

/// The mode of the binary that becomes this process.
pub const DELAY_MODE: &str = "link-delay";
/// The longest delay; a queue is finite.
pub const LONGEST: Duration = Duration::from_secs(60);

/// A running process that holds packets back. It ends with this value.
#[derive(Debug)]
pub(crate) struct Delayer {
    child: Child,
}

impl Delayer {
    /// Starts one for the queues from `first_queue` on, of the network namespace `inside`, each with its delay.
    pub(crate) fn start(inside: &File, first_queue: u16, delays: &[Duration]) -> io::Result<Self> {
        let socket = namespace::visit(inside, || {
            let mut socket = Socket::netfilter()?;
            for place in 0..delays.len() {
                queue::bind(&mut socket, first_queue + place as u16)?;
            }
            Ok(socket)
        })?;
        let micros = delays.iter().map(|delay| delay.as_micros().to_string());
        let child = Command::new("/proc/self/exe")
            .arg(DELAY_MODE)
            .arg(first_queue.to_string())
            .args(micros)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child })
    }

    /// Whether it has ended, which it does not do by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Delayer {
    fn drop(&mut self) {
        // One that has ended already is as good as killed; what it held back is lost, as on a cable pulled out.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The mode: `words` are the number of the first queue and a delay in microseconds for each.
pub fn main(words: &[String]) -> i32 {
    // The supervisor's death is the end of its switch.
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let numbers: Option<Vec<u64>> = words.iter().map(|word| word.parse().ok()).collect();
    let Some((first, delays)) = numbers.as_deref().and_then(<[u64]>::split_first) else {
        eprintln!("{DELAY_MODE}: this mode is started by the supervisor only");
        return 2;
    };
    let delays: Vec<Duration> = delays.iter().map(|micros| Duration::from_micros(*micros)).collect();
    let stdin = io::stdin();
    match hold(stdin.as_fd(), *first as u16, &delays) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{DELAY_MODE}: {error}");
            1
        }
    }
}

fn hold(socket: BorrowedFd<'_>, first: u16, delays: &[Duration]) -> io::Result<()> {
    let mut held = Held::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let wait = held.next().map(|due| TimeSpec::from(due.saturating_duration_since(Instant::now())));
        let mut watched = [PollFd::new(socket, PollFlags::POLLIN)];
        match ppoll(&mut watched, wait, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        loop {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let now = Instant::now();
                    for packet in queue::read(&buffer[..length]) {
                        let delay = delays.get(usize::from(packet.queue.wrapping_sub(first))).copied().unwrap_or_default();
                        held.add(now + delay, packet);
                    }
                }
                Err(Errno::EAGAIN) => break,
                // Some news was lost; the kernel let those packets pass.
                Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        for packet in held.due(Instant::now()) {
            // A queue that has gone has no packets either.
            let _ = send(socket.as_raw_fd(), &queue::pass(packet), MsgFlags::empty());
        }
    }
}

/// Packets by the time at which they go on.
#[derive(Default)]
struct Held {
    packets: BTreeMap<(Instant, u64), queue::Waiting>,
    count: u64,
}

impl Held {
    fn add(&mut self, due: Instant, packet: queue::Waiting) {
        self.count += 1;
        self.packets.insert((due, self.count), packet);
    }

    fn next(&self) -> Option<Instant> {
        self.packets.first_key_value().map(|((due, _), _)| *due)
    }

    fn due(&mut self, now: Instant) -> Vec<queue::Waiting> {
        let mut due = Vec::new();
        while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= now) {
            due.push(entry.remove());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_go_on_in_order_when_they_are_due() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let packet = |id| queue::Waiting { queue: 0, id };
        let mut held = Held::default();
        for (due, id) in [(20, 1), (10, 2), (10, 3)] {
            held.add(start + ms(due), packet(id));
        }
        assert_eq!(held.next(), Some(start + ms(10)));
        assert_eq!(held.due(start + ms(9)), []);
        assert_eq!(held.due(start + ms(10)), [packet(2), packet(3)]);
        assert_eq!(held.due(start + ms(30)), [packet(1)]);
        assert_eq!(held.next(), None);
    }
}

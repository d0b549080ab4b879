//! Memory that is held: the pages of small processes, which the kernel may end one by one.
//!
//! Pages that belong to no process (those of files in memory) could not be taken back from anybody: the kernel would end
//! containers, then the kubelet, then PID 1, and gain nothing. So a machine in need loses containers first, then as many
//! pieces of the ballast as its own programs need; they are taken again when there is room.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use daruma_world::machines::PressureId;

use super::super::{oom, usage};
use super::{BALLAST_MODE, RETRY, tell};

/// The word for holding one piece.
pub(super) const PIECE: &str = "piece";
/// One process holds this share of a machine's memory: too little to be a likelier victim than any container without
/// requests.
const SHARE: u64 = 32;
/// A piece is not made for less, except for the last one.
const SMALLEST_BYTES: u64 = 4 << 20;
/// After the kernel has refused a piece, so much is left to others.
const SLACK_BYTES: u64 = 16 << 20;
/// What took a piece from us has this long to use its room.
const AFTER_LOSS: Duration = Duration::from_secs(2);

/// A process that holds memory until its standard input ends.
struct Piece {
    process: Child,
    bytes: u64,
}

/// Holds so many bytes, or as many as there are, until it is killed.
pub(super) fn hold(id: PressureId, bytes: u64) -> ! {
    let mut pieces: Vec<Piece> = Vec::new();
    let largest = usage::read_memory().map_or(0, |usage| usage.memory_limit_bytes / SHARE).max(SMALLEST_BYTES);
    // Until the kernel ends a piece of ours, it is for the kernel to say who has to go.
    let (mut refused, mut told) = (false, false);
    loop {
        let before = pieces.len();
        pieces.retain_mut(|piece| matches!(piece.process.try_wait(), Ok(None)));
        let mut lost = pieces.len() < before;
        let held: u64 = pieces.iter().map(|piece| piece.bytes).sum();
        let more = next(bytes - held, if refused { room() } else { u64::MAX }, largest);
        if more > 0 && !lost {
            match start(id, more) {
                Ok(piece) => pieces.push(piece),
                Err(_) => lost = true,
            }
            if !(lost || refused) {
                continue;
            }
        }
        refused |= lost;
        // What is not to be had now is taken as soon as somebody lets go of it.
        told = told || tell(id, "ok").is_ok();
        thread::sleep(if lost { AFTER_LOSS } else { RETRY });
    }
}

/// Size of the next piece in bytes, 0 for none.
fn next(missing: u64, room: u64, largest: u64) -> u64 {
    let more = missing.min(largest).min(room.saturating_sub(SLACK_BYTES));
    if more < SMALLEST_BYTES.min(missing) { 0 } else { more }
}

/// What can still be had, in bytes: as the kubelet counts it, without pages that the kernel keeps for speed.
fn room() -> u64 {
    usage::read_memory().map_or(0, |usage| {
        let in_use = usage.memory_bytes.saturating_sub(usage.inactive_file_bytes);
        usage.memory_limit_bytes.saturating_sub(in_use)
    })
}

fn start(id: PressureId, bytes: u64) -> io::Result<Piece> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(BALLAST_MODE).args([id.to_string(), PIECE.to_owned(), bytes.to_string()]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut answer = [0];
    match process.stdout.take().map(|mut output| output.read_exact(&mut answer)) {
        Some(Ok(())) => Ok(Piece { process, bytes }),
        _ => {
            // Killed while it grew, most likely.
            let _ = process.kill();
            process.wait()?;
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }
}

/// The process of one piece. Returns its exit code once whoever started it has gone.
pub(super) fn piece(bytes: usize) -> i32 {
    oom::offer();
    // Written, so that there is a page behind each.
    let held = vec![1_u8; bytes];
    if io::stdout().write_all(b"k").and_then(|()| io::stdout().flush()).is_err() {
        return 1;
    }
    let _ = io::stdin().read(&mut [0]);
    drop(std::hint::black_box(held));
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit() {
        const MIB: u64 = 1 << 20;
        for (missing, room, expected) in [
            (1000, u64::MAX, 64),
            (65, u64::MAX, 64),
            (1, u64::MAX, 1),
            (0, u64::MAX, 0),
            (1000, 40, 24),
            (1000, 19, 0),
            (2, 19, 2),
            (2, 17, 0),
            (1000, 0, 0),
        ] {
            let got = next(missing * MIB, room.min(1 << 30) * MIB, 64 * MIB);
            assert_eq!(got, expected * MIB, "{missing} MiB are missing, {room} MiB are free");
        }
    }
}

//! The process's own memory: few arenas, and no pages that nobody needs.
#![expect(unsafe_code, reason = "the allocator and the kernel are told by C calls")]
#![expect(clippy::disallowed_methods, reason = "what is given back is of the real world, and so is the time")]

mod allocator;
mod code;

use std::time::Duration;
use std::{fs, thread};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

pub use allocator::Allocator;

/// After this long a process has started, and does what it will do from then on.
const STARTED_AFTER: Duration = Duration::from_secs(10);
/// How often a quiet process gives back what it did not need lately.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(20);
/// A process is quiet that works less than this part of the time.
const QUIET_BELOW_PERCENT: u32 = 2;

/// Lets all threads share one arena of glibc's allocator, and keeps a little of what is freed. Call it first in `main`.
///
/// Our processes have few threads, and each further arena keeps pages of its own. Buffers of a long LIST are freed and
/// allocated all the time: whoever gives their pages back each time faults them in anew each time.
pub fn share_one_arena() {
    for (option, value) in [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, 1 << 20), (libc::M_TRIM_THRESHOLD, 2 << 20)] {
        // SAFETY: mallopt only sets a number, which later allocations read.
        let accepted = unsafe { libc::mallopt(option, value) };
        debug_assert_eq!(accepted, 1, "glibc knows the option");
    }
}

/// Makes the most of memory for the commands that play virtual worlds, which compute for as long as they run: their code
/// goes to huge pages, on a thread of its own, while the process goes on.
pub fn serve_computing() {
    if allocator::is_quick() {
        // Where it fails, or the thread does not begin, the code stays where it is, which is only slower.
        let _ = thread::Builder::new().name("huge pages".into()).spawn(|| _ = code::move_to_huge_pages());
    }
}

/// Gives back what a long-lived process needed once and does not need now: first what its start needed, then, as long
/// as it has little to do, what it did not use lately. Never ends.
pub async fn keep_small() {
    tokio::time::sleep(STARTED_AFTER).await;
    let_go();
    loop {
        let before = processor_time();
        tokio::time::sleep(LOOKED_AT_EVERY).await;
        if processor_time().saturating_sub(before) * 100 < LOOKED_AT_EVERY * QUIET_BELOW_PERCENT {
            let_go();
        }
    }
}

/// What all threads of this process worked so far; nothing where the kernel does not tell.
fn processor_time() -> Duration {
    let micros = |time: TimeVal| Duration::from_micros(time.num_microseconds().unsigned_abs());
    getrusage(UsageWho::RUSAGE_SELF).map_or(Duration::ZERO, |usage| micros(usage.user_time()) + micros(usage.system_time()))
}

/// Gives back free memory of the heap and the mapped pages of the program itself. What is needed again is faulted in
/// from the page cache.
fn let_go() {
    // SAFETY: malloc_trim gives free pages back and may be called at any time.
    unsafe { libc::malloc_trim(0) };
    let Ok(maps) = fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in program_pages(&maps) {
        // SAFETY: the range is one whole read-only mapping of the program's file below its data, so no page of it was
        // ever written: each fault reads the same bytes again. A program's file cannot be written while it runs.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Address ranges of the program's constants and code: the first mapped file's read-only mappings up to and with the
/// code; memory without a file before it does not count. What comes after the code (relocated data) may have been written before it was made read-only.
fn program_pages(maps: &str) -> Vec<(usize, usize)> {
    let mut pages = Vec::new();
    let mut program = None;
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [range, rights, _, _, inode, ..] = fields[..] else { break };
        if inode == "0" && program.is_none() {
            continue;
        }
        if inode == "0" || *program.get_or_insert(inode) != inode || rights.contains('w') {
            break;
        }
        let Some((start, end)) = range.split_once('-') else { break };
        let (Ok(start), Ok(end)) = (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16)) else { break };
        pages.push((start, end));
        if rights.contains('x') {
            return pages;
        }
    }
    // Without code at the beginning this is no layout that is known to be safe.
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_before_the_data_is_let_go() {
        let usual = "00200000-00203000 r--p 00000000 fe:00 77 /daruma\n00203000-00209000 r-xp 00002000 fe:00 77 /daruma\n\
                     00209000-0020a000 r--p 00008000 fe:00 77 /daruma\n0020a000-0020b000 rw-p 00009000 fe:00 77 /daruma\n";
        assert_eq!(program_pages(usual), [(0x20_0000, 0x20_3000), (0x20_3000, 0x20_9000)]);
        let after_the_heap = format!("001000-002000 rw-p 00000000 00:00 0 [heap]\n{usual}");
        assert_eq!(program_pages(&after_the_heap).len(), 2);
        let data_first = "00200000-00203000 rw-p 00000000 fe:00 77 /daruma\n00203000-00209000 r-xp 00002000 fe:00 77 /daruma\n";
        assert!(program_pages(data_first).is_empty());
        let other_file = "00200000-00203000 r--p 00000000 fe:00 77 /daruma\n00203000-00209000 r-xp 00002000 fe:00 78 /other\n";
        assert!(program_pages(other_file).is_empty());
        assert!(program_pages("").is_empty());
    }

    #[test]
    fn the_program_goes_on() {
        let before: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
        let_go();
        assert_eq!(before, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
    }
}

//! The program's code on huge pages, for the commands that run through all of it, millions of times.

use std::io;
use std::ops::Range;
use std::time::Duration;
use std::{ptr, thread};

use libc::{MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, MREMAP_FIXED, MREMAP_MAYMOVE, c_void};
use libc::{PROT_EXEC, PROT_READ, PROT_WRITE};

/// Size of a huge page of x86-64, and of arm64 with pages of 4 kB; elsewhere nothing worse comes of it than ordinary pages.
const HUGE: usize = 2 << 20;

/// So many pages are moved at once. The linker puts first what a profile saw at work, and it fits; pages of this size are
/// scarce on a machine that has run for a while, and each may have to be made free first.
const AT_ONCE: usize = 5;
/// A process that has run for so long goes on for a while, and has the rest moved, too.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Moves the whole huge pages of the code to anonymous memory, where the kernel has huge pages for it; what the addresses
/// hold stays the same. The rest follows after a second. Does nothing where huge pages are turned off, for the machine or the
/// process (`PR_SET_THP_DISABLE`; a profiler finds no symbols for code that lies in no file).
///
/// A virtual cluster runs through megabytes of code for each of its requests, and with pages of 4 kB the processor looks
/// up addresses for a tenth of its time (docs/decisions/2026-11-30-code-on-huge-pages.md).
///
/// # Errors
/// The kernel's, with everything as it was before, or with the first part moved.
pub(super) fn move_to_huge_pages() -> io::Result<()> {
    if !has_huge_pages() {
        return Ok(());
    }
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let Some(code) = super::program_pages(&maps).last().and_then(|pages| whole_huge_pages(pages.0..pages.1)) else {
        return Ok(());
    };
    let first = code.start..code.end.min(code.start + AT_ONCE * HUGE);
    Copied::of(&first)?.replace(&first)?;
    let rest = first.end..code.end;
    if rest.is_empty() {
        return Ok(());
    }
    thread::sleep(REST_AFTER);
    Copied::of(&rest)?.replace(&rest)
}

/// Whether the kernel gives huge pages to a process that asks for them.
fn has_huge_pages() -> bool {
    // SAFETY: reads a flag of the process.
    let is_disabled = unsafe { libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0) };
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    is_disabled == 0 && setting.is_ok_and(|setting| !setting.contains("[never]"))
}

/// The part of a range that is made of whole huge pages; `None` where there is none.
fn whole_huge_pages(range: Range<usize>) -> Option<Range<usize>> {
    let part = range.start.next_multiple_of(HUGE)..range.end / HUGE * HUGE;
    (!part.is_empty()).then_some(part)
}

/// Executable memory with a copy of the code, and nothing else; given back unless it was moved away.
struct Copied(Range<usize>);

impl Copied {
    fn of(code: &Range<usize>) -> io::Result<Self> {
        let room = code.len() + HUGE;
        // SAFETY: asks for new memory wherever there is room.
        let mapped = unsafe { libc::mmap(ptr::null_mut(), room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) };
        if mapped == MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapped = mapped as usize..mapped as usize + room;
        let start = mapped.start.next_multiple_of(HUGE);
        let copy = Self(start..start + code.len());
        unmap(mapped.start..copy.0.start);
        unmap(copy.0.end..mapped.end);
        // SAFETY: the copy is what is left of the mapping; only a wish is told.
        if unsafe { libc::madvise(start as *mut c_void, code.len(), MADV_HUGEPAGE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the code is readable, the copy writable, both of this length, and nobody else knows of the copy.
        unsafe { ptr::copy_nonoverlapping(code.start as *const u8, start as *mut u8, code.len()) };
        // SAFETY: changes the rights of memory that nobody knows of.
        if unsafe { libc::mprotect(start as *mut c_void, code.len(), PROT_READ | PROT_EXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(copy)
    }

    /// Puts the copy in the place of the code.
    fn replace(self, code: &Range<usize>) -> io::Result<()> {
        // SAFETY: every thread goes on with the same bytes at the same addresses: the kernel takes the old pages away and puts
        // the new ones in their place while it holds the lock of the process's address space (mm/mremap.c), and whoever meets
        // a page that is on its way waits for that lock. Both ranges are whole pages of equal length.
        let moved = unsafe {
            libc::mremap(
                self.0.start as *mut c_void,
                self.0.len(),
                code.len(),
                MREMAP_MAYMOVE | MREMAP_FIXED,
                code.start as *mut c_void,
            )
        };
        if moved == MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Where the copy was there is room for anybody: another thread's stack may lie there by now.
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        unmap(self.0.clone());
    }
}

/// Gives back memory that nobody knows of.
fn unmap(range: Range<usize>) {
    if !range.is_empty() {
        // SAFETY: the callers mapped the range, and have not told anybody.
        unsafe { libc::munmap(range.start as *mut c_void, range.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_huge_pages_move() {
        assert_eq!(whole_huge_pages(1..HUGE * 3 + 7), Some(HUGE..HUGE * 3));
        assert_eq!(whole_huge_pages(HUGE..HUGE * 2), Some(HUGE..HUGE * 2));
        assert_eq!(whole_huge_pages(1..HUGE * 2 - 1), None);
        assert_eq!(whole_huge_pages(HUGE - 10..HUGE + 10), None);
    }

    #[test]
    fn a_copy_is_the_code() {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("there is a /proc");
        // The test's own program may be laid out otherwise: any readable pages do.
        let line = maps.lines().find(|line| line.contains(" r-xp ")).expect("something runs");
        let (start, end) = line.split_once(' ').expect("a range").0.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).expect("a number"));
        let copy = Copied::of(&(start..end)).expect("there is memory");
        // SAFETY: both are readable and of this length.
        let [code, copied] =
            [start, copy.0.start].map(|from| unsafe { std::slice::from_raw_parts(from as *const u8, end - start) });
        assert!(code == copied);
        assert_eq!(copy.0.start % HUGE, 0);
        assert_eq!(copy.0.len(), end - start);
    }

    #[test]
    fn a_copy_takes_the_place_of_what_it_is_a_copy_of() {
        let place = vec![7_u8; 3 * HUGE].leak();
        let start = (place.as_ptr() as usize).next_multiple_of(HUGE);
        let copy = Copied::of(&(start..start + HUGE)).expect("there is memory");
        let (before, after) = place.split_at_mut(start - place.as_ptr() as usize);
        after.fill(8);
        copy.replace(&(start..start + HUGE)).expect("it is moved");
        assert!(before.iter().all(|byte| *byte == 7));
        assert!(after[..HUGE].iter().all(|byte| *byte == 7));
        assert!(after[HUGE..].iter().all(|byte| *byte == 8));
    }
}

//! Which allocator a process uses: glibc's, which is small and gives back, or mimalloc, which is quick.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_option_set, mi_option_t, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// The commands that play virtual worlds: they compute for minutes, and everything they compute is in memory.
const QUICK: [&[u8]; 2] = [b"drill", b"sim"];

/// `mi_option_generic_collect` (mimalloc.h of version 3): after so many slow allocations, each counted once in 1,000, all
/// pages are looked at for some to give back. With millions of pages in use that was a tenth of all time.
const GENERIC_COLLECT: mi_option_t = 34;
/// As seldom as mimalloc lets it be.
const SELDOM: c_long = 1_000_000;

/// `mi_option_purge_delay`: after so many milliseconds free pages go back to the kernel, which makes them empty anew when they
/// are needed again, and they are needed again at once.
const PURGE_DELAY: mi_option_t = 15;
const NEVER: c_long = -1;

/// Decided before anything is allocated, and never changed after: memory goes back to whom it came from.
static IS_QUICK: AtomicBool = AtomicBool::new(false);

/// The global allocator of the binary: mimalloc for the commands that play virtual worlds, glibc's for everything else.
///
/// The parts of a cluster live for days and must be small, so they keep glibc's, which gives free pages back. A
/// virtual world of thousands of nodes allocates all the time, and mimalloc halves what that costs, in time as in
/// pages between allocations (docs/decisions/2026-11-30-two-allocators.md).
pub struct Allocator;

/// Looks at the command line before `main`, and before the standard library allocates for the first time.
// SAFETY: glibc calls each function of this section once, on the only thread, with the arguments of `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static DECIDE: extern "C" fn(c_int, *const *const c_char) = decide;

extern "C" fn decide(count: c_int, arguments: *const *const c_char) {
    for index in 1..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the kernel made `count` pointers to strings that end in a zero, and nothing has changed them yet.
        let argument = unsafe { CStr::from_ptr(*arguments.add(index)) };
        if QUICK.contains(&argument.to_bytes()) {
            IS_QUICK.store(true, Ordering::Relaxed);
        }
    }
    if is_quick() {
        for (option, value) in [(GENERIC_COLLECT, SELDOM), (PURGE_DELAY, NEVER)] {
            // SAFETY: there is one thread, and an option is a number that mimalloc only compares with.
            unsafe { mi_option_set(option, value) };
        }
    }
}

/// mimalloc aligns everything to a word; asked for alignment by name it goes a longer way, and takes more.
const ALWAYS: usize = align_of::<usize>();

pub(super) fn is_quick() -> bool {
    IS_QUICK.load(Ordering::Relaxed)
}

// SAFETY: both allocators keep the contract of `GlobalAlloc`, and as the choice never changes after the first
// allocation, each pointer goes back to the one that gave it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_quick() {
            let (size, align) = (layout.size(), layout.align());
            // SAFETY: the size is not zero and the alignment a power of two.
            return unsafe { if align <= ALWAYS { mi_malloc(size) } else { mi_malloc_aligned(size, align) } }.cast();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_quick() {
            // SAFETY: the pointer came from mimalloc.
            return unsafe { mi_free(pointer.cast::<c_void>()) };
        }
        // SAFETY: as the caller promises, and the pointer came from glibc.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_quick() {
            let (size, align) = (layout.size(), layout.align());
            // SAFETY: the size is not zero and the alignment a power of two.
            return unsafe { if align <= ALWAYS { mi_zalloc(size) } else { mi_zalloc_aligned(size, align) } }.cast();
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_quick() {
            let (pointer, align) = (pointer.cast::<c_void>(), layout.align());
            // SAFETY: the pointer came from mimalloc with this alignment.
            return unsafe { if align <= ALWAYS { mi_realloc(pointer, size) } else { mi_realloc_aligned(pointer, size, align) } }
                .cast();
        }
        // SAFETY: as the caller promises, and the pointer came from glibc.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: it reads a number.
        let default = unsafe { libmimalloc_sys::mi_option_get(GENERIC_COLLECT) };
        assert_eq!(default, 10_000, "mimalloc numbers its options anew: see mi_option_generic_collect in mimalloc.h");
    }
}

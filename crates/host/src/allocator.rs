//! The process's memory allocator.
#![expect(unsafe_code, reason = "the allocator is told by a C call")]

/// Lets all threads share one arena of glibc's allocator. Call it first in `main`.
///
/// Our processes have few threads, and each further arena keeps pages of its own; one that is emptied
/// and filled again (the buffers of a long LIST) gives pages back and faults them in anew each time.
pub fn share_one_arena() {
    // SAFETY: mallopt only sets a number; no other thread exists yet that could allocate.
    let accepted = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    debug_assert_eq!(accepted, 1, "glibc knows the option");
}

//! The kernel's randomness.

use daruma_world::Random;

/// Draws from getrandom(2).
pub struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    #[expect(unsafe_code, reason = "libc call")]
    fn fill(&self, buffer: &mut [u8]) {
        let mut filled = 0;
        while filled < buffer.len() {
            let rest = &mut buffer[filled..];
            // SAFETY: the pointer and length describe `rest`, which is writable for the whole call.
            let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            // Without flags getrandom fails only when interrupted by a signal.
            filled += usize::try_from(count).unwrap_or(0);
        }
    }
}

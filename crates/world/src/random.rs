//! Chance.

/// A source of randomness; seeded in simulation.
pub trait Random: Send + Sync {
    /// The next 64 uniformly distributed bits.
    fn next_u64(&self) -> u64;

    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }

    /// A number in `0..bound`; 0 where `bound` is 0. The bias is below 2^-32 for bounds under 2^32.
    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// A number in `[0, 1)`.
    fn unit(&self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

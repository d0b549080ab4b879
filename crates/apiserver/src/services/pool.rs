//! A range of numbers of which some are taken: addresses and ports alike.
//!
//! Facts: kubernetes pkg/registry/core/service/{ipallocator,portallocator}: automatic allocation takes from
//! the upper band first, so that what people choose by hand (the lower band) stays free.

use std::collections::BTreeMap;

use daruma_world::Random;

/// Numbers `0..size` and who has them.
#[derive(Debug)]
pub struct Pool {
    size: u32,
    static_band: u32,
    taken: BTreeMap<u32, String>,
}

/// Random tries before the range is searched in order.
const TRIES: u32 = 32;

impl Pool {
    /// A free range. `divisor` and `most` give the lower band: `min(max(16, size / divisor), most)`.
    pub fn new(size: u32, divisor: u32, most: u32) -> Self {
        let static_band = if size < 16 { 0 } else { (size / divisor).clamp(16, most) };
        Self { size, static_band, taken: BTreeMap::new() }
    }

    /// Takes `number` for `owner`; false where somebody else has it.
    pub fn take(&mut self, number: u32, owner: &str) -> bool {
        self.taken.entry(number).or_insert_with(|| owner.to_owned()) == owner
    }

    /// Takes any free number for `owner`; `None` where all are taken.
    pub fn take_any(&mut self, owner: &str, random: &dyn Random) -> Option<u32> {
        let upper = self.size.saturating_sub(self.static_band);
        for _ in 0..TRIES {
            let number = self.static_band + random.below(u64::from(upper)) as u32;
            if number < self.size && !self.taken.contains_key(&number) {
                self.taken.insert(number, owner.to_owned());
                return Some(number);
            }
        }
        let number = (self.static_band..self.size).chain(0..self.static_band).find(|number| !self.taken.contains_key(number))?;
        self.taken.insert(number, owner.to_owned());
        Some(number)
    }

    /// Gives back what `owner` has of `number`.
    pub fn release(&mut self, number: u32, owner: &str) {
        if self.taken.get(&number).is_some_and(|one| one == owner) {
            self.taken.remove(&number);
        }
    }

    /// How many numbers there are.
    pub fn size(&self) -> u32 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Random for Fixed {
        fn next_u64(&self) -> u64 {
            0
        }
    }

    #[test]
    fn bands() {
        let mut pool = Pool::new(20, 16, 256);
        assert_eq!(pool.take_any("a", &Fixed), Some(16));
        assert!(pool.take(17, "b") && !pool.take(17, "c") && pool.take(17, "b"));
        assert_eq!(pool.take_any("a", &Fixed), Some(18));
        assert_eq!(pool.take_any("a", &Fixed), Some(19));
        assert_eq!(pool.take_any("a", &Fixed), Some(0));
        pool.release(17, "c");
        assert!(!pool.take(17, "c"));
        pool.release(17, "b");
        assert_eq!(pool.take_any("d", &Fixed), Some(17));
    }
}

//! Sleepers by deadline: two four-ary heaps that know where each of their entries lies, so that a time
//! limit that was not needed leaves at once.
//!
//! What fires soon is in one heap, small enough to stay in the processor's cache, everything else in the other: most
//! sleepers of a large world are packets on their way, beside hundreds of thousands that wait for seconds and minutes.

use std::task::Waker;

/// Children of a place in a heap.
const ARITY: usize = 4;

/// Nanoseconds that the near heap reaches ahead when it is filled anew.
const REACH: u64 = 20_000_000;

const NEAR: u8 = 0;
const FAR: u8 = 1;

/// Names one sleeper; worthless once it has fired or was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    serial: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    deadline: u64,
    serial: u64,
    slot: u32,
}

impl Entry {
    /// Order of firing: by deadline, then in the order of going to sleep.
    fn rank(self) -> (u64, u64) {
        (self.deadline, self.serial)
    }
}

struct Slot {
    place: u32,
    heap: u8,
    /// Of the sleeper in this slot; 0 where it is free.
    serial: u64,
    waker: Option<Waker>,
}

/// All sleepers of a world. Deadlines are nanoseconds of virtual time.
#[derive(Default)]
pub(crate) struct Timers {
    /// Deadlines before `limit`, and from there on.
    heaps: [Heap; 2],
    limit: u64,
    slots: Vec<Slot>,
    free: Vec<u32>,
    last_serial: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        self.last_serial += 1;
        let serial = self.last_serial;
        let heap = if deadline < self.limit { NEAR } else { FAR };
        let new = Slot { place: 0, heap, serial, waker: Some(waker) };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = new;
            slot
        } else {
            self.slots.push(new);
            self.slots.len() as u32 - 1
        };
        self.heaps[heap as usize].push(Entry { deadline, serial, slot }, &mut self.slots);
        TimerKey { slot, serial }
    }

    /// Whether the sleeper still sleeps.
    pub(crate) fn is_asleep(&self, key: TimerKey) -> bool {
        self.slots[key.slot as usize].serial == key.serial
    }

    /// Gives a sleeper another waker; gives the old one where it was replaced.
    pub(crate) fn set_waker(&mut self, key: TimerKey, waker: &Waker) -> Option<Waker> {
        let slot = &mut self.slots[key.slot as usize];
        if slot.serial != key.serial || slot.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
            return None;
        }
        slot.waker.replace(waker.clone())
    }

    /// Takes a sleeper out; nothing where it has fired.
    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        if !self.is_asleep(key) {
            return None;
        }
        let slot = &self.slots[key.slot as usize];
        self.take(slot.heap, slot.place as usize)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heaps.iter().find_map(|heap| heap.entries.first()).map(|entry| entry.deadline)
    }

    /// Takes the first sleeper whose deadline is `now` or earlier.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Waker> {
        let next = self.next()?;
        if next > now {
            return None;
        }
        if self.heaps[NEAR as usize].entries.is_empty() {
            self.bring_near(next.saturating_add(REACH));
        }
        self.take(NEAR, 0)
    }

    /// Moves what fires before `limit` into the near heap, which is empty; the first far sleeper is among them.
    fn bring_near(&mut self, limit: u64) {
        self.limit = limit;
        let [near, far] = &mut self.heaps;
        while let Some(entry) = far.entries.first().copied().filter(|entry| entry.deadline < limit) {
            far.take(0, &mut self.slots);
            self.slots[entry.slot as usize].heap = NEAR;
            near.push(entry, &mut self.slots);
        }
    }

    fn take(&mut self, heap: u8, place: usize) -> Option<Waker> {
        let entry = self.heaps[heap as usize].take(place, &mut self.slots);
        let slot = &mut self.slots[entry.slot as usize];
        slot.serial = 0;
        self.free.push(entry.slot);
        slot.waker.take()
    }
}

#[derive(Default)]
struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    fn push(&mut self, entry: Entry, slots: &mut [Slot]) {
        self.entries.push(entry);
        self.rise(self.entries.len() - 1, slots);
    }

    fn take(&mut self, place: usize, slots: &mut [Slot]) -> Entry {
        let entry = self.entries.swap_remove(place);
        if place < self.entries.len() {
            if place > 0 && self.entries[place].rank() < self.entries[(place - 1) / ARITY].rank() {
                self.rise(place, slots);
            } else {
                self.sink(place, slots);
            }
        }
        entry
    }

    fn put(&mut self, place: usize, entry: Entry, slots: &mut [Slot]) {
        self.entries[place] = entry;
        slots[entry.slot as usize].place = place as u32;
    }

    fn rise(&mut self, mut place: usize, slots: &mut [Slot]) {
        let entry = self.entries[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.entries[parent].rank() <= entry.rank() {
                break;
            }
            self.put(place, self.entries[parent], slots);
            place = parent;
        }
        self.put(place, entry, slots);
    }

    fn sink(&mut self, mut place: usize, slots: &mut [Slot]) {
        let entry = self.entries[place];
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.entries.len());
            let Some(least) = children.min_by_key(|child| self.entries[*child].rank()) else { break };
            if entry.rank() <= self.entries[least].rank() {
                break;
            }
            self.put(place, self.entries[least], slots);
            place = least;
        }
        self.put(place, entry, slots);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::{REACH, TimerKey, Timers};
    use crate::random::SplitMix;

    #[test]
    fn fires_in_order_whatever_is_taken_out() {
        let mut random = SplitMix::new(7);
        let mut timers = Timers::default();
        let mut kept: Vec<(u64, TimerKey)> = Vec::new();
        for _ in 0..4000 {
            match random.next() % 4 {
                0 if !kept.is_empty() => {
                    let (_, key) = kept.swap_remove((random.next() % kept.len() as u64) as usize);
                    assert!(timers.remove(key).is_some());
                    assert!(!timers.is_asleep(key));
                    assert!(timers.remove(key).is_none());
                }
                1 if !kept.is_empty() => {
                    let (first, key) = *kept.iter().min_by_key(|(deadline, key)| (*deadline, key.serial)).expect("one");
                    assert_eq!(timers.next(), Some(first));
                    assert!(timers.pop_due(first).is_some() && !timers.is_asleep(key));
                    kept.retain(|(_, other)| *other != key);
                }
                _ => {
                    // Within and beyond what the near heap reaches.
                    let deadline = random.next() % 500 * (REACH / 50);
                    kept.push((deadline, timers.insert(deadline, Waker::noop().clone())));
                }
            }
        }
        let mut deadlines: Vec<u64> = kept.iter().map(|(deadline, _)| *deadline).collect();
        deadlines.sort_unstable();
        for deadline in deadlines {
            assert_eq!(timers.next(), Some(deadline));
            assert!(deadline == 0 || timers.pop_due(deadline - 1).is_none());
            assert!(timers.pop_due(deadline).is_some());
        }
        assert_eq!(timers.next(), None);
    }
}

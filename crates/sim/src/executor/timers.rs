//! Sleepers by deadline: a four-ary heap that knows where each of its entries lies, so that a time
//! limit that was not needed leaves at once.

use std::task::Waker;

/// Children of a place in the heap.
const ARITY: usize = 4;

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
    /// Of the sleeper in this slot; 0 where it is free.
    serial: u64,
    waker: Option<Waker>,
}

/// All sleepers of a world. Deadlines are nanoseconds of virtual time.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Vec<Entry>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    last_serial: u64,
}

impl Timers {
    pub(crate) fn insert(&mut self, deadline: u64, waker: Waker) -> TimerKey {
        self.last_serial += 1;
        let serial = self.last_serial;
        let place = self.heap.len() as u32;
        let new = Slot { place, serial, waker: Some(waker) };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = new;
            slot
        } else {
            self.slots.push(new);
            self.slots.len() as u32 - 1
        };
        self.heap.push(Entry { deadline, serial, slot });
        self.rise(place as usize);
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
        let place = self.slots[key.slot as usize].place as usize;
        self.take(place)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<u64> {
        self.heap.first().map(|entry| entry.deadline)
    }

    /// Takes the first sleeper whose deadline is `now` or earlier.
    pub(crate) fn pop_due(&mut self, now: u64) -> Option<Waker> {
        if self.next()? > now { None } else { self.take(0) }
    }

    fn take(&mut self, place: usize) -> Option<Waker> {
        let entry = self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.put(place, self.heap[place]);
            if place > 0 && self.heap[place].rank() < self.heap[(place - 1) / ARITY].rank() {
                self.rise(place);
            } else {
                self.sink(place);
            }
        }
        let slot = &mut self.slots[entry.slot as usize];
        slot.serial = 0;
        self.free.push(entry.slot);
        slot.waker.take()
    }

    fn put(&mut self, place: usize, entry: Entry) {
        self.heap[place] = entry;
        self.slots[entry.slot as usize].place = place as u32;
    }

    fn rise(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[parent].rank() <= entry.rank() {
                break;
            }
            self.put(place, self.heap[parent]);
            place = parent;
        }
        self.put(place, entry);
    }

    fn sink(&mut self, mut place: usize) {
        let entry = self.heap[place];
        loop {
            let first = place * ARITY + 1;
            let children = first..(first + ARITY).min(self.heap.len());
            let Some(least) = children.min_by_key(|child| self.heap[*child].rank()) else { break };
            if entry.rank() <= self.heap[least].rank() {
                break;
            }
            self.put(place, self.heap[least]);
            place = least;
        }
        self.put(place, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::{TimerKey, Timers};
    use crate::random::SplitMix;

    #[test]
    fn fires_in_order_whatever_is_taken_out() {
        let mut random = SplitMix::new(7);
        let mut timers = Timers::default();
        let mut kept: Vec<(u64, TimerKey)> = Vec::new();
        for _ in 0..2000 {
            match random.next() % 4 {
                0 if !kept.is_empty() => {
                    let (_, key) = kept.swap_remove((random.next() % kept.len() as u64) as usize);
                    assert!(timers.remove(key).is_some());
                    assert!(!timers.is_asleep(key));
                    assert!(timers.remove(key).is_none());
                }
                _ => {
                    let deadline = random.next() % 500;
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

//! The clock of a paced simulation: how far virtual time may go now. Pure.

use std::time::Duration;

/// How far a paused clock moves at once for requests that wait.
const CREEP: Duration = Duration::from_millis(1);
/// A simulation that is further behind than this, in real time, gives up catching up.
const BEHIND: Duration = Duration::from_secs(1);

/// Virtual time against real time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Virtual seconds a real second.
    pub speed: f64,
    /// Whether the clock stands.
    pub paused: bool,
    /// Virtual time that was given up since the pace was set, because there was too much to do.
    pub given_up: Duration,
    anchor_real: Duration,
    anchor_virtual: Duration,
}

impl Pace {
    /// Runs from `at` (virtual) on, at real time `now`.
    pub fn new(speed: f64, now: Duration, at: Duration) -> Self {
        Self { speed, paused: false, given_up: Duration::ZERO, anchor_real: now, anchor_virtual: at }
    }

    /// Goes on from here in another way.
    pub fn set(&mut self, speed: f64, paused: bool, now: Duration, at: Duration) {
        *self = Self { paused, ..Self::new(speed, now, at) };
    }

    /// Up to when virtual time may run, at real time `now`, with the virtual clock at `at` and the next thing to happen
    /// at `next`. Requests wait where `asked`.
    pub fn target(&mut self, now: Duration, at: Duration, next: Option<Duration>, asked: bool) -> Duration {
        if self.paused {
            let soon = at + CREEP;
            return if asked { next.map_or(at, |next| next.clamp(at, soon)) } else { at };
        }
        let due = self.anchor_virtual + now.saturating_sub(self.anchor_real).mul_f64(self.speed);
        if due.saturating_sub(at) > BEHIND.mul_f64(self.speed) {
            let given_up = self.given_up + due.saturating_sub(at);
            *self = Self { given_up, ..Self::new(self.speed, now, at) };
            return at + CREEP.mul_f64(self.speed);
        }
        due.max(at)
    }

    /// How long nothing is to be done, where the next thing happens at `next` (virtual).
    pub fn rest(&self, now: Duration, next: Option<Duration>, longest: Duration) -> Duration {
        let (false, Some(next)) = (self.paused, next) else { return longest };
        let due = self.anchor_real + next.saturating_sub(self.anchor_virtual).div_f64(self.speed);
        due.saturating_sub(now).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_time_follows_real_time() {
        let s = Duration::from_secs_f64;
        let mut pace = Pace::new(60.0, s(10.0), s(5.0));
        assert_eq!(pace.target(s(10.5), s(5.0), None, false), s(35.0));
        assert_eq!(pace.rest(s(10.5), Some(s(65.0)), s(9.0)), s(0.5));
        assert_eq!(pace.rest(s(10.5), Some(s(6.0)), s(9.0)), s(0.0));
        assert_eq!(pace.rest(s(10.5), None, s(9.0)), s(9.0));
        // Too much to do: it goes on from where it is.
        assert_eq!(pace.target(s(20.0), s(35.0), None, false), s(35.06));
        assert_eq!(pace.given_up, s(570.0));
        assert_eq!(pace.target(s(20.1), s(35.06), None, false), s(41.0));
        pace.set(60.0, true, s(20.1), s(41.0));
        assert_eq!(pace.target(s(30.0), s(41.0), None, false), s(41.0));
        assert_eq!(pace.target(s(30.0), s(41.0), Some(s(50.0)), true), s(41.001));
        assert_eq!(pace.target(s(30.0), s(41.0), Some(s(41.0002)), true), s(41.0002));
        assert_eq!(pace.target(s(30.0), s(41.0), None, true), s(41.0));
        assert_eq!(pace.rest(s(30.0), Some(s(42.0)), s(1.0)), s(1.0));
    }
}

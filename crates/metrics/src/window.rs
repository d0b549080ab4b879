//! Usage between two samples.

/// Cumulative CPU time and memory at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    /// CPU time since the start, in seconds.
    pub cpu_seconds: f64,
    /// Working set in bytes.
    pub memory_bytes: f64,
    /// When it was measured, in milliseconds since 1970.
    pub at_ms: i64,
    /// When the container started, in seconds since 1970, where known.
    pub start_seconds: Option<f64>,
}

impl Point {
    pub(crate) fn set_cpu(&mut self, seconds: f64, at_ms: i64) {
        self.cpu_seconds = seconds;
        self.at_ms = at_ms;
    }

    pub(crate) fn set_memory(&mut self, bytes: f64, at_ms: i64) {
        self.memory_bytes = bytes;
        self.at_ms = self.at_ms.max(at_ms);
    }
}

/// Usage over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU in billionths of a core.
    pub cpu_nanos: i64,
    /// Working set in bytes.
    pub memory_bytes: i64,
    /// End of the window, in milliseconds since 1970.
    pub at_ms: i64,
    /// Length of the window in milliseconds.
    pub window_ms: i64,
}

/// The last two points of a node or container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    previous: Option<Point>,
    last: Option<Point>,
}

impl Window {
    /// Takes a new point. A counter that went back means that the thing was restarted; the window begins anew.
    pub fn push(&mut self, point: Point) {
        let restarted = self.last.is_some_and(|last| point.cpu_seconds < last.cpu_seconds);
        if restarted {
            *self = Self::default();
        }
        if self.last.is_some_and(|last| last.at_ms == point.at_ms) {
            return;
        }
        self.previous = match (self.last, point.start_seconds) {
            // The start of a young container is as good as a sample: nothing was used by then.
            (None, Some(start)) if point.at_ms as f64 / 1000.0 - start < 60.0 => {
                Some(Point { at_ms: (start * 1000.0) as i64, ..Point::default() })
            }
            (last, _) => last,
        };
        self.last = Some(point);
    }

    /// Usage over the window; `None` until there are two points.
    pub fn usage(&self) -> Option<Usage> {
        let (previous, last) = (self.previous?, self.last?);
        let window_ms = last.at_ms - previous.at_ms;
        if window_ms <= 0 {
            return None;
        }
        let cpu = (last.cpu_seconds - previous.cpu_seconds) / (window_ms as f64 / 1000.0);
        Some(Usage {
            cpu_nanos: (cpu * 1e9).max(0.0) as i64,
            memory_bytes: last.memory_bytes as i64,
            at_ms: last.at_ms,
            window_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_two_points_and_survives_a_restart() {
        let mut window = Window::default();
        let point = |cpu_seconds, at_ms| Point { cpu_seconds, memory_bytes: 1000.0, at_ms, start_seconds: None };
        window.push(point(1.0, 1000));
        assert_eq!(window.usage(), None);
        window.push(point(1.5, 11_000));
        assert_eq!(window.usage().map(|usage| (usage.cpu_nanos, usage.window_ms)), Some((50_000_000, 10_000)));
        window.push(point(0.1, 21_000));
        assert_eq!(window.usage(), None);
    }
}

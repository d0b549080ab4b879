//! When a node is short of something: signals and thresholds, in the syntax of the real flags.
//!
//! Source: kubernetes pkg/kubelet/eviction/api/types.go, pkg/kubelet/eviction/helpers.go (ParseThresholdConfig),
//! pkg/kubelet/apis/config/v1beta1/defaults_linux.go.
//!
//! Invariant: pure.

use std::fmt;
use std::time::Duration;

use daruma_api::quantity::Quantity;

use super::Condition;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Bytes of memory.
    MemoryAvailable,
    /// Bytes of the kubelet's file system.
    NodefsAvailable,
    /// Inodes of the kubelet's file system.
    NodefsInodesFree,
    /// Bytes of the images' file system; here it is the kubelet's.
    ImagefsAvailable,
    /// Inodes of the images' file system.
    ImagefsInodesFree,
    /// Process ids.
    PidAvailable,
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    /// As flags and configuration files spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The resource that is reclaimed, as events and messages spell it.
    pub fn resource(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory",
            Self::NodefsAvailable | Self::ImagefsAvailable => "ephemeral-storage",
            Self::NodefsInodesFree | Self::ImagefsInodesFree => "inodes",
            Self::PidAvailable => "pids",
        }
    }

    /// The node condition that it stands behind.
    pub fn condition(self) -> Condition {
        match self {
            Self::MemoryAvailable => Condition::Memory,
            Self::PidAvailable => Condition::Pid,
            _ => Condition::Disk,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|signal| signal.as_str() == text);
        known.ok_or_else(|| format!("unsupported eviction signal {text}"))
    }
}

/// How little is too little.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So much.
    Quantity(Quantity),
    /// This part of the capacity, e.g. 0.1.
    Part(f32),
}

impl Amount {
    /// The amount for a capacity in bytes or pieces.
    pub fn of(self, capacity: i64) -> Quantity {
        match self {
            Self::Quantity(quantity) => quantity,
            Self::Part(part) => Quantity::bytes((capacity as f64 * f64::from(part)) as i64),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quantity(quantity) => quantity.fmt(f),
            // What single precision adds is not shown.
            Self::Part(part) => write!(f, "{}%", (f64::from(*part) * 100_000.0).round() / 1000.0),
        }
    }
}

/// A limit that is met where less is available.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold {
    /// What is measured.
    pub signal: Signal,
    /// How little is too little.
    pub amount: Amount,
    /// How long it has to be met before pods are ended; zero makes it a hard one.
    pub grace: Duration,
}

impl Threshold {
    /// Whether pods are ended at once, and without grace.
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// The value of `--eviction-hard` that holds where none is given.
pub const DEFAULT_HARD: &str =
    "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,imagefs.inodesFree<5%";

/// Reads `--eviction-hard` (`memory.available<100Mi,nodefs.available<10%`; the defaults where `None`), `--eviction-soft` (the
/// same form) and `--eviction-soft-grace-period` (`memory.available=1m30s`).
///
/// # Errors
/// A signal that does not exist, an amount or duration that cannot be read, a soft threshold without grace period.
pub fn parse_thresholds(hard: Option<&str>, soft: &str, soft_grace: &str) -> Result<Vec<Threshold>, String> {
    let mut list = statements(hard.unwrap_or(DEFAULT_HARD))?;
    let graces = pairs(soft_grace, '=')?
        .into_iter()
        .map(|(signal, text)| {
            let grace = go_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
            Ok((Signal::parse(signal)?, grace))
        })
        .collect::<Result<Vec<_>, String>>()?;
    for threshold in statements(soft)? {
        let grace = graces.iter().find(|(signal, _)| *signal == threshold.signal).map(|(_, grace)| *grace);
        let missing = || format!("grace period must be specified for the soft eviction threshold {}", threshold.signal.as_str());
        list.push(Threshold { grace: grace.ok_or_else(missing)?, ..threshold });
    }
    Ok(list)
}

fn pairs(text: &str, separator: char) -> Result<Vec<(&str, &str)>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let split = part.split_once(separator).map(|(key, value)| (key.trim(), value.trim()));
            split.ok_or_else(|| format!("malformed pair, expect string{separator}string: {part}"))
        })
        .collect()
}

fn statements(text: &str) -> Result<Vec<Threshold>, String> {
    let mut list = Vec::new();
    for (signal, value) in pairs(text, '<')? {
        let signal = Signal::parse(signal)?;
        if let Some(amount) = amount(signal, value)? {
            list.push(Threshold { signal, amount, grace: Duration::ZERO });
        }
    }
    Ok(list)
}

/// `None` switches the signal off (0 % and 100 %).
fn amount(signal: Signal, value: &str) -> Result<Option<Amount>, String> {
    if let Some(percent) = value.strip_suffix('%') {
        if percent == "0" || percent == "100" {
            return Ok(None);
        }
        let number: f32 = percent.parse().map_err(|_| format!("strconv.ParseFloat: parsing {percent:?}: invalid syntax"))?;
        let limit = |bound: &str| format!("eviction percentage threshold {} must be {bound}: {value}", signal.as_str());
        return match number {
            number if number < 0.0 => Err(limit(">= 0%")),
            number if number > 100.0 => Err(limit("<= 100%")),
            number => Ok(Some(Amount::Part(number / 100.0))),
        };
    }
    let quantity: Quantity = value.parse().map_err(|error| format!("{value:?}: {error}"))?;
    if quantity.is_negative() || quantity.is_zero() {
        return Err(format!("eviction threshold {} must be positive: {quantity}", signal.as_str()));
    }
    Ok(Some(Amount::Quantity(quantity)))
}

/// A duration as Go writes it, in `h`, `m`, `s` and `ms`.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, seconds) =
            [("ms", 0.001), ("h", 3600.0), ("m", 60.0), ("s", 1.0)].into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        sum += Duration::try_from_secs_f64(number * seconds).ok()?;
        rest = &rest[unit.len()..];
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(hard: Option<&str>, soft: &str, grace: &str, expected: Result<&str, &str>) {
        let shown = parse_thresholds(hard, soft, grace).map(|list| {
            let one = |one: &Threshold| format!("{}<{}/{}", one.signal.as_str(), one.amount, one.grace.as_secs());
            list.iter().map(one).collect::<Vec<_>>().join(" ")
        });
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{hard:?} {soft:?} {grace:?}");
    }

    #[test]
    fn flags() {
        check(
            None,
            "",
            "",
            Ok(
                "memory.available<100Mi/0 nodefs.available<10%/0 nodefs.inodesFree<5%/0 imagefs.available<15%/0 imagefs.inodesFree<5%/0",
            ),
        );
        check(Some(""), "", "", Ok(""));
        check(Some("memory.available<1Gi, nodefs.available<0%"), "", "", Ok("memory.available<1Gi/0"));
        check(Some(""), "pid.available<500", "pid.available=1m30s", Ok("pid.available<500/90"));
        check(
            Some(""),
            "pid.available<500",
            "",
            Err("grace period must be specified for the soft eviction threshold pid.available"),
        );
        check(Some("cpu.available<1"), "", "", Err("unsupported eviction signal cpu.available"));
        check(Some("memory.available<0"), "", "", Err("eviction threshold memory.available must be positive: 0"));
        check(Some("memory.available<101%"), "", "", Err("eviction percentage threshold memory.available must be <= 100%: 101%"));
        check(Some("memory.available"), "", "", Err("malformed pair, expect string<string: memory.available"));
    }

    #[test]
    fn parts() {
        let Ok(list) = parse_thresholds(None, "", "") else { panic!("they parse") };
        // As a real node of 61,255,492 KiB shows it: 56,453,061,334 bytes are left.
        assert_eq!(62_725_623_808 - list[1].amount.of(62_725_623_808).value(), 56_453_061_334);
        assert_eq!(list[0].amount.of(1 << 40).to_string(), "100Mi");
    }
}

//! Resource quantities: exact decimal numbers with SI or binary suffixes.
//!
//! Source: kubernetes apimachinery pkg/api/resource/quantity.go. Values are kept in
//! nano-units in 128 bits, which covers the whole range that the real type accepts.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Raw;

const NANO: i128 = 1_000_000_000;

/// How a quantity prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `k`, `M`, `m` …
    #[default]
    DecimalSi,
    /// `Ki`, `Mi` …
    BinarySi,
    /// `1e3`.
    DecimalExponent,
}

/// A quantity. Equality and order look at the value only, not at how it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a quantity was refused (the real server's text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// An unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number, printed with decimal suffixes.
    pub const fn units(value: i64) -> Self {
        Self { nanos: value as i128 * NANO, format: Format::DecimalSi }
    }

    /// Thousandths (of a core, say), printed with decimal suffixes.
    pub const fn millis(value: i64) -> Self {
        Self { nanos: value as i128 * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Billionths, printed with decimal suffixes.
    pub const fn nanos(value: i64) -> Self {
        Self { nanos: value as i128, format: Format::DecimalSi }
    }

    /// Bytes, printed with binary suffixes.
    pub const fn bytes(value: i64) -> Self {
        Self { nanos: value as i128 * NANO, format: Format::BinarySi }
    }

    /// The value rounded up to a whole number.
    pub fn value(self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// The value rounded up to thousandths.
    pub fn milli_value(self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    /// Whether it is zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether it is a whole number of thousandths.
    pub fn is_whole_millis(self) -> bool {
        self.nanos % (NANO / 1000) == 0
    }

    /// Whether it is a whole number.
    pub fn is_whole(self) -> bool {
        self.nanos % NANO == 0
    }

    /// How it prints.
    pub fn format(self) -> Format {
        self.format
    }

    /// The wire form.
    pub fn to_raw(self) -> Raw {
        Raw(self.to_string())
    }

    /// From the wire form; a text that does not parse counts as zero (the server refuses such objects).
    pub fn from_raw(raw: &Raw) -> Self {
        raw.0.parse().unwrap_or_default()
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nanos.cmp(&other.nanos)
    }
}
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}
impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        let format = if self.nanos == 0 { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}
impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let negative = text.starts_with('-');
        let digits_end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::Format);
        }
        if !suffix.chars().all(|c| c.is_ascii_digit() || "eEinumkKMGTP+-".contains(c)) {
            return Err(QuantityError::Format);
        }
        let (multiplier, divisor, format) = scale(suffix)?;
        // Digits as one big integer, then scaled; more than nano precision rounds up, away from zero.
        let mut nanos: i128 = 0;
        let mut below = NANO;
        let mut dropped = false;
        for digit in whole.bytes() {
            nanos = nanos.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        }
        nanos = nanos.saturating_mul(NANO);
        let mut exact_fraction: i128 = 0;
        for digit in fraction.bytes() {
            if below > 1 {
                below /= 10;
                exact_fraction += i128::from(digit - b'0') * below;
            } else if digit != b'0' {
                dropped = true;
            }
        }
        nanos = nanos.saturating_add(exact_fraction).saturating_add(i128::from(dropped));
        nanos = div_up(nanos.saturating_mul(multiplier), divisor);
        // The real type caps at 2^63-1 units.
        nanos = nanos.min(i128::from(i64::MAX).saturating_mul(NANO));
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }
}

fn scale(suffix: &str) -> Result<(i128, i128, Format), QuantityError> {
    let decimal = |power: u32| Ok((10i128.pow(power), 1, Format::DecimalSi));
    let fraction = |power: u32| Ok((1, 10i128.pow(power), Format::DecimalSi));
    let binary = |power: u32| Ok((1024i128.pow(power), 1, Format::BinarySi));
    match suffix {
        "" => decimal(0),
        "n" => fraction(9),
        "u" => fraction(6),
        "m" => fraction(3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let exponent = other.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
            let power: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
            if power >= 0 {
                Ok((10i128.pow(power.min(18).unsigned_abs()), 1, Format::DecimalExponent))
            } else {
                Ok((1, 10i128.pow(power.max(-18).unsigned_abs()), Format::DecimalExponent))
            }
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, nanos) = if self.nanos < 0 { ("-", -self.nanos) } else { ("", self.nanos) };
        if nanos == 0 {
            return f.write_str("0");
        }
        // Binary suffixes need whole numbers of at least 1024; smaller ones print as decimal.
        if self.format == Format::BinarySi && nanos % NANO == 0 && nanos >= 1024 * NANO {
            let (mut value, mut power) = (nanos / NANO, 0);
            while value % 1024 == 0 && power < 6 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{sign}{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut value, mut power) = (nanos, -3i32);
        while value % 1000 == 0 && power < 6 {
            value /= 1000;
            power += 1;
        }
        if self.format == Format::DecimalExponent {
            return if power == 0 { write!(f, "{sign}{value}") } else { write!(f, "{sign}{value}e{}", power * 3) };
        }
        let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][(power + 3) as usize];
        write!(f, "{sign}{value}{suffix}")
    }
}

fn div_up(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor > 0 { quotient + 1 } else { quotient }
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, printed: &str, milli_value: i64) {
        let quantity: Quantity = text.parse().expect("parses");
        assert_eq!(quantity.to_string(), printed, "{text}");
        assert_eq!(quantity.milli_value(), milli_value, "{text}");
    }

    #[test]
    fn round_trips() {
        check("0", "0", 0);
        check("100m", "100m", 100);
        check("0.1", "100m", 100);
        check("1.5", "1500m", 1500);
        check("1000m", "1", 1000);
        check("2000", "2k", 2_000_000);
        check("1Gi", "1Gi", 1_073_741_824_000);
        check("1024Mi", "1Gi", 1_073_741_824_000);
        check("1.5Gi", "1536Mi", 1_610_612_736_000);
        check("100Mi", "100Mi", 104_857_600_000);
        check("1e3", "1e3", 1_000_000);
        check("-5m", "-5m", -5);
        check("1n", "1n", 1);
        check("269123456n", "269123456n", 270);
    }

    #[test]
    fn refusals() {
        for bad in ["", "a", "1.2.3", "1 Gi", "Gi"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Format), "{bad}");
        }
        for bad in ["1iG", "1e", "1Kii"] {
            assert_eq!(bad.parse::<Quantity>(), Err(QuantityError::Suffix), "{bad}");
        }
    }
}

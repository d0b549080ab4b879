//! Numbers that may be percentages.
//!
//! Source: kubernetes apimachinery pkg/util/intstr.

use daruma_api::IntOrString;

/// The number itself, or that share of `total`, rounded up or down. What does not parse counts as 0
/// (the server refuses it).
pub(crate) fn scaled(value: Option<&IntOrString>, total: i32, round_up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let Some(Ok(percent)) = text.strip_suffix('%').map(str::parse::<i64>) else { return 0 };
            let product = percent * i64::from(total);
            let rounded = if round_up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!(scaled(Some(&quarter), 5, true), 2);
        assert_eq!(scaled(Some(&quarter), 5, false), 1);
        assert_eq!(scaled(Some(&IntOrString::Int(3)), 5, false), 3);
        assert_eq!(scaled(None, 5, true), 0);
    }
}

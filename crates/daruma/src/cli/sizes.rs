//! Sizes on the command line.

use daruma_api::quantity::Quantity;

/// Bytes from a quantity such as `1Gi` or `512Mi`.
pub fn bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a size; write it like 512Mi, 1Gi or 4Gi");
    let quantity: Quantity = text.parse().map_err(|_| refused())?;
    u64::try_from(quantity.value()).map_err(|_| refused())
}

/// Thousandths of a CPU from a quantity such as `2`, `0.5` or `500m`.
pub fn cpu_millis(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a number of CPUs; write it like 2, 0.5 or 500m");
    let quantity: Quantity = text.parse().map_err(|_| refused())?;
    u64::try_from(quantity.milli_value()).ok().filter(|millis| *millis >= 10).ok_or_else(refused)
}

/// `COMPONENT.FLAG=VALUE` taken apart.
pub fn setting(text: &str) -> Result<(String, String, String), String> {
    let refused = || format!("{text:?} is not COMPONENT.FLAG=VALUE, e.g. kube-controller-manager.kube-api-qps=100");
    let (component, rest) = text.split_once('.').ok_or_else(refused)?;
    let (flag, value) = rest.split_once('=').ok_or_else(refused)?;
    if component.is_empty() || flag.is_empty() {
        return Err(refused());
    }
    Ok((component.into(), flag.trim_start_matches('-').into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parsing() {
        assert_eq!(bytes("1Gi"), Ok(1 << 30));
        assert!(bytes("-1").is_err());
        assert!(bytes("much").is_err());
        assert_eq!(cpu_millis("0.5"), Ok(500));
        assert!(cpu_millis("0").is_err());
        assert_eq!(setting("a.b-c=d.e=f"), Ok(("a".into(), "b-c".into(), "d.e=f".into())));
        assert!(setting("a=b").is_err());
    }
}

//! Amounts as a person writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use daruma_api::quantity::Quantity;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount of bytes: `512Mi`, `2Gi`, `100M`, or a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no amount of bytes; write for example 512Mi, 2Gi or 100M");
        let quantity: Quantity = text.parse().map_err(|_| wrong())?;
        u64::try_from(quantity.value()).map(Self).map_err(|_| wrong())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1u64 << 40, "Ti"), (1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        match units.iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(formatter, "{}{unit}", self.0 / size),
            None => write!(formatter, "{}", self.0),
        }
    }
}

/// Text or a number.
struct Amount;

impl Visitor<'_> for Amount {
    type Value = Bytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an amount of bytes such as 512Mi, 2Gi or 100M")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bytes, E> {
        Ok(Bytes(number))
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An amount of bytes such as 512Mi, 2Gi or 100M.",
            "type": ["string", "integer"],
            "pattern": "^[0-9.]+([KMGT]i?|k)?$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, bytes, shown) in
            [("512Mi", 512 << 20, "512Mi"), ("1500M", 1_500_000_000, "1500000000"), ("2Gi", 2 << 30, "2Gi")]
        {
            let amount: Bytes = text.parse().unwrap();
            assert_eq!((amount.0, amount.to_string().as_str()), (bytes, shown), "{text}");
        }
        assert!("-1".parse::<Bytes>().is_err() && "much".parse::<Bytes>().is_err());
    }
}

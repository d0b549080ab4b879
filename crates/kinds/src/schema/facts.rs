//! What the generated schemas lack: group-version-kinds, list types and keys, patch strategies,
//! enumerations, defaults. Read off a running v1.36.2 API server (`data/schemas.json`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Facts of one schema.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SchemaFacts {
    /// Required members.
    #[serde(default)]
    pub required: Vec<String>,
    /// `group/version Kind`, for each group version that the schema is a kind of.
    #[serde(default)]
    pub gvk: Vec<String>,
    /// `atomic` where apply replaces the whole.
    #[serde(default, rename = "mapType")]
    pub map_type: Option<String>,
    /// Discriminated unions.
    #[serde(default)]
    pub unions: Option<Value>,
    /// Facts by member.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldFacts>,
}

/// Facts of one member.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct FieldFacts {
    /// `atomic`, `set` or `map`.
    #[serde(default)]
    pub list: Option<String>,
    /// Keys of a list of type `map`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Map type.
    #[serde(default)]
    pub map: Option<String>,
    /// Patch strategies, comma-separated.
    #[serde(default)]
    pub patch: Option<String>,
    /// Merge key of the strategic merge patch.
    #[serde(default, rename = "mergeKey")]
    pub merge_key: Option<String>,
    /// Allowed values.
    #[serde(default, rename = "enum")]
    pub allowed: Option<Value>,
    /// Default of the schema.
    #[serde(default)]
    pub default: Option<Value>,
}

/// Facts of a schema by its name, with none where it has none. Read anew at each call: schemas are built once and their
/// facts are not kept.
pub(crate) fn of(name: &str) -> SchemaFacts {
    static ALL: OnceLock<BTreeMap<&str, &RawValue>> = OnceLock::new();
    let all = ALL.get_or_init(|| read(include_str!("../../data/schemas.json")));
    all.get(name).map(|facts| read(facts.get())).unwrap_or_default()
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).expect("the committed file fits its type; a test reads it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_has_facts_that_can_be_read() {
        let all: BTreeMap<&str, SchemaFacts> = read(include_str!("../../data/schemas.json"));
        let kinds = all.keys().filter(|name| !of(name).gvk.is_empty());
        assert_eq!(kinds.count(), all.values().filter(|facts| !facts.gvk.is_empty()).count());
        assert!(of("io.k8s.api.core.v1.PodSpec").required.contains(&"containers".to_owned()));
        assert!(of("io.k8s.api.core.v1.Unknown").fields.is_empty());
    }
}

//! What the generated schemas lack: group-version-kinds, list types and keys, patch strategies,
//! enumerations, defaults. Read off a running v1.36.2 API server (`data/schemas.json`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

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

/// All facts by schema name. Parsed anew at each call: schemas are built once and the facts are not kept.
pub(crate) fn read() -> BTreeMap<String, SchemaFacts> {
    serde_json::from_str(include_str!("../../data/schemas.json")).expect("the committed file fits its type; a test reads it")
}

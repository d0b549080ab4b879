//! Who owns what: `metadata.managedFields` read and written.
//!
//! Source: apimachinery pkg/util/managedfields/internal/managedfields.go.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields_v1::FieldsError;
use super::set::Set;

const FIELDS_TYPE: &str = "FieldsV1";

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells managers of an object apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManagerId {
    /// The name that it gives itself.
    pub manager: String,
    /// How it writes.
    pub operation: Operation,
    /// In which version it writes; empty for appliers, which may change it.
    pub api_version: String,
    /// The subresource by which it writes; empty for the main resource.
    pub subresource: String,
}

impl ManagerId {
    /// The identity of a manager that writes in `api_version`.
    pub fn new(manager: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        let own = |text: &str| text.to_owned();
        Self { manager: own(manager), operation, api_version: own(api_version), subresource: own(subresource) }
    }
}

/// What a manager owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owned {
    /// The fields.
    pub set: Set,
    /// The version in which they are named.
    pub api_version: String,
    /// Whether they were applied.
    pub applied: bool,
    /// When the manager wrote last, as RFC 3339 in seconds; where it is known.
    pub time: Option<String>,
}

/// All managers of an object.
pub type Managers = BTreeMap<ManagerId, Owned>;

/// Why `managedFields` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManagedError {
    /// Something other than a list of objects.
    #[error("managed fields must be a list of objects")]
    NoList,
    /// An operation other than the two.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    ApiVersion,
    /// No type of fields.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    /// A type of fields that is not known.
    #[error("invalid fieldsType {kind:?} in managed fields entry {index}")]
    FieldsType {
        /// The type.
        kind: String,
        /// Which entry.
        index: usize,
    },
    /// Fields that do not parse.
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldsError),
}

/// Reads `managedFields`; nothing is no managers.
///
/// # Errors
/// What does not follow the format.
pub(super) fn decode(entries: Option<&Value>) -> Result<Managers, ManagedError> {
    let entries = match entries {
        None | Some(Value::Null) => return Ok(Managers::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(ManagedError::NoList),
    };
    let mut managers = Managers::new();
    for (index, entry) in entries.iter().enumerate() {
        let entry = entry.as_object().ok_or(ManagedError::NoList)?;
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err(ManagedError::Operation),
        };
        if text("apiVersion").is_empty() {
            return Err(ManagedError::ApiVersion);
        }
        match text("fieldsType") {
            FIELDS_TYPE => {}
            "" => return Err(ManagedError::NoFieldsType(index)),
            other => return Err(ManagedError::FieldsType { kind: other.to_owned(), index }),
        }
        let owned = Owned {
            set: Set::decode(entry.get("fieldsV1").unwrap_or(&Value::Null))?,
            api_version: text("apiVersion").to_owned(),
            applied: operation == Operation::Apply,
            time: Some(text("time").to_owned()).filter(|time| !time.is_empty()),
        };
        managers.insert(ManagerId::new(text("manager"), operation, text("apiVersion"), text("subresource")), owned);
    }
    Ok(managers)
}

/// Writes `managedFields`; `None` for no managers. Appliers come first, then by time, name, version and subresource.
pub(super) fn encode(managers: &Managers) -> Option<Value> {
    if managers.is_empty() {
        return None;
    }
    let mut sorted: Vec<(&ManagerId, &Owned)> = managers.iter().collect();
    sorted.sort_by(|(left_id, left), (right_id, right)| {
        let key = |id: &ManagerId, owned: &Owned| (operation(id, owned), owned.time.clone().unwrap_or_default());
        key(left_id, left)
            .cmp(&key(right_id, right))
            .then_with(|| left_id.manager.cmp(&right_id.manager))
            .then_with(|| left.api_version.cmp(&right.api_version))
            .then_with(|| left_id.subresource.cmp(&right_id.subresource))
    });
    Some(sorted.into_iter().map(|(id, owned)| entry(id, owned)).collect())
}

fn operation(id: &ManagerId, owned: &Owned) -> Operation {
    if owned.applied { Operation::Apply } else { id.operation }
}

fn entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let texts = [
        ("manager", id.manager.as_str()),
        ("operation", operation(id, owned).name()),
        ("apiVersion", &owned.api_version),
        ("time", owned.time.as_deref().unwrap_or_default()),
        ("fieldsType", FIELDS_TYPE),
        ("subresource", &id.subresource),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        entry.insert(key.into(), text.into());
    }
    entry.insert("fieldsV1".into(), owned.set.encode());
    Value::Object(entry)
}

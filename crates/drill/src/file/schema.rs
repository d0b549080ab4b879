//! The JSON schema of drill files.

use serde_json::{Map, Value, json};

use super::Drill;
use crate::faults;

/// JSON schema (2020-12) of a drill file. Each fault is described with its own parameters.
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Drill).to_value();
    let step = &mut schema["$defs"]["Step"];
    if let Some(properties) = step.get_mut("properties") {
        let names: Vec<&str> = faults::ALL.iter().map(|fault| fault.name()).collect();
        properties["fault"] = json!({"description": "Breaks something: name of the fault.", "enum": names});
    }
    let rules: Vec<Value> = faults::ALL
        .iter()
        .map(|fault| {
            json!({
                "if": {"properties": {"fault": {"const": fault.name()}}, "required": ["fault"]},
                "then": {"description": fault.summary(), "properties": {"with": parameters(*fault)}},
            })
        })
        .collect();
    step["allOf"] = rules.into();
    schema["title"] = "Drill".into();
    schema["properties"]["apiVersion"] = json!({"const": super::API_VERSION});
    schema["properties"]["kind"] = json!({"const": "Drill"});
    schema
}

fn parameters(fault: &dyn faults::Fault) -> Value {
    let mut properties = Map::new();
    for parameter in fault.parameters() {
        let mut one = parameter.kind.schema();
        one["description"] = parameter.about.into();
        if let Some(default) = parameter.default {
            one["default"] = default.into();
        }
        properties.insert(parameter.name.to_owned(), one);
    }
    let required: Vec<&str> =
        fault.parameters().iter().filter(|parameter| parameter.required).map(|parameter| parameter.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

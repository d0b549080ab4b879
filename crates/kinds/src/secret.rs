//! Secret.
//!
//! Source: kubernetes pkg/registry/core/secret, `ValidateSecret`, pkg/apis/core/v1/conversion.go
//! (`stringData`).

use daruma_api::status::FieldError;
use serde_json::Value;

use crate::access::{at, default_text, ensure, entries, get, has, keep, remove, set, text};
use crate::config_map::{MAX_SIZE, decoded_length, validate_frozen};
use crate::field::{Errors, Path};
use crate::kind::{Column, Kind, Names, Scope};
use crate::names;
use crate::printing::{AGE, NAME, age, column, name};
use crate::verbs;

/// The kind.
pub struct Secret;

static NAMES: Names = Names {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    verbs: verbs::ALL,
};

static COLUMNS: &[Column] =
    &[NAME, column("Type", "string", "What the secret is for."), column("Data", "string", "How many keys there are."), AGE];

impl Kind for Secret {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn default(&self, object: &mut Value) {
        default_text(object, "type", "Opaque");
        if has(object, "stringData") {
            let plain: Vec<(String, String)> = entries(object, "stringData")
                .map(|(key, value)| (key.clone(), encode(value.as_str().unwrap_or_default().as_bytes())))
                .collect();
            let data = ensure(object, "data");
            for (key, value) in plain {
                set(data, &key, value);
            }
            remove(object, "stringData");
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if text(new, "type").is_empty() {
            keep(new, old, "type");
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (root, data) = (Path::Root("data"), get(object, "data"));
        let mut size = 0;
        for (key, value) in entries(object, "data") {
            errors.all_invalid(&root.key(key), key, names::config_map_key(key));
            size += decoded_length(value.as_str().unwrap_or_default());
        }
        if size > MAX_SIZE {
            errors.too_long(&root, MAX_SIZE);
        }
        let mut need = |keys: &[&str]| {
            for key in keys.iter().filter(|key| !has(data, key)) {
                errors.required(&root.key(key), "");
            }
        };
        match text(object, "type") {
            "kubernetes.io/service-account-token" => {
                let key = "kubernetes.io/service-account.name";
                if text(at(object, &["metadata", "annotations"]), key).is_empty() {
                    errors.required(&Path::Root("metadata.annotations").key(key), "");
                }
            }
            "kubernetes.io/dockercfg" => need(&[".dockercfg"]),
            "kubernetes.io/dockerconfigjson" => need(&[".dockerconfigjson"]),
            "kubernetes.io/basic-auth" if !has(data, "username") && !has(data, "password") => need(&["username", "password"]),
            "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
                errors.required(&root.key("ssh-privatekey"), "");
            }
            "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
            _ => {}
        }
        errors.into_vec()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        errors.immutable(&Path::Root("type"), get(new, "type"), get(old, "type"));
        validate_frozen(&mut errors, new, old, &["data"]);
        errors.into_vec()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(object), text(object, "type").into(), entries(object, "data").count().into(), age(object, now)]
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }
}

/// Base64 with padding.
fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            if place <= chunk.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_data_is_encoded() {
        let mut secret = json!({"stringData": {"a": "x", "b": "hello", "c": "", "d": "abc"}, "data": {"a": "old="}});
        Secret.default(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eA==", "b": "aGVsbG8=", "c": "", "d": "YWJj"}}));
    }
}

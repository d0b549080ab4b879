//! ConfigMaps and Secrets that pods refer to.

use std::collections::BTreeMap;

use daruma_api::core::v1::{ConfigMap, Secret};
use daruma_client::{Client, ClientError};

/// Reads objects from the API.
pub struct Objects<'a> {
    /// The API.
    pub client: &'a Client,
}

/// Content by key.
pub type Data = BTreeMap<String, Vec<u8>>;

impl Objects<'_> {
    /// All of a ConfigMap's content; empty where it is missing and `optional`.
    ///
    /// # Errors
    /// Missing, or the API cannot be asked.
    pub async fn config_map(&self, namespace: &str, name: &str, optional: bool) -> Result<Data, String> {
        match self.client.namespaced::<ConfigMap>(namespace).get(name).await {
            Ok(found) => {
                let mut data: Data = found.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes())).collect();
                data.extend(found.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0)));
                Ok(data)
            }
            Err(error) => absent("configmap", name, optional, &error),
        }
    }

    /// All of a Secret's content; empty where it is missing and `optional`.
    ///
    /// # Errors
    /// Missing, or the API cannot be asked.
    pub async fn secret(&self, namespace: &str, name: &str, optional: bool) -> Result<Data, String> {
        match self.client.namespaced::<Secret>(namespace).get(name).await {
            Ok(found) => Ok(found.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()),
            Err(error) => absent("secret", name, optional, &error),
        }
    }

    pub(crate) async fn config_map_texts(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<BTreeMap<String, String>, String> {
        Ok(texts(self.config_map(namespace, name, optional).await?))
    }

    pub(crate) async fn secret_texts(
        &self,
        namespace: &str,
        name: &str,
        optional: bool,
    ) -> Result<BTreeMap<String, String>, String> {
        Ok(texts(self.secret(namespace, name, optional).await?))
    }
}

fn texts(data: Data) -> BTreeMap<String, String> {
    data.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?))).collect()
}

fn absent(kind: &str, name: &str, optional: bool, error: &ClientError) -> Result<Data, String> {
    if !error.is_not_found() {
        return Err(format!("failed to fetch {kind} {name:?}: {error}"));
    }
    if optional { Ok(Data::new()) } else { Err(format!("{kind} {name:?} not found")) }
}

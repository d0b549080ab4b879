//! ConfigMaps and Secrets that pods refer to, each followed by a watch of its own for as long as a pod needs it.
//!
//! Source: kubernetes pkg/kubelet/util/manager/watch_based_manager.go. A change wakes the pods that refer to the object at once;
//! the real kubelet looks with a pod's next synchronisation, up to 90 s later.

mod references;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use daruma_api::core::v1::{ConfigMap, Pod, Secret};
use daruma_api::k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_client::ListOptions;
use daruma_client::informer::Informer;
use daruma_world::tasks::AbortOnDrop;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::shared::Shared;

/// How long a first list is waited for (watch_based_manager.go, Get).
const FIRST_LIST: Duration = Duration::from_secs(1);

/// Content by key.
pub type Data = BTreeMap<String, Vec<u8>>;

/// The objects that the node's pods refer to.
#[derive(Default)]
pub struct Objects {
    config_maps: Followed<ConfigMap>,
    secrets: Followed<Secret>,
}

/// Objects of one kind by `namespace/name`.
struct Followed<K>(Mutex<BTreeMap<String, Entry<K>>>);

struct Entry<K> {
    informer: Informer<K>,
    /// Ends the watch; gone already where the object can never change.
    watch: Option<AbortOnDrop>,
    /// UIDs of the pods that refer to it.
    users: BTreeSet<String>,
}

impl<K> Default for Followed<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Followed<K>
where
    K: Resource<Scope = NamespaceResourceScope>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static,
{
    fn refer(&self, shared: &Arc<Shared>, pod: &Pod, names: BTreeSet<String>) {
        let mut entries = self.0.lock().expect("no panic while held");
        for name in names {
            let entry =
                entries.entry(format!("{}/{name}", pod.namespace())).or_insert_with(|| follow(shared, pod.namespace(), &name));
            entry.users.insert(pod.uid().to_owned());
        }
    }

    fn release(&self, uid: &str) {
        let mut gone = Vec::new();
        {
            let mut entries = self.0.lock().expect("no panic while held");
            let unused: Vec<String> = entries
                .iter_mut()
                .filter_map(|(key, entry)| (entry.users.remove(uid) && entry.users.is_empty()).then(|| key.clone()))
                .collect();
            gone.extend(unused.iter().filter_map(|key| entries.remove(key)));
        }
        // Outside of the lock: this ends tasks.
        drop(gone);
    }

    /// The object as the watch shows it. `kind` is for the message.
    async fn get(&self, shared: &Shared, kind: &str, namespace: &str, name: &str) -> Result<Option<Arc<K>>, String> {
        let key = format!("{namespace}/{name}");
        let known = self.0.lock().expect("no panic while held").get(&key).map(|entry| entry.informer.clone());
        let Some(informer) = known else {
            return Err(format!("object {namespace:?}/{name:?} not registered"));
        };
        if !informer.has_synced() {
            let synced = shared.world.timeout(FIRST_LIST, informer.wait_synced()).await;
            synced.map_err(|_| format!("failed to sync {kind} cache: timed out waiting for the condition"))?;
        }
        Ok(informer.get(namespace, name))
    }

    /// Ends the watch of an object that can never change.
    fn freeze(&self, namespace: &str, name: &str) {
        let mut entries = self.0.lock().expect("no panic while held");
        let watch = entries.get_mut(&format!("{namespace}/{name}")).and_then(|entry| entry.watch.take());
        drop(entries);
        drop(watch);
    }

    fn users(&self, namespace: &str, name: &str) -> BTreeSet<String> {
        let entries = self.0.lock().expect("no panic while held");
        entries.get(&format!("{namespace}/{name}")).map(|entry| entry.users.clone()).unwrap_or_default()
    }
}

/// Starts to watch one object.
fn follow<K>(shared: &Arc<Shared>, namespace: &str, name: &str) -> Entry<K>
where
    K: Resource<Scope = NamespaceResourceScope>
        + Metadata<Ty = ObjectMeta>
        + Serialize
        + DeserializeOwned
        + Clone
        + Send
        + Sync
        + 'static,
{
    let options = ListOptions { field_selector: format!("metadata.name={name}"), ..ListOptions::default() };
    let informer = Informer::new(shared.client.namespaced::<K>(namespace), options);
    let weak: Weak<Shared> = Arc::downgrade(shared);
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    let copy = informer.clone();
    let synced = move || copy.has_synced();
    informer.on_delta(move |_| {
        // The first list is what starting pods wait for already.
        if let Some(shared) = weak.upgrade().filter(|_| synced()) {
            for uid in shared.objects.users_of(K::KIND, &namespace, &name) {
                if let Some(cell) = shared.pods.get(&uid) {
                    cell.wake();
                }
            }
        }
    });
    let watch = Some(informer.start_scoped());
    Entry { informer, watch, users: BTreeSet::new() }
}

impl Objects {
    /// Follows what the pod refers to.
    pub fn refer(&self, shared: &Arc<Shared>, pod: &Pod) {
        let found = references::of(pod);
        self.config_maps.refer(shared, pod, found.config_maps);
        self.secrets.refer(shared, pod, found.secrets);
    }

    /// Forgets a pod; what nobody else refers to is no longer followed.
    pub fn release(&self, uid: &str) {
        self.config_maps.release(uid);
        self.secrets.release(uid);
    }

    fn users_of(&self, kind: &str, namespace: &str, name: &str) -> BTreeSet<String> {
        if kind == Secret::KIND { self.secrets.users(namespace, name) } else { self.config_maps.users(namespace, name) }
    }

    /// All of a ConfigMap's content; empty where it is missing and `optional`.
    ///
    /// # Errors
    /// Missing, or the API cannot be asked.
    pub async fn config_map(&self, shared: &Shared, namespace: &str, name: &str, optional: bool) -> Result<Data, String> {
        let Some(found) = self.config_maps.get(shared, "configmap", namespace, name).await? else {
            return absent("configmap", name, optional);
        };
        if found.immutable == Some(true) {
            self.config_maps.freeze(namespace, name);
        }
        let texts = found.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone().into_bytes()));
        let bytes = found.binary_data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone()));
        Ok(texts.chain(bytes).collect())
    }

    /// All of a Secret's content; empty where it is missing and `optional`.
    ///
    /// # Errors
    /// Missing, or the API cannot be asked.
    pub async fn secret(&self, shared: &Shared, namespace: &str, name: &str, optional: bool) -> Result<Data, String> {
        let Some(found) = self.secret_object(shared, namespace, name).await? else { return absent("secret", name, optional) };
        if found.immutable == Some(true) {
            self.secrets.freeze(namespace, name);
        }
        Ok(found.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect())
    }

    /// A Secret as a whole; `None` where it is missing.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub async fn secret_object(&self, shared: &Shared, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, String> {
        self.secrets.get(shared, "secret", namespace, name).await
    }

    pub(crate) async fn config_map_texts(&self, shared: &Shared, namespace: &str, name: &str, optional: bool) -> Texts {
        Ok(texts(self.config_map(shared, namespace, name, optional).await?))
    }

    pub(crate) async fn secret_texts(&self, shared: &Shared, namespace: &str, name: &str, optional: bool) -> Texts {
        Ok(texts(self.secret(shared, namespace, name, optional).await?))
    }
}

type Texts = Result<BTreeMap<String, String>, String>;

fn texts(data: Data) -> BTreeMap<String, String> {
    data.into_iter().filter_map(|(key, value)| Some((key, String::from_utf8(value).ok()?))).collect()
}

fn absent(kind: &str, name: &str, optional: bool) -> Result<Data, String> {
    if optional { Ok(Data::new()) } else { Err(format!("{kind} {name:?} not found")) }
}

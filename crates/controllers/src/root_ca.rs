//! Publishes the cluster's CA in every namespace, for pods to check the API server with.
//!
//! Source: kubernetes pkg/controller/certificates/rootcacertpublisher/publisher.go.

use std::collections::BTreeMap;

use daruma_api::core::v1::ConfigMap;
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_client::informer::Delta;
use futures::FutureExt;

use crate::shared::ROOT_CA_CONFIG_MAP;
use crate::shell::{Context, Synced, namespace_terminating};

const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
     distributions of Kubernetes clusters.";

/// The ConfigMap to write; `None` when the present one is right.
pub fn plan(namespace: &str, present: Option<&ConfigMap>, root_ca: &str) -> Option<ConfigMap> {
    let data = BTreeMap::from([("ca.crt".to_owned(), root_ca.to_owned())]);
    if let Some(present) = present
        && present.data.as_ref() == Some(&data)
        && present.annotation(DESCRIPTION).is_some_and(|text| !text.is_empty())
    {
        return None;
    }
    let mut map = present.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CA_CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    map.data = Some(data);
    map.metadata.annotations.get_or_insert_default().insert(DESCRIPTION.to_owned(), DESCRIPTION_TEXT.to_owned());
    Some(map)
}

/// Registers the controller; without a CA it has nothing to do.
pub(crate) fn start(context: Context) {
    if context.config.root_ca.is_empty() {
        tracing::info!("no root CA is given, none is published");
        return;
    }
    let queue = context.queue("root_ca_cert_publisher");
    let shared = context.shared.clone();
    {
        let queue = queue.clone();
        shared.namespaces.on_delta(move |delta| match delta {
            Delta::Updated(_, namespace) if !is_active(namespace) => {}
            Delta::Added(namespace) | Delta::Updated(_, namespace) => queue.add(namespace.name()),
            Delta::Deleted(_) => {}
        });
    }
    {
        let queue = queue.clone();
        shared.config_maps.on_delta(move |delta| {
            if let Delta::Updated(_, map) | Delta::Deleted(map) = delta {
                queue.add(map.namespace());
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move { shared.config_maps.wait_synced().await }
    };
    let syncer = context.clone();
    context.work(&queue, context.workers, ready, move |namespace| {
        let context = syncer.clone();
        async move { sync(&context, &namespace).await }.boxed()
    });
}

fn is_active(namespace: &daruma_api::core::v1::Namespace) -> bool {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Active") == "Active"
}

async fn sync(context: &Context, namespace: &str) -> Synced {
    let present = context.shared.config_maps.get(namespace, ROOT_CA_CONFIG_MAP);
    let Some(map) = plan(namespace, present.as_deref(), &context.config.root_ca) else { return Ok(None) };
    let api = context.client.namespaced::<ConfigMap>(namespace);
    let outcome = if present.is_some() { api.update(&map).await } else { api.create(&map).await };
    match outcome {
        Err(error) if present.is_none() && (error.is_not_found() || namespace_terminating(&error)) => Ok(None),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_is_missing_or_wrong() {
        let map = plan("a", None, "pem").expect("missing");
        assert_eq!(map.key(), "a/kube-root-ca.crt");
        assert_eq!(plan("a", Some(&map), "pem"), None);
        assert!(plan("a", Some(&map), "other").is_some());
    }
}

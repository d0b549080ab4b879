//! Keeps a ServiceAccount `default` in every namespace.
//!
//! Source: kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go.

use daruma_api::core::v1::{Namespace, ServiceAccount};
use daruma_api::meta::ObjectExt;
use daruma_api::metav1::ObjectMeta;
use daruma_client::informer::Delta;
use futures::FutureExt;

use crate::shell::{Context, Synced, namespace_terminating};

const DEFAULT: &str = "default";

/// The account that is missing from a namespace.
pub fn plan(namespace: &Namespace, exists: bool) -> Option<ServiceAccount> {
    (is_active(namespace) && !exists).then(|| ServiceAccount {
        metadata: ObjectMeta {
            name: Some(DEFAULT.to_owned()),
            namespace: Some(namespace.name().to_owned()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    })
}

fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or("Active") == "Active"
}

/// Registers the controller.
pub(crate) fn start(context: Context) {
    let queue = context.queue("serviceaccount");
    let shared = context.shared.clone();
    {
        let queue = queue.clone();
        shared.namespaces.on_delta(move |delta| {
            if let Delta::Added(namespace) | Delta::Updated(_, namespace) = delta {
                queue.add(namespace.name());
            }
        });
    }
    {
        let queue = queue.clone();
        shared.service_accounts.on_delta(move |delta| {
            if let Delta::Deleted(account) = delta {
                queue.add(account.namespace());
            }
        });
    }
    let ready = {
        let shared = shared.clone();
        async move {
            shared.service_accounts.wait_synced().await;
            shared.namespaces.wait_synced().await;
        }
    };
    let syncer = context.clone();
    context.work(&queue, context.workers, ready, move |name| {
        let context = syncer.clone();
        async move { sync(&context, &name).await }.boxed()
    });
}

async fn sync(context: &Context, name: &str) -> Synced {
    let Some(namespace) = context.shared.namespaces.get("", name) else { return Ok(None) };
    let exists = context.shared.service_accounts.get(name, DEFAULT).is_some();
    let Some(account) = plan(&namespace, exists) else { return Ok(None) };
    match context.client.namespaced::<ServiceAccount>(name).create(&account).await {
        Err(error) if !error.is_already_exists() && !namespace_terminating(&error) => Err(error.into()),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daruma_api::core::v1::NamespaceStatus;

    #[test]
    fn only_active_namespaces_without_one_get_one() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".to_owned());
        let account = plan(&namespace, false).expect("missing");
        assert_eq!(account.key(), "a/default");
        assert_eq!(plan(&namespace, true), None);
        namespace.status = Some(NamespaceStatus { phase: Some("Terminating".to_owned()), ..NamespaceStatus::default() });
        assert_eq!(plan(&namespace, false), None);
    }
}

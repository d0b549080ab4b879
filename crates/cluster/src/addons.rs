//! What runs in `kube-system` beyond the control plane: proxy, pod network, DNS, metrics.

use daruma_client::{Client, ClientError};
use serde_json::Value;

use crate::kubeconfig;
use crate::shape::{DNS_SERVICE_IP, IMAGE, POD_CIDR, Shape};

/// Add-on and manifest, in the order in which they are created: what makes nodes Ready comes first.
const ALL: &[(&str, &str)] = &[
    ("bootstrap", include_str!("../manifests/bootstrap.yaml")),
    ("network", include_str!("../manifests/network.yaml")),
    ("kube-proxy", include_str!("../manifests/kube-proxy.yaml")),
    ("coredns", include_str!("../manifests/coredns.yaml")),
    ("metrics-server", include_str!("../manifests/metrics-server.yaml")),
];

/// The objects of all add-ons for one cluster.
///
/// # Panics
/// A built-in manifest is not valid YAML.
pub fn objects(shape: &Shape) -> Vec<Value> {
    let kubeconfig = kubeconfig::with_service_account(&shape.api_server_url());
    let values = [
        ("${IMAGE}", IMAGE.to_owned()),
        ("${POD_CIDR}", POD_CIDR.to_owned()),
        ("${DNS_SERVICE_IP}", DNS_SERVICE_IP.to_owned()),
        // A JSON string is a YAML string on one line.
        ("${SERVICE_ACCOUNT_KUBECONFIG}", Value::from(kubeconfig).to_string()),
    ];
    let mut objects = Vec::new();
    for (_, template) in ALL {
        let text = values.iter().fold((*template).to_owned(), |text, (name, value)| text.replace(name, value));
        for document in text.split("\n---\n") {
            let mut object: Value = serde_yaml_ng::from_str(document).expect("built-in manifests are valid YAML");
            add_flags(&mut object, shape);
            objects.push(object);
        }
    }
    objects
}

/// Sets the flags that were set for the component that a workload runs.
fn add_flags(object: &mut Value, shape: &Shape) {
    let Some(container) = object.pointer_mut("/spec/template/spec/containers/0") else { return };
    let component = container["args"][0].as_str().unwrap_or_default().to_owned();
    shape.set_container_flags(&component, container);
}

/// Creates every one of `objects` that is not there yet; what is there stays as it is.
///
/// # Errors
/// The first call that fails for another reason than that the object exists.
pub async fn apply(client: &Client, objects: &[Value]) -> Result<(), ClientError> {
    for object in objects {
        match client.json(http::Method::POST, &collection(object), "application/json", Some(object.to_string().into())).await {
            Ok(_) => {}
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// URL path of the collection that `object` belongs to.
fn collection(object: &Value) -> String {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let kind = object["kind"].as_str().unwrap_or_default();
    let names = daruma_kinds::ALL
        .iter()
        .map(|known| known.names())
        .find(|names| names.kind == kind && daruma_api::gvk::api_version(names.group, names.version) == api_version);
    let plural = names.map_or_else(|| format!("{}s", kind.to_lowercase()), |names| names.plural.to_owned());
    let root = if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

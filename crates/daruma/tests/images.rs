//! Images from a private registry over HTTPS, on real machines: authorities, credentials, and what pods say without them.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../runtime/tests/engine_parts/certificates.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod certificates;
mod harness;
#[path = "../../runtime/tests/engine_parts/image.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod image;
#[path = "../../runtime/tests/engine_parts/registry.rs"]
#[allow(dead_code, reason = "the engine's tests use the rest")]
mod registry;

use std::time::Duration;

use certificates::Authority;
use harness::{Cluster, Test, at, wait};
use image::{Packing, TestImage};
use registry::{Registry, Rules};
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const TESTS: &[Test] = &[harness::test("a_private_registry", a_private_registry)];

fn main() {
    harness::main(TESTS);
}

fn a_private_registry() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, file) = (Authority::new(), directory.path().join("authority.pem"));
    std::fs::write(&file, &authority.pem).unwrap();
    // The host's authorities are the machines'; this host believes in one only.
    let cluster = Cluster::up_where("images", &["--workers=1", "--boot-time=0s"], &[("SSL_CERT_FILE", &file)]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // The host is the first of the machines' network.
    let (network, _) = cluster.address("worker-0").rsplit_once('.').map(|(net, last)| (net.to_owned(), last.to_owned())).unwrap();
    let host = format!("{network}.1");
    let layer = image::tar(&[("hello", 0o644, b"hello")]);
    let image = TestImage { packing: Packing::Zstd, ..TestImage::new(json!({ "Cmd": ["/hello"] }), vec![layer]) };
    let rules = Rules { tls: Some(authority.server(&host)), user: Some(("me", "s:ecret")), ..Rules::default() };
    let registry = runtime.block_on(Registry::serve(host.parse().unwrap(), &image, rules));
    let name = format!("{}/team/app:v1", registry.address);

    let pod = |pod: &str, more: &Value| {
        let mut spec =
            json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": name, "imagePullPolicy": "Always"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        cluster.apply(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec}));
    };
    // Waits for an event of a pod; gives its message.
    let event = |pod: &str, reason: &str| {
        let selector = format!("--field-selector=involvedObject.name={pod},reason={reason}");
        let (message, took) = wait("the pod has such an event", 30 * SECOND, || {
            let events = cluster.json(&["get", "events", &selector]);
            let first = events["items"].as_array().and_then(|items| items.first().cloned());
            first.map(|event| at(&event, "/message").to_owned()).ok_or_else(|| format!("no {reason} of {pod}"))
        });
        eprintln!("{pod}: {reason} after {took:?}: {message}");
        message
    };
    pod("nobody", &json!({"imagePullSecrets": [{"name": "missing"}]}));
    let message = event("nobody", "Failed");
    let denied = format!(
        "Failed to pull image {name:?}: failed to pull and unpack image {name:?}: failed to resolve reference {name:?}: pull access \
         denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"
    );
    assert_eq!(message, denied);
    let missing = "Unable to retrieve some image pull secrets (missing); attempting to pull the image may not succeed.";
    assert_eq!(event("nobody", "FailedToRetrieveImagePullSecret"), missing);

    let server = format!("--docker-server=https://{}/v2/", registry.address);
    let create = ["create", "secret", "docker-registry", "pull", &server, "--docker-username=me", "--docker-password=s:ecret"];
    cluster.kubectl(&create);
    pod("own", &json!({"imagePullSecrets": [{"name": "pull"}]}));
    let pulled = format!("Successfully pulled image {name:?} in ");
    assert!(event("own", "Pulled").starts_with(&pulled));

    cluster.kubectl(&["patch", "serviceaccount", "default", "--patch", r#"{"imagePullSecrets": [{"name": "pull"}]}"#]);
    pod("accounts", &json!({}));
    assert!(event("accounts", "Pulled").starts_with(&pulled));
    let other = cluster.json(&["get", "pod", "accounts"]);
    assert_eq!(at(&other, "/spec/imagePullSecrets/0/name"), "pull");

    // `daruma image pull` has no credentials.
    let output = cluster.try_daruma(&["image", "pull", &name]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("worker-0: failed to pull") && said.contains("insufficient_scope"),
        "{said}"
    );
}

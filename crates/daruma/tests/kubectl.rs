//! What kubectl does with server-side apply: the real one against the built binary's API server, without a cluster.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::process::Command;
use std::time::{Duration, Instant};

use harness::Test;
use harness::kubectl::{Setting, text};
use serde_json::Value;

const TESTS: &[Test] = &[
    Test { needs_cluster: false, ..harness::test("server_side_apply", server_side_apply) },
    Test { needs_cluster: false, ..harness::test("from_the_client_to_the_server", from_the_client_to_the_server) },
    Test {
        needs_cluster: false,
        ..harness::test("controllers_write_into_what_was_applied", controllers_write_into_what_was_applied)
    },
];

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: web:1, ports: [{containerPort: 80}]}
";

fn main() {
    harness::main(TESTS);
}

/// `manager operation subresource` of each entry of the deployment.
fn owners(setting: &Setting) -> Vec<String> {
    let shown = setting.kubectl(&["get", "deployment", "web", "-o=json", "--show-managed-fields"]);
    let object: Value = serde_json::from_str(&shown).expect("JSON");
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries
        .iter()
        .map(|one| format!("{} {} {}", text(one, "manager"), text(one, "operation"), text(one, "subresource")))
        .collect()
}

fn server_side_apply() {
    let setting = Setting::new("apply");
    let file = setting.manifest(MANIFEST);
    let apply = ["apply", "--server-side", "-f", text(&file)];
    let dry = setting.kubectl(&[&apply[..], &["--dry-run=server"]].concat());
    assert!(dry.contains("deployment.apps/web serverside-applied (server dry run)"), "{dry}");
    assert!(setting.kubectl(&apply).contains("deployment.apps/web serverside-applied"));
    assert!(setting.kubectl(&apply).contains("deployment.apps/web serverside-applied"));
    assert_eq!(owners(&setting), ["kubectl Apply "]);
    let shown = setting.kubectl(&["get", "deployment", "web", "-o=yaml", "--show-managed-fields"]);
    assert!(shown.contains(r#"k:{"containerPort":80,"protocol":"TCP"}:"#), "{shown}");
    assert!(!setting.kubectl(&["get", "deployment", "web", "-o=yaml"]).contains("managedFields"));

    setting.kubectl(&["scale", "deployment", "web", "--replicas=5"]);
    setting.kubectl(&["label", "deployment", "web", "team=a"]);
    assert_eq!(owners(&setting), ["kubectl Apply ", "kubectl Update scale", "kubectl-label Update "]);
    let conflict = setting.refused(&apply);
    let expected =
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert!(conflict.contains(expected) && conflict.contains("--force-conflicts"), "{conflict}");
    setting.kubectl(&[&apply[..], &["--force-conflicts"]].concat());
    assert_eq!(owners(&setting), ["kubectl Apply ", "kubectl-label Update "]);

    let file = setting.manifest(&MANIFEST.replace("  replicas: 2\n", "").replace("web:1", "web:2"));
    let difference = setting.try_kubectl(&["diff", "--server-side", "-f", text(&file)]);
    let shown = String::from_utf8_lossy(&difference.stdout);
    assert!(difference.status.code() == Some(1) && shown.contains("web:2"), "{shown}");
    setting.kubectl(&["apply", "--server-side", "-f", text(&file)]);
    let now = setting.kubectl(&["get", "deployment", "web", "-o=jsonpath={.spec.replicas} {.metadata.labels.team}"]);
    assert_eq!(now, "1 a", "what was applied goes back to its default, what others set stays");
}

fn from_the_client_to_the_server() {
    let setting = Setting::new("migrate");
    let file = setting.manifest(MANIFEST);
    setting.kubectl(&["apply", "-f", text(&file)]);
    assert!(owners(&setting).is_empty(), "nobody has applied on the server");
    let file = setting.manifest(&MANIFEST.replace("web:1", "web:2"));
    let applied = setting.kubectl(&["apply", "--server-side", "-f", text(&file)]);
    assert!(applied.contains("serverside-applied"), "{applied}");
    let last = setting.kubectl(&["apply", "view-last-applied", "deployment", "web"]);
    assert!(last.contains("web:2"), "{last}");
    // And back.
    let file = setting.manifest(&MANIFEST.replace("web:1", "web:3"));
    setting.kubectl(&["apply", "-f", text(&file)]);
    let image = setting.kubectl(&["get", "deployment", "web", "-o=jsonpath={.spec.template.spec.containers[0].image}"]);
    assert_eq!(image, "web:3");
    assert!(owners(&setting).contains(&"kubectl-client-side-apply Update ".to_owned()), "{:?}", owners(&setting));
    // kubectl moves what client-side apply owns to its server-side manager.
    let file = setting.manifest(&MANIFEST.replace("web:1", "web:3"));
    let again = setting.kubectl(&["apply", "--server-side", "-f", text(&file)]);
    assert!(!again.to_lowercase().contains("warning"), "{again}");
    let owners_now = owners(&setting);
    assert!(!owners_now.contains(&"kubectl-client-side-apply Update ".to_owned()), "{owners_now:?}");
    let edited = Command::new("kubectl")
        .env("KUBECONFIG", &setting.kubeconfig)
        .env("KUBE_EDITOR", "sed -i s/web:3/web:4/")
        .args(["edit", "deployment", "web"])
        .output()
        .expect("kubectl starts");
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert!(owners(&setting).contains(&"kubectl-edit Update ".to_owned()), "{:?}", owners(&setting));
}

/// Typed clients carry managers along; what they change is theirs, and the next apply does not mind.
fn controllers_write_into_what_was_applied() {
    let mut setting = Setting::new("controllers");
    let file = setting.manifest(MANIFEST);
    let apply = ["apply", "--server-side", "-f", text(&file)];
    setting.kubectl(&apply);
    let flags = ["--leader-elect=false".to_owned(), "--use-service-account-credentials=true".into()];
    setting.server.component("kube-controller-manager", "system:kube-controller-manager", &flags);
    let wanted = ["kubectl Apply ", "kube-controller-manager Update status"];
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = owners(&setting);
        if wanted.iter().all(|wanted| found.iter().any(|owner| owner == wanted)) {
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}; {}", setting.server.log("kube-controller-manager"));
        std::thread::sleep(Duration::from_millis(100));
    }
    setting.kubectl(&apply);
    let replicas =
        setting.kubectl(&["get", "replicasets", "-o=jsonpath={.items[*].spec.replicas} {.items[*].metadata.managedFields}"]);
    assert_eq!(replicas.trim(), "2", "nobody has applied a ReplicaSet");
}

//! What kubectl does with server-side apply: the real one against the built binary's API server, without a cluster.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use harness::Test;
use harness::api_server::ApiServer;
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

struct Setting {
    server: ApiServer,
    kubeconfig: PathBuf,
}

impl Setting {
    fn new(name: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(async {
            let mut server = ApiServer::prepare(&harness::binary(), name);
            server.start();
            server.ready().await.expect("the API server starts");
            server
        });
        let kubeconfig = server.kubeconfig();
        Self { server, kubeconfig }
    }

    fn manifest(&self, content: &str) -> PathBuf {
        let path = self.server.file("manifest.yaml");
        fs::write(&path, content).expect("a file");
        path
    }

    fn try_kubectl(&self, arguments: &[&str]) -> Output {
        Command::new("kubectl").env("KUBECONFIG", &self.kubeconfig).args(arguments).output().expect("kubectl starts")
    }

    #[track_caller]
    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "kubectl {arguments:?}: {out}{err}");
        format!("{out}{err}")
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(!output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// `manager operation subresource` of each entry.
    fn owners(&self) -> Vec<String> {
        let object: Value =
            serde_json::from_str(&self.kubectl(&["get", "deployment", "web", "-o=json", "--show-managed-fields"])).expect("JSON");
        let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        entries
            .iter()
            .map(|one| format!("{} {} {}", text(one, "manager"), text(one, "operation"), text(one, "subresource")))
            .collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn server_side_apply() {
    let setting = Setting::new("apply");
    let file = setting.manifest(MANIFEST);
    let apply = ["apply", "--server-side", "-f", text(&file)];
    let dry = setting.kubectl(&[&apply[..], &["--dry-run=server"]].concat());
    assert!(dry.contains("deployment.apps/web serverside-applied (server dry run)"), "{dry}");
    assert!(setting.kubectl(&apply).contains("deployment.apps/web serverside-applied"));
    assert!(setting.kubectl(&apply).contains("deployment.apps/web serverside-applied"));
    assert_eq!(setting.owners(), ["kubectl Apply "]);
    let shown = setting.kubectl(&["get", "deployment", "web", "-o=yaml", "--show-managed-fields"]);
    assert!(shown.contains(r#"k:{"containerPort":80,"protocol":"TCP"}:"#), "{shown}");
    assert!(!setting.kubectl(&["get", "deployment", "web", "-o=yaml"]).contains("managedFields"));

    setting.kubectl(&["scale", "deployment", "web", "--replicas=5"]);
    setting.kubectl(&["label", "deployment", "web", "team=a"]);
    assert_eq!(setting.owners(), ["kubectl Apply ", "kubectl Update scale", "kubectl-label Update "]);
    let conflict = setting.refused(&apply);
    let expected =
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas";
    assert!(conflict.contains(expected) && conflict.contains("--force-conflicts"), "{conflict}");
    setting.kubectl(&[&apply[..], &["--force-conflicts"]].concat());
    assert_eq!(setting.owners(), ["kubectl Apply ", "kubectl-label Update "]);

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
    assert!(setting.owners().is_empty(), "nobody has applied on the server");
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
    assert!(setting.owners().contains(&"kubectl-client-side-apply Update ".to_owned()), "{:?}", setting.owners());
    // kubectl moves what client-side apply owns to its server-side manager.
    let file = setting.manifest(&MANIFEST.replace("web:1", "web:3"));
    let again = setting.kubectl(&["apply", "--server-side", "-f", text(&file)]);
    assert!(!again.to_lowercase().contains("warning"), "{again}");
    let owners = setting.owners();
    assert!(!owners.contains(&"kubectl-client-side-apply Update ".to_owned()), "{owners:?}");
    let edited = Command::new("kubectl")
        .env("KUBECONFIG", &setting.kubeconfig)
        .env("KUBE_EDITOR", "sed -i s/web:3/web:4/")
        .args(["edit", "deployment", "web"])
        .output()
        .expect("kubectl starts");
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    assert!(setting.owners().contains(&"kubectl-edit Update ".to_owned()), "{:?}", setting.owners());
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
        let owners = setting.owners();
        if wanted.iter().all(|wanted| owners.iter().any(|owner| owner == wanted)) {
            assert_eq!(owners.len(), wanted.len(), "{owners:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{owners:?}; {}", setting.server.log("kube-controller-manager"));
        std::thread::sleep(Duration::from_millis(100));
    }
    setting.kubectl(&apply);
    let replicas =
        setting.kubectl(&["get", "replicasets", "-o=jsonpath={.items[*].spec.replicas} {.items[*].metadata.managedFields}"]);
    assert_eq!(replicas.trim(), "2", "nobody has applied a ReplicaSet");
}

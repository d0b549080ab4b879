//! What kubectl does with custom resources: the real one against the built binary's API server, without a cluster.
#![expect(clippy::disallowed_methods, reason = "a black-box test measures real time")]

mod harness;

use std::time::{Duration, Instant};

use harness::Test;
use harness::kubectl::{Setting, text};

const TESTS: &[Test] =
    &[Test { needs_cluster: false, ..harness::test("kubectl_knows_custom_resources", kubectl_knows_custom_resources) }];

/// The example of the Kubernetes documentation, with all subresources.
const DEFINITION: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: crontabs.stable.example.com}
spec:
  group: stable.example.com
  scope: Namespaced
  names: {plural: crontabs, singular: crontab, kind: CronTab, shortNames: [ct], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}
    additionalPrinterColumns:
    - {name: Spec, type: string, description: When it runs., jsonPath: .spec.cronSpec}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What is run, and when.
            required: [cronSpec]
            properties:
              cronSpec: {type: string, pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$', description: When it runs.}
              image: {type: string}
              replicas: {type: integer, minimum: 1, maximum: 10, default: 1}
          status:
            type: object
            properties:
              replicas: {type: integer}
              labelSelector: {type: string}
";

const OBJECT: &str = r#"
apiVersion: stable.example.com/v1
kind: CronTab
metadata: {name: my-new-cron-object, namespace: default}
spec: {cronSpec: "* * * * */5", image: my-awesome-cron-image}
"#;

fn main() {
    harness::main(TESTS);
}

fn kubectl_knows_custom_resources() {
    let setting = Setting::new("crd");
    let kubectl = |arguments: &[&str]| setting.kubectl(arguments);
    let missing = setting.refused(&["get", "crontabs"]);
    assert!(missing.contains("the server doesn't have a resource type \"crontabs\""), "{missing}");
    let definition = setting.manifest(DEFINITION);
    let applied = kubectl(&["apply", "-f", text(&definition)]);
    assert!(applied.contains("customresourcedefinition.apiextensions.k8s.io/crontabs.stable.example.com created"), "{applied}");
    kubectl(&["wait", "--for=condition=Established", "--timeout=10s", "crd/crontabs.stable.example.com"]);
    let again = kubectl(&["apply", "-f", text(&definition)]);
    assert!(again.contains("unchanged"), "{again}");

    let object = setting.manifest(OBJECT);
    let made = kubectl(&["apply", "-f", text(&object)]);
    assert!(made.contains("crontab.stable.example.com/my-new-cron-object created"), "{made}");
    let shown = kubectl(&["get", "crontabs"]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..4], ["NAME", "SPEC", "REPLICAS", "AGE"], "{shown}");
    assert_eq!(words[4..11], ["my-new-cron-object", "*", "*", "*", "*", "*/5", "1"], "{shown}");
    let shown = kubectl(&["get", "ct", "-o", "yaml"]);
    assert!(shown.contains("kind: CronTab") && shown.contains("replicas: 1"), "{shown}");
    assert!(kubectl(&["get", "all"]).contains("crontab.stable.example.com/my-new-cron-object"));

    let explained = kubectl(&["explain", "crontab.spec"]);
    for text in
        ["GROUP:      stable.example.com", "KIND:       CronTab", "What is run, and when.", "cronSpec\t<string> -required-"]
    {
        assert!(explained.contains(text), "{text} in {explained}");
    }
    let resources = kubectl(&["api-resources", "--api-group=stable.example.com"]);
    let words: Vec<&str> = resources.split_whitespace().skip(5).collect();
    assert_eq!(words, ["crontabs", "ct", "stable.example.com/v1", "true", "CronTab"], "{resources}");

    let scaled = kubectl(&["scale", "--replicas=3", "ct/my-new-cron-object"]);
    assert!(scaled.contains("scaled"), "{scaled}");
    assert_eq!(kubectl(&["get", "ct", "my-new-cron-object", "-o=jsonpath={.spec.replicas}"]), "3");
    let wrong = setting.manifest(&OBJECT.replace("* * * * */5", "* * * *"));
    let refused = setting.refused(&["apply", "-f", text(&wrong)]);
    assert!(refused.contains("spec.cronSpec in body should match"), "{refused}");
    let unknown = setting.manifest(&OBJECT.replace("image:", "imagee:"));
    let refused = setting.refused(&["apply", "-f", text(&unknown)]);
    assert!(refused.contains("unknown field \"spec.imagee\""), "{refused}");
    let object = setting.manifest(&OBJECT.replace("my-awesome", "my-other"));
    kubectl(&["apply", "--server-side", "--force-conflicts", "-f", text(&object)]);
    kubectl(&["patch", "ct", "my-new-cron-object", "--type=merge", "-p", r#"{"spec":{"cronSpec":"1 * * * *"}}"#]);
    kubectl(&["label", "ct", "my-new-cron-object", "team=a"]);
    let described = kubectl(&["describe", "ct", "my-new-cron-object"]);
    assert!(described.contains("Cron Spec:  1 * * * *") && described.contains("team=a"), "{described}");
    kubectl(&["patch", "ct", "my-new-cron-object", "--subresource=status", "--type=merge", "-p", r#"{"status":{"replicas":2}}"#]);
    assert_eq!(kubectl(&["get", "ct", "my-new-cron-object", "-o=jsonpath={.status.replicas}"]), "2");

    let before = Instant::now();
    kubectl(&["delete", "crd", "crontabs.stable.example.com", "--timeout=20s"]);
    assert!(before.elapsed() < Duration::from_secs(10), "its objects go at once");
    let missing = setting.refused(&["get", "crontabs.stable.example.com"]);
    assert!(missing.contains("the server doesn't have a resource type"), "{missing}");
    assert!(!kubectl(&["get", "apiservices"]).contains("stable.example.com"));
}

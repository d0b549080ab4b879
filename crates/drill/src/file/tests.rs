//! What drill files may say, and what is told of those that may not be.

use std::collections::BTreeMap;

use super::{Action, Drill, FileErrors, parse};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: ${replicas}
---
apiVersion: v1
kind: Service
metadata: {name: web}
";

const WHOLE: &str = "apiVersion: daruma.dev/v1
kind: Drill
metadata: {name: lights-out}
spec:
  description: A worker loses power for good.
  parameters:
    replicas: {default: 4, description: Replicas of the application.}
    victim: {default: worker-1}
  cluster: {workers: 2, memory: 2Gi, zones: [a, b], labels: {worker-0: {disk: fast}}}
  settings: {nodeMonitorGracePeriod: 40s, set: {kube-controller-manager.kube-api-qps: 100}}
  manifests: [{file: web.yaml}]
  probes:
  - {name: web, interval: 500ms, http: {to: {service: web}}}
  - {name: orders, write: {}}
  steps:
  - {at: 10s, fault: power-off, target: {machine: '${victim}'}, for: 10m}
  - {waitFor: {nodeNotReady: worker-1, limit: 2m}}
  - {view: kubectl get pods -o wide}
  - name: slow
    fault: delay
    target: {zone: a, to: {machine: controller-0}}
    with: {time: 200ms}
  - {undo: slow}
  - {scale: {workload: deployment/web, replicas: 6}}
  - {drain: {target: {nodes: disk=fast}, limit: 1m}}
  - {note: done}
  checks:
  - nodeDetectedWithin: {after: power-off, limit: 60s}
  limit: 30m
";

fn read(text: &str, sets: &[(&str, &str)]) -> Result<Drill, FileErrors> {
    let sets: BTreeMap<String, String> = sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    parse("drill.yaml", text, &sets, &|path| if path == "web.yaml" { Ok(WEB.to_owned()) } else { Err("no such file".into()) })
}

#[test]
fn a_whole_drill() {
    let drill = read(WHOLE, &[("replicas", "7")]).unwrap();
    let spec = &drill.spec;
    assert_eq!(spec.manifests.len(), 2);
    assert_eq!(spec.manifests[0]["spec"]["replicas"], 7);
    assert_eq!(spec.settings.set["kube-controller-manager.kube-api-qps"], "100");
    let Action::Fault(call) = &spec.steps[0].action else { panic!("{:?}", spec.steps[0]) };
    assert_eq!((call.fault.as_str(), call.target.machine.as_deref()), ("power-off", Some("worker-1")));
    assert_eq!(spec.steps.iter().map(super::Step::identity).collect::<Vec<_>>()[..3], ["power-off", "waitFor", "view"]);
    // What is written again reads the same.
    let again = serde_yaml_ng::to_string(&drill).unwrap();
    assert_eq!(read(&again, &[]).unwrap(), drill);
}

#[test]
fn mistakes_with_their_places() {
    let mut wrong = Vec::new();
    let step = |step: &str| WHOLE.replace("  - {note: done}\n", &format!("  - {step}\n"));
    for (text, sets, expected) in [
        ("", &[][..], "drill.yaml:1:1: there is nothing in it"),
        ("a: [1", &[], "drill.yaml:2:1: while parsing a flow sequence"),
        ("kind: Pod\n", &[], "drill.yaml:1:7: kind: a drill begins with"),
        (WHOLE, &[("replica", "1")], "drill.yaml:1:1: the drill has no parameter \"replica\" to set; there are replicas, victim"),
        (WHOLE, &[("replicas", "many")], ""),
        (
            WHOLE,
            &[("victim", "worker-7")],
            "drill.yaml:16:42: spec.steps[0].target.machine: there is no machine \"worker-7\"; there are controller-0, worker-0 to worker-1",
        ),
        (&WHOLE.replace("web.yaml", "other.yaml"), &[], "drill.yaml:11:15: cannot read \"other.yaml\": no such file"),
        (&WHOLE.replace("workers: 2", "wrokers: 2"), &[], "drill.yaml:9:13: spec.cluster.wrokers: unknown field `wrokers`"),
        (
            &WHOLE.replace("workers: 2", "workers: two"),
            &[],
            "drill.yaml:9:22: spec.cluster.workers: invalid type: string \"two\", expected u32",
        ),
        (&WHOLE.replace("memory: 2Gi", "memory: much"), &[], "spec.cluster.memory: \"much\" is no amount of bytes"),
        (&WHOLE.replace("limit: 30m", "limit: soon"), &[], "spec.limit: \"soon\" is no length of time"),
        (&WHOLE.replace("'${victim}'", "'${vitcim}'"), &[], "unknown parameter \"vitcim\"; there are replicas, victim"),
        (
            &WHOLE.replace("fault: power-off", "fault: power-of"),
            &[],
            "drill.yaml:16:15: spec.steps[0].fault: there is no fault \"power-of\"; there are api-server",
        ),
        (
            &WHOLE.replace("time: 200ms", "tiem: 200ms"),
            &[],
            "spec.steps[3].with.tiem: delay has no parameter \"tiem\"; there are time",
        ),
        (&WHOLE.replace("time: 200ms", "time: slow"), &[], "spec.steps[3].with.time: \"slow\" is not a length of time"),
        (&WHOLE.replace("zone: a,", "zone: c,"), &[], "spec.steps[3].target.zone: no machine is in zone \"c\"; there are a, b"),
        (&WHOLE.replace("undo: slow", "undo: fast"), &[], "drill.yaml:23:6: spec.steps[4].undo: no fault \"fast\" was made"),
        (&WHOLE.replace("at: 10s", "at: 40m"), &[], "spec.steps[0].at: 40m is after the end of the drill (spec.limit is 30m)"),
        (
            &WHOLE.replace("after: power-off", "after: reset"),
            &[],
            "drill.yaml:28:26: spec.checks[0].nodeDetectedWithin.after: no step \"reset\"; there is",
        ),
        (
            &WHOLE.replace("limit: 60s", "limit: 0s"),
            &[],
            "drill.yaml:28:44: spec.checks[0].nodeDetectedWithin.limit: nothing happens within no time",
        ),
        (
            &WHOLE.replace("kube-controller-manager.kube-api-qps", "kube-api-qps"),
            &[],
            "drill.yaml:10:49: spec.settings.set.kube-api-qps: \"kube-api-qps\": write component.flag",
        ),
        (&step("{undo: slow}"), &[], "spec.steps[7].undo: \"slow\" has been undone by a step above"),
        (
            &step("{fault: power-on, target: {machine: worker-0}}"),
            &[],
            "spec.steps[7].fault: power-on: worker-0 is on at this step",
        ),
        (&step("{fault: hang, target: {machine: worker-0}, with: {now: 1}}"), &[], "hang has no parameter \"now\"; it has none"),
        (
            &step("{fault: reset, target: {machine: worker-0, zone: a}}"),
            &[],
            "spec.steps[7].target.zone: machines are given in one way, and machine gives them already",
        ),
        (&step("{fault: reset}"), &[], "spec.steps[7].target: reset is aimed at machines"),
        (
            &step("{fault: kubelet, target: {machine: worker-0}, with: {how: explode}}"),
            &[],
            "spec.steps[7].with.how: \"explode\" is not one of kill, pause, restart, stop",
        ),
        (&step("{fault: partition, target: {machine: worker-0}}"), &[], "partition needs the other side"),
        (&step("{fault: reset, target: {machine: worker-0}, for: 5s}"), &[], "spec.steps[7].for: reset is over at once"),
        (
            &step("{fault: delete-pod, target: {pod: {name: a, selector: b=c}}}"),
            &[],
            "spec.steps[7].target.pod: a pod is given by exactly one of",
        ),
        (&step("{fault: delete-pod, target: {pod: {nmae: a}}}"), &[], "spec.steps[7].target.pod.nmae: unknown field `nmae`"),
        (
            &step("{sleep: 5s, note: x}"),
            &[],
            "drill.yaml:26:5: spec.steps[7]: a step does one thing, and this one has \"sleep\" and \"note\"",
        ),
        (&step("{name: x}"), &[], "this step does nothing"),
        (&step("{note: x, with: {a: 1}}"), &[], "\"with\" belongs to a fault"),
        (&step("{at: 5s, note: x}"), &[], "spec.steps[7].at: 5s is before 10s"),
        (&step("{view: get things}"), &[], "spec.steps[7].view: \"get things\": the server has no resource type \"things\""),
        (
            &step("{waitFor: {nodeReady: worker-0, available: deployment/web}}"),
            &[],
            "spec.steps[7].waitFor: wait for exactly one of",
        ),
        (
            &step("{waitFor: {probe: {name: wbe, answered: true}}}"),
            &[],
            "spec.steps[7].waitFor.probe.name: no probe \"wbe\" asks; there are web",
        ),
        (&step("{waitFor: {pods: {count: {}}}}"), &[], "spec.steps[7].waitFor.pods.count: count: says neither"),
        (
            &step("{apply: [{kind: Pod}]}"),
            &[],
            "spec.steps[7].apply[0]: an object has apiVersion, kind and metadata.name; this one has no apiVersion",
        ),
        (&step("{restart: web}"), &[], "spec.steps[7].restart: \"web\" names no workload"),
        (
            &WHOLE.replace("{service: web}", "{service: web, via: clusterIp}"),
            &[],
            "spec.probes[0].http.to: such an address is known inside of the cluster only",
        ),
        (
            &WHOLE.replace("write: {}", "write: {}, tcp: {address: '10.0.0.1:1'}"),
            &[],
            "spec.probes[1]: a probe does exactly one of",
        ),
    ] {
        if expected.is_empty() {
            read(text, sets).unwrap();
            continue;
        }
        let errors = read(text, sets).expect_err(expected).to_string();
        if !errors.contains(expected) || !errors.starts_with("drill.yaml:") {
            wrong.push(format!("{errors}\ndoes not say\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn faults_of_one_name_are_told_apart() {
    let text = WHOLE.replace("  - {note: done}\n", "  - {fault: power-off, target: {machine: worker-0}}\n");
    let errors = read(&text, &[]).unwrap_err().to_string();
    assert!(errors.contains("another fault above is called \"power-off\", and one of them ends by itself"), "{errors}");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text =
        WHOLE.replace("fault: power-off", "fault: off").replace("undo: slow", "undo: fast").replace("limit: 2m", "limit: 0s");
    let FileErrors(errors) = read(&text, &[]).unwrap_err();
    let places: Vec<&str> = errors.iter().map(|error| error.place.as_str()).collect();
    assert_eq!(
        places,
        ["spec.steps[0].fault", "spec.steps[1].waitFor.limit", "spec.steps[4].undo", "spec.checks[0].nodeDetectedWithin.after"]
    );
}

#[test]
fn the_schema_names_every_fault_and_field() {
    let schema = super::schema();
    let text = schema.to_string();
    for fault in crate::faults::ALL {
        assert!(text.contains(&format!("{{\"const\":\"{}\"}}", fault.name())), "{}", fault.name());
    }
    let step = &schema["$defs"]["Step"]["properties"];
    for field in ["fault", "target", "with", "for", "undo", "waitFor", "view"] {
        assert!(step[field].is_object(), "{field}: {step}");
    }
    assert_eq!(schema["$defs"]["Step"]["additionalProperties"], false);
}

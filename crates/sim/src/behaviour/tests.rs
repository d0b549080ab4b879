//! Behaviour files, and what they say at a time.

use std::time::Duration;

use super::*;

fn read(yaml: &str) -> Behaviours {
    let mut behaviours = Behaviours::new();
    behaviours.read(yaml).unwrap();
    behaviours
}

#[test]
fn the_documented_file_is_read() {
    let text = include_str!("mod.rs");
    let inside = text.split("```").nth(1).unwrap().trim_start_matches("yaml");
    let yaml: String =
        inside.lines().map(|line| line.strip_prefix("//! ").unwrap_or_default()).map(|line| format!("{line}\n")).collect();
    let behaviours = read(&yaml);
    let web = behaviours.of("registry.example/web:v1").unwrap();
    assert_eq!(web.size_bytes, Some(50 << 20));
    assert_eq!(web.exits, Some((Duration::from_secs(60), 1)));
    assert_eq!(web.ports.len(), 3);
    let Answers::Http(http) = &web.ports[&8080] else { panic!("{:?}", web.ports) };
    assert_eq!(
        (http.answer("/", true).status, http.answer("/else", true).status, http.answer("/", false).status),
        (200, 404, 503)
    );
    let cat: Vec<String> = ["cat", "/tmp/x"].map(str::to_owned).to_vec();
    assert_eq!(web.exec(&cat).map(|rule| rule.code), Some(1));
    assert_eq!(web.exec(&cat[..1]), None);
}

#[test]
fn mistakes_are_refused() {
    for (yaml, wanted) in [
        ("images: {a: {color: red}}", "unknown field `color`"),
        ("images: {a: {exits: {after: 5}}}", "is no time"),
        ("images: {a: {exits: {after: 5x}}}", "is no time"),
        ("images: {a: {memory: much}}", "is no size"),
        ("images: {a: {ports: {80: {gopher: {}}}}}", "unknown field `gopher`"),
        ("images: {a: {ports: {80: {tcp: {}, http: {}}}}}", "exactly one of"),
        ("behaviours: {}", "unknown field"),
        ("images:\n  a:\n    cpuMillis: x", "line 3 column"),
    ] {
        let error = Behaviours::new().read(yaml).unwrap_err().to_string();
        assert!(error.contains(wanted), "{yaml}: {error}");
    }
}

#[test]
fn placeholders() {
    let identity = Identity { pod_name: "web".to_owned(), node_name: "worker-0".to_owned(), pod_ip: "10.0.0.7".parse().ok() };
    for (text, wanted) in [
        ("plain", "plain"),
        ("${POD_NAME} on ${NODE_NAME} at ${POD_IP}", "web on worker-0 at 10.0.0.7"),
        ("${TIMES}${POD_NAME}", "3web"),
        ("$ ${ELSE} ${${POD_NAME}} ${POD_NAME $", "$ ${ELSE} ${web} ${POD_NAME $"),
    ] {
        let filled = identity.fill_with(text, |name, filled| {
            let is_known = name == "TIMES";
            filled.push_str(if is_known { "3" } else { "" });
            is_known
        });
        assert_eq!(filled, wanted, "{text}");
    }
    assert_eq!(Identity::default().fill("${POD_NAME}, ${POD_IP}, ${TIMES}"), ", , ${TIMES}");
}

#[test]
fn the_longest_pattern_wins() {
    let behaviours = read("images: {'*': {cpuMillis: 1}, 'a/*': {cpuMillis: 2}, 'a/b:1': {cpuMillis: 3}}");
    for (image, cpu) in [("x", 1), ("a/c", 2), ("a/b:1", 3), ("a/b:12", 2)] {
        assert_eq!(behaviours.of(image).map(|found| found.cpu_millis), Some(cpu), "{image}");
    }
    assert_eq!(Behaviours::built_in().of("x"), None);
    let nowhere = Behaviours::built_in().of("nowhere.invalid/missing:1").unwrap();
    assert_eq!(nowhere.pull_fails.as_deref(), Some("unreachable"));
}

#[test]
fn memory_and_disk_over_time() {
    let behaviours = read(
        "images: {a: {memory: 100, memoryGrowth: [{after: 10s, to: 200}, {after: 20s, to: 200}, {after: 30s, to: 0}], disk: {bytes: 100, over: 10s}}}",
    );
    let a = behaviours.of("a").unwrap();
    let seconds = Duration::from_secs;
    for (at, memory, disk) in [(0, 100, 0), (5, 150, 50), (10, 200, 100), (15, 200, 100), (25, 100, 100), (40, 0, 100)] {
        assert_eq!((a.memory_at(seconds(at)), a.disk_at(seconds(at))), (memory, disk), "{at} s");
    }
    for (limit, since, wanted) in
        [(150, 0, Some(5)), (150, 7, Some(7)), (200, 0, None), (50, 0, Some(0)), (199, 30, None), (150, 30, None)]
    {
        assert_eq!(a.memory_exceeds(limit, seconds(since)), wanted.map(seconds), "{limit} from {since} s");
    }
}

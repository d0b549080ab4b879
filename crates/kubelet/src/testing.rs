//! Makers of pods and runtime views for tests.

use daruma_api::core::v1::Pod;
use daruma_world::containers::{Container, ContainerConfig, ContainerState, Sandbox, SandboxConfig};
use jiff::Timestamp;

use crate::plan::container_hash;
use crate::view::{PodView, keys};

/// Something that the runtime knows. Later ones are newer.
#[derive(Debug, Clone, Copy)]
pub enum Seen {
    /// A sandbox, ready or not.
    Sandbox(bool),
    /// A container made, not started.
    Created(&'static str),
    /// A container that runs.
    Running(&'static str),
    /// A container that ended.
    Exited(&'static str, i32),
}

/// A container that runs.
pub fn running(name: &'static str) -> Seen {
    Seen::Running(name)
}

/// A container that ended.
pub fn exited(name: &'static str, exit_code: i32) -> Seen {
    Seen::Exited(name, exit_code)
}

/// A second of the tests' time.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("in range")
}

/// A pod `default/p` with UID `u` from the inside of a YAML flow mapping.
pub fn pod(spec: &str) -> Pod {
    pod_of(&format!("metadata: {{name: p, namespace: default, uid: u, generation: 1}}, spec: {{{spec}}}"))
}

/// A pod from the inside of a YAML flow mapping.
pub fn pod_of(text: &str) -> Pod {
    serde_yaml_ng::from_str(&format!("{{{text}}}")).expect("a pod")
}

/// A view in which everything belongs to the latest sandbox before it.
pub fn view(seen: &[Seen]) -> PodView {
    let (mut sandboxes, mut containers): (Vec<Sandbox>, Vec<Container>) = (vec![], vec![]);
    for (order, one) in seen.iter().enumerate() {
        let created_at = at(100 + order as i64);
        if let Seen::Sandbox(ready) = one {
            sandboxes.push(Sandbox {
                id: format!("s{order}"),
                config: SandboxConfig { uid: "u".into(), attempt: sandboxes.len() as u32, ..SandboxConfig::default() }.into(),
                ready: *ready,
                created_at,
                addresses: vec!["10.244.1.2".parse().expect("an address")],
            });
            continue;
        }
        let (name, state) = match *one {
            Seen::Created(name) => (name, ContainerState::Created),
            Seen::Running(name) => (name, ContainerState::Running { started_at: created_at }),
            Seen::Exited(name, exit_code) => (
                name,
                ContainerState::Exited {
                    started_at: Some(created_at),
                    finished_at: at(200 + order as i64),
                    exit_code,
                    reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
                    message: String::new(),
                },
            ),
            Seen::Sandbox(_) => unreachable!("handled above"),
        };
        let spec = daruma_api::core::v1::Container { name: name.into(), ..Default::default() };
        let attempt = containers.iter().filter(|container| container.config.name == name).count() as u32;
        let mut config = ContainerConfig { name: name.into(), attempt, ..ContainerConfig::default() };
        config.annotations.insert(keys::CONTAINER_HASH.into(), container_hash(&spec));
        containers.push(Container {
            id: format!("c{order}"),
            sandbox_id: sandboxes.last().expect("a sandbox comes first").id.clone(),
            config: config.into(),
            image_ref: "image".into(),
            image_id: "sha256:1".into(),
            created_at,
            state,
            log_path: "/log".into(),
        });
    }
    PodView::of("u", &sandboxes, &containers)
}

//! How containers of an image behave where no program stands for them: a small YAML file.
//!
//! ```yaml
//! images:
//!   registry.example/web:v1:        # as pods name it; a `*` at the end stands for any rest, the longest match wins
//!     size: 50Mi                    # what is pulled; 20Mi where not given
//!     pullFails: not found          # or `denied`, `unreachable`, or a text of your own
//!     startFails: 'exec: "web": executable file not found in $PATH'
//!     logs: ["web on ${POD_NAME}"]  # written at the start
//!     startDelay: 500ms             # until its ports are open
//!     readyAfter: 2s                # until then HTTP answers 503 and commands fail
//!     exits: {after: 60s, code: 1}  # `after: 0s` crashes on start
//!     refusesArguments: false       # any argument of the pod's makes it crash on start
//!     ignoresStop: false            # SIGTERM does nothing; only SIGKILL ends it
//!     stops: {after: 100ms, code: 0} # how SIGTERM ends it; at once with 143 where not given
//!     memory: 20Mi
//!     memoryGrowth: [{after: 60s, to: 300Mi}]  # straight lines between the points
//!     cpuMillis: 50
//!     disk: {bytes: 1Gi, over: 60s}  # written to its own layer, evenly over the time
//!     ports:
//!       8080: {http: {paths: {"/": {body: "hello from ${POD_NAME}"}, "/slow": {delay: 1s}, "/*": {status: 404}}}}
//!       9000: {tcp: {delay: 10ms}}   # sends back what it gets
//!       53: {dns: {names: {db.example: 10.0.0.7}}}
//!     exec:
//!     - {command: "cat /tmp/*", code: 1, stderr: "No such file or directory"}
//! ```
//!
//! `${POD_NAME}`, `${NODE_NAME}` and `${POD_IP}` are replaced in bodies, logs and outputs. Commands
//! that no rule names succeed.

pub mod dns;
pub mod http;
mod quantity;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use quantity::{optional_size, size, time};
pub use quantity::{parse_size, parse_time};

/// How containers of an image behave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behaviour {
    /// They end by themselves after this time with this exit code; they run until they are stopped where `None`.
    #[serde(deserialize_with = "exits")]
    pub exits: Option<(Duration, i32)>,
    /// They know no arguments: with any that the pod gives they say so and end at once with exit code 1.
    pub refuses_arguments: bool,
    /// They ignore the stop signal, so that the whole grace period passes.
    pub ignores_stop: bool,
    /// How the stop signal ends them; at once with exit code 143 where `None`.
    pub stops: Option<Ending>,
    /// Why the image cannot be pulled, where it cannot: `not found`, `denied`, `unreachable`, or a text.
    pub pull_fails: Option<String>,
    /// Why they cannot be started, where they cannot.
    pub start_fails: Option<String>,
    /// What is pulled, in bytes.
    #[serde(rename = "size", deserialize_with = "optional_size")]
    pub size_bytes: Option<u64>,
    /// Lines written at the start.
    pub logs: Vec<String>,
    /// From the start until their ports are open.
    #[serde(deserialize_with = "time")]
    pub start_delay: Duration,
    /// From the start until HTTP answers what it should and commands succeed.
    #[serde(deserialize_with = "time")]
    pub ready_after: Duration,
    /// CPU in use, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in use at the start, in bytes.
    #[serde(rename = "memory", deserialize_with = "size")]
    pub memory_bytes: u64,
    /// How memory goes on, ordered by time.
    pub memory_growth: Vec<MemoryPoint>,
    /// What is written to the container's own layer.
    pub disk: Option<DiskUse>,
    /// What answers on the pod's ports.
    pub ports: BTreeMap<u16, Answers>,
    /// What commands do; the first rule that names a command counts.
    pub exec: Vec<ExecRule>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Ending {
    /// After this time.
    #[serde(deserialize_with = "time")]
    pub after: Duration,
    /// With this exit code.
    pub code: i32,
}

fn exits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<(Duration, i32)>, D::Error> {
    Ok(Option::<Ending>::deserialize(deserializer)?.map(|ending| (ending.after, ending.code)))
}

/// A point of the memory's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemoryPoint {
    /// Time since the start.
    #[serde(deserialize_with = "time")]
    pub after: Duration,
    /// Bytes in use then.
    #[serde(rename = "to", deserialize_with = "size")]
    pub bytes: u64,
}

/// What is written to a container's own layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiskUse {
    /// Bytes in the end.
    #[serde(deserialize_with = "size")]
    pub bytes: u64,
    /// Time over which they are written evenly; all at the start where it is not given.
    #[serde(default, deserialize_with = "time")]
    pub over: Duration,
}

/// What answers on a port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenAnswers")]
pub enum Answers {
    /// HTTP/1.1 over TCP.
    Http(http::HttpAnswers),
    /// TCP that sends back what it gets.
    Tcp(Echo),
    /// DNS over UDP.
    Dns(dns::DnsAnswers),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WrittenAnswers {
    http: Option<http::HttpAnswers>,
    tcp: Option<Echo>,
    dns: Option<dns::DnsAnswers>,
}

impl TryFrom<WrittenAnswers> for Answers {
    type Error = &'static str;

    fn try_from(written: WrittenAnswers) -> Result<Self, Self::Error> {
        match (written.http, written.tcp, written.dns) {
            (Some(http), None, None) => Ok(Self::Http(http)),
            (None, Some(tcp), None) => Ok(Self::Tcp(tcp)),
            (None, None, Some(dns)) => Ok(Self::Dns(dns)),
            _ => Err("a port has exactly one of http, tcp, dns"),
        }
    }
}

/// TCP that sends back what it gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Echo {
    /// Time before each answer.
    #[serde(deserialize_with = "time")]
    pub delay: Duration,
}

/// What a command does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ExecRule {
    /// The command and its arguments with blanks between them; a `*` at the end stands for any rest.
    pub command: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it takes.
    #[serde(deserialize_with = "time")]
    pub delay: Duration,
}

/// Who it is that behaves, for placeholders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// `${POD_NAME}`.
    pub pod_name: String,
    /// `${NODE_NAME}`.
    pub node_name: String,
    /// `${POD_IP}`.
    pub pod_ip: Option<IpAddr>,
}

impl Identity {
    /// Replaces the placeholders in `text`.
    pub fn fill(&self, text: &str) -> String {
        self.fill_with(text, |_, _| false)
    }

    /// Replaces the placeholders in `text`, those too whose value `more` adds to what it is given.
    pub fn fill_with(&self, text: &str, more: impl Fn(&str, &mut String) -> bool) -> String {
        let mut filled = String::with_capacity(text.len() + 64);
        let mut rest = text;
        while let Some(start) = memchr::memchr(b'$', rest.as_bytes()) {
            let (before, from) = rest.split_at(start);
            filled.push_str(before);
            let inner = from.strip_prefix("${");
            let end = inner.and_then(|inner| memchr::memchr(b'}', inner.as_bytes()));
            rest = match inner.zip(end).map(|(inner, end)| (&inner[..end], &inner[end + 1..])) {
                Some(("POD_NAME", behind)) => {
                    filled.push_str(&self.pod_name);
                    behind
                }
                Some(("NODE_NAME", behind)) => {
                    filled.push_str(&self.node_name);
                    behind
                }
                Some(("POD_IP", behind)) => {
                    // Writing to a string does not fail.
                    let _ = self.pod_ip.map(|address| write!(filled, "{address}"));
                    behind
                }
                Some((name, behind)) if more(name, &mut filled) => behind,
                _ => {
                    filled.push('$');
                    &from[1..]
                }
            };
        }
        filled.push_str(rest);
        filled
    }
}

/// Whether `name` is what `pattern` says, and how much of it is said literally.
fn matches(pattern: &str, name: &str) -> Option<usize> {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start).then_some(start.len()),
        None => (pattern == name).then_some(usize::MAX),
    }
}

/// Of all patterns that fit, the value of the most exact one.
fn best<'a, T>(patterns: impl Iterator<Item = (&'a String, &'a T)>, name: &str) -> Option<&'a T> {
    let fitting = patterns.filter_map(|(pattern, value)| Some((matches(pattern, name)?, value)));
    fitting.max_by_key(|(exactness, _)| *exactness).map(|(_, value)| value)
}

impl Behaviour {
    /// Memory in use so long after the start, in bytes.
    pub fn memory_at(&self, age: Duration) -> u64 {
        let (mut from, mut bytes) = (Duration::ZERO, self.memory_bytes);
        for point in &self.memory_growth {
            if age < point.after {
                let part = age.saturating_sub(from).as_secs_f64() / point.after.saturating_sub(from).as_secs_f64();
                let change = (point.bytes as f64 - bytes as f64) * part;
                return (bytes as f64 + change).max(0.0) as u64;
            }
            (from, bytes) = (point.after, point.bytes);
        }
        bytes
    }

    /// The first moment at or after `since` at which more than `limit` bytes are in use; `None` where there is none.
    pub fn memory_exceeds(&self, limit: u64, since: Duration) -> Option<Duration> {
        if self.memory_at(since) > limit {
            return Some(since);
        }
        let (mut from, mut bytes) = (Duration::ZERO, self.memory_bytes);
        for point in &self.memory_growth {
            if point.after > since && point.bytes > limit {
                let part = limit.saturating_sub(bytes) as f64 / point.bytes.saturating_sub(bytes).max(1) as f64;
                let crossing = from + point.after.saturating_sub(from).mul_f64(part);
                return Some(crossing.max(since));
            }
            (from, bytes) = (point.after, point.bytes);
        }
        None
    }

    /// Bytes written to the container's own layer so long after the start.
    pub fn disk_at(&self, age: Duration) -> u64 {
        match self.disk {
            Some(disk) if age < disk.over => (disk.bytes as f64 * age.as_secs_f64() / disk.over.as_secs_f64()) as u64,
            Some(disk) => disk.bytes,
            None => 0,
        }
    }

    /// What a command does; `None` where no rule names it.
    pub fn exec(&self, command: &[String]) -> Option<&ExecRule> {
        let command = command.join(" ");
        self.exec.iter().find(|rule| matches(&rule.command, &command).is_some())
    }
}

/// Why a behaviour file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("behaviour file: {0}")]
pub struct BehaviourError(#[from] serde_yaml_ng::Error);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    images: BTreeMap<String, Behaviour>,
}

/// Behaviours by image.
#[derive(Debug, Clone, Default)]
pub struct Behaviours {
    images: BTreeMap<String, Arc<Behaviour>>,
}

impl Behaviours {
    /// None: every container just runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those that come with the program: the application of Kubernetes' tutorial, and images of a registry whose name
    /// stands for none (RFC 6761, `.invalid`).
    pub fn built_in() -> Self {
        let mut behaviours = Self::new();
        for version in [1, 2] {
            behaviours.set(&format!("gcr.io/google-samples/kubernetes-bootcamp:v{version}"), bootcamp(version));
        }
        let nowhere = Behaviour { pull_fails: Some("unreachable".to_owned()), ..Behaviour::default() };
        behaviours.set("nowhere.invalid/*", nowhere);
        behaviours
    }

    /// Adds those of a file.
    ///
    /// # Errors
    /// With line and column where the file is not as the module says.
    pub fn read(&mut self, yaml: &str) -> Result<(), BehaviourError> {
        let file: File = serde_yaml_ng::from_str(yaml)?;
        self.images.extend(file.images.into_iter().map(|(image, behaviour)| (image, Arc::new(behaviour))));
        Ok(())
    }

    /// Sets the behaviour of an image, or of all that a pattern names.
    pub fn set(&mut self, image: &str, behaviour: Behaviour) {
        self.images.insert(image.to_owned(), Arc::new(behaviour));
    }

    /// The behaviour of an image, by any of its names.
    pub fn of(&self, image: &str) -> Option<Arc<Behaviour>> {
        best(self.images.iter(), image).cloned()
    }

    /// All images that are named in full.
    pub fn images(&self) -> impl Iterator<Item = (&str, &Behaviour)> {
        self.images.iter().filter(|(image, _)| !image.ends_with('*')).map(|(image, known)| (image.as_str(), &**known))
    }
}

/// The tutorial's application; runtime `builtin/bootcamp.rs` is the real one.
fn bootcamp(version: u32) -> Behaviour {
    let body = format!("Hello Kubernetes bootcamp! | Running on: ${{POD_NAME}} | v={version}\n");
    let answer = http::HttpAnswer { body, ..http::HttpAnswer::default() };
    let log = Some(
        "Running On: ${POD_NAME} | Total Requests: ${REQUESTS} | App Uptime: ${UPTIME} seconds | Log Time: ${TIME}".to_owned(),
    );
    let http = http::HttpAnswers { paths: BTreeMap::from([("/*".to_owned(), answer)]), log };
    Behaviour {
        ports: BTreeMap::from([(8080, Answers::Http(http))]),
        refuses_arguments: true,
        stops: Some(Ending::default()),
        memory_bytes: 2 << 20,
        cpu_millis: 1,
        size_bytes: Some(20 << 20),
        logs: vec!["Kubernetes Bootcamp App Started At: ${TIME} | Running On:  ${POD_NAME} ".to_owned(), String::new()],
        ..Behaviour::default()
    }
}

#[cfg(test)]
mod tests;

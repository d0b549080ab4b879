//! A kubectl command line that only looks.

use daruma_kinds::{AnyKind, Scope};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::objects::{Kinds, collection};

/// `get …` or `top …`.
#[derive(Clone)]
pub struct Command {
    /// What is looked at.
    pub what: What,
    /// Namespace; `None` is all of them.
    pub namespace: Option<String>,
    /// Label selector; empty selects all.
    pub selector: String,
    /// `-o wide`.
    pub wide: bool,
}

/// See [`Command`].
#[derive(Clone)]
pub enum What {
    /// Objects of a kind, or one of them.
    Kind {
        /// Which kind.
        kind: AnyKind,
        /// Only this one.
        name: Option<String>,
    },
    /// Use of nodes.
    TopNodes,
    /// Use of pods.
    TopPods,
}

impl Command {
    /// Reads a command line; a leading `kubectl` may stand or not.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn parse(line: &str, kinds: &Kinds) -> Result<Self, String> {
        let mut words = line.split_whitespace().peekable();
        words.next_if_eq(&"kubectl");
        let verb = words.next().unwrap_or_default();
        if !matches!(verb, "get" | "top") {
            return Err(format!("{line:?}: a view is `get KIND` or `top nodes|pods`, e.g. get pods -o wide"));
        }
        let (mut namespace, mut selector, mut wide) = (Some("default".to_owned()), String::new(), false);
        let mut plain = Vec::new();
        while let Some(word) = words.next() {
            let (flag, inline) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
            let mut value = || inline.or_else(|| words.next()).ok_or_else(|| format!("{line:?}: {flag} needs a value"));
            match flag {
                "-A" | "--all-namespaces" => namespace = None,
                "-n" | "--namespace" => namespace = Some(value()?.to_owned()),
                "-l" | "--selector" => value()?.clone_into(&mut selector),
                "-o" | "--output" => match value()? {
                    "wide" => wide = true,
                    other => return Err(format!("{line:?}: only -o wide can be shown, not {other:?}")),
                },
                "-owide" => wide = true,
                _ if flag.starts_with('-') => {
                    return Err(format!("{line:?}: unknown flag {flag:?}; there are -A, -n, -l, -o wide"));
                }
                _ => plain.push(word),
            }
        }
        if let Err(error) = daruma_api::selector::Selector::parse(&selector) {
            return Err(format!("{line:?}: {selector:?} is no label selector: {error}"));
        }
        let what = match (verb, &plain[..]) {
            ("top", ["node" | "nodes" | "no"]) => What::TopNodes,
            ("top", ["pod" | "pods" | "po"]) => What::TopPods,
            ("get", [word]) => {
                let (word, name) = word.split_once('/').map_or((*word, None), |(word, name)| (word, Some(name)));
                What::kind(line, kinds, word, name)?
            }
            ("get", [word, name]) => What::kind(line, kinds, word, Some(name))?,
            _ => return Err(format!("{line:?}: name one kind, e.g. get pods, top nodes")),
        };
        Ok(Self { what, namespace, selector, wide })
    }

    /// Whether its objects live in namespaces.
    pub(super) fn is_namespaced(&self) -> bool {
        match &self.what {
            What::Kind { kind, .. } => kind.names().scope == Scope::Namespaced,
            What::TopNodes => false,
            What::TopPods => true,
        }
    }

    /// URL of what is asked for.
    pub(super) fn path(&self) -> String {
        let path = match &self.what {
            What::Kind { kind, name } => {
                let path = collection(&**kind, self.namespace.as_deref());
                name.as_ref().map_or(path.clone(), |name| format!("{path}/{name}"))
            }
            What::TopNodes => "/apis/metrics.k8s.io/v1beta1/nodes".to_owned(),
            What::TopPods => match &self.namespace {
                Some(namespace) => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods"),
                None => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
            },
        };
        match self.selector.as_str() {
            "" => path,
            selector => format!("{path}?labelSelector={}", utf8_percent_encode(selector, NON_ALPHANUMERIC)),
        }
    }
}

impl What {
    fn kind(line: &str, kinds: &Kinds, word: &str, name: Option<&str>) -> Result<Self, String> {
        let kind = kinds.called(word).ok_or_else(|| format!("{line:?}: the server has no resource type {word:?}"))?;
        Ok(Self::Kind { kind, name: name.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (line, expected) in [
            ("get pods", Ok("/api/v1/namespaces/default/pods")),
            ("kubectl get po -A -l app=web", Ok("/api/v1/pods?labelSelector=app%3Dweb")),
            ("get deploy web -n shop", Ok("/apis/apps/v1/namespaces/shop/deployments/web")),
            ("get node/worker-0 -owide", Ok("/api/v1/nodes/worker-0")),
            ("top pod --all-namespaces", Ok("/apis/metrics.k8s.io/v1beta1/pods")),
            ("delete pods", Err("a view is")),
            ("get things", Err("no resource type")),
            ("get pods -o yaml", Err("only -o wide")),
            ("get pods -n", Err("needs a value")),
            ("get pods --watch", Err("unknown flag")),
            ("top things", Err("name one kind")),
        ] {
            match (Command::parse(line, &Kinds::default()), expected) {
                (Ok(command), Ok(expected)) => assert_eq!(command.path(), expected, "{line}"),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{line}: {error}"),
                (found, expected) => panic!("{line}: {:?}, not {expected:?}", found.map(|command| command.path())),
            }
        }
    }
}

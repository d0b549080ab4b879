//! URLs.
//!
//! Source: apiserver pkg/cel/library/urls.go. Read are absolute URLs and absolute paths, as by Go's `url.ParseRequestURI`.

use std::any::Any;
use std::collections::BTreeMap;

use cel::common::types::{CelList, CelString, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{DeclarationError, Env, ExecutionError};

use super::arguments::{Answer, fault, text, truth, typed, words};
use super::map::OrderedMap;

static TYPE: Type = Type::new_unspecified_type("kubernetes.URL");

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Val for Url {
    fn get_type(&self) -> &Type {
        &TYPE
    }
    fn cel_type() -> &'static Type {
        &TYPE
    }
    fn equals(&self, other: &dyn Val) -> bool {
        other.downcast_ref::<Self>() == Some(self)
    }
    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Url {}

impl Url {
    fn parse(source: &str) -> Option<Self> {
        if source.is_empty() || source.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return None;
        }
        let (scheme, rest) = match source.split_once(':') {
            _ if source.starts_with('/') => ("", source),
            Some((scheme, rest)) => (scheme, rest),
            None => return None,
        };
        let mut letters = scheme.bytes();
        let is_scheme = letters.next().is_none_or(|first| first.is_ascii_alphabetic())
            && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = match rest.strip_prefix("//") {
            Some(rest) if !scheme.is_empty() => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            _ => ("", rest),
        };
        let is_absolute = !host.is_empty() || path.starts_with('/');
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let port = host.rsplit_once(':').filter(|(before, _)| !before.is_empty() && !host.ends_with(']'));
        let good_port = port.is_none_or(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        (is_scheme && is_absolute && good_port).then(|| Self {
            scheme: scheme.to_ascii_lowercase(),
            host: host.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    /// Host and port.
    fn parts(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((host, port)) if !self.host.ends_with(']') => (host, port),
            _ => (&self.host, ""),
        }
    }

    fn parameters(&self) -> BTreeMap<String, Vec<String>> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            found.entry(unescaped(name)).or_default().push(unescaped(value));
        }
        found
    }
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code =
            tail.get(..2).and_then(|code| std::str::from_utf8(code).ok()).and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, code) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            (other, _) => {
                bytes.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Declares them.
pub(super) fn declare(environment: &mut Env) -> Result<(), DeclarationError> {
    let own = || TYPE.to_owned();
    environment.add_overload("url", "url(string)", vec![STRING_TYPE], |args| {
        let source = text(&args, 0)?;
        let parsed = Url::parse(source);
        parsed
            .map(CowVal::owned)
            .ok_or_else(|| fault("url", format!("URL parse error during conversion from string: {source:?}")))
    })?;
    environment.add_overload("isURL", "isURL(string)", vec![STRING_TYPE], |args| truth(Url::parse(text(&args, 0)?).is_some()))?;
    environment.add_member_overload("getScheme", "url.getScheme()", own(), vec![], |args| words(url(&args)?.scheme.clone()))?;
    environment.add_member_overload("getHost", "url.getHost()", own(), vec![], |args| words(url(&args)?.host.clone()))?;
    environment.add_member_overload("getHostname", "url.getHostname()", own(), vec![], |args| {
        let host = url(&args)?.parts().0;
        words(host.trim_start_matches('[').trim_end_matches(']'))
    })?;
    environment.add_member_overload("getPort", "url.getPort()", own(), vec![], |args| words(url(&args)?.parts().1))?;
    environment
        .add_member_overload("getEscapedPath", "url.getEscapedPath()", own(), vec![], |args| words(url(&args)?.path.clone()))?;
    environment.add_member_overload("getQuery", "url.getQuery()", own(), vec![], query)
}

fn url<'b>(args: &'b [CowVal<'_, '_>]) -> Result<&'b Url, ExecutionError> {
    typed::<Url>(args, 0)
}

fn query<'b, 'v>(args: Vec<CowVal<'b, 'v>>) -> Answer<'b, 'v> {
    let parameters = url(&args)?.parameters().into_iter().map(|(name, values)| {
        let values: Vec<Box<dyn Val>> = values.into_iter().map(|one| Box::new(CelString::from(one)) as Box<dyn Val>).collect();
        (name, Box::new(CelList::from(values)) as Box<dyn Val>)
    });
    Ok(CowVal::owned(OrderedMap::new(parameters)))
}

//! Where redirects lead: to the same host only, and not for ever. Pure.
//!
//! Source: kubernetes pkg/probe/http (`RedirectChecker`), Go's net/http (`Client.Do`).

use daruma_api::core::v1::HTTPHeader;
use url::{Position, Url};

use super::http::{Answer, HttpTarget};

/// So many requests are made at most.
const MOST: usize = 10;

/// The requests that one probe has come to make.
#[derive(Debug)]
pub(super) struct Way<'a> {
    asked: Vec<Url>,
    /// As the probe has them, perhaps without a host.
    headers: Vec<HTTPHeader>,
    /// And from where.
    sent: Vec<HTTPHeader>,
    user_agent: &'a str,
}

impl<'a> Way<'a> {
    /// It begins with a target that was asked.
    ///
    /// # Errors
    /// What was asked is no URL.
    pub(super) fn from(target: &HttpTarget<'a>) -> Result<Self, String> {
        let first = Url::parse(&target.url()).map_err(|error| error.to_string())?;
        let (headers, sent) = (target.headers.to_vec(), Vec::new());
        Ok(Self { asked: vec![first], headers, sent, user_agent: target.user_agent })
    }

    /// Whether there is somebody else to be asked than the one who answered last.
    ///
    /// # Errors
    /// It leads nowhere, or in a circle.
    pub(super) fn goes_on(&mut self, answer: &Answer) -> Result<bool, String> {
        let location = answer.location.as_deref().filter(|location| !location.is_empty());
        let (301..=303 | 307 | 308, Some(location)) = (answer.status, location) else { return Ok(false) };
        let from = self.last();
        let to = from.join(location).map_err(|error| format!("failed to parse Location header {location:?}: {error}"))?;
        if to.host() != self.asked[0].host() {
            return Ok(false);
        }
        if self.asked.len() >= MOST {
            return Err(format!("stopped after {MOST} redirects"));
        }
        let told = |headers: &[HTTPHeader], name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
        // Where one comes from by an encrypted connection is not told on another.
        let is_silent = told(&self.headers, "referer") || (from.scheme() == "https" && to.scheme() == "http");
        let comes_from = (!is_silent).then(|| HTTPHeader { name: "Referer".to_owned(), value: from.to_string() });
        // The probe's own name for the host is for this one server.
        if Url::parse(location).is_ok() {
            self.headers.retain(|header| !header.name.eq_ignore_ascii_case("host"));
        }
        self.sent = self.headers.iter().cloned().chain(comes_from).collect();
        self.asked.push(to);
        Ok(true)
    }

    /// What is asked next.
    ///
    /// # Errors
    /// It is asked by another protocol.
    pub(super) fn target(&self) -> Result<HttpTarget<'_>, String> {
        let url = self.last();
        let (Some(port), true) = (url.port_or_known_default(), matches!(url.scheme(), "http" | "https")) else {
            return Err(format!("unsupported protocol scheme {:?}", url.scheme()));
        };
        Ok(HttpTarget {
            https: url.scheme() == "https",
            host: url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']'),
            port,
            path: &url[Position::BeforePath..Position::AfterQuery],
            headers: &self.sent,
            user_agent: self.user_agent,
        })
    }

    /// What was asked last.
    pub(super) fn last(&self) -> &Url {
        &self.asked[self.asked.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> HTTPHeader {
        HTTPHeader { name: name.to_owned(), value: value.to_owned() }
    }

    fn target<'a>(path: &'a str, headers: &'a [HTTPHeader]) -> HttpTarget<'a> {
        HttpTarget { https: false, host: "10.0.0.1", port: 8080, path, headers, user_agent: "kube-probe/1.36" }
    }

    /// What a redirect from `/a/b?c` leads to.
    #[track_caller]
    fn check(status: u16, location: &str, expected: Result<Option<&str>, &str>) {
        let mut way = Way::from(&target("/a/b?c", &[])).expect("a URL");
        let leads = way.goes_on(&Answer::redirect(status, location));
        let went = leads.and_then(|leads| leads.then(|| way.target().map(|target| target.url())).transpose());
        assert_eq!(went.as_ref().map(Option::as_deref).map_err(String::as_str), expected, "{status} {location}");
    }

    #[test]
    fn locations() {
        check(302, "/x?y#z", Ok(Some("http://10.0.0.1:8080/x?y")));
        check(301, "x", Ok(Some("http://10.0.0.1:8080/a/x")));
        check(303, "../x", Ok(Some("http://10.0.0.1:8080/x")));
        check(307, "?d", Ok(Some("http://10.0.0.1:8080/a/b?d")));
        check(308, "//10.0.0.1/x", Ok(Some("http://10.0.0.1:80/x")));
        check(302, "https://10.0.0.1/x", Ok(Some("https://10.0.0.1:443/x")));
        check(302, "http://10.0.0.2:8080/x", Ok(None));
        check(302, "", Ok(None));
        check(300, "/x", Ok(None));
        check(304, "/x", Ok(None));
        check(302, "http://[", Err("failed to parse Location header \"http://[\": invalid IPv6 address"));
        check(302, "ftp://10.0.0.1/x", Err("unsupported protocol scheme \"ftp\""));
    }

    #[test]
    fn in_a_circle() {
        let mut way = Way::from(&target("/", &[])).expect("a URL");
        for _ in 1..MOST {
            assert_eq!(way.goes_on(&Answer::redirect(302, "/")), Ok(true));
        }
        assert_eq!(way.goes_on(&Answer::redirect(302, "/")), Err("stopped after 10 redirects".to_owned()));
        assert_eq!(way.goes_on(&Answer::redirect(302, "http://web.example/")), Ok(false));
    }

    #[test]
    fn headers() {
        let own = [header("Host", "web.example"), header("X-Probe", "a")];
        let mut way = Way::from(&target("/", &own)).expect("a URL");
        let mut sent = |location: &str| {
            assert_eq!(way.goes_on(&Answer::redirect(302, location)), Ok(true));
            way.sent.iter().map(|header| format!("{}: {}", header.name, header.value)).collect::<Vec<_>>()
        };
        assert_eq!(sent("/a"), ["Host: web.example", "X-Probe: a", "Referer: http://10.0.0.1:8080/"]);
        assert_eq!(sent("https://10.0.0.1/b"), ["X-Probe: a", "Referer: http://10.0.0.1:8080/a"]);
        assert_eq!(sent("http://10.0.0.1/c"), ["X-Probe: a"]);
        let own = [header("referer", "me")];
        let mut way = Way::from(&target("/", &own)).expect("a URL");
        assert_eq!(way.goes_on(&Answer::redirect(302, "/a")), Ok(true));
        assert_eq!(way.sent, own);
    }
}

//! Requests that web pages of elsewhere make in a reader's name.
//!
//! Any page may send a form or a text anywhere, without asking. So what changes something is refused where the browser says
//! that it comes from another site. And a page may let its own name point to this node, so that for the browser it is
//! the same site: so names in `Host` that are not this node's are refused.
//!
//! And requests over HTTP/2 whose target was cut off, which are marked.

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, Request};

use super::error::{Kind, Problem};
use super::framing::HEADERS_MAX;
use super::heads::{CUT_TARGET, NO_FRAGMENTS};

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses a request that is not for this node, or not by its own pages. `hosts` are the names that clients may use;
/// none: any.
pub(super) fn check<B>(request: &Request<B>, hosts: Option<&[String]>) -> Result<(), Problem> {
    // HTTP/1's were counted before.
    if request.headers().len() > HEADERS_MAX {
        let detail = format!("the head has more than {HEADERS_MAX} header fields");
        return Err(Problem::new(Kind::HeadTooLarge, detail));
    }
    if request.headers().contains_key(CUT_TARGET) {
        return Err(Problem::new(Kind::Malformed, NO_FRAGMENTS));
    }
    let authority = authority(request)?;
    if let (Some(hosts), Some(authority)) = (hosts, &authority)
        && !is_ours(authority.host(), hosts)
    {
        let detail = format!(
            "{:?} is no name of this node; use an address, a name of its configuration, or list it in http.hosts",
            authority.host()
        );
        return Err(Problem::new(Kind::WrongHost, detail));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    match foreign(request.headers(), authority.as_ref()) {
        None => Ok(()),
        Some(whose) => {
            let detail = format!("a page of {whose} may change nothing here");
            Err(Problem::new(Kind::CrossSite, detail))
        }
    }
}

/// The host that the request is for: of the target where it says so, else of `Host`.
fn authority<B>(request: &Request<B>) -> Result<Option<Authority>, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(authority.clone()));
    }
    let mut named = request.headers().get_all(HOST).iter();
    let Some(host) = named.next() else { return Ok(None) };
    if named.next().is_some() {
        return Err(Problem::new(Kind::Malformed, "there is more than one Host header"));
    }
    // The request is for nobody's site in particular.
    if host.is_empty() {
        return Ok(None);
    }
    let authority = Authority::try_from(host.as_bytes()).ok();
    match authority.filter(|authority| !authority.as_str().contains('@')) {
        Some(authority) => Ok(Some(authority)),
        None => Err(Problem::new(Kind::Malformed, "Host is not a host")),
    }
}

fn is_ours(host: &str, hosts: &[String]) -> bool {
    if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let is = |name: &str| name.eq_ignore_ascii_case(host);
    is("localhost") || hosts.iter().any(|name| is(name))
}

/// Whose page the request is from, if it is another site's.
fn foreign(headers: &HeaderMap, own: Option<&Authority>) -> Option<String> {
    for site in headers.get_all(&SEC_FETCH_SITE) {
        // What is neither of these is of a browser to come.
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return Some("another site".to_owned());
        }
    }
    let own = own.map(|own| own.as_str());
    headers.get_all(ORIGIN).iter().find_map(|origin| {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let same = match origin.split_once("://") {
            Some((scheme, site)) => own.is_some_and(|own| {
                let port = if scheme == "https" { ":443" } else { ":80" };
                let plain =
                    |site: &str| site.strip_suffix(port).unwrap_or(site).to_ascii_lowercase();
                plain(site) == plain(own)
            }),
            None => false,
        };
        (!same).then(|| origin.into_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/v1/compact");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn kind(method: &str, fields: &[(&str, &str)]) -> Option<Kind> {
        let hosts = ["kv.example.org".to_owned()];
        check(&request(method, fields), Some(&hosts)).err().map(|problem| problem.kind())
    }

    #[test]
    fn names_that_are_not_this_nodes_are_refused() {
        for host in [
            "127.0.0.1:20001",
            "[::1]:20001",
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "kv.example.org:7",
            "KV.example.org",
            "",
        ] {
            assert_eq!(kind("GET", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "example.org",
            "kv.example.org.evil",
            "127.0.0.1.nip.io",
            "localhost.evil",
        ] {
            assert_eq!(kind("GET", &[("host", host)]), Some(Kind::WrongHost), "{host}");
            assert!(check(&request("GET", &[("host", host)]), None).is_ok());
        }
        for host in ["a b", "user@localhost", "localhost/x", "::1"] {
            assert_eq!(kind("GET", &[("host", host)]), Some(Kind::Malformed), "{host}");
        }
        assert_eq!(kind("GET", &[("host", "a"), ("host", "a")]), Some(Kind::Malformed));
        let absolute =
            Request::builder().uri("http://evil.example/").header("host", "localhost").body(());
        assert!(check(&absolute.unwrap(), Some(&[])).is_err());
    }

    #[test]
    fn fields_are_counted_in_every_version() {
        let fields = vec![("a", "b"); HEADERS_MAX];
        assert_eq!(kind("GET", &fields), None);
        let fields = vec![("a", "b"); HEADERS_MAX + 1];
        assert_eq!(kind("GET", &fields), Some(Kind::HeadTooLarge));
    }

    #[test]
    fn pages_of_elsewhere_change_nothing() {
        let at_home = ("host", "localhost:20001");
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://localhost:20002"),
            ("origin", "http://localhost"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(kind("POST", &[at_home, (name, value)]), Some(Kind::CrossSite), "{value}");
            assert_eq!(kind("GET", &[at_home, (name, value)]), None, "{value}");
        }
        for (name, value) in [
            ("origin", "http://localhost:20001"),
            ("origin", "https://LOCALHOST:20001"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "none"),
        ] {
            assert_eq!(kind("DELETE", &[at_home, (name, value)]), None, "{value}");
        }
        assert_eq!(kind("POST", &[("host", "localhost"), ("origin", "http://localhost:80")]), None);
        assert_eq!(kind("POST", &[at_home]), None);
    }
}

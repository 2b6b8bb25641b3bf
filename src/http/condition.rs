//! Conditional requests (RFC 9110, section 13): parsing, and their order for reads.

use axum::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};

use super::error::{Kind, Problem};
use super::fields::{JSON_SUFFIX, Representation};
use super::headers;
use crate::kv::{Condition, Matcher, Revision};

impl Representation {
    /// What `Accept` asks for.
    pub(crate) fn of(headers: &HeaderMap) -> Representation {
        match headers::accepts(headers, "application/json") {
            true => Representation::Json,
            false => Representation::Value,
        }
    }
}

/// How entity tags are compared (RFC 9110, section 8.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// `If-Match`: a weak tag matches nothing.
    Strong,
    /// `If-None-Match`: a weak tag matches as a strong one does.
    Weak,
}

/// The conditions of a read of one representation: the tags of another match nothing.
pub(crate) fn parse_for(
    headers: &HeaderMap,
    representation: Representation,
) -> Result<Condition, Problem> {
    conditions(headers, |tagged| tagged == representation)
}

/// The conditions of a write, which changes all representations: a tag of any names the revision.
pub(crate) fn parse(headers: &HeaderMap) -> Result<Condition, Problem> {
    conditions(headers, |_| true)
}

fn conditions(
    headers: &HeaderMap,
    counts: impl Fn(Representation) -> bool,
) -> Result<Condition, Problem> {
    Ok(Condition {
        if_match: matcher(headers, &IF_MATCH, Comparison::Strong, &counts)?,
        if_none_match: matcher(headers, &IF_NONE_MATCH, Comparison::Weak, &counts)?,
    })
}

fn matcher(
    headers: &HeaderMap,
    name: &HeaderName,
    comparison: Comparison,
    counts: &impl Fn(Representation) -> bool,
) -> Result<Option<Matcher>, Problem> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    let mut any = false;
    let mut tags = 0_usize;
    let mut revisions = Vec::new();
    for value in headers.get_all(name) {
        let mut rest = value.as_bytes();
        loop {
            rest = skip_blank(rest);
            match rest.split_first() {
                None => break,
                Some((b',', after)) => rest = after,
                Some((b'*', after)) if !any && tags == 0 => {
                    any = true;
                    rest = end_of_member(after).ok_or_else(|| broken(name, value.as_bytes()))?;
                }
                Some(_) => {
                    let (tag, after) =
                        entity_tag(rest).ok_or_else(|| broken(name, value.as_bytes()))?;
                    if any {
                        return Err(broken(name, value.as_bytes()));
                    }
                    tags += 1;
                    if !tag.weak || comparison == Comparison::Weak {
                        let named = tag.revision().filter(|(_, of)| counts(*of));
                        revisions.extend(named.map(|(revision, _)| revision));
                    }
                    rest = end_of_member(after).ok_or_else(|| broken(name, value.as_bytes()))?;
                }
            }
        }
    }
    match (any, tags) {
        (true, _) => Ok(Some(Matcher::Any)),
        (false, 0) => Err(broken(name, b"")),
        (false, _) => Ok(Some(Matcher::Revisions(revisions))),
    }
}

fn broken(name: &HeaderName, value: &[u8]) -> Problem {
    let name = if name == IF_MATCH { "If-Match" } else { "If-None-Match" };
    let value = String::from_utf8_lossy(value);
    Problem::new(
        Kind::InvalidHeader,
        format!("{name}: {value} is neither * nor a list of entity tags in quotes, such as \"42\""),
    )
}

fn skip_blank(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    &bytes[blank..]
}

/// What follows a member of a list, if that is a comma or the end.
fn end_of_member(bytes: &[u8]) -> Option<&[u8]> {
    let rest = skip_blank(bytes);
    matches!(rest.first(), None | Some(b',')).then_some(rest)
}

struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl EntityTag<'_> {
    /// The revision that the tag names, and of what it is the tag, if konsen gave it.
    fn revision(&self) -> Option<(Revision, Representation)> {
        let text = std::str::from_utf8(self.opaque).ok()?;
        let (text, representation) = match text.strip_suffix(JSON_SUFFIX) {
            Some(text) => (text, Representation::Json),
            None => (text, Representation::Value),
        };
        let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let revision = canonical.then(|| text.parse().ok().map(Revision)).flatten()?;
        Some((revision, representation))
    }
}

fn entity_tag(bytes: &[u8]) -> Option<(EntityTag<'_>, &[u8])> {
    let (weak, rest) = match bytes.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, bytes),
    };
    let rest = rest.strip_prefix(b"\"")?;
    let length = rest.iter().position(|&byte| byte == b'"')?;
    let (opaque, after) = (&rest[..length], &rest[length + 1..]);
    let allowed = opaque.iter().all(|&byte| byte == 0x21 || (byte > 0x22 && byte != 0x7f));
    allowed.then_some((EntityTag { weak, opaque }, after))
}

/// What the conditions of a read come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Answer as without conditions.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the conditions of a read of a key that exists, in the order of section 13.2.2. A key
/// that does not exist is 404 whatever the conditions say (section 13.2.1).
pub(crate) fn of_read(condition: &Condition, current: Revision) -> Verdict {
    let matches = |matcher: &Matcher| match matcher {
        Matcher::Any => true,
        Matcher::Revisions(revisions) => revisions.contains(&current),
    };
    if condition.if_match.as_ref().is_some_and(|matcher| !matches(matcher)) {
        Verdict::Failed
    } else if condition.if_none_match.as_ref().is_some_and(matches) {
        Verdict::NotModified
    } else {
        Verdict::Proceed
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn revisions(list: &[u64]) -> Option<Matcher> {
        Some(Matcher::Revisions(list.iter().copied().map(Revision).collect()))
    }

    #[test]
    fn lists_and_stars_are_read() {
        let parsed = |pairs: &[(&'static str, &'static str)]| parse(&headers(pairs)).unwrap();
        assert_eq!(parsed(&[]), Condition::default());
        assert_eq!(parsed(&[("if-match", "*")]).if_match, Some(Matcher::Any));
        assert_eq!(parsed(&[("if-match", " \"7\" ")]).if_match, revisions(&[7]));
        assert_eq!(parsed(&[("if-match", "\"7\",, \"8\"")]).if_match, revisions(&[7, 8]));
        assert_eq!(parsed(&[("if-none-match", "W/\"7\"")]).if_none_match, revisions(&[7]));
    }

    #[test]
    fn a_tag_counts_for_its_own_representation_and_for_writes() {
        let headers = headers(&[("if-none-match", "\"7\", \"8-json\", \"9-xml\"")]);
        let of = |representation| parse_for(&headers, representation).unwrap().if_none_match;
        assert_eq!(of(Representation::Value), revisions(&[7]));
        assert_eq!(of(Representation::Json), revisions(&[8]));
        assert_eq!(parse(&headers).unwrap().if_none_match, revisions(&[7, 8]));
        assert_eq!(Representation::Value.etag(Revision(u64::MAX)), "\"18446744073709551615\"");
        assert_eq!(Representation::Json.etag(Revision(7)), "\"7-json\"");
    }

    #[test]
    fn lines_of_one_header_are_one_list() {
        let mut headers = headers(&[("if-none-match", "\"1\"")]);
        headers.append("if-none-match", HeaderValue::from_static("\"2\""));
        assert_eq!(parse(&headers).unwrap().if_none_match, revisions(&[1, 2]));
    }

    #[test]
    fn weak_and_foreign_tags_match_nothing() {
        for foreign in ["W/\"7\"", "\"abc\"", "\"07\"", "\"\"", "\"+7\"", "\"a,b\""] {
            let headers = headers(&[("if-match", foreign)]);
            assert_eq!(parse(&headers).unwrap().if_match, revisions(&[]), "{foreign}");
        }
    }

    #[test]
    fn broken_conditions_are_refused() {
        for broken in [
            "",
            ",",
            "7",
            "\"7",
            "7\"",
            "\"7\" \"8\"",
            "*, \"7\"",
            "\"7\", *",
            "**",
            "w/\"7\"",
            "\"a b\"",
        ] {
            let problem = parse(&headers(&[("if-match", broken)])).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidHeader, "{broken}");
            assert!(problem.detail().contains("If-Match"), "{broken}");
        }
    }

    #[test]
    fn if_match_comes_before_if_none_match() {
        let verdict = |pairs: &[(&'static str, &'static str)]| {
            of_read(&parse(&headers(pairs)).unwrap(), Revision(7))
        };
        assert_eq!(verdict(&[]), Verdict::Proceed);
        assert_eq!(
            verdict(&[("if-match", "\"7\""), ("if-none-match", "\"7\"")]),
            Verdict::NotModified
        );
        assert_eq!(verdict(&[("if-match", "\"6\""), ("if-none-match", "\"7\"")]), Verdict::Failed);
        assert_eq!(verdict(&[("if-none-match", "\"6\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-none-match", "*")]), Verdict::NotModified);
    }
}

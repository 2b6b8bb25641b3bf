//! Forms as browsers and curl send them: `application/x-www-form-urlencoded` and `multipart/form-data`.

use bytes::Bytes;

use super::query::{BrokenEscape, decode};

/// The most fields of a form.
pub(crate) const FIELDS_MAX: usize = 10_000;

/// A form that cannot be read. Says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    #[error("invalid URL escape at byte {0} of the form")]
    Escape(usize),
    #[error("invalid semicolon separator in the form; separate fields with &")]
    Semicolon,
    #[error("the form has more than {FIELDS_MAX} fields")]
    TooManyFields,
    #[error("a form is application/x-www-form-urlencoded or multipart/form-data")]
    ContentType,
    #[error("the multipart form has no boundary")]
    NoBoundary,
    #[error("the multipart form is broken: {0}")]
    Multipart(&'static str),
    #[error("field {0:?} is a file; send its content as a plain field, or with PUT /v1/kv/KEY")]
    File(String),
}

/// The fields of a form, in order.
pub(crate) fn parse(content_type: &str, body: &[u8]) -> Result<Vec<(Bytes, Bytes)>, FormError> {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    match media_type.trim().to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => urlencoded(body),
        "multipart/form-data" => {
            let boundary = parameter(parameters, "boundary").ok_or(FormError::NoBoundary)?;
            multipart(&boundary, body)
        }
        _ => Err(FormError::ContentType),
    }
}

fn urlencoded(body: &[u8]) -> Result<Vec<(Bytes, Bytes)>, FormError> {
    let mut fields = Vec::new();
    let mut position = 0;
    for pair in body.split(|&byte| byte == b'&') {
        let start = position;
        position += pair.len() + 1;
        if pair.is_empty() {
            continue;
        }
        if pair.contains(&b';') {
            return Err(FormError::Semicolon);
        }
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let (name, value) = (&pair[..equals], pair.get(equals + 1..).unwrap_or_default());
        let name = decode(name, true).map_err(|BrokenEscape(at)| FormError::Escape(start + at))?;
        let value = decode(value, true)
            .map_err(|BrokenEscape(at)| FormError::Escape(start + equals + 1 + at))?;
        push(&mut fields, name, value)?;
    }
    Ok(fields)
}

fn push(fields: &mut Vec<(Bytes, Bytes)>, name: Bytes, value: Bytes) -> Result<(), FormError> {
    if fields.len() == FIELDS_MAX {
        return Err(FormError::TooManyFields);
    }
    fields.push((name, value));
    Ok(())
}

/// A parameter such as `boundary=x` or `name="x"`, with its quotes undone.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text.trim_start_matches([';', ' ', '\t']);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after.trim_start_matches([';', ' ', '\t']);
    }
    None
}

/// What is up to the closing quote, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &quoted[position + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// RFC 7578: parts between lines of two dashes and the boundary.
fn multipart(boundary: &str, body: &[u8]) -> Result<Vec<(Bytes, Bytes)>, FormError> {
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(FormError::NoBoundary);
    }
    let delimiter = format!("\r\n--{boundary}");
    let mut fields = Vec::new();
    // The first delimiter may stand at the very beginning, without a line before it.
    let mut rest = match body.strip_prefix(&delimiter.as_bytes()[2..]) {
        Some(rest) => rest,
        None => {
            let start = find(body, delimiter.as_bytes())
                .ok_or(FormError::Multipart("the boundary is nowhere in it"))?;
            &body[start + delimiter.len()..]
        }
    };
    loop {
        if rest.starts_with(b"--") {
            return Ok(fields);
        }
        let blank = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let part = rest[blank..]
            .strip_prefix(b"\r\n")
            .ok_or(FormError::Multipart("a boundary is not followed by a line break"))?;
        let end = find(part, delimiter.as_bytes())
            .ok_or(FormError::Multipart("the last part does not end"))?;
        rest = &part[end + delimiter.len()..];
        let part = &part[..end];
        let head_end =
            find(part, b"\r\n\r\n").ok_or(FormError::Multipart("a part has no headers"))?;
        let name = field_name(&part[..head_end])?;
        let value = Bytes::copy_from_slice(&part[head_end + 4..]);
        push(&mut fields, name, value)?;
    }
}

/// The field that a part is for.
fn field_name(head: &[u8]) -> Result<Bytes, FormError> {
    // Read more leniently, two keys could become one.
    let not_utf8 = "the headers of a part are not UTF-8; such a key can be set with PUT /v1/kv/KEY";
    let head = std::str::from_utf8(head).map_err(|_| FormError::Multipart(not_utf8))?;
    let disposition = head
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .map(|(_, value)| value.trim())
        .ok_or(FormError::Multipart("a part has no Content-Disposition"))?;
    let (kind, parameters) = disposition.split_once(';').unwrap_or((disposition, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(FormError::Multipart("a part is not form-data"));
    }
    let name = parameter(parameters, "name").ok_or(FormError::Multipart("a part has no name"))?;
    if parameter(parameters, "filename").is_some() {
        return Err(FormError::File(name));
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const URLENCODED: &str = "application/x-www-form-urlencoded";

    fn fields(content_type: &str, body: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let fields = parse(content_type, body).unwrap();
        fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn urlencoded_fields_come_in_order() {
        let body = b"b=2&a=1+1&&c&d=%3D=&b=3";
        let expected = [("b", "2"), ("a", "1 1"), ("c", ""), ("d", "=="), ("b", "3")];
        assert_eq!(
            fields("Application/X-WWW-Form-Urlencoded; charset=utf-8", body),
            pairs(&expected)
        );
        assert_eq!(fields(URLENCODED, b""), pairs(&[]));
    }

    #[test]
    fn broken_urlencoded_forms_are_refused() {
        assert_eq!(parse(URLENCODED, b"a=1&b=%zz"), Err(FormError::Escape(6)));
        assert_eq!(parse(URLENCODED, b"a=1;b=2"), Err(FormError::Semicolon));
        assert_eq!(
            parse(URLENCODED, "a&".repeat(FIELDS_MAX + 1).as_bytes()),
            Err(FormError::TooManyFields)
        );
        assert_eq!(parse("text/plain", b"a=1"), Err(FormError::ContentType));
        assert_eq!(parse("", b"a=1"), Err(FormError::ContentType));
    }

    #[test]
    fn multipart_fields_are_read_as_curl_sends_them() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n2\r\n\
            --X\r\ncontent-disposition: form-data; name=\"q\\\"\"\r\nContent-Type: text/plain\r\n\r\n\r\n--X--\r\n";
        for content_type in
            ["multipart/form-data; boundary=X", "multipart/form-data; a=b; boundary=\"X\""]
        {
            assert_eq!(fields(content_type, body), pairs(&[("a", "1\r\n2"), ("q\"", "")]));
        }
    }

    #[test]
    fn broken_multipart_forms_are_refused() {
        let content_type = "multipart/form-data; boundary=X";
        for body in [
            &b""[..],
            b"--X",
            b"--X\r\n",
            b"--Xfoo\r\n\r\n",
            b"--X\r\n\r\nvalue\r\n--X--",
            b"--X\r\nContent-Disposition: form-data\r\n\r\nvalue\r\n--X--",
            b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue",
            b"--X\r\nContent-Disposition: form-data; name=\"a\r\n\r\nvalue\r\n--X--",
        ] {
            let result = parse(content_type, body);
            assert!(matches!(result, Err(FormError::Multipart(_))), "{result:?}");
        }
        assert_eq!(parse("multipart/form-data", b"--X--"), Err(FormError::NoBoundary));
        let file =
            b"--X\r\nContent-Disposition: form-data; name=\"a\"; filename=\"f\"\r\n\r\nv\r\n--X--";
        assert_eq!(parse(content_type, file), Err(FormError::File("a".into())));
    }
}

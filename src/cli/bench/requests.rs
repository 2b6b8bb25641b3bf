//! The requests of one connection, made once: only the key's number changes, and what tells one value from the next.

use std::io::Write;
use std::ops::Range;

use rand::SeedableRng;
use rand::distr::{Alphanumeric, Distribution};
use rand::rngs::SmallRng;

use super::keys::Op;
use super::plan::{Load, Plan};
use crate::api::TIMEOUT_DEFAULT;

/// How many digits a key's number has.
const DIGITS: usize = 9;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    put: Template,
    read: Template,
    /// Where the value stands.
    value: Range<usize>,
    /// How many puts there were.
    puts: u64,
}

#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Where the key's number stands.
    number: Range<usize>,
}

impl Template {
    /// A head; `before` is what precedes the key's number in its first line, `after` what follows it.
    fn new(before: &str, after: &str, fields: &str) -> Template {
        let mut bytes = before.as_bytes().to_vec();
        let number = bytes.len()..bytes.len() + DIGITS;
        bytes.resize(number.end, b'0');
        bytes.extend_from_slice(format!("{after} HTTP/1.1\r\n{fields}\r\n").as_bytes());
        Template { bytes, number }
    }

    fn of(&mut self, key: u64) -> &[u8] {
        write_number(&mut self.bytes[self.number.clone()], key);
        &self.bytes
    }
}

impl Requests {
    /// Requests that begin with these fields, below that path, which ends in a slash.
    pub(super) fn new(plan: &Plan, fields: &str, path: &str, connection: usize) -> Requests {
        let mut fields = fields.to_owned();
        if plan.timeout != TIMEOUT_DEFAULT {
            fields += &format!("konsen-timeout: {}ms\r\n", plan.timeout.as_millis().max(1));
        }
        let key = format!("{path}v1/kv/{}", plan.prefix);
        let consistency = plan.consistency.name();
        let read = match plan.load {
            Load::List { items } => {
                let end = end(plan);
                let before = format!("GET {path}v1/kv?start={}", plan.prefix);
                let after = format!("&end={end}&limit={items}&consistency={consistency}");
                Template::new(&before, &after, &fields)
            }
            _ => Template::new(
                &format!("GET {key}"),
                &format!("?consistency={consistency}"),
                &fields,
            ),
        };
        let length = format!("{fields}content-length: {}\r\n", plan.value_bytes);
        let mut put = Template::new(&format!("PUT {key}"), "", &length);
        let value = put.bytes.len()..put.bytes.len() + plan.value_bytes;
        // Text, which a listing in JSON holds as it is.
        let random = SmallRng::seed_from_u64(plan.seed.wrapping_add(connection as u64));
        put.bytes.extend(Alphanumeric.sample_iter(random).take(plan.value_bytes));
        Requests { put, read, value, puts: 0 }
    }

    /// The bytes to send.
    pub(super) fn of(&mut self, op: Op) -> &[u8] {
        match op {
            Op::Read(key) => self.read.of(key),
            Op::Put(key) => {
                self.puts += 1;
                let value = &mut self.put.bytes[self.value.clone()];
                let stamp = value.len().min(DIGITS);
                write_number(&mut value[..stamp], self.puts);
                self.put.of(key)
            }
        }
    }
}

/// The key of that number.
pub(super) fn key(plan: &Plan, number: u64) -> Vec<u8> {
    let mut key = plan.prefix.clone().into_bytes();
    // Writing into memory cannot fail.
    let _ = write!(key, "{number:0DIGITS$}");
    key
}

/// What comes after all keys, and before everything else that does not begin as they do: no digit is as large.
pub(super) fn end(plan: &Plan) -> String {
    format!("{}:", plan.prefix)
}

/// Writes the last digits of a number.
fn write_number(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::plan::{Consistency, KEYS_MAX};
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn only_the_number_changes_and_what_is_written() {
        let mut requests = Requests::new(&Plan::sample(), "host: h:1\r\n", "/", 0);
        let first = text(requests.of(Op::Put(7)));
        let head = "PUT /v1/kv/p/000000007 HTTP/1.1\r\nhost: h:1\r\ncontent-length: 16\r\n\r\n";
        assert!(first.starts_with(&format!("{head}000000001")), "{first}");
        assert_eq!(first.len(), head.len() + 16);
        let second = text(requests.of(Op::Put(7)));
        assert!(second.starts_with(&format!("{head}000000002")), "{second}");
        assert_eq!(first[first.len() - 7..], second[second.len() - 7..]);
        assert_eq!(
            text(requests.of(Op::Read(123_456_789))),
            "GET /v1/kv/p/123456789?consistency=linearizable HTTP/1.1\r\nhost: h:1\r\n\r\n"
        );
    }

    #[test]
    fn listings_stay_within_the_keys() {
        let plan = Plan {
            load: Load::List { items: 3 },
            consistency: Consistency::Stale,
            timeout: Duration::from_secs(1),
            ..Plan::sample()
        };
        let mut requests = Requests::new(&plan, "host: h:1\r\n", "/below/", 0);
        assert_eq!(
            text(requests.of(Op::Read(5))),
            "GET /below/v1/kv?start=p/000000005&end=p/:&limit=3&consistency=stale HTTP/1.1\r\n\
             host: h:1\r\nkonsen-timeout: 1000ms\r\n\r\n"
        );
        assert_eq!(key(&plan, 5), b"p/000000005");
        assert!(key(&plan, KEYS_MAX) < end(&plan).into_bytes());
        assert_eq!(KEYS_MAX.to_string().len(), DIGITS);
    }

    #[test]
    fn values_may_be_empty() {
        let mut requests =
            Requests::new(&Plan { value_bytes: 0, ..Plan::sample() }, "host: h:1\r\n", "/", 0);
        assert!(text(requests.of(Op::Put(1))).ends_with("content-length: 0\r\n\r\n"));
    }
}

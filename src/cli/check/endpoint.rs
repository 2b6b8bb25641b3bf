//! One question to one endpoint, asked once, and what its answer means to a history.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::names::{Names, number_of, value};
use super::txn;
use crate::check::history::{ALIEN, Answer, Ask, Need, Seen};
use crate::client::{Client, Error, ListRequest, Options, Outcome, Preconditions};
use crate::kv::{Item, Revision};

/// How much longer than a server's deadline its answer is waited for, so that it can say itself that the time is over.
const GRACE: Duration = Duration::from_millis(500);

/// An endpoint. Nothing that is asked here is asked again, or elsewhere.
/// (The HTTP library takes another connection if one was closed before it wrote the first byte of a request.)
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    client: Client,
    timeout: Duration,
}

impl Endpoint {
    /// One of the endpoints, reached as the options say.
    pub(super) fn new(url: &str, options: &Options) -> Result<Endpoint, Error> {
        let alone = Options { endpoints: vec![url.to_owned()], ..options.clone() };
        Ok(Endpoint { client: Client::new(&alone)?, timeout: options.timeout })
    }

    /// The answer. An error is of a call that certainly did nothing, and says why.
    pub(super) async fn ask(&self, names: &Names, ask: &Ask) -> Result<Answer, Error> {
        let answer = match tokio::time::timeout(self.timeout + GRACE, self.send(names, ask)).await {
            Ok(answer) => answer,
            Err(_) if ask.reads() => Err(Error::Unavailable("no answer came in time".to_owned())),
            Err(_) => Err(Error::Unknown("no answer came in time".to_owned())),
        };
        match answer {
            Err(Error::ConditionFailed { current })
                if matches!(ask, Ask::Put { .. } | Ask::Delete { .. }) =>
            {
                Ok(Answer::ConditionFailed { current })
            }
            // Whatever became of a transaction that only reads, it did nothing.
            Err(error) if error.outcome() == Outcome::Unknown && !ask.reads() => {
                Ok(Answer::Unknown)
            }
            answer => answer,
        }
    }

    async fn send(&self, names: &Names, ask: &Ask) -> Result<Answer, Error> {
        let key = |number: u32| names.key(number).into_bytes();
        match *ask {
            Ask::Txn(ref asked) => {
                let done = self.client.txn(&txn::request(names, asked)).await?;
                txn::answer(names, asked, &done)
                    .ok_or_else(|| Error::Unknown("an answer to another transaction".to_owned()))
            }
            Ask::Get { key: number } => match self.client.get(&key(number)).await {
                Ok(found) => Ok(Answer::Found {
                    revision: found.revision,
                    items: vec![seen(number, &found.item)],
                }),
                Err(Error::NoSuchKey { revision: Some(revision) }) => {
                    Ok(Answer::Found { revision, items: Vec::new() })
                }
                Err(error) => Err(error),
            },
            Ask::List { from, to } => {
                let mut request = ListRequest {
                    start: Some(key(from).into()),
                    end: Some(key(to).into()),
                    ..ListRequest::default()
                };
                let mut page = self.client.list(&request).await?;
                let (revision, mut items) = (page.revision, page.items);
                while page.next.is_some() {
                    request.cursor = page.next;
                    page = self.client.list(&request).await?;
                    if page.revision != revision {
                        return Err(Error::Failed("a page of another revision".to_owned()));
                    }
                    items.append(&mut page.items);
                }
                Ok(Answer::Found { revision, items: listed(names, from..to, &items) })
            }
            Ask::Put { key: number, value: written, need } => {
                let bytes: Bytes = value(written);
                let put = self.client.put(&key(number), &bytes, None, preconditions(need)).await?;
                Ok(Answer::Put { revision: put.revision, created: put.created })
            }
            Ask::Delete { key: number, need } => {
                match self.client.delete(&key(number), preconditions(need)).await {
                    Ok(revision) => Ok(Answer::Deleted { revision: Some(revision), count: 1 }),
                    Err(Error::NoSuchKey { revision }) => {
                        Ok(Answer::Deleted { revision, count: 0 })
                    }
                    Err(error) => Err(error),
                }
            }
            Ask::Sweep { from, to } => {
                let swept = self.client.delete_range(&key(from), &key(to)).await?;
                Ok(Answer::Deleted { revision: Some(swept.revision), count: swept.deleted })
            }
        }
    }
}

fn preconditions(need: Need) -> Preconditions {
    match need {
        Need::Nothing => Preconditions::default(),
        Need::Revision(revision) => {
            Preconditions { if_match: Some(revision), ..Preconditions::default() }
        }
        Need::Absent => Preconditions { if_absent: true, ..Preconditions::default() },
    }
}

fn seen(key: u32, item: &Item) -> Seen {
    Seen { key, value: number_of(&item.value), revision: item.mod_revision }
}

/// The items of a listing by their numbers. What does not belong there counts as a value that
/// nobody wrote, so that the judge rejects it.
pub(super) fn listed(names: &Names, range: std::ops::Range<u32>, items: &[Item]) -> Vec<Seen> {
    let mut found: BTreeMap<u32, Seen> = BTreeMap::new();
    let mut alien: Option<Revision> = None;
    for item in items {
        match names.number(&item.key).filter(|number| range.contains(number)) {
            Some(number) if !found.contains_key(&number) => {
                found.insert(number, seen(number, item));
            }
            _ => alien = Some(item.mod_revision),
        }
    }
    if let Some(revision) = alien {
        found.insert(range.start, Seen { key: range.start, value: ALIEN, revision });
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_with_strangers_is_not_believed() {
        let names = Names::new("p/".to_owned(), 4);
        let item = |key: String, number: u64| Item {
            key: key.into(),
            value: value(number),
            content_type: None,
            create_revision: Revision(1),
            mod_revision: Revision(number),
            version: 1,
        };
        let good = [item(names.key(1), 5), item(names.key(2), 6)];
        let is = |key, value| Seen { key, value, revision: Revision(value) };
        assert_eq!(listed(&names, 0..4, &good), [is(1, 5), is(2, 6)]);
        // Out of the range, twice, or no key at all.
        for (range, stranger) in
            [(0..2, names.key(2)), (1..4, names.key(1)), (1..4, "p/x".to_owned())]
        {
            let items = [item(names.key(1), 5), item(stranger, 7)];
            let alien = Seen { key: range.start, value: ALIEN, revision: Revision(7) };
            assert!(listed(&names, range, &items).contains(&alien));
        }
    }
}

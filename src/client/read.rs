//! Reads of keys and of ranges.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::{Call, Client, ETAG, Error, REVISION, encode, key_path, shown};
use crate::api::PageJson;
use crate::kv::{Item, Revision};

/// The fields of a key's create revision and version.
const CREATE_REVISION: &str = "konsen-create-revision";
const VERSION: &str = "konsen-version";

/// A value and what the store knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The item.
    pub item: Item,
    /// The store's revision that the answer reflects.
    pub revision: Revision,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys that begin so.
    pub prefix: Option<Bytes>,
    /// Only keys from this one on.
    pub start: Option<Bytes>,
    /// Only keys before this one.
    pub end: Option<Bytes>,
    /// The most items of the page; none: as many as a page holds.
    pub limit: Option<u64>,
    /// Leave the values out.
    pub keys_only: bool,
    /// From the last key to the first.
    pub descending: bool,
    /// As of this revision.
    pub revision: Option<Revision>,
    /// Goes on after an earlier page; it fixes everything but `limit`.
    pub cursor: Option<String>,
}

/// A page of a listing. It may have less items than asked for, or none, although others follow: what was deleted lately is
/// looked at, too, and a page ends after `limits.listRows` of the node that answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage {
    /// The revision of the whole listing.
    pub revision: Revision,
    /// The items.
    pub items: Vec<Item>,
    /// Asks for the next page; none at the end, and there only.
    pub next: Option<String>,
}

impl Client {
    /// Reads a key.
    pub async fn get(&self, key: &[u8]) -> Result<Value, Error> {
        self.read(key, None).await
    }

    /// Reads a key as it was at a revision.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::Compacted`] where that past is given up, [`Error::Refused`] where the store has not
    /// reached it.
    pub async fn get_at(&self, key: &[u8], revision: Revision) -> Result<Value, Error> {
        self.read(key, Some(revision)).await
    }

    async fn read(&self, key: &[u8], at: Option<Revision>) -> Result<Value, Error> {
        let mut call = Call::new(Method::GET, key_path(key)?);
        call.query.extend(at.map(|revision| ("revision", revision.to_string())));
        call.shows = &[REVISION, ETAG, CREATE_REVISION, VERSION];
        let (_, response) = self.send(&call).await?;
        let content_type = response.headers().get(CONTENT_TYPE);
        let mut item = Item {
            key: Bytes::copy_from_slice(key),
            value: Bytes::new(),
            content_type: content_type.and_then(|value| value.to_str().ok()).map(str::to_owned),
            create_revision: Revision(shown(&response, CREATE_REVISION)),
            mod_revision: Revision(shown(&response, ETAG)),
            version: shown(&response, VERSION),
        };
        let revision = Revision(shown(&response, REVISION));
        item.value = super::body(response).await?;
        Ok(Value { item, revision })
    }

    /// Lists a page of items.
    pub async fn list(&self, request: &ListRequest) -> Result<ListPage, Error> {
        let mut call = Call::new(Method::GET, "v1/kv");
        let query = &mut call.query;
        if let Some(cursor) = &request.cursor {
            query.push(("cursor", encode(cursor.as_bytes())));
        } else {
            let ranges =
                [("prefix", &request.prefix), ("start", &request.start), ("end", &request.end)];
            for (name, value) in ranges {
                query.extend(value.as_ref().map(|value| (name, encode(value))));
            }
            query.extend(request.revision.map(|revision| ("revision", revision.to_string())));
            if request.keys_only {
                query.push(("keys_only", "true".to_owned()));
            }
            if request.descending {
                query.push(("order", "desc".to_owned()));
            }
        }
        query.extend(request.limit.map(|limit| ("limit", limit.to_string())));
        let page: PageJson<'static> = self.json(call).await?;
        let items = page.items.into_iter().map(|item| {
            item.into_item().map_err(|error| Error::Failed(format!("a broken answer: {error}")))
        });
        Ok(ListPage {
            revision: page.revision,
            items: items.collect::<Result<_, _>>()?,
            next: page.next.map(|next| next.into_owned()),
        })
    }
}

//! The arguments of a script's commands.

use std::collections::BTreeMap;
use std::error::Error;

use goldenscript::Command;
use konsen::raft::{Index, LogId, Membership, Message, NodeId, Term};

use crate::cluster::membership;
use crate::show;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// Which messages are meant.
pub(crate) struct Filter {
    pub(crate) from: Option<NodeId>,
    pub(crate) to: Option<NodeId>,
    pub(crate) kind: Option<String>,
}

impl Filter {
    pub(crate) fn matches(&self, message: &Message) -> bool {
        self.from.is_none_or(|from| from == message.from)
            && self.to.is_none_or(|to| to == message.to)
            && self
                .kind
                .as_ref()
                .is_none_or(|kind| show::body(&message.body).starts_with(kind.as_str()))
    }
}

pub(crate) fn node(text: &str) -> Outcome<NodeId> {
    let id = text.strip_prefix('n').ok_or_else(|| format!("'{text}' is no node"))?;
    Ok(NodeId(id.parse()?))
}

pub(crate) fn numbers(text: &str) -> Outcome<Vec<u64>> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| Ok(part.trim_start_matches('n').parse()?))
        .collect()
}

/// `5@2`, or `0`.
pub(crate) fn log_id(text: &str) -> Outcome<LogId> {
    match text.split_once('@') {
        Some((index, term)) => Ok(LogId::new(Term(term.parse()?), Index(index.parse()?))),
        None if text == "0" => Ok(LogId::ZERO),
        None => Err(format!("'{text}' is no log position").into()),
    }
}

/// The arguments of a command.
pub(crate) struct Args {
    pub(crate) plain: std::collections::VecDeque<String>,
    pub(crate) named: BTreeMap<String, String>,
}

impl Args {
    pub(crate) fn of(command: &Command) -> Args {
        let mut args = command.consume_args();
        let mut plain = std::collections::VecDeque::new();
        let mut named = BTreeMap::new();
        while let Some(text) = args.next_pos() {
            plain.push_back(text.to_string());
        }
        while let Some((key, value)) = args.next_key() {
            named.insert(key.to_string(), value.to_string());
        }
        Args { plain, named }
    }

    pub(crate) fn next(&mut self) -> Outcome<String> {
        self.plain.pop_front().ok_or_else(|| "an argument is missing".into())
    }

    pub(crate) fn node(&mut self) -> Outcome<NodeId> {
        node(&self.next()?)
    }

    pub(crate) fn named(&mut self, key: &str) -> Option<String> {
        self.named.remove(key)
    }

    pub(crate) fn number(&mut self, key: &str) -> Outcome<u64> {
        Ok(self.named(key).map_or(Ok(0), |text| text.parse())?)
    }

    pub(crate) fn membership(&mut self) -> Outcome<Membership> {
        let voters = numbers(&self.named("voters").ok_or("voters are missing")?)?;
        let learners = numbers(&self.named("learners").unwrap_or_default())?;
        Ok(membership(&voters, &learners))
    }

    pub(crate) fn filter(&mut self) -> Outcome<Filter> {
        Ok(Filter {
            from: self.named("from").map(|text| node(&text)).transpose()?,
            to: self.named("to").map(|text| node(&text)).transpose()?,
            kind: self.named("kind"),
        })
    }

    pub(crate) fn end(self) -> Outcome<()> {
        if let Some(text) = self.plain.front() {
            return Err(format!("unexpected '{text}'").into());
        }
        if let Some(key) = self.named.keys().next() {
            return Err(format!("unexpected '{key}='").into());
        }
        Ok(())
    }
}

impl Args {
    pub(crate) fn of_node(id: NodeId) -> Args {
        Args { plain: [id.to_string()].into(), named: BTreeMap::new() }
    }
}

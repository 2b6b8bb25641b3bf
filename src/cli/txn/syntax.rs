//! Transactions as people write them, a statement a line. [`SYNTAX`] says how.

use bytes::Bytes;

use super::tokens::{Line, Token, Wrong};
use crate::api::{TXN_DEPTH_MAX, TxnOp, TxnRequest, relation_of};
use crate::kv::{Attach, Compare, KeyRange, Over, Put, Relation, Revision, Test};

/// What the help says of it.
pub(super) const SYNTAX: &str = r#"Examples:
  konsen txn transfer.txn
  konsen txn <<'.'
  if mod_revision(lock) == 0
  then
    put lock me
    delete prefix tmp/ previous
  else
    get lock
  .
  echo '{"then":[{"get":{"prefix":"app/"}}]}' | konsen txn -o json

The text is the JSON of POST /v1/txn if it begins with {. Else it has a statement a line:
  if FIELD(WHAT) RELATION VALUE   FIELD: value version create_revision mod_revision lease
                                  RELATION: == != < <= > >=
  if exists(WHAT)                 if not exists(WHAT)
  if unchanged(WHAT) since REVISION
  then                            what is done if all of that holds; may be left out without any
  else                            what is done if it does not
  put KEY VALUE                   options: previous  keep_lease  content_type TYPE
  put KEY keep_value              the value stays; the same options
  delete WHAT                     option: previous
  get WHAT                        options: limit COUNT  keys_only
  txn … end                       a transaction inside of it
WHAT is a KEY, prefix P, range START END, or from START. "quotes" hold blanks, empty texts and names that
are words of this language, with \" \\ \n \r \t \0 \xHH in them. # begins a comment.

Everything is one revision. The exit code is 0 if the compares hold and 4 if they do not, be it that `else`
changed something; raw prints a line for each key that was read, and after a tab its value."#;

/// Which part of a transaction comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Compares,
    Then,
    Else,
}

/// A transaction that is being read.
struct Open {
    request: TxnRequest,
    part: Part,
    /// Where it begins.
    line: usize,
    column: usize,
}

impl Open {
    fn new(line: usize, column: usize) -> Open {
        Open { request: TxnRequest::default(), part: Part::Compares, line, column }
    }

    fn compare(&mut self, line: &mut Line) -> Result<(), Wrong> {
        if self.part != Part::Compares {
            return Err(line.wrong("what is compared comes before then and else"));
        }
        self.request.compares.push(compare(line)?);
        Ok(())
    }

    fn turn(&mut self, part: Part, line: &Line) -> Result<(), Wrong> {
        if self.part == part || self.part == Part::Else {
            return Err(line.wrong("it was there before, or comes behind else"));
        }
        self.part = part;
        Ok(())
    }

    fn op(&mut self, op: TxnOp, line: &Line) -> Result<(), Wrong> {
        match self.part {
            Part::Compares if !self.request.compares.is_empty() => {
                return Err(line.wrong("then or else is missing before this"));
            }
            Part::Compares | Part::Then => {
                self.part = Part::Then;
                self.request.then.push(op);
            }
            Part::Else => self.request.otherwise.push(op),
        }
        Ok(())
    }
}

/// The transaction that a text states.
pub(super) fn parse(text: &str) -> Result<TxnRequest, Wrong> {
    let (mut open, mut around) = (Open::new(1, 1), Vec::<Open>::new());
    let mut is_empty = true;
    for (number, text) in text.lines().enumerate() {
        let mut line = Line::read(number + 1, text)?;
        let Some(first) = line.next() else { continue };
        is_empty = false;
        let word = match &first {
            Token::Bare(word) => word.as_str(),
            _ => "",
        };
        match word {
            "if" => open.compare(&mut line)?,
            "then" => open.turn(Part::Then, &line)?,
            "else" => open.turn(Part::Else, &line)?,
            "put" => open.op(put(&mut line)?, &line)?,
            "delete" => open.op(delete(&mut line)?, &line)?,
            "get" => open.op(get(&mut line)?, &line)?,
            "txn" if around.len() + 1 >= TXN_DEPTH_MAX => {
                let what = format!("transactions are nested more than {TXN_DEPTH_MAX} deep");
                return Err(line.wrong(what));
            }
            "txn" => {
                let column = text.chars().take_while(|next| next.is_whitespace()).count() + 1;
                around.push(std::mem::replace(&mut open, Open::new(number + 1, column)));
            }
            "end" => {
                let Some(outer) = around.pop() else {
                    return Err(line.wrong("there is no txn that this could end"));
                };
                let inner = std::mem::replace(&mut open, outer);
                open.op(TxnOp::Txn(inner.request), &line)?;
            }
            _ => {
                return Err(
                    line.wrong("a line begins with if, then, else, put, delete, get, txn or end")
                );
            }
        }
        if line.next().is_some() {
            return Err(line.wrong("nothing more is expected in this line"));
        }
    }
    if !around.is_empty() {
        let what = "this txn has no end".to_owned();
        return Err(Wrong { line: open.line, column: open.column, what });
    }
    match is_empty {
        true => Err(Wrong { line: 1, column: 1, what: "there is no statement".to_owned() }),
        false => Ok(open.request),
    }
}

/// The bytes of the next word, be it bare or quoted.
fn bytes(line: &mut Line, what: &str) -> Result<Bytes, Wrong> {
    match line.next() {
        Some(Token::Bare(text)) => Ok(text.into()),
        Some(Token::Quoted(bytes)) => Ok(bytes),
        Some(Token::Symbol(_)) | None => Err(line.wrong(format!("{what} is missing here"))),
    }
}

fn key(line: &mut Line) -> Result<Bytes, Wrong> {
    let key = bytes(line, "a key")?;
    if key.is_empty() { Err(line.wrong("the key is empty")) } else { Ok(key) }
}

fn number(line: &mut Line) -> Result<u64, Wrong> {
    let missing = |line: &Line| line.wrong("a whole number is missing here");
    match line.next() {
        Some(Token::Bare(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().map_err(|_| line.wrong(format!("the number is larger than {}", u64::MAX)))
        }
        _ => Err(missing(line)),
    }
}

/// A key, or the keys of a range.
fn over(line: &mut Line) -> Result<Over, Wrong> {
    if line.takes("prefix") {
        return Ok(Over::Range(KeyRange::prefix(&bytes(line, "what the keys begin with")?)));
    }
    if line.takes("from") {
        let start = bytes(line, "the first key")?;
        return Ok(Over::Range(KeyRange { start, end: None }));
    }
    if line.takes("range") {
        let start = bytes(line, "the first key")?;
        let end = bytes(line, "the first key behind the range")?;
        if end.is_empty() {
            return Err(line.wrong("the end is empty; `from START` goes to the end of the keys"));
        }
        return Ok(Over::Range(KeyRange { start, end: Some(end) }));
    }
    key(line).map(Over::Key)
}

fn in_parentheses(line: &mut Line) -> Result<Over, Wrong> {
    let mut symbol = |symbol| match line.next() {
        Some(Token::Symbol(found)) if found == symbol => Ok(()),
        _ => Err(line.wrong(format!("a {symbol} is missing here"))),
    };
    symbol("(")?;
    let over = over(line)?;
    match line.next() {
        Some(Token::Symbol(")")) => Ok(over),
        _ => Err(line.wrong("a ) is missing here")),
    }
}

fn compare(line: &mut Line) -> Result<Compare, Wrong> {
    const FIELDS: &str = "a compare is one of value, version, create_revision, mod_revision, lease, exists, not exists and \
                          unchanged, with ( behind it";
    if line.takes("not") {
        if !line.takes("exists") {
            line.next();
            return Err(line.wrong("only exists can be denied; for the others there is !="));
        }
        return Ok(Compare { over: in_parentheses(line)?, test: Test::Exists(false) });
    }
    let field = match line.next() {
        Some(Token::Bare(field)) => field,
        _ => return Err(line.wrong(FIELDS)),
    };
    let known = ["value", "version", "create_revision", "mod_revision", "lease"];
    if !known.contains(&field.as_str()) && field != "exists" && field != "unchanged" {
        return Err(line.wrong(FIELDS));
    }
    let over = in_parentheses(line)?;
    let test = match field.as_str() {
        "exists" => Test::Exists(true),
        "unchanged" => {
            if !line.takes("since") {
                line.next();
                return Err(line.wrong("since and a revision are missing here"));
            }
            Test::UnchangedSince(Revision(number(line)?))
        }
        field => {
            let relation = relation(line)?;
            match field {
                "value" => Test::Value(relation, bytes(line, "a value")?),
                "version" => Test::Version(relation, number(line)?),
                "create_revision" => Test::CreateRevision(relation, Revision(number(line)?)),
                "lease" => Test::Lease(relation, number(line)?),
                _ => Test::ModRevision(relation, Revision(number(line)?)),
            }
        }
    };
    Ok(Compare { over, test })
}

fn relation(line: &mut Line) -> Result<Relation, Wrong> {
    let found = match line.next() {
        Some(Token::Symbol(symbol)) => relation_of(symbol),
        _ => None,
    };
    found.ok_or_else(|| line.wrong("one of == != < <= > >= is missing here"))
}

fn put(line: &mut Line) -> Result<TxnOp, Wrong> {
    let key = key(line)?;
    let value = match line.takes("keep_value") {
        true => None,
        false => Some(bytes(line, "a value, or keep_value,")?),
    };
    let (mut content_type, mut lease, mut previous) = (None, Attach::Detach, false);
    while line.peek().is_some() {
        if line.takes("previous") {
            previous = true;
        } else if line.takes("keep_lease") {
            lease = Attach::Keep;
        } else if line.takes("content_type") {
            let text = bytes(line, "a media type")?;
            let text = std::str::from_utf8(&text).map_err(|_| line.wrong("it is no text"))?;
            content_type = Some(text.to_owned());
        } else {
            line.next();
            let what = "a value with blanks needs quotes; options are previous, keep_lease and content_type TYPE";
            return Err(line.wrong(what));
        }
    }
    Ok(TxnOp::Put { put: Put { key, value, content_type, lease }, previous })
}

fn delete(line: &mut Line) -> Result<TxnOp, Wrong> {
    let over = over(line)?;
    Ok(TxnOp::Delete { over, previous: line.takes("previous") })
}

fn get(line: &mut Line) -> Result<TxnOp, Wrong> {
    let over = over(line)?;
    let (mut limit, mut keys_only) = (None, false);
    while line.peek().is_some() {
        if line.takes("keys_only") {
            keys_only = true;
        } else if line.takes("limit") {
            let count = number(line)?;
            if count == 0 {
                return Err(line.wrong("it must be 1 or more"));
            }
            limit = Some(usize::try_from(count).unwrap_or(usize::MAX));
        } else {
            break;
        }
    }
    Ok(TxnOp::Get { over, limit, keys_only })
}

#[cfg(test)]
#[path = "syntax_tests.rs"]
mod tests;

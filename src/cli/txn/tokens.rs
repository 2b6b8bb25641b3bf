//! The words of a line: bare, quoted, and what compares are made of.

use bytes::Bytes;

use crate::api::RELATIONS;

/// What is wrong with a text, and where: lines and columns count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) what: String,
}

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// As it stands there.
    Bare(String),
    /// What stood between quotes; never a word of the language.
    Quoted(Bytes),
    /// `(`, `)` or a relation.
    Symbol(&'static str),
}

/// The words of a line, each with its column.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    tokens: std::vec::IntoIter<(usize, Token)>,
    /// The column of the word that was taken last, or behind the last word once all were.
    column: usize,
    end: usize,
}

impl Line {
    /// Takes a line apart. A `#` where a word would begin begins a comment. Behind `if` parentheses and relations are words of
    /// their own.
    pub(super) fn read(number: usize, text: &str) -> Result<Line, Wrong> {
        let chars: Vec<char> = text.chars().collect();
        let mut reader = Reader { number, chars: &chars, at: 0, symbols: false };
        let mut tokens = Vec::new();
        while let Some(token) = reader.next()? {
            if tokens.is_empty() {
                reader.symbols = token.1 == Token::Bare("if".to_owned());
            }
            tokens.push(token);
        }
        let end = reader.at + 1;
        Ok(Line { number, tokens: tokens.into_iter(), column: 1, end })
    }

    /// The next word.
    pub(super) fn next(&mut self) -> Option<Token> {
        match self.tokens.next() {
            Some((column, token)) => {
                self.column = column;
                Some(token)
            }
            None => {
                self.column = self.end;
                None
            }
        }
    }

    /// The next word, which is left there.
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.as_slice().first().map(|(_, token)| token)
    }

    /// Whether the next word is this one of the language; it is taken then.
    pub(super) fn takes(&mut self, word: &str) -> bool {
        let is_there = matches!(self.peek(), Some(Token::Bare(text)) if text == word);
        if is_there {
            self.next();
        }
        is_there
    }

    /// An error at the word that was taken last.
    pub(super) fn wrong(&self, what: impl Into<String>) -> Wrong {
        Wrong { line: self.number, column: self.column, what: what.into() }
    }
}

struct Reader<'a> {
    number: usize,
    chars: &'a [char],
    at: usize,
    symbols: bool,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<Option<(usize, Token)>, Wrong> {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
        let column = self.at + 1;
        let token = match self.peek() {
            None | Some('#') => return Ok(None),
            Some('"') => self.quoted()?,
            Some('(') if self.symbols => self.symbol("("),
            Some(')') if self.symbols => self.symbol(")"),
            Some('=' | '!' | '<' | '>') if self.symbols => self.relation()?,
            Some(_) => self.bare(),
        };
        Ok(Some((column, token)))
    }

    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn symbol(&mut self, symbol: &'static str) -> Token {
        self.at += 1;
        Token::Symbol(symbol)
    }

    fn relation(&mut self) -> Result<Token, Wrong> {
        let begin = self.at;
        while self.peek().is_some_and(|next| "=!<>".contains(next)) {
            self.at += 1;
        }
        let text: String = self.chars[begin..self.at].iter().collect();
        match RELATIONS.iter().find(|(written, _)| *written == text) {
            Some((written, _)) => Ok(Token::Symbol(written)),
            None => {
                let known = RELATIONS.map(|(written, _)| written).join(" ");
                Err(self.wrong_at(begin, format!("{text} is no relation; there are {known}")))
            }
        }
    }

    fn bare(&mut self) -> Token {
        let begin = self.at;
        let ends = |next: char, symbols: bool| {
            next.is_whitespace() || (symbols && matches!(next, '(' | ')'))
        };
        while self.peek().is_some_and(|next| !ends(next, self.symbols)) {
            self.at += 1;
        }
        Token::Bare(self.chars[begin..self.at].iter().collect())
    }

    fn quoted(&mut self) -> Result<Token, Wrong> {
        let begin = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(next) = self.peek() else {
                return Err(self.wrong_at(begin, "the quote has no end in this line".to_owned()));
            };
            self.at += 1;
            match next {
                '"' => break,
                '\\' => self.escaped(&mut bytes)?,
                next => bytes.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let ends = |next: char| next.is_whitespace() || (self.symbols && "()=!<>".contains(next));
        if self.peek().is_some_and(|next| !ends(next)) {
            let what = "a blank is missing behind the closing quote";
            return Err(self.wrong_at(self.at, what.to_owned()));
        }
        Ok(Token::Quoted(bytes.into()))
    }

    fn escaped(&mut self, bytes: &mut Vec<u8>) -> Result<(), Wrong> {
        let begin = self.at - 1;
        let unknown = r#"there are \" \\ \n \r \t \0 and \xHH"#;
        let next = self.peek();
        self.at += 1;
        bytes.push(match next {
            Some('"') => b'"',
            Some('\\') => b'\\',
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('x') => {
                let digit = |at: usize| self.chars.get(at)?.to_digit(16);
                let (Some(high), Some(low)) = (digit(self.at), digit(self.at + 1)) else {
                    return Err(self.wrong_at(begin, unknown.to_owned()));
                };
                self.at += 2;
                // Two hexadecimal digits.
                u8::try_from(16 * high + low).unwrap_or_default()
            }
            _ => return Err(self.wrong_at(begin, unknown.to_owned())),
        });
        Ok(())
    }

    fn wrong_at(&self, at: usize, what: String) -> Wrong {
        Wrong { line: self.number, column: at + 1, what }
    }
}

//! The language of templates: text with `{{ value }}`, `{% if %}`, `{% for %}` and `{# remarks #}`.
//!
//! It is small on purpose. There is no way to join, repeat or store values, so that nothing a template does can
//! need more memory than what it is given and what it writes, and both are bounded.

use super::lexer::{Piece, Token, pieces, tokens};

const MOST_DEPTH: usize = 32;
const STATEMENTS: [&str; 6] = ["if", "elif", "else", "endif", "for", "endfor"];

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Text as it is.
    Text(String),
    /// A value.
    Output(Expression, usize),
    /// Branches with their conditions; the last may be without.
    If(Vec<(Option<Expression>, Vec<Node>)>, usize),
    /// What is repeated for each key of a map, with the names for key and value.
    For { names: Vec<String>, over: Expression, body: Vec<Node>, line: usize },
}

/// What has a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Text(String),
    Number(i64),
    Truth(bool),
    /// `instance.name`, `config["user.x"]`: a name, and the keys behind it.
    Path(String, Vec<Expression>),
    /// `config_get(key, default)`.
    ConfigGet(Box<Expression>, Option<Box<Expression>>),
    /// `value|filter:argument`.
    Filter(Box<Expression>, Filter),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// Whether both are the same, or are not.
    Same(Box<Expression>, Box<Expression>, bool),
    /// Whether a map has a key, or a text a piece.
    In(Box<Expression>, Box<Expression>),
}

/// What changes a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// Another value in place of a missing or empty one.
    Default(Box<Expression>),
    Lower,
    Upper,
    Trim,
    /// Nothing: output is never escaped.
    Safe,
}

/// A fault of the template: the line and what is wrong in it.
pub(super) type Fault = (usize, String);

/// Reads a template.
pub(super) fn parse(source: &str) -> Result<Vec<Node>, Fault> {
    let mut parser = Parser { pieces: pieces(source)?.into_iter(), depth: 0 };
    match parser.nodes()? {
        (nodes, None) => Ok(nodes),
        (_, Some(end)) => Err((end.line, format!("`{}` has no beginning", end.word))),
    }
}

/// A statement that ends a list of nodes, with what follows its word.
struct End {
    word: String,
    rest: Vec<Token>,
    line: usize,
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Option<End>), Fault> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Text(text) => nodes.push(Node::Text(text)),
                Piece::Output(source, line) => {
                    nodes.push(Node::Output(whole_expression(tokens(&source, line)?, line)?, line));
                }
                Piece::Statement(source, line) => {
                    let (word, rest) = source.split_once(char::is_whitespace).unwrap_or((&source, ""));
                    if !STATEMENTS.contains(&word) {
                        return Err((line, format!("the statement `{word}` is not known")));
                    }
                    let rest = tokens(rest, line)?;
                    match word {
                        "if" => nodes.push(self.nested(line, |parser| parser.branches(rest, line))?),
                        "for" => nodes.push(self.nested(line, |parser| parser.repetition(rest, line))?),
                        end => return Ok((nodes, Some(End { word: end.to_owned(), rest, line }))),
                    }
                }
            }
        }
        Ok((nodes, None))
    }

    fn nested(
        &mut self,
        line: usize,
        parse: impl FnOnce(&mut Self) -> Result<Node, Fault>,
    ) -> Result<Node, Fault> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err((line, format!("more than {MOST_DEPTH} statements lie in each other")));
        }
        let node = parse(self);
        self.depth -= 1;
        node
    }

    fn branches(&mut self, condition: Vec<Token>, line: usize) -> Result<Node, Fault> {
        let mut condition = Some(whole_expression(condition, line)?);
        let mut branches = Vec::new();
        loop {
            let is_else = condition.is_none();
            let (nodes, end) = self.nodes()?;
            branches.push((condition, nodes));
            let end = end.ok_or_else(|| (line, "`if` has no `endif`".to_owned()))?;
            condition = match end.word.as_str() {
                "endif" => return Ok(Node::If(branches, line)),
                "elif" if !is_else => Some(whole_expression(end.rest, end.line)?),
                "else" if !is_else => None,
                other => return Err((end.line, format!("`{other}` does not belong here"))),
            };
        }
    }

    fn repetition(&mut self, head: Vec<Token>, line: usize) -> Result<Node, Fault> {
        let fault =
            || (line, "`for` is not of the form `for key in map` or `for key, value in map`".to_owned());
        let mut head = head.into_iter();
        let mut names = Vec::new();
        loop {
            let Some(Token::Name(name)) = head.next() else { return Err(fault()) };
            names.push(name);
            match head.next() {
                Some(Token::Sign(",")) if names.len() < 2 => {}
                Some(Token::Name(word)) if word == "in" => break,
                _ => return Err(fault()),
            }
        }
        let over = whole_expression(head.collect(), line)?;
        match self.nodes()? {
            (body, Some(end)) if end.word == "endfor" => Ok(Node::For { names, over, body, line }),
            (_, Some(end)) => Err((end.line, format!("`{}` does not belong here", end.word))),
            (_, None) => Err((line, "`for` has no `endfor`".to_owned())),
        }
    }
}

fn whole_expression(tokens: Vec<Token>, line: usize) -> Result<Expression, Fault> {
    let mut reader = Reader { tokens, at: 0, line, depth: 0 };
    let expression = reader.either()?;
    match reader.peek() {
        None => Ok(expression),
        Some(token) => Err((line, format!("`{token}` is not expected"))),
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    line: usize,
    depth: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    /// Takes the next token if it is one of these words or signs.
    fn take(&mut self, any: &[&str]) -> bool {
        let is_one = self.peek().is_some_and(|token| match token {
            Token::Sign(sign) => any.contains(sign),
            Token::Name(name) => any.contains(&name.as_str()),
            _ => false,
        });
        self.at += usize::from(is_one);
        is_one
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.take(&[sign]) { Ok(()) } else { Err(self.unexpected(&format!("`{sign}`"))) }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let found = self.peek().map_or_else(|| "the end".to_owned(), |token| format!("`{token}`"));
        (self.line, format!("{wanted} is expected instead of {found}"))
    }

    fn either(&mut self) -> Result<Expression, Fault> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err((self.line, format!("more than {MOST_DEPTH} parts lie in each other")));
        }
        let mut left = self.both()?;
        while self.take(&["or", "||"]) {
            left = Expression::Or(left.into(), self.both()?.into());
        }
        self.depth -= 1;
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression, Fault> {
        let mut left = self.negated()?;
        while self.take(&["and", "&&"]) {
            left = Expression::And(left.into(), self.negated()?.into());
        }
        Ok(left)
    }

    fn negated(&mut self) -> Result<Expression, Fault> {
        let mut is_negated = false;
        while self.take(&["not", "!"]) {
            is_negated = !is_negated;
        }
        let value = self.compared()?;
        Ok(if is_negated { Expression::Not(value.into()) } else { value })
    }

    fn compared(&mut self) -> Result<Expression, Fault> {
        let left = self.filtered()?;
        if self.take(&["=="]) {
            Ok(Expression::Same(left.into(), self.filtered()?.into(), true))
        } else if self.take(&["!="]) {
            Ok(Expression::Same(left.into(), self.filtered()?.into(), false))
        } else if self.take(&["in"]) {
            Ok(Expression::In(left.into(), self.filtered()?.into()))
        } else {
            Ok(left)
        }
    }

    fn filtered(&mut self) -> Result<Expression, Fault> {
        let mut value = self.primary()?;
        while self.take(&["|"]) {
            let Some(Token::Name(name)) = self.peek().cloned() else {
                return Err(self.unexpected("the name of a filter"));
            };
            self.at += 1;
            let filter = match name.as_str() {
                "default" => Filter::Default(self.argument()?.into()),
                "lower" => Filter::Lower,
                "upper" => Filter::Upper,
                "trim" => Filter::Trim,
                "safe" => Filter::Safe,
                _ => return Err((self.line, format!("the filter `{name}` is not known"))),
            };
            value = Expression::Filter(value.into(), filter);
        }
        Ok(value)
    }

    /// A filter's argument, as either dialect writes it: `:value` or `(value)`.
    fn argument(&mut self) -> Result<Expression, Fault> {
        if self.take(&[":"]) {
            return self.primary();
        }
        self.expect("(")?;
        let value = self.either()?;
        self.expect(")")?;
        Ok(value)
    }

    fn primary(&mut self) -> Result<Expression, Fault> {
        if self.take(&["("]) {
            let value = self.either()?;
            self.expect(")")?;
            return Ok(value);
        }
        let Some(token) = self.peek().cloned() else { return Err(self.unexpected("a value")) };
        let value = match token {
            Token::Text(text) => Expression::Text(text),
            Token::Number(number) => Expression::Number(number),
            Token::Name(name) => {
                self.at += 1;
                return self.named(name);
            }
            Token::Sign(_) => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Ok(value)
    }

    fn named(&mut self, name: String) -> Result<Expression, Fault> {
        match name.as_str() {
            "true" | "True" => return Ok(Expression::Truth(true)),
            "false" | "False" => return Ok(Expression::Truth(false)),
            _ => {}
        }
        if self.take(&["("]) {
            if name != "config_get" {
                return Err((self.line, format!("the function `{name}` is not known")));
            }
            let key = self.either()?.into();
            let default = if self.take(&[","]) { Some(self.either()?.into()) } else { None };
            self.expect(")")?;
            return Ok(Expression::ConfigGet(key, default));
        }
        let mut keys = Vec::new();
        loop {
            if self.take(&["."]) {
                let Some(Token::Name(key)) = self.peek().cloned() else {
                    return Err(self.unexpected("a name"));
                };
                self.at += 1;
                keys.push(Expression::Text(key));
            } else if self.take(&["["]) {
                keys.push(self.either()?);
                self.expect("]")?;
            } else {
                return Ok(Expression::Path(name, keys));
            }
        }
    }
}

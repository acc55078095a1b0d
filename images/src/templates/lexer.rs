//! Cuts a template into pieces, and what stands between its signs into tokens.

use super::language::Fault;
use std::fmt;

/// A piece of a template, with the line it begins in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Output(String, usize),
    Statement(String, usize),
}

/// A part of an expression or statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(i64),
    Sign(&'static str),
}

impl fmt::Display for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => formatter.write_str(text),
            Self::Text(text) => write!(formatter, "{text:?}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Sign(sign) => formatter.write_str(sign),
        }
    }
}

const SIGNS: [&str; 15] = ["==", "!=", "&&", "||", "(", ")", "[", "]", ",", ".", "|", ":", "!", "<", ">"];

/// Cuts at `{{ }}`, `{% %}` and `{# #}`. A `-` at the inside of a sign takes the white space away at its outside.
pub(super) fn pieces(source: &str) -> Result<Vec<Piece>, Fault> {
    let (mut pieces, mut rest, mut line, mut trims) = (Vec::new(), source, 1, false);
    loop {
        let open = ["{{", "{%", "{#"].iter().filter_map(|sign| rest.find(sign)).min();
        let text = &rest[..open.unwrap_or(rest.len())];
        let next = &rest[text.len()..];
        let trims_before = next.get(2..).is_some_and(|inside| inside.starts_with('-'));
        let mut shown = if trims { text.trim_start() } else { text };
        if trims_before {
            shown = shown.trim_end();
        }
        if !shown.is_empty() {
            pieces.push(Piece::Text(shown.to_owned()));
        }
        line += text.matches('\n').count();
        if open.is_none() {
            return Ok(pieces);
        }
        let close = match &next[..2] {
            "{{" => "}}",
            "{%" => "%}",
            _ => "#}",
        };
        let inside = &next[2..];
        let end =
            end_of(inside, close).ok_or_else(|| (line, format!("`{}` has no `{close}`", &next[..2])))?;
        let content = &inside[..end];
        trims = content.ends_with('-') && (content.len() > 1 || !trims_before);
        let content = content.strip_prefix('-').unwrap_or(content);
        let content = content.strip_suffix('-').unwrap_or(content).trim().to_owned();
        match close {
            "}}" => pieces.push(Piece::Output(content, line)),
            "%}" => pieces.push(Piece::Statement(content, line)),
            _ => {}
        }
        line += inside[..end].matches('\n').count();
        rest = &inside[end + 2..];
    }
}

/// Where the closing sign is; one in quotes is none, except in a remark.
fn end_of(inside: &str, close: &str) -> Option<usize> {
    if close == "#}" {
        return inside.find(close);
    }
    let mut quote = None;
    for (at, character) in inside.char_indices() {
        match (quote, character) {
            (Some(open), other) if open == other => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) if inside[at..].starts_with(close) => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// Cuts an expression into tokens. Texts have no escapes.
pub(super) fn tokens(source: &str, line: usize) -> Result<Vec<Token>, Fault> {
    let (mut tokens, mut rest) = (Vec::new(), source.trim_start());
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if first == '"' || first == '\'' {
            let end =
                rest[1..].find(first).ok_or_else(|| (line, format!("a text has no {first} at its end")))?;
            tokens.push(Token::Text(rest[1..=end].to_owned()));
            end + 2
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = &rest[..length];
            tokens.push(match word.parse() {
                Ok(number) => Token::Number(number),
                Err(_) if first.is_ascii_digit() => return Err((line, format!("`{word}` is no number"))),
                Err(_) => Token::Name(word.to_owned()),
            });
            length
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            sign.len()
        } else {
            return Err((line, format!("`{first}` is not known")));
        };
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

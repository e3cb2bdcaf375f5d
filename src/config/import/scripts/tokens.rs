//! The tokens of a script in Groovy or JavaScript.

use super::refused;

/// A name, number, text or sign of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// Digits, with the letters and the point that belong to the number.
    Number(String),
    Text(String),
    Sign(&'static str),
}

impl Token {
    pub(super) fn written(&self) -> &str {
        match self {
            Token::Name(text) | Token::Number(text) | Token::Text(text) => text,
            Token::Sign(sign) => sign,
        }
    }
}

/// Signs, the longest first.
const SIGNS: [&str; 31] = [
    "===", "!==", "==~", "<=>", "?.", "?:", "==", "!=", "<=", ">=", "&&", "||", "=~", "->", "(",
    ")", "[", "]", ",", ".", "<", ">", "!", "?", ":", "+", "-", "*", "%", "/", "=",
];

/// Splits a script into tokens, or says what in the script is not translated.
pub(super) fn tokens(script: &str) -> Result<Vec<Token>, String> {
    let (mut found, mut rest) = (Vec::new(), script);
    while let Some(char) = rest.chars().next() {
        if char.is_whitespace() {
            rest = rest.trim_start();
        } else if char.is_alphabetic() || char == '_' {
            let (name, after) = rest.split_at(length(rest, |c| c.is_alphanumeric() || c == '_'));
            rest = after;
            found.push(Token::Name(name.to_owned()));
        } else if char.is_ascii_digit() {
            let (number, after) = rest.split_at(length(rest, |c| c.is_alphanumeric() || c == '.'));
            rest = after;
            found.push(Token::Number(number.to_owned()));
        } else if char == '\'' || char == '"' {
            let (text, after) = text(rest, char)?;
            rest = after;
            found.push(Token::Text(text));
        } else {
            let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
            let sign = sign.ok_or_else(|| refused(&format!("`{char}`")))?;
            rest = rest.split_at(sign.len()).1;
            found.push(Token::Sign(sign));
        }
    }
    Ok(found)
}

/// Number of bytes at the beginning of a text whose characters are all of this kind.
fn length(text: &str, is_of: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !is_of(c)).unwrap_or(text.len())
}

/// Reads a text in quotes. Returns the text and the script after it.
fn text(rest: &str, quote: char) -> Result<(String, &str), String> {
    let mut text = String::new();
    let mut chars = rest.chars();
    chars.next();
    loop {
        match chars.next() {
            None => return Err("has a text without its closing quote".to_owned()),
            Some('\\') => match chars.next() {
                Some(escaped @ ('\\' | '\'' | '"' | '$')) => text.push(escaped),
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                _ => return Err(refused("a text with a rare escape")),
            },
            Some('$') if quote == '"' => return Err(refused("a text with a `$` in it")),
            Some(char) if char == quote => return Ok((text, chars.as_str())),
            Some(char) => text.push(char),
        }
    }
}

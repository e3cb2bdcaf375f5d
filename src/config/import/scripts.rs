//! Translates the conditions that people write in Groovy or JavaScript for Debezium's `Filter` and
//! `ContentBasedRouter` into CEL.
//!
//! Comparisons, `&&`, `||`, `!`, `?:`, simple arithmetic and a few methods of texts are translated.
//! A test for null is added if the script and CEL treat a null differently. All else is refused,
//! and the refusal lists what can be written in CEL. The names of fields and their types are
//! checked when the tables are known.

#[cfg(test)]
mod tests;
mod tokens;

use crate::transform::expression::Expression;
use tokens::{Token, tokens};

/// The names at which a value of the record begins, in a script of Debezium and in our CEL.
const ROOTS: [&str; 4] = ["value", "key", "topic", "headers"];

/// Methods of a Connect struct that return the field whose name is their argument.
const GETTERS: [&str; 10] = [
    "get",
    "getString",
    "getBoolean",
    "getInt8",
    "getInt16",
    "getInt32",
    "getInt64",
    "getFloat32",
    "getFloat64",
    "getStruct",
];

/// The language in which a null counts as less than every value in a comparison by order. In the
/// other languages it counts as the number 0.
const GROOVY: &str = "jsr223.groovy";

/// The languages of scripts that are translated. Their simple expressions are written alike.
const LANGUAGES: [&str; 3] = [GROOVY, "jsr223.graal.js", "jsr223.graaljs"];

/// How deep brackets, choices and leading signs may be nested in a script that is translated.
const DEPTH_MAX: usize = 32;

/// The most bytes of CEL that a translation may write twice, for one operator. Without this limit
/// nested parts would double the text each time.
const TWICE_MAX: usize = 1024;

/// Whether scripts of a language are translated.
pub(super) fn is_translated(language: &str) -> bool {
    LANGUAGES.contains(&language)
}

/// Translates a script into CEL. The error says why it cannot be translated.
pub(super) fn translated(language: &str, script: &str) -> Result<String, String> {
    let tokens = tokens(script.trim().trim_end_matches(';').trim_end())?;
    let is_groovy = language == GROOVY;
    let mut reader = Reader { tokens: &tokens, at: 0, depth: 0, is_groovy };
    let part = reader.choice()?;
    if let Some(token) = reader.peek() {
        return Err(refused(&format!("`{}`", token.written())));
    }
    // The translation of a valid script can still be too large or too deep for our CEL.
    match Expression::read(&part.cel) {
        Ok(_) => Ok(part.cel),
        Err(fault) => Err(format!("would be `{}` in CEL, which {fault}", part.cel)),
    }
}

fn refused(what: &str) -> String {
    format!(
        "has {what}, which is not translated; write the expression in CEL, with ==, !=, <, <=, >, \
         >=, &&, ||, !, ?:, in, startsWith, endsWith, contains and matches (docs/transforms.md)"
    )
}

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{}'", text.replace('\n', "\\n").replace('\t', "\\t"))
}

/// A part of a script, translated into CEL.
struct Part {
    cel: String,
    of: Of,
    form: Form,
}

/// The kind of value that a translated part has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A number or text that is written in the script itself.
    Literal,
    /// A value that is null for the same records as the part of the script.
    Value,
    /// A bool that is never null.
    Bool,
    /// A bool that is null in CEL for some records for which the part of the script is false.
    NullForFalse,
}

/// The form of a part's text, which decides if it needs brackets beside an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A single operand. An operator beside it applies to the whole part.
    Single,
    Joined,
    /// A choice with `? :`. Its last operand would also take an operator that follows.
    Choice,
}

impl Part {
    fn new(cel: String, of: Of) -> Self {
        Part { cel, of, form: Form::Single }
    }

    fn joined(cel: String, of: Of) -> Self {
        Part { cel, of, form: Form::Joined }
    }

    fn single(self) -> String {
        match self.form {
            Form::Single => self.cel,
            Form::Joined | Form::Choice => format!("({})", self.cel),
        }
    }

    /// Returns the CEL text of the part for use under `!` or before `?`. A script takes a null as
    /// false there, so the text is compared with true if it can be null.
    fn asked(self) -> String {
        match self.of {
            Of::Bool => self.cel,
            Of::Literal | Of::Value | Of::NullForFalse => format!("{} == true", self.single()),
        }
    }

    /// Returns the CEL text of the part for use as an operand, for example in a comparison.
    fn value(self) -> String {
        match self.of {
            Of::NullForFalse => format!("({})", self.asked()),
            Of::Literal | Of::Value | Of::Bool => self.cel,
        }
    }

    fn is_condition(&self) -> bool {
        matches!(self.of, Of::Bool | Of::NullForFalse)
    }
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    is_groovy: bool,
}

type Read = Result<Part, String>;

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn takes_one(&mut self, signs: &[&'static str]) -> Option<&'static str> {
        signs.iter().copied().find(|sign| self.takes(sign))
    }

    fn wants(&mut self, sign: &str) -> Result<(), String> {
        match self.takes(sign) {
            true => Ok(()),
            false => Err(match self.peek() {
                Some(token) => refused(&format!("`{}`", token.written())),
                None => format!("lacks a `{sign}` at its end"),
            }),
        }
    }

    fn choice(&mut self) -> Read {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(refused("brackets within brackets"));
        }
        let condition = self.either()?;
        let read = match self.takes("?") {
            false => condition,
            true => {
                let yes = self.choice()?;
                self.wants(":")?;
                let no = self.choice()?;
                let of = match (yes.of, no.of) {
                    (Of::Bool, Of::Bool) => Of::Bool,
                    _ => Of::Value,
                };
                let yes = match yes.form {
                    Form::Choice => yes.single(),
                    Form::Single | Form::Joined => yes.value(),
                };
                let cel = format!("{} ? {yes} : {}", condition.asked(), no.value());
                Part { cel, of, form: Form::Choice }
            }
        };
        self.depth -= 1;
        Ok(read)
    }

    fn either(&mut self) -> Read {
        let mut read = self.both()?;
        while self.takes("||") {
            read = either_of(" || ", read, self.both()?);
        }
        Ok(read)
    }

    fn both(&mut self) -> Read {
        let mut read = self.relation()?;
        while self.takes("&&") {
            read = either_of(" && ", read, self.relation()?);
        }
        Ok(read)
    }

    fn relation(&mut self) -> Read {
        let left = self.sum()?;
        if self.peek() == Some(&Token::Name("in".to_owned())) {
            if !self.is_groovy {
                return Err(refused("`in`, which asks JavaScript for a place of a list"));
            }
            self.at += 1;
            self.wants("[")?;
            let mut items = vec![self.sum()?.value()];
            while self.takes(",") {
                items.push(self.sum()?.value());
            }
            self.wants("]")?;
            let cel = format!("{} in [{}]", left.value(), items.join(", "));
            return Ok(Part::joined(cel, Of::Bool));
        }
        if let Some(sign) = self.takes_one(&["===", "!==", "==", "!="]) {
            let sign = sign.get(..2).unwrap_or(sign);
            let cel = format!("{} {sign} {}", left.value(), self.sum()?.value());
            return Ok(Part::joined(cel, Of::Bool));
        }
        match self.takes_one(&["<=", ">=", "<", ">"]) {
            Some(sign) => {
                let right = self.sum()?;
                self.ordered(sign, &left, &right)
            }
            None => Ok(left),
        }
    }

    /// Translates a comparison by `<`, `<=`, `>` or `>=`. For a null our CEL gives null, and a
    /// script gives true or false.
    fn ordered(&self, sign: &str, left: &Part, right: &Part) -> Read {
        if left.is_condition() || right.is_condition() {
            return Err(refused("an order of conditions"));
        }
        if left.cel.len() + right.cel.len() > TWICE_MAX {
            return Err(refused("a long text beside a sign of order"));
        }
        let holds_for = match self.is_groovy {
            true => null_is_least(sign, left, right),
            false => null_is_zero(sign, left, right)?,
        };
        let (left, right) = (&left.cel, &right.cel);
        Ok(match holds_for {
            Some(null) => Part::new(format!("({null} || {left} {sign} {right})"), Of::NullForFalse),
            None => Part::joined(format!("{left} {sign} {right}"), Of::NullForFalse),
        })
    }

    /// Translates `+`, `-`, `*` and `%`. A division is not translated: of two whole numbers Groovy
    /// gives a fraction, and CEL gives a whole number.
    fn sum(&mut self) -> Read {
        let mut read = self.unary()?;
        while let Some(sign) = self.takes_one(&["+", "-", "*", "%"]) {
            let next = self.unary()?;
            self.fails_for_null([&read, &next])?;
            read = Part::joined(format!("{} {sign} {}", read.value(), next.value()), Of::Value);
        }
        Ok(read)
    }

    /// Refuses arithmetic on fields in JavaScript, which takes a null as 0. Groovy does not compute
    /// with a null, and our CEL gives null.
    fn fails_for_null<const N: usize>(&self, parts: [&Part; N]) -> Result<(), String> {
        match self.is_groovy || parts.iter().all(|part| part.of == Of::Literal) {
            true => Ok(()),
            false => Err(refused("a sum in JavaScript, which takes a null as 0")),
        }
    }

    fn unary(&mut self) -> Read {
        if self.takes("!") {
            let inner = self.operand()?;
            let cel = match inner.of {
                Of::Bool => format!("!{}", inner.cel),
                Of::Literal | Of::Value | Of::NullForFalse => format!("!({})", inner.asked()),
            };
            return Ok(Part::joined(cel, Of::Bool));
        }
        if self.takes("-") {
            let inner = self.operand()?;
            self.fails_for_null([&inner])?;
            let of = if inner.of == Of::Literal { Of::Literal } else { Of::Value };
            return Ok(Part::joined(format!("-{}", inner.value()), of));
        }
        self.postfix()
    }

    fn operand(&mut self) -> Read {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(refused("signs before signs"));
        }
        let inner = self.unary();
        self.depth -= 1;
        inner
    }

    fn postfix(&mut self) -> Read {
        let (mut read, mut nulls) = (self.primary()?, Vec::new());
        loop {
            if self.takes("?.") {
                if read.cel.len() > TWICE_MAX {
                    return Err(refused("a long text before `?.`"));
                }
                nulls.push(read.cel.clone());
                read = self.member(read)?;
            } else if self.takes(".") {
                read = self.member(read)?;
            } else if self.takes("[") {
                let Some(Token::Text(name)) = self.peek().cloned() else {
                    return Err(refused("brackets around something that is no text"));
                };
                self.at += 1;
                self.wants("]")?;
                read = Part::new(format!("{}[{}]", read.cel, quoted(&name)), Of::Value);
            } else {
                break;
            }
        }
        // `a?.b` is null if `a` is null.
        for null in nulls.iter().rev() {
            let cel = format!("({null} != null ? {} : null)", read.cel);
            read = Part::new(cel, Of::Value);
        }
        Ok(read)
    }

    fn member(&mut self, of: Part) -> Read {
        let Some(Token::Name(name)) = self.peek().cloned() else {
            return Err(refused("a point without a name after it"));
        };
        self.at += 1;
        let of = of.value();
        if !self.takes("(") {
            return Ok(Part::new(format!("{of}.{name}"), Of::Value));
        }
        let argument = match self.takes(")") {
            true => None,
            false => {
                let literal = match self.peek() {
                    Some(Token::Text(text)) => Some(text.clone()),
                    _ => None,
                };
                let argument = self.choice()?;
                self.wants(")")?;
                Some((argument.value(), literal))
            }
        };
        match (name.as_str(), argument) {
            (getter, Some((_, Some(field)))) if GETTERS.contains(&getter) => {
                Ok(Part::new(format!("{of}[{}]", quoted(&field)), Of::Value))
            }
            ("equals", Some((other, _))) => Ok(Part::new(format!("({of} == {other})"), Of::Bool)),
            ("startsWith" | "endsWith" | "contains", Some((part, _))) => {
                Ok(Part::new(format!("{of}.{name}({part})"), Of::NullForFalse))
            }
            ("matches", Some((_, Some(pattern)))) if is_possessive(&pattern) => {
                Err(refused("a regular expression with a possessive `+`"))
            }
            // Java's `matches` compares the whole text, and CEL's `matches` searches within the
            // text. So the pattern gets anchors.
            ("matches", Some((_, Some(pattern)))) => {
                let cel = format!("{of}.matches({})", quoted(&format!("^(?:{pattern})$")));
                Ok(Part::new(cel, Of::NullForFalse))
            }
            ("length" | "size", None) => Ok(Part::new(format!("size({of})"), Of::Value)),
            _ => Err(refused(&format!("a call of `{name}`"))),
        }
    }

    fn primary(&mut self) -> Read {
        let token = self.peek().cloned().ok_or("ends where a value should stand")?;
        self.at += 1;
        match token {
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.wants(")")?;
                Ok(Part::new(format!("({})", inner.cel), inner.of))
            }
            Token::Text(text) => Ok(Part::new(quoted(&text), Of::Literal)),
            Token::Number(number) => {
                let digits = number.strip_suffix(['L', 'l']).unwrap_or(&number);
                let is_plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
                // A number that begins with a zero and another digit is octal in Groovy.
                let is_of_ten = digits
                    .strip_prefix('0')
                    .is_none_or(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
                match is_plain && is_of_ten && digits.matches('.').count() < 2 {
                    true => Ok(Part::new(digits.to_owned(), Of::Literal)),
                    false => Err(refused(&format!("the number `{number}`"))),
                }
            }
            Token::Name(name) if matches!(&*name, "true" | "false") => {
                Ok(Part::new(name, Of::Bool))
            }
            Token::Name(name) if name == "null" || ROOTS.contains(&&*name) => {
                Ok(Part::new(name, Of::Value))
            }
            Token::Name(name) => {
                Err(refused(&format!("`{name}`, where there are {}", ROOTS.join(", "))))
            }
            Token::Sign(sign) => Err(refused(&format!("`{sign}`"))),
        }
    }
}

/// Joins two conditions by `&&` or `||`. The result can be null in place of false, unless neither
/// of them can be null.
fn either_of(sign: &str, left: Part, right: Part) -> Part {
    let of = match (left.of, right.of) {
        (Of::Bool, Of::Bool) => Of::Bool,
        _ => Of::NullForFalse,
    };
    Part::joined(format!("{}{sign}{}", left.cel, right.cel), of)
}

/// Returns, as CEL, the condition under which a comparison by order holds only because a null is
/// less than every value, as in Groovy. `None` if a null cannot make the comparison hold.
fn null_is_least(sign: &str, left: &Part, right: &Part) -> Option<String> {
    let (less, more) = match sign {
        "<" | "<=" => (left, right),
        _ => (right, left),
    };
    if less.of == Of::Literal {
        return None;
    }
    Some(match matches!(sign, "<" | ">") && more.of != Of::Literal {
        true => format!("{} == null && {} != null", less.cel, more.cel),
        false => format!("{} == null", less.cel),
    })
}

/// Returns, as CEL, the condition under which a comparison by order holds only because a null is
/// taken as the number 0, as in JavaScript. `None` if a null cannot make the comparison hold. An
/// order of two fields is refused.
fn null_is_zero(sign: &str, left: &Part, right: &Part) -> Result<Option<String>, String> {
    let number = |part: &Part| part.cel.parse::<f64>().ok();
    let (field, sides) = match (left.of == Of::Literal, right.of == Of::Literal) {
        (true, true) => return Ok(None),
        (false, true) => (left, (Some(0.0), number(right))),
        (true, false) => (right, (number(left), Some(0.0))),
        (false, false) => return Err(refused("an order of two fields, of which one can be null")),
    };
    // A literal that is a text has no order with the number 0.
    let (Some(one), Some(other)) = sides else { return Ok(None) };
    let holds = match sign {
        "<" => one < other,
        "<=" => one <= other,
        ">" => one > other,
        _ => one >= other,
    };
    Ok(holds.then(|| format!("{} == null", field.cel)))
}

/// True if a pattern has a possessive repetition of Java, such as `a*+`, which never gives back
/// what it has matched. The crate `regex` would take the `+` as one more repetition.
fn is_possessive(pattern: &str) -> bool {
    ["*+", "++", "?+", "}+"].into_iter().any(|sign| pattern.contains(sign))
}

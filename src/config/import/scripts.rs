//! Translates the conditions that people write in Groovy or JavaScript for Debezium's `Filter` and
//! `ContentBasedRouter` into CEL.
//!
//! Comparisons, `&&`, `||`, `!`, `?:` and a few methods of texts mean the same there. All else is
//! refused with what to write instead. The names and types are checked when the tables are known.

/// The names that a script has in Debezium and that are here too.
const ROOTS: [&str; 4] = ["value", "key", "topic", "headers"];

/// Methods of a struct that take the field whose name follows.
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

/// The languages whose simple expressions are the same.
const LANGUAGES: [&str; 3] = ["jsr223.groovy", "jsr223.graal.js", "jsr223.graaljs"];

/// The deepest brackets of a script that is translated.
const DEPTH_MAX: usize = 32;

/// Whether scripts of a language are translated.
pub(super) fn is_translated(language: &str) -> bool {
    LANGUAGES.contains(&language)
}

/// The same expression in CEL, or why there is none.
pub(super) fn translated(script: &str) -> Result<String, String> {
    let tokens = tokens(script.trim().trim_end_matches(';').trim_end())?;
    let mut reader = Reader { tokens: &tokens, at: 0, depth: 0 };
    let expression = reader.choice()?;
    match reader.peek() {
        None => Ok(expression),
        Some(token) => Err(refused(&format!("`{}`", token.written()))),
    }
}

fn refused(what: &str) -> String {
    format!(
        "has {what}, which is not translated; write the expression in CEL, with ==, !=, <, <=, >, \
         >=, &&, ||, !, ?:, in, startsWith, endsWith, contains and matches (docs/transforms.md)"
    )
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    /// Digits, and what belongs to them.
    Number(String),
    Text(String),
    Sign(&'static str),
}

impl Token {
    fn written(&self) -> &str {
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

fn tokens(script: &str) -> Result<Vec<Token>, String> {
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

/// How many bytes of a text are of this kind, from its beginning.
fn length(text: &str, is_of: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !is_of(c)).unwrap_or(text.len())
}

/// A text in quotes, and what follows it.
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

fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{}'", text.replace('\n', "\\n").replace('\t', "\\t"))
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

type Read = Result<String, String>;

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
                format!("{condition} ? {yes} : {}", self.choice()?)
            }
        };
        self.depth -= 1;
        Ok(read)
    }

    fn either(&mut self) -> Read {
        let mut read = self.both()?;
        while self.takes("||") {
            read = format!("{read} || {}", self.both()?);
        }
        Ok(read)
    }

    fn both(&mut self) -> Read {
        let mut read = self.relation()?;
        while self.takes("&&") {
            read = format!("{read} && {}", self.relation()?);
        }
        Ok(read)
    }

    fn relation(&mut self) -> Read {
        let left = self.sum()?;
        if self.peek() == Some(&Token::Name("in".to_owned())) {
            self.at += 1;
            self.wants("[")?;
            let mut items = vec![self.sum()?];
            while self.takes(",") {
                items.push(self.sum()?);
            }
            self.wants("]")?;
            return Ok(format!("{left} in [{}]", items.join(", ")));
        }
        let Some(sign) = self.takes_one(&["===", "!==", "==", "!=", "<=", ">=", "<", ">"]) else {
            return Ok(left);
        };
        let sign = sign.get(..2).unwrap_or(sign);
        Ok(format!("{left} {sign} {}", self.sum()?))
    }

    /// A division is none here: Groovy's gives a fraction, and CEL's of whole numbers does not.
    fn sum(&mut self) -> Read {
        let mut read = self.unary()?;
        while let Some(sign) = self.takes_one(&["+", "-", "*", "%"]) {
            read = format!("{read} {sign} {}", self.unary()?);
        }
        Ok(read)
    }

    fn unary(&mut self) -> Read {
        if self.takes("!") {
            return Ok(format!("!{}", self.operand_in_brackets()?));
        }
        if self.takes("-") {
            return Ok(format!("-{}", self.operand_in_brackets()?));
        }
        self.postfix()
    }

    fn operand_in_brackets(&mut self) -> Read {
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
                nulls.push(read.clone());
                read = self.member(read)?;
            } else if self.takes(".") {
                read = self.member(read)?;
            } else if self.takes("[") {
                let Some(Token::Text(name)) = self.peek().cloned() else {
                    return Err(refused("brackets around something that is no text"));
                };
                self.at += 1;
                self.wants("]")?;
                read = format!("{read}[{}]", quoted(&name));
            } else {
                break;
            }
        }
        // A struct that may be null gives null for its fields.
        for null in nulls.iter().rev() {
            read = format!("({null} != null ? {read} : null)");
        }
        Ok(read)
    }

    fn member(&mut self, of: String) -> Read {
        let Some(Token::Name(name)) = self.peek().cloned() else {
            return Err(refused("a point without a name after it"));
        };
        self.at += 1;
        if !self.takes("(") {
            return Ok(format!("{of}.{name}"));
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
                Some((argument, literal))
            }
        };
        match (name.as_str(), argument) {
            (getter, Some((_, Some(field)))) if GETTERS.contains(&getter) => {
                Ok(format!("{of}[{}]", quoted(&field)))
            }
            ("equals", Some((other, _))) => Ok(format!("({of} == {other})")),
            ("startsWith" | "endsWith" | "contains", Some((part, _))) => {
                Ok(format!("{of}.{name}({part})"))
            }
            // Java's fits the whole text, and CEL's is found anywhere.
            ("matches", Some((_, Some(pattern)))) => {
                Ok(format!("{of}.matches({})", quoted(&format!("^(?:{pattern})$"))))
            }
            ("length" | "size", None) => Ok(format!("size({of})")),
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
                Ok(format!("({inner})"))
            }
            Token::Text(text) => Ok(quoted(&text)),
            Token::Number(number) => {
                let digits = number.strip_suffix(['L', 'l']).unwrap_or(&number);
                let is_plain = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
                match is_plain && digits.matches('.').count() < 2 {
                    true => Ok(digits.to_owned()),
                    false => Err(refused(&format!("the number `{number}`"))),
                }
            }
            Token::Name(name) if matches!(&*name, "true" | "false" | "null") => Ok(name),
            Token::Name(name) if ROOTS.contains(&&*name) => Ok(name),
            Token::Name(name) => {
                Err(refused(&format!("`{name}`, where there are {}", ROOTS.join(", "))))
            }
            Token::Sign(sign) => Err(refused(&format!("`{sign}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ImportError, Loss, import};
    use super::*;
    use crate::transform::expression::Expression;
    use expect_test::expect;
    use proptest::prelude::*;

    #[test]
    fn simple_scripts_mean_the_same_in_cel() {
        for (script, cel) in [
            ("value.op != 'd' || value.before.id != 2", "value.op != 'd' || value.before.id != 2"),
            ("value.op == \"u\" && !(value.after.done)", "value.op == 'u' && !(value.after.done)"),
            ("topic.startsWith('dummy')", "topic.startsWith('dummy')"),
            ("headers.idh.value == 1L", "headers.idh.value == 1"),
            ("value.after.id === 2;", "value.after.id == 2"),
            ("value.get('op').equals('c')", "(value['op'] == 'c')"),
            ("value.after.name in ['a', 'b']", "value.after.name in ['a', 'b']"),
            ("value.op.matches('c|u')", "value.op.matches('^(?:c|u)$')"),
            ("value.after.name.length() > 3", "size(value.after.name) > 3"),
            (
                "value.after?.country == 'UK' ? 'uk' : null",
                "(value.after != null ? value.after.country : null) == 'UK' ? 'uk' : null",
            ),
            ("value.after.id % 2 == 1", "value.after.id % 2 == 1"),
            ("'it\\'s' == value.after.name", "'it\\'s' == value.after.name"),
        ] {
            assert_eq!(translated(script).as_deref(), Ok(cel), "{script}");
            Expression::read(cel).unwrap_or_else(|fault| panic!("{cel}: {fault}"));
        }
    }

    const CONNECTOR: &str = "connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
topic.prefix=shop
database.hostname=db
database.port=5432
database.user=u
database.dbname=app
database.sslmode=disable
bootstrap.servers=k:9092
snapshot.mode=initial
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter=org.apache.kafka.connect.json.JsonConverter
transforms=f,r
transforms.f.type=io.debezium.transforms.Filter
transforms.f.language=jsr223.groovy
transforms.f.condition=value.op == 'u' && value.before.status != value.after.status
transforms.f.topic.regex=shop.public.*
transforms.f.null.handling.mode=drop
transforms.r.type=io.debezium.transforms.ContentBasedRouter
transforms.r.language=jsr223.groovy
transforms.r.topic.expression=value.op == 'u' ? 'updates' : null
";

    fn imported(text: &str) -> Result<String, ImportError> {
        Ok(import(&[("c.properties".to_owned(), text.to_owned())], Loss::Refused)?.toml)
    }

    #[test]
    fn debeziums_scripting_transforms_are_translated() {
        let toml = imported(CONNECTOR).unwrap();
        let chain = toml.split_once("[[transform]]").unwrap().1.split("\n# Not").next().unwrap();
        expect![[r#"

            type = "filter"
            condition = "value.op == 'u' && value.before.status != value.after.status"
            when_topic = "shop.public.*"
            nulls = "drop"

            [[transform]]
            type = "content-router"
            topic = "value.op == 'u' ? 'updates' : null"
        "#]]
        .assert_eq(chain);
    }

    #[test]
    fn other_languages_and_scripts_are_refused_by_their_option() {
        for (theirs, other, option) in [
            ("f.language=jsr223.groovy", "f.language=wasm.chicory", "transforms.f.language"),
            ("value.op == 'u' &&", "value.after.tags.any { it } &&", "transforms.f.condition"),
            ("'updates'", "topic.replace('a', 'b')", "transforms.r.topic.expression"),
        ] {
            match imported(&CONNECTOR.replace(theirs, other)) {
                Err(ImportError::Refused { refused }) => {
                    let names: Vec<&str> = refused.iter().map(|(name, _)| &**name).collect();
                    assert_eq!(names, [option]);
                }
                other => panic!("{option}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_only_a_script_can_do_is_refused() {
        for script in [
            "value.after.id / 2 == 1",
            "value.after.name =~ 'a'",
            "valueSchema.name == 'x'",
            "import java.util.*; true",
            "value.after.name.toLowerCase() == 'a'",
            "{ -> true }",
            "value.op == 'c' ?: true",
            "\"${value.op}\" == 'c'",
            "value.after.id == 1e3",
            "value.after.id == ",
            "(value.op == 'c'",
            "value.op == 'c' value",
            "value.op = 'c'",
            "",
        ] {
            assert!(translated(script).is_err(), "{script}");
        }
        let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(translated(&deep).is_err());
        assert!(translated(&format!("{}value", "!".repeat(10_000))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_translated_is_an_expression(
            script in "(value|topic|'a'|1|==|&&|!|\\(|\\)|\\.|\\?|:|after| |in|\\[|\\]|,|\\+){1,14}"
        ) {
            if let Ok(cel) = translated(&script) {
                prop_assert!(Expression::read(&cel).is_ok(), "{} became {}", script, cel);
            }
        }
    }
}

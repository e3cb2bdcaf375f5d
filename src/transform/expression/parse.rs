//! Reads an expression: the crate `cel` parses the text, and its tree becomes a [`Tree`].

use super::compare::Order;
use super::{
    BRACKETS_MAX, BYTES_MAX, CHOICES_MAX, Compute, DIGITS_MAX, ExpressionFault, Fixed, Matcher,
    Named, Op, TOKENS_MAX, Test, To, Tree,
};
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::parser::Parser;

/// How deep the parser may recurse. [`Size`] refuses a deeper text before the parser runs, because
/// the parser checks its own depth after it has used the stack.
const DEPTH_MAX: u16 = 32;

/// The most bytes of a compiled regular expression.
const MATCHER_BYTES_MAX: usize = 256 * 1024;

type Parsed = Result<Tree, ExpressionFault>;

pub(super) fn parse(text: &str) -> Parsed {
    let size = Size::of(text);
    if let Some(what) = size.foreign {
        return fault(what);
    }
    if text.len() > BYTES_MAX || size.tokens > TOKENS_MAX {
        return fault(format!(
            "is too large: an expression has at most {TOKENS_MAX} names, signs and brackets; use \
             two transforms"
        ));
    }
    if size.brackets > BRACKETS_MAX || size.choices > CHOICES_MAX {
        return fault(format!(
            "is too deep: an expression has at most {BRACKETS_MAX} brackets within brackets, and \
             {CHOICES_MAX} times `?`"
        ));
    }
    if size.digits > DIGITS_MAX {
        return fault(format!(
            "has a number with a point and more than {DIGITS_MAX} digits, which a double would \
             round"
        ));
    }
    let parser = Parser::new().max_recursion_depth(DEPTH_MAX).enable_ident_escape_syntax(true);
    match parser.parse(text) {
        Ok(found) => tree(&found.expr),
        Err(errors) => {
            let first = errors.errors.first();
            let told = first.map_or_else(String::new, |error| {
                format!(" at character {}: {}", error.pos.1, error.msg)
            });
            fault(format!("is no expression of CEL{told}"))
        }
    }
}

/// The size of a text, measured before the text is parsed.
#[derive(Default)]
struct Size {
    /// Number of tokens. Commas and fixed texts are left out, because they do not nest.
    tokens: usize,
    /// The most brackets that are open at once.
    brackets: usize,
    /// Number of `?` outside of fixed texts.
    choices: usize,
    /// The most digits of a number with a point or an exponent.
    digits: usize,
    /// What the parser would read differently from these counts, such as a comment. `None` if the
    /// text has nothing of the kind.
    foreign: Option<&'static str>,
}

/// Characters that may follow a backslash in a fixed text. With any other character the lexer does
/// not see the fixed text, and reads its content as a part of the expression.
const ESCAPES: &str = "\\'\"`?abfnrtv";

impl Size {
    fn of(text: &str) -> Self {
        let (mut size, mut open) = (Size::default(), 0_usize);
        let (mut quote, mut escaped, mut in_word) = (None, false, false);
        let (mut digits, mut has_point) = (0_usize, false);
        let mut before = None;
        for char in text.chars() {
            let last = before.replace(char);
            if let Some(end) = quote {
                match char {
                    '\n' | '\r' => size.is_foreign("has a line that ends within a text"),
                    _ if escaped && !ESCAPES.contains(char) => {
                        size.is_foreign("has a rare escape in a text; write the character itself");
                    }
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    _ if char == end => quote = None,
                    _ => {}
                }
                continue;
            }
            match (last, char) {
                (Some('\'' | '"'), '\'' | '"') => size.is_foreign("has quotes beside quotes"),
                (Some(_), '\'' | '"') if in_word => {
                    size.is_foreign(
                        "has a letter before a quote: raw texts and bytes are not read",
                    );
                }
                (Some('/'), '/') => size.is_foreign("has a comment"),
                _ => {}
            }
            let is_word = char.is_alphanumeric() || char == '_';
            match char {
                '\'' | '"' => quote = Some(char),
                '(' | '[' | '{' => open += 1,
                ')' | ']' | '}' => open = open.saturating_sub(1),
                '?' => size.choices += 1,
                _ => {}
            }
            let is_none = char == ',' || char.is_whitespace() || quote.is_some();
            size.tokens += usize::from(!(is_none || is_word && in_word));
            size.brackets = size.brackets.max(open);
            match char {
                '0'..='9' => digits += 1,
                '.' => has_point = true,
                'e' | 'E' if digits > 0 => has_point = true,
                _ => (digits, has_point) = (0, false),
            }
            size.digits = size.digits.max(if has_point { digits } else { 0 });
            in_word = is_word;
        }
        assert!(size.tokens <= text.len(), "a token has a byte at least");
        if quote.is_some() {
            size.is_foreign("has a text without its closing quote");
        }
        size
    }

    fn is_foreign(&mut self, what: &'static str) {
        self.foreign.get_or_insert(what);
    }
}

fn fault<T>(what: impl Into<String>) -> Result<T, ExpressionFault> {
    Err(ExpressionFault(what.into()))
}

fn tree(expr: &Expr) -> Parsed {
    if let Some(path) = path(expr) {
        return Ok(Op::Leaf(Named::Path(path)));
    }
    match expr {
        Expr::Literal(literal) => literal_of(literal).map(|value| Op::Leaf(Named::Value(value))),
        Expr::Select(select) if select.test => match path(&select.operand.expr) {
            Some(mut path) => {
                path.push(select.field.clone());
                Ok(Op::Leaf(Named::Has(path)))
            }
            None => fault("has `has(...)` of something that is no field"),
        },
        Expr::Select(select) => {
            fault(format!("takes field `{}` of something that has no fields", select.field))
        }
        Expr::Call(call) => called(call),
        Expr::List(_) => fault("has a list elsewhere than after `in`"),
        Expr::Comprehension(_) => fault(
            "has a loop (all, exists, exists_one, map or filter), and an expression has none; a \
             condition of a list belongs into the consumer, or into a generated column",
        ),
        Expr::Map(_) | Expr::Struct(_) => fault("makes a struct, and an expression makes none"),
        Expr::Ident(_) | Expr::Unspecified => fault("is no expression of CEL"),
    }
}

fn literal_of(literal: &LiteralValue) -> Result<Fixed, ExpressionFault> {
    Ok(match literal {
        LiteralValue::Null => Fixed::Null,
        LiteralValue::Boolean(value) => Fixed::Bool(*value.inner()),
        LiteralValue::Int(value) => Fixed::Int(*value.inner()),
        LiteralValue::UInt(value) => match i64::try_from(*value.inner()) {
            Ok(value) => Fixed::Int(value),
            Err(_) => return fault("has a number above 9223372036854775807"),
        },
        LiteralValue::Double(value) => Fixed::Double(*value.inner()),
        LiteralValue::String(value) => Fixed::Text(value.inner().to_owned()),
        LiteralValue::Bytes(_) => return fault("has bytes, which no field is compared with"),
    })
}

/// The names that lead to a value. `None` if the expression is no path of names.
fn path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Ident(name) => Some(vec![name.clone()]),
        Expr::Select(select) if !select.test => {
            let mut found = path(&select.operand.expr)?;
            found.push(select.field.clone());
            Some(found)
        }
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [of, Expr::Literal(LiteralValue::String(name))] = exprs(&call.args)[..] else {
                return None;
            };
            let mut found = path(of)?;
            found.push(name.inner().to_owned());
            Some(found)
        }
        _ => None,
    }
}

fn exprs(args: &[IdedExpr]) -> Vec<&Expr> {
    args.iter().map(|arg| &arg.expr).collect()
}

fn called(call: &CallExpr) -> Parsed {
    let mut args: Vec<&Expr> = call.target.iter().map(|target| &target.expr).collect();
    args.extend(exprs(&call.args));
    let name = call.func_name.as_str();
    match (name, &args[..]) {
        (operators::LOGICAL_NOT, [inner]) => Ok(Op::Not(Box::new(tree(inner)?))),
        (operators::NEGATE, [inner]) => Ok(Op::Negate(Box::new(tree(inner)?))),
        (operators::LOGICAL_AND, [left, right]) => Ok(Op::And(sides(left, right)?)),
        (operators::LOGICAL_OR, [left, right]) => Ok(Op::Or(sides(left, right)?)),
        (operators::CONDITIONAL, [condition, yes, no]) => {
            Ok(Op::If(Box::new([tree(condition)?, tree(yes)?, tree(no)?])))
        }
        (operators::IN, [value, Expr::List(list)]) => {
            let items = list.elements.iter().map(|item| tree(&item.expr));
            Ok(Op::In(Box::new(tree(value)?), items.collect::<Result<_, _>>()?))
        }
        (operators::IN, _) => fault("has `in` before something that is no list in brackets"),
        ("size", [text]) => Ok(Op::Size(Box::new(tree(text)?))),
        ("int", [value]) => Ok(Op::Convert(To::Int, Box::new(tree(value)?))),
        ("double", [value]) => Ok(Op::Convert(To::Double, Box::new(tree(value)?))),
        ("string", [value]) => Ok(Op::Convert(To::Text, Box::new(tree(value)?))),
        ("matches", [text, Expr::Literal(LiteralValue::String(pattern))]) => {
            let built =
                regex::RegexBuilder::new(pattern.inner()).size_limit(MATCHER_BYTES_MAX).build();
            match built {
                Ok(found) => Ok(Op::Matches(Box::new(tree(text)?), Matcher(found))),
                Err(_) => fault("has `matches` of a text that is no regular expression of RE2"),
            }
        }
        ("matches", _) => fault("has `matches` of something that is no fixed text"),
        (_, [left, right]) => match binary(name) {
            Some(Binary::Compare(order)) => Ok(Op::Compare(order, sides(left, right)?)),
            Some(Binary::Compute(compute)) => Ok(Op::Compute(compute, sides(left, right)?)),
            Some(Binary::Test(test)) => Ok(Op::Test(test, sides(left, right)?)),
            None => unknown(name),
        },
        _ => unknown(name),
    }
}

fn unknown(name: &str) -> Parsed {
    fault(format!(
        "calls `{name}`, which is not there; there are startsWith, endsWith, contains, matches, \
         size, int, double, string and has"
    ))
}

fn sides(left: &Expr, right: &Expr) -> Result<Box<[Tree; 2]>, ExpressionFault> {
    Ok(Box::new([tree(left)?, tree(right)?]))
}

enum Binary {
    Compare(Order),
    Compute(Compute),
    Test(Test),
}

fn binary(name: &str) -> Option<Binary> {
    Some(match name {
        operators::EQUALS => Binary::Compare(Order::Equal),
        operators::NOT_EQUALS => Binary::Compare(Order::NotEqual),
        operators::LESS => Binary::Compare(Order::Less),
        operators::LESS_EQUALS => Binary::Compare(Order::LessOrEqual),
        operators::GREATER => Binary::Compare(Order::Greater),
        operators::GREATER_EQUALS => Binary::Compare(Order::GreaterOrEqual),
        operators::ADD => Binary::Compute(Compute::Add),
        operators::SUBSTRACT => Binary::Compute(Compute::Subtract),
        operators::MULTIPLY => Binary::Compute(Compute::Multiply),
        operators::DIVIDE => Binary::Compute(Compute::Divide),
        operators::MODULO => Binary::Compute(Compute::Remainder),
        "startsWith" => Binary::Test(Test::StartsWith),
        "endsWith" => Binary::Test(Test::EndsWith),
        "contains" => Binary::Test(Test::Contains),
        _ => return None,
    })
}

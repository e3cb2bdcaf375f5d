//! The outline of a JSON document: the names and types of its fields, without a value.
//!
//! A document that is expanded has the schema that Debezium's outbox router infers from it. Rows
//! whose documents have the same outline share a plan, so an outline has a text by which plans are
//! found. Nothing here reads JSON: `encode/document.rs` makes the outline of a value.

use super::shape::{Base, Field, Node, Part, Schema};

/// The type of a value in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outline {
    Text,
    Boolean,
    Int32,
    Int64,
    Float64,
    /// A null. Its field has the type optional bytes.
    Null,
    /// A list. Each element has this outline or is null.
    List(Box<Outline>),
    /// A struct with its fields. The flag is true if several outlines were merged into it. A merged
    /// struct is required, because Connect copies it, and the copy loses `optional`.
    Struct(Vec<(String, Outline)>, bool),
}

impl Outline {
    /// Appends the text of the outline. Two outlines with the same text are equal.
    pub(crate) fn write(&self, out: &mut String) {
        match self {
            Outline::Text => out.push('t'),
            Outline::Boolean => out.push('b'),
            Outline::Int32 => out.push('i'),
            Outline::Int64 => out.push('l'),
            Outline::Float64 => out.push('d'),
            Outline::Null => out.push('n'),
            Outline::List(element) => {
                out.push('[');
                element.write(out);
            }
            Outline::Struct(fields, merged) => {
                out.push(if *merged { '(' } else { '{' });
                for (name, outline) in fields {
                    // A name can contain any character, so its length is written before it.
                    out.push_str(&name.len().to_string());
                    out.push(':');
                    out.push_str(name);
                    outline.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Reads a text that [`Outline::write`] has written. `None` for any other text.
    pub(crate) fn read(text: &str) -> Option<Outline> {
        let mut rest = text;
        let outline = read(&mut rest)?;
        rest.is_empty().then_some(outline)
    }

    /// Merges two outlines into one that fits the values of both. `None` if a type differs, because
    /// a value would then not arrive exactly.
    pub(crate) fn merged(self, other: Outline) -> Option<Outline> {
        Some(match (self, other) {
            (left, right) if left == right => left,
            (Outline::Null, other) | (other, Outline::Null) => other,
            (Outline::List(left), Outline::List(right)) => {
                Outline::List(Box::new(left.merged(*right)?))
            }
            (Outline::Struct(mut fields, _), Outline::Struct(more, _)) => {
                for (name, outline) in more {
                    match fields.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, known)) => {
                            *known = std::mem::replace(known, Outline::Null).merged(outline)?;
                        }
                        None => fields.push((name, outline)),
                    }
                }
                Outline::Struct(fields, true)
            }
            _ => return None,
        })
    }

    /// The schema of a value with this outline. `key` is the name of the value's struct: the path
    /// of fields that leads to the value.
    pub(crate) fn schema(&self, key: Option<&str>) -> Schema {
        let base = match self {
            Outline::Text => Base::Text,
            Outline::Boolean => Base::Boolean,
            Outline::Int32 => Base::Int32,
            Outline::Int64 => Base::Int64,
            Outline::Float64 => Base::Float64,
            Outline::Null => Base::Bytes,
            Outline::List(element) => {
                // Only structs have names. A struct in a list within a list has none.
                let key = key.filter(|_| matches!(**element, Outline::Struct(..)));
                Base::Array(Box::new(element.schema(key)))
            }
            Outline::Struct(fields, merged) => {
                let field = |(name, outline): &(String, Outline)| Field {
                    name: name.clone().into(),
                    schema: outline.schema(Some(&below(key, name))),
                };
                let base = Base::Struct(fields.iter().map(field).collect());
                let name = key.map(|key| key.to_owned().into());
                return Schema { name, optional: !merged, ..Schema::plain(base) };
            }
        };
        Schema::plain(base).optional()
    }

    /// Makes the part of a record that shows the document. `key` names the part's struct, and
    /// `source` says where the document is read from.
    pub(crate) fn part(&self, key: Option<&str>, source: Source) -> Part {
        Part { schema: self.schema(key), node: self.node(source, &mut Vec::new()) }
    }

    /// Says for each field where its value is read from. `path` leads to this value in the
    /// document. Every struct of the document becomes a struct of the record, so that transforms
    /// find its fields. A list is written as a whole.
    fn node(&self, source: Source, path: &mut Vec<String>) -> Node {
        let Outline::Struct(fields, _) = self else {
            return Node::Document { source, path: path.clone() };
        };
        let mut nodes = Vec::new();
        for (name, outline) in fields {
            path.push(name.clone());
            nodes.push(outline.node(source, path));
            path.pop();
        }
        Node::Struct(nodes)
    }
}

/// Where the JSON document of a record is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The document is the column at this place of the new row.
    Column(usize),
    /// The document is the content of a logical message.
    Content,
}

fn below(key: Option<&str>, name: &str) -> String {
    key.map_or_else(|| name.to_owned(), |key| format!("{key}.{name}"))
}

fn read(rest: &mut &str) -> Option<Outline> {
    let mut chars = rest.chars();
    let kind = chars.next()?;
    *rest = chars.as_str();
    Some(match kind {
        't' => Outline::Text,
        'b' => Outline::Boolean,
        'i' => Outline::Int32,
        'l' => Outline::Int64,
        'd' => Outline::Float64,
        'n' => Outline::Null,
        '[' => Outline::List(Box::new(read(rest)?)),
        '{' | '(' => {
            let mut fields = Vec::new();
            loop {
                if let Some(after) = rest.strip_prefix('}') {
                    *rest = after;
                    break Outline::Struct(fields, kind == '(');
                }
                let (length, after) = rest.split_once(':')?;
                let length = length.parse().ok()?;
                let name = after.get(..length)?;
                *rest = after.get(length..)?;
                fields.push((name.to_owned(), read(rest)?));
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn outlines() -> impl Strategy<Value = Outline> {
        let leaf = prop_oneof![
            Just(Outline::Text),
            Just(Outline::Boolean),
            Just(Outline::Int32),
            Just(Outline::Int64),
            Just(Outline::Float64),
            Just(Outline::Null),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let fields = prop::collection::vec(("\\PC{0,6}", inner.clone()), 0..4);
            prop_oneof![
                inner.prop_map(|element| Outline::List(Box::new(element))),
                (fields, any::<bool>()).prop_map(|(fields, is)| Outline::Struct(fields, is)),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_outline_reads_back_from_its_text(outline in outlines()) {
            let mut text = String::new();
            outline.write(&mut text);
            prop_assert_eq!(Outline::read(&text), Some(outline));
        }

        #[test]
        fn no_text_panics_as_an_outline(text in "[tbildn{}(\\[:0-9é]{0,20}") {
            let _ = Outline::read(&text);
        }
    }

    #[test]
    fn merged_structs_have_the_fields_of_both_and_are_required() {
        let of = |name: &str, outline| Outline::Struct(vec![(name.to_owned(), outline)], false);
        let both = of("a", Outline::Text).merged(of("b", Outline::Int32)).unwrap();
        let schema = both.schema(Some("payload.lines"));
        assert!(!schema.optional);
        assert_eq!(schema.name.as_deref(), Some("payload.lines"));
        assert_eq!((schema.place("a"), schema.place("b")), (Some(0), Some(1)));
        assert_eq!(of("a", Outline::Text).merged(of("a", Outline::Int32)), None);
    }
}

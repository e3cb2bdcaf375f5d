//! Expands JSON documents: a JSON value of a row is read into a tree. The outline of the tree,
//! which has the names and types of its fields, gives the schema by which the tree is written.
//!
//! Types are inferred as Debezium's outbox router infers them. A document that would not arrive
//! exactly has no outline, and the record of its row has the text of the document.

use super::form::Form;
use crate::table::value::ValueError;
use crate::transform::outbox::Expand;
use crate::transform::outline::Outline;
use crate::transform::shape::{Base, Schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// From this value on, a floating point number has no digits after the point. Such a number may be
/// a rounded integer of the JSON text, and is refused.
const WHOLE_FLOATS_FROM: f64 = 9_007_199_254_740_992.0; // 2^53

/// The error for a document whose value does not fit the outline that was made of it.
pub(super) const UNFIT: ValueError = ValueError::new("a JSON document", "not of its outline");

/// A value in a JSON document.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Document {
    Null,
    Boolean(bool),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Document>),
    /// A JSON object, with its fields in the order of the text.
    Struct(Vec<(String, Document)>),
}

impl Document {
    /// Reads a JSON text into a tree. `None` if the text is not JSON, or holds an integer beyond 64
    /// bits or a floating point number of 2^53 or more.
    pub(super) fn read(text: &[u8]) -> Option<Document> {
        serde_json::from_slice(text).ok()
    }

    /// Reads a text of a column as a JSON object, because only objects are expanded. `None` for any
    /// other text. As in Debezium, a text with white space before its brace is not expanded.
    pub(super) fn expandable(text: &[u8]) -> Option<Document> {
        // A text that does not begin with a brace is not parsed at all.
        if text.first() != Some(&b'{') { None } else { Document::read(text) }
    }

    /// Reads the content of a logical message as a JSON object. `None` for any other content. White
    /// space may precede the object. (Debezium fails if it does, so Debezium has no record for it.)
    pub(super) fn of_message(content: &[u8]) -> Option<Document> {
        let blank = content.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n'));
        Document::expandable(content.get(blank.count()..)?)
    }

    /// Returns the outline of the whole document. `None` if its types cannot be inferred, for
    /// example because a list holds values of different types.
    pub(super) fn outline(&self, rules: Expand) -> Option<Outline> {
        self.field(rules).ok()?
    }

    /// Returns the outline of a field's value. `Ok(None)` is for a value that gets no field in the
    /// schema: a null or an empty list, if `rules` leave it out.
    fn field(&self, rules: Expand) -> Result<Option<Outline>, NoOutline> {
        Ok(Some(match self {
            Document::Null if rules.nulls => Outline::Null,
            Document::Null => return Ok(None),
            Document::Boolean(_) => Outline::Boolean,
            Document::Int(value) if i32::try_from(*value).is_ok() => Outline::Int32,
            Document::Int(_) => Outline::Int64,
            Document::Float(_) => Outline::Float64,
            Document::Text(_) => Outline::Text,
            Document::List(elements) if elements.is_empty() => match rules.empty_lists {
                true => Outline::List(Box::new(Outline::Text)),
                false => return Ok(None),
            },
            Document::List(elements) => {
                let mut all = None;
                for element in elements.iter().filter(|element| **element != Document::Null) {
                    let Some(outline) = element.field(rules)? else { continue };
                    all = Some(match all {
                        None => outline,
                        Some(all) => Outline::merged(all, outline).ok_or(NoOutline)?,
                    });
                }
                let element = all.ok_or(NoOutline)?;
                let has_null = elements.contains(&Document::Null);
                if has_null && matches!(element, Outline::Struct(_, true)) {
                    return Err(NoOutline); // a merged struct cannot be null
                }
                Outline::List(Box::new(element))
            }
            Document::Struct(fields) => {
                let mut named = Vec::new();
                for (name, value) in fields {
                    if let Some(outline) = value.field(rules)? {
                        named.push((name.clone(), outline));
                    }
                }
                Outline::Struct(named, false)
            }
        }))
    }

    /// Returns the value at the end of a path of fields. The value is null if a field of the path
    /// is missing.
    pub(super) fn at(&self, path: &[String]) -> &Document {
        path.iter().fold(self, |value, name| value.named(name))
    }

    pub(super) fn named(&self, name: &str) -> &Document {
        let Document::Struct(fields) = self else { return &Document::Null };
        fields.iter().find(|(known, _)| known == name).map_or(&Document::Null, |(_, value)| value)
    }

    /// Writes the value in the form `F` into a field of this schema. An error if the value does not
    /// fit the schema.
    pub(super) fn write<F: Form>(
        &self,
        schema: &Schema,
        out: &mut Vec<u8>,
    ) -> Result<(), ValueError> {
        if *self == Document::Null {
            if !schema.optional {
                return Err(UNFIT);
            }
            F::null(schema.union(), out);
            return Ok(());
        }
        F::some(schema.union(), out);
        match (self, &schema.base) {
            (Document::Boolean(value), Base::Boolean) => F::boolean(*value, out),
            (Document::Int(value), Base::Int32 | Base::Int64) => F::int(*value, out),
            (Document::Float(value), Base::Float64) => F::float8(*value, out),
            (Document::Text(value), Base::Text) => F::text(value, out),
            (Document::List(elements), Base::Array(element)) => {
                F::list_open(elements.len(), out);
                for (place, value) in elements.iter().enumerate() {
                    F::element(place == 0, out);
                    value.write::<F>(element, out)?;
                }
                F::list_close(elements.len(), out);
            }
            (Document::Struct(_), Base::Struct(fields)) => {
                F::struct_open(out);
                for (place, field) in fields.iter().enumerate() {
                    F::field(place == 0, &field.name, out);
                    self.named(&field.name).write::<F>(&field.schema, out)?;
                }
                F::struct_close(out);
            }
            _ => return Err(UNFIT),
        }
        Ok(())
    }
}

/// The types of a document cannot be inferred, so that it has no outline.
struct NoOutline;

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Document;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Document, E> {
        Ok(Document::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Document, E> {
        Ok(Document::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Document, E> {
        Ok(Document::Int(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Document, E> {
        let value = i64::try_from(value).map_err(|_| E::custom("beyond 64 bits"))?;
        Ok(Document::Int(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Document, E> {
        if value.abs() >= WHOLE_FLOATS_FROM {
            return Err(E::custom("an integer that may be rounded"));
        }
        Ok(Document::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Document, E> {
        Ok(Document::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Document, E> {
        Ok(Document::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Document, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element()? {
            elements.push(element);
        }
        Ok(Document::List(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut fields: Vec<(String, Document)> = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Document>()? {
            // The last of several fields with one name counts, as in Debezium's JSON library and in
            // `jsonb`.
            match fields.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => fields.push((name, value)),
            }
        }
        Ok(Document::Struct(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::Json;
    use super::*;
    use proptest::prelude::*;

    const RULES: Expand = Expand { nulls: false, empty_lists: false };

    fn outline(text: &str, rules: Expand) -> String {
        let mut out = String::new();
        if let Some(outline) =
            Document::expandable(text.as_bytes()).and_then(|document| document.outline(rules))
        {
            outline.write(&mut out);
        }
        out
    }

    #[test]
    fn a_document_has_the_types_that_debezium_infers() {
        let text = r#"{"ok":true,"s":"x","i":2147483647,"l":2147483648,"d":1.5,"o":{"a":[1]}}"#;
        assert_eq!(outline(text, RULES), "{2:okb1:st1:ii1:ll1:dd1:o{1:a[i}}");
        let empty = r#"{"n":null,"e":[],"a":[null,1]}"#;
        assert_eq!(outline(empty, RULES), "{1:a[i}");
        let all = Expand { nulls: true, empty_lists: true };
        assert_eq!(outline(empty, all), "{1:nn1:e[t1:a[i}");
        assert_eq!(outline(r#"{"a":[{"x":1},{"y":"z"}]}"#, RULES), "{1:a[(1:xi1:yt}}");
        assert_eq!(outline(r#"{"a":1,"b":2,"a":"x"}"#, RULES), "{1:at1:bi}");
    }

    #[test]
    fn a_document_that_would_change_keeps_its_text() {
        for text in [
            "",
            "x",
            " {\"a\":1}",
            "[1]",
            "{",
            r#"{"a":[1,"x"]}"#,
            r#"{"a":[null]}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":123456789012345678901234567890}"#,
            r#"{"a":[{"x":1},{"y":1},null]}"#,
            r#"{"a":[1,2147483648]}"#,
        ] {
            assert_eq!(outline(text, RULES), "", "{text}");
        }
    }

    #[test]
    fn white_space_may_stand_before_the_content_of_a_message() {
        let field = Document::Struct(vec![("a".to_owned(), Document::Int(1))]);
        for text in ["{\"a\":1}", " \t\r\n{\"a\": 1}\n"] {
            assert_eq!(Document::of_message(text.as_bytes()), Some(field.clone()), "{text:?}");
        }
        for text in ["", " ", " [1]", "\u{a0}{}", "\u{b}{}"] {
            assert_eq!(Document::of_message(text.as_bytes()), None, "{text:?}");
        }
    }

    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            (-1e9..1e9).prop_map(serde_json::Value::from),
            "\\PC{0,6}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Goal: an expanded document is the same document. Method: the JSON that is written of a
        /// document reads back as the document, apart from fields with null, which merged structs
        /// have in addition.
        #[test]
        fn an_expanded_document_is_the_document(value in documents()) {
            let text = value.to_string();
            let Some(document) = Document::expandable(text.as_bytes()) else { return Ok(()) };
            let Some(outline) = document.outline(RULES) else { return Ok(()) };
            let mut out = Vec::new();
            document.write::<Json>(&outline.schema(Some("payload")), &mut out).unwrap();
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(without_nulls(read), value);
        }
    }

    fn without_nulls(value: serde_json::Value) -> serde_json::Value {
        match value {
            serde_json::Value::Object(fields) => fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, without_nulls(value)))
                .collect(),
            serde_json::Value::Array(all) => all.into_iter().map(without_nulls).collect(),
            other => other,
        }
    }
}

//! Makes names fit for topics, schemas and fields.
//!
//! Debezium has three ways. It keeps a name, or writes `_` for each character that Avro does not
//! allow, or writes the UTF-16 unit of the character in hexadecimal (`_u002d`). In the third way
//! `_` itself is written as a unit too. A character beyond 16 bits counts as its two units. One
//! rule here goes further than Debezium's: every part of a namespace that begins with a digit is
//! adjusted, and not only the first part. Avro demands this, and a strict registry refuses the
//! schema otherwise.

/// How names are made fit for Avro.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Adjust {
    /// Every name stays as Postgres has it, fit for Avro or not.
    #[default]
    None,
    /// A character that Avro does not allow becomes `_`. A leading digit gets `_` before it.
    Avro,
    /// A character that Avro does not allow, and `_` too, becomes `_u` and its UTF-16 unit in
    /// hexadecimal.
    AvroUnicode,
}

impl Adjust {
    /// The full name of a schema. Each part between dots is adjusted.
    pub(crate) fn schema_name(self, name: &str) -> String {
        name.split('.').map(|part| self.field_name(part)).collect::<Vec<_>>().join(".")
    }

    pub(crate) fn field_name(self, name: &str) -> String {
        let mut adjusted = String::with_capacity(name.len());
        for (index, unit) in name.encode_utf16().enumerate() {
            let letter = u8::try_from(unit).map(char::from).ok();
            let fits = |c: &char| c.is_ascii_alphabetic() || (index > 0 && c.is_ascii_digit());
            match (self, letter) {
                (Adjust::None, _) => return name.to_owned(),
                (Adjust::Avro, Some(c)) if fits(&c) || c == '_' => adjusted.push(c),
                (Adjust::AvroUnicode, Some(c)) if fits(&c) => adjusted.push(c),
                (Adjust::Avro, Some(c)) if c.is_ascii_digit() => adjusted.extend(['_', c]),
                (Adjust::Avro, _) => adjusted.push('_'),
                (Adjust::AvroUnicode, _) => {
                    let padding = if unit <= 0xFF { "00" } else { "" };
                    adjusted.push_str(&format!("_u{padding}{unit:x}"));
                }
            }
        }
        adjusted
    }
}

/// The name with `_` for each character that Kafka does not allow in topics, as Debezium writes it.
pub(crate) fn topic(name: &str) -> String {
    let keep = |unit: char| unit.is_ascii_alphanumeric() || matches!(unit, '.' | '_' | '-');
    name.chars()
        .flat_map(|c| std::iter::repeat_n(if keep(c) { c } else { '_' }, c.len_utf16()))
        .collect()
}

/// Whether Avro allows a name, or a part of a namespace.
#[must_use]
pub fn is_avro(name: &str) -> bool {
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    starts && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names of the reference cases names-avro and names-avro-unicode.
    #[test]
    fn names_become_debeziums() {
        for (name, avro, unicode) in [
            ("order-id", "order_id", "order_u002did"),
            ("2nd", "_2nd", "_u0032nd"),
            ("a.b", "a_b", "a_u002eb"),
            ("ž", "_", "_u17e"),
            ("ok_col", "ok_col", "ok_u005fcol"),
        ] {
            if !name.contains('.') {
                assert_eq!(Adjust::Avro.field_name(name), avro);
            }
            assert_eq!(Adjust::AvroUnicode.field_name(name), unicode);
            assert_eq!(Adjust::None.field_name(name), name);
        }
        assert_eq!(Adjust::Avro.field_name("a.b"), "a_b");
        assert_eq!(
            Adjust::Avro.schema_name("my-shop.my-schema.order_items"),
            "my_shop.my_schema.order_items"
        );
        assert_eq!(
            Adjust::AvroUnicode.schema_name("my-shop.public.table_1"),
            "my_u002dshop.public.table_u005f1"
        );
        assert_eq!(Adjust::Avro.schema_name("x.public.1table"), "x.public._1table");
    }

    proptest! {
        #[test]
        fn an_adjusted_name_is_avros(name in "\\PC{1,20}") {
            prop_assert!(is_avro(&Adjust::Avro.field_name(&name)));
            prop_assert!(is_avro(&Adjust::AvroUnicode.field_name(&name)));
            prop_assert!(!topic(&name).contains(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c)));
        }

        #[test]
        fn in_hexadecimal_no_two_names_become_one(a in "[a-z_0-9.]{1,8}", b in "[a-z_0-9.]{1,8}") {
            let adjusted = |name: &str| Adjust::AvroUnicode.field_name(name);
            prop_assert_eq!(adjusted(&a) == adjusted(&b), a == b);
        }
    }
}

//! The kinds of columns, which say how values are read, and the kind that each Postgres type has.
//!
//! The kinds are divided as Debezium 3.6.3 divides types. A type that Debezium leaves out of its
//! events by default has the kind [`ColumnKind::Unknown`]. `encode` decides the form in which the
//! values of a kind are written. Nothing here reads a value.

use super::facts::{TypeClass, TypeFacts};
use crate::lsn::Oid;
use std::collections::BTreeMap;

/// The most domains, each based on the next, that are followed to a base type. Postgres has no
/// limit, but a cycle in the given facts must end.
const DOMAIN_DEPTH_MAX: usize = 32;

/// The length that Debezium writes for a bit string without a declared length.
const BITS_UNLIMITED: u32 = 2_147_483_647;

/// The kind of a column: its base type, with the parameters that decide the form of its values on
/// the wire and in a schema.
///
/// A domain has the kind of its base type.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// `boolean`: `t` or `f` on the wire.
    Bool,
    /// `smallint`: 16 bits, signed.
    Int2,
    /// `integer`: 32 bits, signed.
    Int4,
    /// `bigint`: 64 bits, signed.
    Int8,
    /// `oid`: 32 bits, unsigned.
    Oid,
    /// `real`: 32 bits of IEEE 754, infinities and NaN included.
    Float4,
    /// `double precision`: 64 bits of IEEE 754, infinities and NaN included.
    Float8,
    /// `numeric(p,s)`. A negative scale is added to the precision. So `numeric(3,-2)` becomes
    /// (5,0), which holds each of its values.
    Numeric {
        /// Digits before and after the point together.
        precision: u16,
        /// Digits after the point. This number can exceed the precision.
        scale: u16,
    },
    /// `numeric` without precision: each value has a scale of its own.
    NumericAny,
    /// `money`, two digits after the point.
    Money,
    /// `text`, `varchar`, `char(n)`: a plain string.
    Text,
    /// A type whose values are plain strings, and whose default expression Debezium does not read:
    /// `name`, `"char"`, `citext`, network addresses, ranges.
    Verbatim,
    /// `isbn`, the one type of its family that Debezium knows.
    Isbn,
    /// `json`, `jsonb`: text as Postgres prints it.
    Json,
    /// `xml`: a document or a fragment of one, as text.
    Xml,
    /// `uuid`: 36 characters, lower case.
    Uuid,
    /// `ltree`: labels with dots between them.
    Ltree,
    /// `tsvector`: quoted lexemes with their positions.
    Tsvector,
    /// `hstore`: pairs of quoted texts, of which a value can be NULL.
    Hstore,
    /// A type that CREATE TYPE ... AS ENUM has made. Its values are labels.
    Enum {
        /// The labels of the type in sort order, joined by commas.
        allowed: Box<str>,
    },
    /// `bytea`: `\x` and hexadecimal digits, because sessions pin `bytea_output`.
    Bytea,
    /// `bit(1)`, `varbit(1)`: a boolean.
    Bit,
    /// Every other `bit(n)` and `varbit`: bytes, little-endian, without zero bytes at the end.
    Bits {
        /// The declared length in bits; 2147483647 if no length is declared.
        length: u32,
    },
    /// `date`: a day, `infinity` or `-infinity`.
    Date,
    /// `time` without a zone: 00:00:00 to 24:00:00.
    Time {
        /// Digits of a second's fraction, 0 to 6.
        precision: u8,
    },
    /// `timetz`, shifted to UTC.
    TimeTz,
    /// `timestamp` without a zone.
    Timestamp {
        /// Digits of a second's fraction, 0 to 6.
        precision: u8,
    },
    /// `timestamptz`, in UTC because sessions pin the time zone.
    TimestampTz {
        /// Digits of a second's fraction, 0 to 6.
        precision: u8,
    },
    /// `interval`: months, days and microseconds, which are not converted into each other.
    Interval,
    /// `point`: two floats, as in `(1.5,-2)`.
    Point,
    /// PostGIS's `geometry`: EWKB in hexadecimal.
    Geometry,
    /// PostGIS's `geography`: EWKB in hexadecimal.
    Geography,
    /// pgvector's `vector`: 32-bit floats, as in `[1,2.5]`.
    Vector,
    /// pgvector's `halfvec`: 16-bit floats, as in `[1,2.5]`.
    HalfVector,
    /// pgvector's `sparsevec`: the entries that are not zero, as in `{1:1.5}/5`.
    SparseVector,
    /// `int2vector`: numbers with spaces between them.
    Int2Vector,
    /// `oidvector`: unsigned numbers with spaces between them.
    OidVector,
    /// An array. Its elements are not of the kinds `Array`, `Unknown`, `Int2Vector` and
    /// `OidVector`.
    Array(Box<ColumnKind>),
    /// Any type to which no other kind applies.
    Unknown {
        /// `pg_type.typname`, for messages about the type.
        type_name: Box<str>,
        /// The form in which Debezium writes values of the type as bytes.
        as_bytes: AsBytes,
    },
}

/// What Debezium writes for a type that it does not know, if `include.unknown.datatypes` is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsBytes {
    /// The bytes of the text that Postgres prints.
    Text,
    /// A geometric type: the text as the JDBC driver prints it.
    Geometric,
    /// An array: a list of its elements' texts.
    List,
    /// An array of a geometric type.
    GeometricList,
    /// An array of boxes, which has semicolons between them.
    BoxList,
    /// `pg_lsn`: the text without leading zeros, as servers before 19 print it.
    Position,
    /// An array of `pg_lsn`: a list of its elements, printed in the same way.
    PositionList,
    /// Debezium leaves the type out in every mode, as it does for a few array types.
    Nothing,
}

/// The kind of a column of type `type_oid` with the modifier `typmod` (-1 for none).
///
/// `types` has the facts of every type that is not built in, with the types to which those refer. A
/// type that is missing in `types` becomes `Unknown` under its oid. The text of its values is kept
/// all the same.
#[must_use]
pub fn resolve(type_oid: Oid, typmod: i32, types: &BTreeMap<Oid, TypeFacts>) -> ColumnKind {
    let (mut oid, mut typmod) = (type_oid, typmod);
    for _ in 0..DOMAIN_DEPTH_MAX {
        if let Some(kind) = built_in(oid.0, typmod) {
            return kind;
        }
        let Some(facts) = types.get(&oid) else { break };
        match &facts.class {
            TypeClass::Domain { base, typmod: own } => {
                oid = *base;
                if *own != -1 {
                    typmod = *own;
                }
            }
            TypeClass::Enum { labels } => {
                return ColumnKind::Enum { allowed: labels.join(",").into() };
            }
            TypeClass::Array { element } => return array_of_named(*element, &facts.name, types),
            TypeClass::Base => return named(&facts.name),
            TypeClass::Composite | TypeClass::Range | TypeClass::Multirange => {
                return unknown(&facts.name, AsBytes::Text);
            }
        }
    }
    match types.get(&oid) {
        Some(facts) => unknown(&facts.name, AsBytes::Text),
        None => unknown(&format!("oid {oid}"), AsBytes::Text),
    }
}

/// Whether a type is a domain. Debezium does not read the default of a column whose type is a
/// domain.
#[must_use]
pub fn is_domain(type_oid: Oid, types: &BTreeMap<Oid, TypeFacts>) -> bool {
    matches!(types.get(&type_oid), Some(TypeFacts { class: TypeClass::Domain { .. }, .. }))
}

fn unknown(type_name: &str, as_bytes: AsBytes) -> ColumnKind {
    ColumnKind::Unknown { type_name: type_name.into(), as_bytes }
}

/// The kind of an extension's type by its name. Types of extensions have no fixed oid, and can be
/// in any namespace.
fn named(type_name: &str) -> ColumnKind {
    match type_name {
        "citext" => ColumnKind::Verbatim,
        "isbn" => ColumnKind::Isbn,
        "ltree" => ColumnKind::Ltree,
        "hstore" => ColumnKind::Hstore,
        "geometry" => ColumnKind::Geometry,
        "geography" => ColumnKind::Geography,
        "vector" => ColumnKind::Vector,
        "halfvec" => ColumnKind::HalfVector,
        "sparsevec" => ColumnKind::SparseVector,
        other => unknown(other, AsBytes::Text),
    }
}

/// The kind of an array whose element has no fixed oid. Arrays of enums and of extension types are
/// known. Arrays of domains and of row types are `Unknown`.
fn array_of_named(element: Oid, array_name: &str, types: &BTreeMap<Oid, TypeFacts>) -> ColumnKind {
    let kind = match types.get(&element).map(|facts| (&facts.class, facts.name.as_str())) {
        Some((TypeClass::Enum { labels }, _)) => {
            ColumnKind::Enum { allowed: labels.join(",").into() }
        }
        Some((TypeClass::Base, name)) => named(name),
        _ => return unknown(array_name, AsBytes::List),
    };
    match kind {
        ColumnKind::Unknown { .. } => unknown(array_name, AsBytes::List),
        kind => ColumnKind::Array(Box::new(kind)),
    }
}

/// The kind of a type with a fixed oid (`pg_type.dat`), arrays included. `None` for any other oid.
fn built_in(oid: u32, typmod: i32) -> Option<ColumnKind> {
    if let Some(element) = element_of(oid) {
        return scalar(element, typmod).map(|kind| ColumnKind::Array(Box::new(kind)));
    }
    scalar(oid, typmod)
}

fn scalar(oid: u32, typmod: i32) -> Option<ColumnKind> {
    Some(match oid {
        16 => ColumnKind::Bool,
        17 => ColumnKind::Bytea,
        20 => ColumnKind::Int8,
        21 => ColumnKind::Int2,
        22 => ColumnKind::Int2Vector,
        23 => ColumnKind::Int4,
        25 | 1042 | 1043 => ColumnKind::Text,
        26 => ColumnKind::Oid,
        30 => ColumnKind::OidVector,
        114 | 3802 => ColumnKind::Json,
        142 => ColumnKind::Xml,
        600 => ColumnKind::Point,
        700 => ColumnKind::Float4,
        701 => ColumnKind::Float8,
        790 => ColumnKind::Money,
        1082 => ColumnKind::Date,
        1083 => ColumnKind::Time { precision: fraction(typmod) },
        1114 => ColumnKind::Timestamp { precision: fraction(typmod) },
        1184 => ColumnKind::TimestampTz { precision: fraction(typmod) },
        1186 => ColumnKind::Interval,
        1266 => ColumnKind::TimeTz,
        1560 | 1562 => bits(typmod),
        1700 => numeric(typmod),
        2950 => ColumnKind::Uuid,
        3614 => ColumnKind::Tsvector,
        // The types "char", name, cidr, macaddr8, macaddr and inet, then the range types by oid.
        18 | 19 | 650 | 774 | 829 | 869 | 3904 | 3906 | 3908 | 3910 | 3912 | 3926 => {
            ColumnKind::Verbatim
        }
        other => return text_only(other).map(|(name, as_bytes)| unknown(name, as_bytes)),
    })
}

/// Name of a built-in type that Debezium does not know, with the form of its bytes. `None` for any
/// other oid. Array types that are missing here are resolved by the facts of the catalog.
fn text_only(oid: u32) -> Option<(&'static str, AsBytes)> {
    let (name, as_bytes) = match oid {
        143 => ("_xml", AsBytes::Nothing),
        791 => ("_money", AsBytes::Nothing),
        1003 => ("_name", AsBytes::Nothing),
        1017 => ("_point", AsBytes::Nothing),
        1187 => ("_interval", AsBytes::Nothing),
        1563 => ("_varbit", AsBytes::Nothing),
        2201 => ("_refcursor", AsBytes::Nothing),
        601 => ("lseg", AsBytes::Geometric),
        602 => ("path", AsBytes::Geometric),
        603 => ("box", AsBytes::Geometric),
        604 => ("polygon", AsBytes::Geometric),
        628 => ("line", AsBytes::Geometric),
        718 => ("circle", AsBytes::Geometric),
        629 => ("_line", AsBytes::GeometricList),
        719 => ("_circle", AsBytes::GeometricList),
        1018 => ("_lseg", AsBytes::GeometricList),
        1019 => ("_path", AsBytes::GeometricList),
        1020 => ("_box", AsBytes::BoxList),
        1027 => ("_polygon", AsBytes::GeometricList),
        24 => ("regproc", AsBytes::Text),
        27 => ("tid", AsBytes::Text),
        28 => ("xid", AsBytes::Text),
        29 => ("cid", AsBytes::Text),
        1790 => ("refcursor", AsBytes::Text),
        2205 => ("regclass", AsBytes::Text),
        2206 => ("regtype", AsBytes::Text),
        2970 => ("txid_snapshot", AsBytes::Text),
        3220 => ("pg_lsn", AsBytes::Position),
        3221 => ("_pg_lsn", AsBytes::PositionList),
        3615 => ("tsquery", AsBytes::Text),
        4072 => ("jsonpath", AsBytes::Text),
        4451 => ("int4multirange", AsBytes::Text),
        4532 => ("nummultirange", AsBytes::Text),
        4533 => ("tsmultirange", AsBytes::Text),
        4534 => ("tstzmultirange", AsBytes::Text),
        4535 => ("datemultirange", AsBytes::Text),
        4536 => ("int8multirange", AsBytes::Text),
        5038 => ("pg_snapshot", AsBytes::Text),
        5069 => ("xid8", AsBytes::Text),
        _ => return None,
    };
    Some((name, as_bytes))
}

/// The oid of the element type of a built-in array type. `None` if `array` is not the oid of such a
/// type, or if the element has no kind but `Unknown`.
fn element_of(array: u32) -> Option<u32> {
    Some(match array {
        199 => 114,
        651 => 650,
        775 => 774,
        1000 => 16,
        1001 => 17,
        1002 => 18,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1028 => 26,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1231 => 1700,
        1270 => 1266,
        1561 => 1560,
        2951 => 2950,
        3643 => 3614,
        3807 => 3802,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        _ => return None,
    })
}

/// Number of digits of a second's fraction in `time(p)` and similar types. The type modifier is
/// this number. It is 6 if there is no modifier.
fn fraction(typmod: i32) -> u8 {
    u8::try_from(typmod).ok().filter(|digits| *digits <= 6).unwrap_or(6)
}

fn bits(typmod: i32) -> ColumnKind {
    match u32::try_from(typmod) {
        Ok(1) => ColumnKind::Bit,
        Ok(length) if length > 1 => ColumnKind::Bits { length },
        _ => ColumnKind::Bits { length: BITS_UNLIMITED },
    }
}

/// The kind of a `numeric`. The modifier minus 4 has the precision in its upper half, and a signed
/// scale of 11 bits in its lower half.
fn numeric(typmod: i32) -> ColumnKind {
    let Some(packed) = typmod.checked_sub(4).filter(|packed| *packed >= 0) else {
        return ColumnKind::NumericAny;
    };
    let Ok(precision) = u16::try_from((packed >> 16) & 0xFFFF) else {
        unreachable!("16 bits of {packed:#x}")
    };
    let scale = ((packed & 0x7FF) ^ 0x400) - 0x400;
    match u16::try_from(scale) {
        Ok(scale) => ColumnKind::Numeric { precision, scale },
        Err(_) => {
            let folded = precision.saturating_add(u16::try_from(-scale).unwrap_or(0));
            ColumnKind::Numeric { precision: folded, scale: 0 }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn types() -> BTreeMap<Oid, TypeFacts> {
        let fact =
            |name: &str, class| TypeFacts { name: name.into(), namespace: "public".into(), class };
        let labels = vec!["low".to_owned(), "high".to_owned()];
        BTreeMap::from([
            (
                Oid(20_001),
                fact("amount", TypeClass::Domain { base: Oid(1700), typmod: (8 << 16) + 3 + 4 }),
            ),
            (
                Oid(20_002),
                fact("small_amount", TypeClass::Domain { base: Oid(20_001), typmod: -1 }),
            ),
            (Oid(20_003), fact("level", TypeClass::Enum { labels })),
            (Oid(20_004), fact("_level", TypeClass::Array { element: Oid(20_003) })),
            (Oid(20_005), fact("words", TypeClass::Domain { base: Oid(1009), typmod: -1 })),
            (Oid(20_006), fact("_amount", TypeClass::Array { element: Oid(20_001) })),
            (Oid(20_007), fact("hstore", TypeClass::Base)),
            (Oid(20_008), fact("_hstore", TypeClass::Array { element: Oid(20_007) })),
            (Oid(20_009), fact("pair", TypeClass::Composite)),
            (Oid(20_010), fact("round", TypeClass::Domain { base: Oid(20_010), typmod: -1 })),
            (
                Oid(20_011),
                fact("level_domain", TypeClass::Domain { base: Oid(20_003), typmod: -1 }),
            ),
        ])
    }

    #[track_caller]
    fn check(oid: u32, typmod: i32, expect: Expect) {
        expect.assert_eq(&format!("{:?}", resolve(Oid(oid), typmod, &types())));
    }

    #[test]
    fn a_domain_has_the_kind_of_its_base_with_the_domains_own_modifier() {
        check(20_001, -1, expect!["Numeric { precision: 8, scale: 3 }"]);
        check(20_002, -1, expect!["Numeric { precision: 8, scale: 3 }"]);
        check(20_005, -1, expect!["Array(Text)"]);
        check(20_011, -1, expect![[r#"Enum { allowed: "low,high" }"#]]);
    }

    #[test]
    fn domains_that_lead_in_a_circle_end() {
        check(20_010, -1, expect![[r#"Unknown { type_name: "round", as_bytes: Text }"#]]);
    }

    #[test]
    fn arrays_pass_their_modifier_to_the_element() {
        check(1231, (5 << 16) + 2 + 4, expect!["Array(Numeric { precision: 5, scale: 2 })"]);
        check(1183, 3, expect!["Array(Time { precision: 3 })"]);
        check(20_004, -1, expect![[r#"Array(Enum { allowed: "low,high" })"#]]);
        check(20_008, -1, expect!["Array(Hstore)"]);
    }

    #[test]
    fn what_debezium_leaves_out_is_unknown() {
        check(1187, -1, expect![[r#"Unknown { type_name: "_interval", as_bytes: Nothing }"#]]);
        check(20_006, -1, expect![[r#"Unknown { type_name: "_amount", as_bytes: List }"#]]);
        check(20_009, -1, expect![[r#"Unknown { type_name: "pair", as_bytes: Text }"#]]);
        check(603, -1, expect![[r#"Unknown { type_name: "box", as_bytes: Geometric }"#]]);
        check(99_999, -1, expect![[r#"Unknown { type_name: "oid 99999", as_bytes: Text }"#]]);
    }

    #[test]
    fn modifiers_give_precision_scale_and_length() {
        check(1700, -1, expect!["NumericAny"]);
        // numeric(3,-2)
        check(1700, (3 << 16) + 0x7FE + 4, expect!["Numeric { precision: 5, scale: 0 }"]);
        check(1700, (2 << 16) + 5 + 4, expect!["Numeric { precision: 2, scale: 5 }"]);
        check(1560, 1, expect!["Bit"]);
        check(1562, 24, expect!["Bits { length: 24 }"]);
        check(1562, -1, expect!["Bits { length: 2147483647 }"]);
        check(1114, 3, expect!["Timestamp { precision: 3 }"]);
        check(1184, -1, expect!["TimestampTz { precision: 6 }"]);
    }
}

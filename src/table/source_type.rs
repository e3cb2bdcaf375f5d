//! A column's type as it was declared: name, length and scale, in the words of the JDBC driver that
//! Debezium uses.
//!
//! `column.propagate.source.type` writes name, length and scale into schemas, and a hash is cut to
//! the length. The lengths are those of the driver (`TypeInfoCache`: the precision, or else the
//! display size). They are not always the server's.

use super::facts::{TypeClass, TypeFacts};
use crate::lsn::Oid;
use std::collections::BTreeMap;

/// The value of [`SourceType::length`] for a type that has no length.
pub const LENGTH_UNKNOWN: i32 = i32::MAX;

/// The most domains, each based on the next, that are followed to a base type.
const DOMAIN_DEPTH_MAX: usize = 32;

/// The type of a column as it was declared, for schema parameters such as
/// `__debezium.source.column.type`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceType {
    /// `pg_type.typname`; for a domain the domain's own name. In events of the first copy it is
    /// `serial` or a similar name if a sequence fills the column.
    pub name: Box<str>,
    /// Number of characters, digits or bits; [`LENGTH_UNKNOWN`] if the type has no length.
    pub length: i32,
    /// Digits after the point; `None` in events of the first copy for a `numeric` without declared
    /// digits.
    pub scale: Option<i32>,
}

impl SourceType {
    /// Name, length and scale of the type `type_oid` with the modifier `typmod` (-1 for none), as
    /// streamed events have them.
    #[must_use]
    pub fn of(type_oid: Oid, typmod: i32, types: &BTreeMap<Oid, TypeFacts>) -> Self {
        let name = types.get(&type_oid).map_or("", |facts| facts.name.as_str());
        let (mut oid, mut typmod) = (type_oid, typmod);
        for _ in 0..DOMAIN_DEPTH_MAX {
            match types.get(&oid).map(|facts| &facts.class) {
                Some(TypeClass::Domain { base, typmod: own }) => {
                    oid = *base;
                    typmod = if *own == -1 { typmod } else { *own };
                }
                Some(TypeClass::Array { element }) => oid = *element,
                _ => break,
            }
        }
        SourceType {
            name: name.into(),
            length: length(oid.0, typmod),
            scale: Some(scale(oid.0, typmod)),
        }
    }

    /// The declared type as schemas of the first copy's events name it.
    ///
    /// Debezium asks the driver about a table's columns before the copy, and reads the stream's
    /// Relation afterwards. If the two differ, another schema is registered when the stream begins.
    /// The driver calls an integer a serial if its default takes from a sequence; an identity
    /// column is no serial. For the driver a `numeric` without digits has no length and no scale.
    #[must_use]
    pub fn copied(
        type_oid: Oid,
        typmod: i32,
        types: &BTreeMap<Oid, TypeFacts>,
        default: Option<&str>,
    ) -> Self {
        let streamed = SourceType::of(type_oid, typmod, types);
        let serial = default.is_some_and(|default| default.contains("nextval("));
        match type_oid.0 {
            20 if serial => SourceType { name: "bigserial".into(), ..streamed },
            21 if serial => SourceType { name: "smallserial".into(), ..streamed },
            23 if serial => SourceType { name: "serial".into(), ..streamed },
            1700 if typmod == -1 => SourceType { length: 0, scale: None, ..streamed },
            _ => streamed,
        }
    }
}

/// Number of characters of a second's fraction and its point, as the JDBC driver counts them.
fn second_size(typmod: i32) -> i32 {
    match typmod {
        -1 => 7,
        0 => 0,
        1 => 3,
        digits => digits.saturating_add(1),
    }
}

fn length(oid: u32, typmod: i32) -> i32 {
    let declared =
        |less: i32| if typmod == -1 { LENGTH_UNKNOWN } else { typmod.saturating_sub(less) };
    match oid {
        16 | 18 => 1,
        20 => 19,
        21 => 5,
        23 | 26 => 10,
        700 => 8,
        701 => 17,
        1042 | 1043 => declared(4),
        1082 => 13,
        1083 => 8 + second_size(typmod),
        1114 => 22 + second_size(typmod),
        1184 => 28 + second_size(typmod),
        1186 => 49,
        1266 => 14 + second_size(typmod),
        1560 | 1562 => declared(0),
        1700 if typmod == -1 => 131_089,
        1700 => typmod.saturating_sub(4) >> 16,
        _ => LENGTH_UNKNOWN,
    }
}

fn scale(oid: u32, typmod: i32) -> i32 {
    match oid {
        700 => 8,
        701 => 17,
        1083 | 1114 | 1184 | 1266 if typmod == -1 => 6,
        1083 | 1114 | 1184 | 1266 => typmod,
        1186 if typmod == -1 => 6,
        1186 => typmod & 0xFFFF,
        1700 if typmod == -1 => 0,
        1700 => typmod.saturating_sub(4) & 0xFFFF,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(oid: u32, typmod: i32, expect: (i32, i32)) {
        assert_eq!((length(oid, typmod), scale(oid, typmod)), expect);
    }

    /// The numbers are those of the reference case propagate-source-type.
    #[test]
    fn lengths_and_scales_are_the_drivers() {
        check(23, -1, (10, 0));
        check(1043, 6, (2, 0));
        check(1700, (3 << 16 | 2) + 4, (3, 2));
        check(1700, -1, (131_089, 0));
        check(25, -1, (LENGTH_UNKNOWN, 0));
        check(1114, 3, (26, 3));
        check(1184, -1, (35, 6));
        check(1560, 5, (5, 0));
        check(1186, -1, (49, 6));
        check(20, -1, (19, 0));
        // A type of an extension has no length, not even a vector with a declared number of
        // dimensions. Debezium up to 3.6 gives it none either.
        check(90_000, 3, (LENGTH_UNKNOWN, 0));
    }

    #[test]
    fn a_domain_has_its_own_name_and_its_base_types_length() {
        let facts = |name: &str, class| TypeFacts {
            name: name.to_owned(),
            namespace: "public".to_owned(),
            class,
        };
        let types = BTreeMap::from([
            (Oid(1043), facts("varchar", TypeClass::Base)),
            (Oid(9000), facts("code", TypeClass::Domain { base: Oid(1043), typmod: 16 })),
            (Oid(9001), facts("_int4", TypeClass::Array { element: Oid(23) })),
        ]);
        let code = SourceType::of(Oid(9000), -1, &types);
        assert_eq!(code, SourceType { name: "code".into(), length: 12, scale: Some(0) });
        assert_eq!(SourceType::of(Oid(9001), -1, &types).length, 10);
    }

    #[test]
    fn a_copy_has_the_drivers_serials_and_bare_numerics() {
        let facts = |name: &str| TypeFacts {
            name: name.to_owned(),
            namespace: "pg_catalog".to_owned(),
            class: TypeClass::Base,
        };
        let types = BTreeMap::from([
            (Oid(20), facts("int8")),
            (Oid(23), facts("int4")),
            (Oid(1700), facts("numeric")),
        ]);
        let copied = |oid, typmod, default| SourceType::copied(Oid(oid), typmod, &types, default);
        let next = Some("nextval('s'::regclass)");
        assert_eq!(
            copied(23, -1, next),
            SourceType { name: "serial".into(), length: 10, scale: Some(0) }
        );
        assert_eq!(copied(20, -1, next).name, "bigserial".into());
        assert_eq!(
            copied(1700, -1, None),
            SourceType { name: "numeric".into(), length: 0, scale: None }
        );
        for (oid, typmod, default) in
            [(23, -1, None), (23, -1, Some("7")), (1700, (6 << 16 | 1) + 4, None)]
        {
            assert_eq!(copied(oid, typmod, default), SourceType::of(Oid(oid), typmod, &types));
        }
    }
}

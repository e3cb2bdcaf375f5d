//! Notes about values that an event holds less exactly than the row.
//!
//! The schemas are Debezium's and cannot hold every value of Postgres. If a value becomes null
//! because the schema cannot hold it, or loses a part, the encoder notes the column and the loss.
//! `plans` counts the notes by table.

/// A column of the last row whose value lost something in the event, and the kind of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// Index into the table's columns.
    pub column: usize,
    /// The kind of loss in the event.
    pub loss: Loss,
}

/// The ways in which a field of an event can say less than the column in Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// A `numeric` NaN or infinity. A decimal has no such value. An optional field (or list
    /// element) is null. A required one refuses the change.
    NotANumber,
    /// A `timestamp` beyond 64 bits of the field's unit. Microseconds end in the year 294247, and
    /// nanoseconds reach from 1677 to 2262. An optional field is null. A required field refuses the
    /// change.
    BeyondUnit,
    /// Microseconds in a field of milliseconds (Connect's own types). The microseconds are cut off.
    BelowMillis,
    /// A `numeric` beyond the range of a floating point field. The field holds an infinity.
    BeyondDouble,
    /// Digits of a `money` beyond those of its field. The value is rounded, half away from zero.
    MoneyRounded,
    /// A `sparsevec` with more than 32767 dimensions, for which the field has 16 bits. An optional
    /// field is null. A required field refuses the change.
    BeyondInt16,
    /// An empty `varbit(1)`, whose field is a boolean. An optional field is null. A required field
    /// refuses the change.
    EmptyBits,
    /// A NULL in an array whose elements are required (of an enum, for example). The whole field is
    /// null if it is optional. A required field refuses the change.
    NullElement,
    /// An array of more than one dimension or with bounds of its own. The elements of the array are
    /// one list in row-major order.
    ArrayShape,
    /// An `interval` beyond 64 bits of microseconds. The field holds the largest or the smallest
    /// number of 64 bits.
    IntervalCut,
    /// A time of 24:00:00 in a field of text. The field holds 00:00:00 of the next day, which is
    /// shifted to UTC for a `timetz`.
    EndOfDay,
    /// A TOAST value that the server did not send because it did not change, of a type that can
    /// hold no placeholder. The field is null, or empty if it is required.
    Unavailable,
}

impl Loss {
    /// Every kind of loss, in the order of the enum.
    pub const ALL: [Loss; 12] = [
        Loss::NotANumber,
        Loss::BeyondUnit,
        Loss::BelowMillis,
        Loss::BeyondDouble,
        Loss::MoneyRounded,
        Loss::BeyondInt16,
        Loss::EmptyBits,
        Loss::NullElement,
        Loss::ArrayShape,
        Loss::IntervalCut,
        Loss::EndOfDay,
        Loss::Unavailable,
    ];

    /// Returns the name of this kind of loss, in lower case with underscores.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Loss::NotANumber => "not_a_number",
            Loss::BeyondUnit => "beyond_unit",
            Loss::BelowMillis => "below_millis",
            Loss::BeyondDouble => "beyond_double",
            Loss::MoneyRounded => "money_rounded",
            Loss::BeyondInt16 => "beyond_int16",
            Loss::EmptyBits => "empty_bits",
            Loss::NullElement => "null_element",
            Loss::ArrayShape => "array_shape",
            Loss::IntervalCut => "interval_cut",
            Loss::EndOfDay => "end_of_day",
            Loss::Unavailable => "unavailable",
        }
    }

    /// Returns the part after WHERE in a query that finds the rows of a table with this loss: a
    /// condition, and an order if the condition also accepts rows without the loss. `column` is the
    /// column's quoted name. `None` if the value alone does not show the loss.
    #[must_use]
    pub fn condition(self, column: &str) -> Option<String> {
        Some(match self {
            Loss::NotANumber => format!("{column} IN ('NaN', 'Infinity', '-Infinity')"),
            // The unit is not known here, so the values that are farthest from 1970 come first.
            Loss::BeyondUnit => format!(
                "isfinite({column}) AND {column} NOT BETWEEN '1677-09-22' AND '2262-04-11' \
                 ORDER BY abs(extract(epoch FROM {column})) DESC"
            ),
            Loss::EmptyBits => format!("length({column}) = 0"),
            Loss::NullElement => {
                format!("EXISTS (SELECT 1 FROM unnest({column}) AS e(v) WHERE v IS NULL)")
            }
            Loss::BelowMillis
            | Loss::BeyondDouble
            | Loss::MoneyRounded
            | Loss::BeyondInt16
            | Loss::ArrayShape
            | Loss::IntervalCut
            | Loss::EndOfDay
            | Loss::Unavailable => return None,
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Loss::NotANumber => "NaN or infinity in a decimal",
            Loss::BeyondUnit => "a timestamp beyond 64 bits of the field's unit",
            Loss::BelowMillis => "microseconds in a field of milliseconds",
            Loss::BeyondDouble => "a numeric beyond floating point",
            Loss::MoneyRounded => "digits of money beyond those of its field",
            Loss::BeyondInt16 => "more than 32767 dimensions",
            Loss::EmptyBits => "an empty bit string in a boolean",
            Loss::NullElement => "a null in a list of required elements",
            Loss::ArrayShape => "dimensions or bounds of an array",
            Loss::IntervalCut => "an interval beyond 64 bits of microseconds",
            Loss::EndOfDay => "24:00:00 as the end of a day",
            Loss::Unavailable => "an unchanged value without placeholder",
        })
    }
}

//! Applies the operator's rules to one table. The rules decide which columns rows have, their names
//! and masks, and the columns of the key.
//!
//! The rules are applied once for each version of a table. A configuration that would publish a
//! value although a rule hides it is refused here, before a row is read. The error names the place
//! and a way to correct it.

use super::Config;
use super::mask::{Holds, Mask, holds};
use super::plan::PlanError;
use super::rules::{Allowed, KeyRule, MaskRule, Method, Rules};
use super::schema::{self, Field};
use super::wire::Wire;
use crate::table::names::{NameList, NamePattern};
use crate::table::{Column, ColumnKind, ReplicaIdentity, Table};

/// A table to which the operator's rules are applied.
#[derive(Clone, Debug)]
pub(super) struct Filtered {
    /// The table, whose columns have the names of the fields in events, and whose key is the one
    /// that the rules give.
    pub table: Table,
    /// What the rules say about each column, in the order of the table's columns.
    pub fields: Vec<FieldRule>,
}

/// A column to which the operator's rules are applied.
#[derive(Clone, Debug)]
pub(super) struct FieldRule {
    /// The column's name in Postgres.
    pub name: Box<str>,
    /// The form of the column's values.
    pub wire: Wire,
    /// Whether the rows in events have the column. The key can have the column even if rows do not.
    pub in_row: bool,
    pub mask: Option<Mask>,
    /// Parameters that the column's field has in the schema of rows, such as `masked`.
    pub parameters: Vec<(&'static str, String)>,
}

impl Filtered {
    /// Applies the rules of `config` to a table.
    ///
    /// # Errors
    /// The rules cannot be applied to this table. See [`PlanError`].
    pub(super) fn of(config: &Config, table: &Table) -> Result<Self, PlanError> {
        let (rules, mut table) = (&*config.rules, table.clone());
        if let Some(key) = key_of(rules, &table)? {
            table.key = key;
        }
        check_identity(rules, &table)?;
        let fields: Vec<FieldRule> = table
            .columns
            .iter()
            .map(|column| field(config, &table, column))
            .collect::<Result<_, _>>()?;
        for index in table.key.clone() {
            let (Some(rule), Some(column)) = (fields.get(index), table.columns.get_mut(index))
            else {
                continue;
            };
            let at = || (table.name.to_string(), rule.name.to_string());
            if rule.mask.is_some() {
                let (table, column) = at();
                return Err(PlanError::MaskedKey { table, column });
            }
            if Wire::of(&column.kind, &config.modes).is_none() {
                return Err(key_left_out(config, &table.name.to_string(), rule, &column.kind));
            }
            if !rule.in_row {
                if rules.excluded_keys == Allowed::No {
                    let (table, column) = at();
                    return Err(PlanError::ExcludedKey { table, column });
                }
                // For a column that rows do not have, Debezium reads neither NOT NULL nor the
                // default.
                (column.not_null, column.default) = (false, None);
            }
        }
        for column in &mut table.columns {
            column.name = rules.field_names.field_name(&column.name).into();
        }
        let shape = Filtered { table, fields };
        shape.check_clash()?;
        Ok(shape)
    }

    /// Returns the fields of a row in events, for the schema of the table's values.
    pub(super) fn row_fields(&self) -> Vec<Field> {
        let rows = self.table.columns.iter().zip(&self.fields).filter(|(_, rule)| rule.in_row);
        rows.map(|(column, rule)| {
            let mut field = schema::of_column(column, &rule.wire);
            field.schema.parameters.extend(rule.parameters.iter().cloned());
            field
        })
        .collect()
    }

    /// Returns the fields of the key's schema: one for each key column, even if rows do not have it.
    pub(super) fn key_fields(&self) -> Vec<Field> {
        let column = |i: &usize| {
            Some(schema::of_column(self.table.columns.get(*i)?, &self.fields.get(*i)?.wire))
        };
        self.table.key.iter().filter_map(column).collect()
    }

    fn check_clash(&self) -> Result<(), PlanError> {
        let columns =
            || self.table.columns.iter().zip(&self.fields).filter(|(_, rule)| rule.in_row);
        for (index, (column, rule)) in columns().enumerate() {
            if let Some((_, other)) =
                columns().take(index).find(|(other, _)| other.name == column.name)
            {
                let (table, field) = (self.table.name.to_string(), column.name.to_string());
                return Err(PlanError::FieldClash {
                    table,
                    field,
                    columns: [other.name.to_string(), rule.name.to_string()],
                });
            }
        }
        Ok(())
    }
}

/// Makes the error for a column of the key whose type `unknown_types` leaves out of events. Without
/// this column, many rows would have one key. (Debezium leaves the column out, even if the key is
/// empty then.)
fn key_left_out(config: &Config, table: &str, rule: &FieldRule, kind: &ColumnKind) -> PlanError {
    let type_name = match kind {
        ColumnKind::Unknown { type_name, .. } => type_name.to_string(),
        other => format!("{other:?}"),
    };
    let mode = config.modes.unknown_types.as_str();
    PlanError::KeyLeftOut {
        table: table.to_owned(),
        column: rule.name.to_string(),
        type_name,
        mode,
    }
}

fn field(config: &Config, table: &Table, column: &Column) -> Result<FieldRule, PlanError> {
    let (rules, wire) = (&*config.rules, Wire::of(&column.kind, &config.modes));
    let name = [&*table.name.namespace, &*table.name.name, &*column.name];
    let listed = rules.include.is_empty() || rules.include.lists(&name);
    let in_row = wire.is_some() && listed && !rules.exclude.guards(&name);
    let wire = wire.unwrap_or(Wire::Text);
    let mut parameters = Vec::new();
    let mask = match mask_rule(rules, table, column, name)?.filter(|_| in_row) {
        Some(rule) => mask(rule, table, (column, &wire), &mut parameters)?,
        None => None,
    };
    let of_type = [name[0], name[1], &*column.source_type.name];
    if parameters.is_empty()
        && (rules.source_types.lists(&name) || rules.source_types_of.lists(&of_type))
    {
        let source = &column.source_type;
        parameters.push(("__debezium.source.column.type", source.name.to_uppercase()));
        parameters.push(("__debezium.source.column.length", source.length.to_string()));
        parameters.extend(
            source.scale.map(|scale| ("__debezium.source.column.scale", scale.to_string())),
        );
        parameters.push(("__debezium.source.column.name", column.name.to_string()));
    }
    Ok(FieldRule { name: column.name.clone(), wire, in_row, mask, parameters })
}

/// Finds the rule that masks a column. `None` if no rule does. Two such rules are an error.
fn mask_rule<'r>(
    rules: &'r Rules,
    table: &Table,
    column: &Column,
    name: [&str; 3],
) -> Result<Option<&'r MaskRule>, PlanError> {
    let mut matching = rules.masks.iter().filter(|rule| rule.columns.guards(&name));
    match (matching.next(), matching.next()) {
        (Some(first), Some(second)) => Err(PlanError::TwoMasks {
            table: table.name.to_string(),
            column: column.name.to_string(),
            masks: [first.name.clone(), second.name.clone()],
        }),
        (one, _) => Ok(one),
    }
}

fn mask(
    rule: &MaskRule,
    table: &Table,
    (column, wire): (&Column, &Wire),
    parameters: &mut Vec<(&'static str, String)>,
) -> Result<Option<Mask>, PlanError> {
    let holds = holds(&column.kind, wire);
    match rule.method {
        Method::Truncate(units) => {
            if i64::from(column.source_type.length) <= i64::try_from(units).unwrap_or(i64::MAX) {
                return Ok(None); // the column's type allows no longer value
            }
            parameters.push(("truncateLength", units.to_string()));
        }
        Method::Stars(_) | Method::Hash(_) => parameters.push(("masked", "true".to_owned())),
    }
    let has_form = match (&rule.method, holds) {
        (_, Holds::Characters) | (Method::Truncate(_), Holds::Text | Holds::Bytes) => true,
        (_, Holds::Text) => rule.other_types_pass == Allowed::No,
        (_, Holds::Bytes | Holds::Other) => false,
    };
    if has_form {
        return Ok(Some(Mask::new(&rule.method, holds, &column.source_type)));
    }
    match rule.other_types_pass {
        Allowed::Yes => Ok(None),
        Allowed::No => Err(PlanError::NoMaskedForm {
            table: table.name.to_string(),
            column: column.name.to_string(),
            mask: rule.name.clone(),
        }),
    }
}

/// Finds the columns of the key that the rules give the table, as indexes into its columns. `None`
/// if the table keeps its own key.
fn key_of(rules: &Rules, table: &Table) -> Result<Option<Vec<usize>>, PlanError> {
    let name = [&*table.name.namespace, &*table.name.name];
    let mut matching = rules.keys.iter().filter(|rule| rule.tables.tells(&name).unwrap_or(true));
    let rule = match (matching.next(), matching.next()) {
        (None, _) => return Ok(None),
        (Some(rule), None) => rule,
        (Some(first), Some(second)) => {
            return Err(PlanError::TwoKeys {
                table: table.name.to_string(),
                keys: [first, second].map(|rule| rule.tables.text().to_owned()),
            });
        }
    };
    let mut key = Vec::new();
    for pattern in &rule.columns {
        let found = columns_of(table, pattern);
        if found.is_empty() && pattern.exact().is_some() {
            return Err(no_such_column(rule, table, pattern));
        }
        key.extend(found);
    }
    let mut seen = Vec::new();
    key.retain(|index| {
        !seen.contains(index) && {
            seen.push(*index);
            true
        }
    });
    Ok((!key.is_empty()).then_some(key))
}

fn columns_of(table: &Table, pattern: &NamePattern) -> Vec<usize> {
    let named = |i: &usize| {
        table.columns.get(*i).is_some_and(|c| pattern.tells(&[&c.name]).unwrap_or(false))
    };
    (0..table.columns.len()).filter(named).collect()
}

fn no_such_column(rule: &KeyRule, table: &Table, pattern: &NamePattern) -> PlanError {
    PlanError::NoKeyColumn {
        table: table.name.to_string(),
        key: rule.tables.text().to_owned(),
        column: pattern.text().to_owned(),
    }
}

/// Checks that old rows hold the columns of the key. Under identity DEFAULT and INDEX, old rows
/// hold some columns only. (Under NOTHING, and under DEFAULT without primary key, the server itself
/// refuses updates and deletes.)
fn check_identity(rules: &Rules, table: &Table) -> Result<(), PlanError> {
    let outside =
        table.key.iter().filter_map(|i| table.columns.get(*i)).find(|column| !column.in_identity);
    let Some(column) = outside else { return Ok(()) };
    let own = !is_keyed_by_rule(rules, table);
    let refused = match table.identity {
        ReplicaIdentity::Index => true,
        ReplicaIdentity::Default => !own && table.columns.iter().any(|column| column.in_identity),
        ReplicaIdentity::Full | ReplicaIdentity::Nothing => false,
    };
    if refused && (own || rules.keys_outside_identity == Allowed::No) {
        return Err(PlanError::KeyOutsideIdentity {
            table: table.name.to_string(),
            column: column.name.to_string(),
        });
    }
    Ok(())
}

fn is_keyed_by_rule(rules: &Rules, table: &Table) -> bool {
    let name = [&*table.name.namespace, &*table.name.name];
    rules.keys.iter().any(|rule| rule.tables.tells(&name).unwrap_or(true))
}

/// Whether a logical message with this prefix is published.
pub(super) fn takes_message(include: &NameList, exclude: &NameList, prefix: &str) -> bool {
    (include.is_empty() || include.lists(&[prefix])) && !exclude.guards(&[prefix])
}

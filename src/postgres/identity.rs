//! Reads replica identities, which decide what old rows carry, and changes them if the operator has
//! asked for that.
//!
//! No other place changes a table. `agent` decides which tables are changed.

use crate::lsn::Oid;
use crate::postgres::error::PgError;
use crate::postgres::publication::quoted;
use crate::postgres::sql::{Sql, SqlCall};
use crate::table::TableName;
use crate::table::names::NamePattern;
use postgres_protocol::escape::escape_identifier;
use std::time::Duration;
use tokio_postgres::types::Type;

/// A replica identity that `tables.set_replica_identity` can ask for. NOTHING is not among them,
/// because UPDATE of a published table would fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `REPLICA IDENTITY DEFAULT`: the columns of the primary key.
    Default,
    /// `REPLICA IDENTITY FULL`: the whole old row.
    Full,
    /// `REPLICA IDENTITY USING INDEX`: the columns of this index.
    Index(String),
}

/// A rule of `tables.set_replica_identity`: the replica identity that the tables whose names match
/// a pattern are to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) tables: NamePattern,
    pub(crate) identity: Wanted,
}

/// The present replica identity of a table or of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Name of the table, or of the partition.
    pub name: TableName,
    /// `pg_class.relreplident`: `d` default, `n` nothing, `f` full, `i` index.
    pub letter: u8,
    /// Name of the index whose columns are the replica identity. `None` if no index is marked for
    /// that.
    pub index: Option<String>,
    /// Whether the table has a primary key.
    pub primary_key: bool,
}

impl Present {
    /// Whether the table has the wanted replica identity.
    #[must_use]
    pub fn is(&self, wanted: &Wanted) -> bool {
        match wanted {
            Wanted::Default => self.letter == b'd',
            Wanted::Full => self.letter == b'f',
            Wanted::Index(index) => self.letter == b'i' && self.index.as_ref() == Some(index),
        }
    }
}

/// The replica identities of a table and of all its partitions, which have identities of their own.
/// The result is empty if the table is gone.
///
/// # Errors
/// An error of the connection or of the server, or `Answer` if the result cannot be read.
pub async fn read(sql: &Sql, relation: Oid) -> Result<Vec<Present>, PgError> {
    const ASK: &str = "
WITH member AS (
  SELECT $1::oid AS oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
SELECT n.nspname::text AS namespace, c.relname::text AS name, c.relreplident::text AS identity,
  (SELECT i.relname::text FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
   WHERE x.indrelid = c.oid AND x.indisreplident) AS index,
  EXISTS (SELECT FROM pg_index x WHERE x.indrelid = c.oid AND x.indisprimary) AS primary_key
FROM member JOIN pg_class c ON c.oid = member.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY 1, 2";
    let object = relation.to_string();
    let asked = SqlCall { call: "read the replica identity of relation", object: &object };
    let rows = sql.ask(asked, ASK, &[(&relation.0, Type::OID)]).await?;
    rows.iter()
        .map(|row| {
            let identity: &str = asked.get(row, "identity")?;
            Ok(Present {
                name: TableName::new(asked.get(row, "namespace")?, asked.get(row, "name")?),
                letter: identity.bytes().next().ok_or_else(|| asked.unreadable("identity"))?,
                index: asked.get(row, "index")?,
                primary_key: asked.get(row, "primary_key")?,
            })
        })
        .collect()
}

/// Makes the statement that gives a table, without its partitions, the wanted replica identity.
#[must_use]
pub fn set_sql(table: &TableName, wanted: &Wanted) -> String {
    let identity = match wanted {
        Wanted::Default => "DEFAULT".to_owned(),
        Wanted::Full => "FULL".to_owned(),
        Wanted::Index(index) => format!("USING INDEX {}", escape_identifier(index)),
    };
    format!("ALTER TABLE ONLY {} REPLICA IDENTITY {identity}", quoted(table))
}

/// Gives a table the wanted replica identity. Fails if the table's lock cannot be taken within
/// `lock_timeout`.
///
/// # Errors
/// `Server`: 42501 not the owner, 42704 no such index, 42809 an index that cannot be an identity,
/// 55P03 locked.
pub async fn set(
    sql: &Sql,
    table: &TableName,
    wanted: &Wanted,
    lock_timeout: Duration,
) -> Result<(), PgError> {
    let name = table.to_string();
    let asked = SqlCall { call: "set the replica identity of table", object: &name };
    // Two statements in one message are one transaction, and SET LOCAL ends with it.
    let text = format!(
        "SET LOCAL lock_timeout = {}; {}",
        lock_timeout.as_millis(),
        set_sql(table, wanted)
    );
    sql.run(asked, &text).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_one_table_and_quotes() {
        let table = TableName::new("public", r#"o"dd"#);
        let index = Wanted::Index("By Code".to_owned());
        let full = "ALTER TABLE ONLY \"public\".\"o\"\"dd\" REPLICA IDENTITY FULL";
        assert_eq!(set_sql(&table, &Wanted::Full), full);
        assert!(set_sql(&table, &index).ends_with("USING INDEX \"By Code\""));
    }

    #[test]
    fn an_index_is_the_wanted_one_by_its_name() {
        let index = Some("a".to_owned());
        let present =
            Present { name: TableName::new("p", "t"), letter: b'i', index, primary_key: true };
        assert!(
            present.is(&Wanted::Index("a".to_owned()))
                && !present.is(&Wanted::Index("b".to_owned()))
        );
        assert!(!present.is(&Wanted::Full) && !present.is(&Wanted::Default));
    }
}

//! The plan of a first copy or a standstill lists its tables in order, each with its statements.
//! Nothing here does IO.
//!
//! A table is read part by part. A partitioned table has one part for each leaf of its partition
//! tree. Any other table is one part. Name, columns and filter are those of the publication. So the
//! copied rows are the rows that the stream would have sent.

use super::Config;
use super::ranges::Range;
use crate::change::{RelationShape, ShapeColumn};
use crate::lsn::Oid;
use crate::postgres::copies::ResultColumn;
use crate::postgres::holder::{CopyColumn, CopyTable, Part};
use crate::table::TableName;
use postgres_protocol::escape::escape_identifier;

/// The tables of a copy, in the order in which they are begun.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub(crate) tables: Vec<TablePlan>,
}

/// One table of a copy, with everything from which its statements are built.
#[derive(Clone, Debug, PartialEq)]
pub struct TablePlan {
    /// Name of the published table, which also names its topic.
    pub name: TableName,
    /// The shape that the stream gives in its Relation message. The records of copied rows and of
    /// streamed rows thus have one plan.
    pub shape: RelationShape,
    /// Relations that hold the rows: the leaves of a partitioned table, or the table itself. If the
    /// operator gave a query, the query is read instead of these relations.
    pub parts: Vec<Part>,
    /// The published columns, in the order of the shape.
    columns: Vec<CopyColumn>,
    /// The SELECT list, in the order of `columns`.
    list: String,
    /// SQL conditions on the rows of the table. A row is copied if it meets all of them.
    conditions: Vec<String>,
    /// The operator's query, which is read instead of the parts.
    query: Option<String>,
}

impl Plan {
    /// Chooses and orders the tables: first those of `config.order`, then the others by name.
    /// Skipped tables are left out.
    #[must_use]
    pub fn new(config: &Config, tables: Vec<CopyTable>) -> Self {
        let mut tables: Vec<TablePlan> = tables
            .into_iter()
            .filter(|table| !config.skips(&table.name))
            .map(|table| TablePlan::new(config, table))
            .collect();
        let place = |table: &TablePlan| {
            let name = table.name.to_string();
            config.order.iter().position(|first| *first == name).unwrap_or(usize::MAX)
        };
        tables.sort_by(|a, b| (place(a), &a.name).cmp(&(place(b), &b.name)));
        Plan { tables }
    }

    /// Bytes of all tables on the server's disk, without indexes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.tables.iter().map(TablePlan::size_bytes).sum()
    }

    /// Estimated rows of all tables, from statistics. A table without an estimate counts as 0.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().filter_map(TablePlan::rows).sum()
    }
}

impl TablePlan {
    fn new(config: &Config, table: CopyTable) -> Self {
        let name = table.name.to_string();
        let shape = shape_of(&table);
        let mut conditions: Vec<String> = table.filter.into_iter().collect();
        conditions.extend(config.conditions.get(&name).cloned());
        let list: Vec<String> =
            table.columns.iter().map(|column| escape_identifier(&column.name)).collect();
        TablePlan {
            shape,
            columns: table.columns,
            name: table.name,
            parts: table.parts,
            list: list.join(", "),
            conditions,
            query: config.queries.get(&name).cloned(),
        }
    }

    /// Bytes of all parts of the table on the server's disk, without indexes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Estimated rows of all parts. `None` if a part was never analysed, or if a condition or query
    /// selects the rows.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        if self.query.is_some() || !self.conditions.is_empty() {
            return None;
        }
        self.parts.iter().map(|part| part.rows).sum()
    }

    /// The operator's query, if it is read instead of the table.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// Number of pages of each part, from which ranges are made. A query counts as one part of size
    /// 0, which is read in one range.
    #[must_use]
    pub fn pages(&self) -> Vec<u32> {
        if self.query.is_some() {
            vec![0]
        } else {
            self.parts.iter().map(|part| part.pages).collect()
        }
    }

    /// Writes the SELECT list for an operator's query with the result columns `given`: the columns
    /// of the table by name, in the order of the table, and with a cast if the type differs. A
    /// nullable column that the query lacks becomes NULL.
    ///
    /// # Errors
    /// The name of a missing column that must not be NULL.
    pub fn fit<'p>(&'p mut self, given: &[ResultColumn]) -> Result<(), &'p str> {
        let mut list = Vec::new();
        for column in &self.columns {
            let name = escape_identifier(&column.name);
            match given.iter().find(|given| given.name == column.name) {
                Some(given) if given.type_oid.0 == column.type_oid => {
                    list.push(format!("q.{name}"))
                }
                Some(_) => list.push(format!("CAST(q.{name} AS {})", column.type_name)),
                None if column.not_null => return Err(&column.name),
                None => list.push("NULL".to_owned()),
            }
        }
        self.list = list.join(", ");
        Ok(())
    }

    /// Writes the SELECT statement that reads a range. Before the copy, `prepare` lets the server
    /// check this statement for the whole first part.
    #[must_use]
    pub fn select(&self, range: &Range) -> String {
        if let Some(query) = &self.query {
            // The line break ends a comment at the query's end.
            return format!("SELECT {} FROM ({query}\n) q", self.list);
        }
        let from = self.parts.get(range.part).map_or_else(String::new, |part| {
            format!(
                "{}.{}",
                escape_identifier(&part.name.namespace),
                escape_identifier(&part.name.name)
            )
        });
        let mut conditions = Vec::new();
        if range.from > 0 {
            conditions.push(format!("ctid >= '({},0)'::pg_catalog.tid", range.from));
        }
        if let Some(to) = range.to {
            conditions.push(format!("ctid < '({to},0)'::pg_catalog.tid"));
        }
        conditions.extend(self.conditions.iter().map(|condition| format!("({condition}\n)")));
        let conditions = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        format!("SELECT {} FROM ONLY {from}{conditions}", self.list)
    }

    /// Writes the COPY command that reads a range.
    #[must_use]
    pub fn copy(&self, range: &Range) -> String {
        format!("COPY ({}\n) TO STDOUT", self.select(range))
    }
}

/// The shape of a table, as a Relation message would describe it.
#[must_use]
pub fn shape_of(table: &CopyTable) -> RelationShape {
    let column = |column: &CopyColumn| ShapeColumn {
        name: column.name.clone(),
        type_oid: Oid(column.type_oid),
        typmod: column.typmod,
        in_identity: column.in_identity,
    };
    RelationShape {
        oid: table.relation,
        namespace: table.name.namespace.to_string(),
        name: table.name.name.to_string(),
        identity: table.identity,
        columns: table.columns.iter().map(column).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::holder::CopyColumn;
    use crate::snapshot::Mode;
    use crate::table::Selection;
    use expect_test::{Expect, expect};

    fn table(name: &str, filter: Option<&str>, parts: &[(&str, u32)]) -> CopyTable {
        let column = |name: &str, in_identity| CopyColumn {
            name: name.to_owned(),
            type_oid: 23,
            typmod: -1,
            type_name: "integer".to_owned(),
            not_null: in_identity,
            in_identity,
        };
        CopyTable {
            relation: Oid(1),
            name: TableName::new("s", name),
            identity: b'd',
            columns: vec![column("id", true), column("a\"b", false)],
            filter: filter.map(str::to_owned),
            parts: parts
                .iter()
                .map(|(name, pages)| Part {
                    relation: Oid(2),
                    name: TableName::new("s", name),
                    pages: *pages,
                    bytes: u64::from(*pages) * 8192,
                    rows: Some(u64::from(*pages)),
                })
                .collect(),
        }
    }

    const WHOLE: Range = Range { table: 0, part: 0, from: 0, to: None };

    fn config() -> Config {
        Config::new(Mode::Initial)
    }

    #[track_caller]
    fn check(config: &Config, table: CopyTable, range: Range, expect: Expect) {
        let plan = Plan::new(config, vec![table]);
        expect.assert_eq(&plan.tables[0].copy(&range));
    }

    #[test]
    fn a_range_reads_its_pages_of_its_part_and_no_children() {
        let parted = || table("t", None, &[("t_1", 10), ("t_2", 10)]);
        check(
            &config(),
            parted(),
            Range { table: 0, part: 1, from: 4, to: Some(8) },
            expect![[r#"
                COPY (SELECT "id", "a""b" FROM ONLY "s"."t_2" WHERE ctid >= '(4,0)'::pg_catalog.tid AND ctid < '(8,0)'::pg_catalog.tid
                ) TO STDOUT"#]],
        );
        check(
            &config(),
            parted(),
            WHOLE,
            expect![[r#"
                COPY (SELECT "id", "a""b" FROM ONLY "s"."t_1"
                ) TO STDOUT"#]],
        );
    }

    #[test]
    fn a_row_meets_the_publications_filter_and_the_operators_condition() {
        let mut config = config();
        config.conditions.insert("s.t".to_owned(), "v = 1 or v = 2 -- both".to_owned());
        check(
            &config,
            table("t", Some("(id > 10)"), &[("t", 1)]),
            WHOLE,
            expect![[r#"
                COPY (SELECT "id", "a""b" FROM ONLY "s"."t" WHERE ((id > 10)
                ) AND (v = 1 or v = 2 -- both
                )
                ) TO STDOUT"#]],
        );
    }

    #[test]
    fn a_query_is_read_in_the_tables_order_and_form() {
        let mut config = config();
        config.queries.insert("s.t".to_owned(), "select 1 as id".to_owned());
        let mut plan = Plan::new(&config, vec![table("t", None, &[("t", 1)])]);
        let table = &mut plan.tables[0];
        let given = |name: &str, oid| ResultColumn { name: name.to_owned(), type_oid: Oid(oid) };
        table.fit(&[given("extra", 25), given("id", 20)]).unwrap();
        expect![[r#"
            COPY (SELECT CAST(q."id" AS integer), NULL FROM (select 1 as id
            ) q
            ) TO STDOUT"#]]
        .assert_eq(&table.copy(&WHOLE));
        assert_eq!((table.pages(), table.rows()), (vec![0], None));
        assert_eq!(table.fit(&[given("a\"b", 23)]), Err("id"));
        assert_eq!(table.fit(&[given("id", 23), given("a\"b", 23)]), Ok(()));
        assert_eq!(table.select(&WHOLE), "SELECT q.\"id\", q.\"a\"\"b\" FROM (select 1 as id\n) q");
    }

    #[test]
    fn tables_named_come_first_and_skipped_ones_not_at_all() {
        let mut config = config();
        config.order = vec!["s.z".to_owned(), "s.nowhere".to_owned(), "s.m".to_owned()];
        config.skip = Some(Selection::new(&["s.big_*".to_owned()], &[]).unwrap());
        let tables = ["m", "big_1", "b", "a", "z"].map(|name| table(name, None, &[(name, 2)]));
        let plan = Plan::new(&config, tables.to_vec());
        let names: Vec<_> = plan.tables.iter().map(|table| &*table.name.name).collect();
        assert_eq!(names, ["z", "m", "a", "b"]);
        assert_eq!((plan.size_bytes(), plan.rows()), (4 * 2 * 8192, 8));
        let captured = [TableName::new("s", "z"), TableName::new("s", "m")];
        assert_eq!(
            config.strangers(&captured).collect::<Vec<_>>(),
            [("snapshot.order", "s.nowhere")]
        );
    }
}

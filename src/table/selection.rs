//! Which tables are captured: include and exclude lists over tables and over their namespaces.
//!
//! `names` decides how a pattern is written. A table is captured if the lists of namespaces and the
//! lists of tables both include it, and if no list excludes it. This file is pure: the tables are
//! arguments.

use super::TableName;
use super::names::{BadPattern, NameList, NameOf};

/// The table under whose name a publication of ours publishes the changes of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitions {
    /// Changes have the name of the root table, and partitions do not count as tables.
    #[default]
    Root,
    /// Changes have the name of the partition, and no change has the name of the root table.
    Leaves,
}

/// What happens to a published table that the lists include and that did not exist at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Later {
    /// The table waits for a reload, which copies the rows that the table has by then.
    #[default]
    Reload,
    /// The changes of the table are captured at once. Its earlier rows are not copied.
    Capture,
}

/// The rules of the configuration that decide which tables are captured.
#[derive(Clone, Debug)]
pub struct Selection {
    include: NameList,
    exclude: NameList,
    namespaces: NameList,
    exclude_namespaces: NameList,
    partitions: Partitions,
    later: Later,
    /// A table, as `namespace.name`, that is captured whatever the lists say.
    always: Option<String>,
}

impl Selection {
    /// Reads the include list and the exclude list of tables.
    ///
    /// # Errors
    /// Every bad pattern of the include list, and every bad pattern of the exclude list.
    pub fn new(
        include: &[String],
        exclude: &[String],
    ) -> Result<Self, (Vec<BadPattern>, Vec<BadPattern>)> {
        match (NameList::read(include, NameOf::Table), NameList::read(exclude, NameOf::Table)) {
            (Ok(include), Ok(exclude)) => {
                let (namespaces, exclude_namespaces) = Default::default();
                let (partitions, later) = (Partitions::Root, Later::Reload);
                Ok(Selection {
                    include,
                    exclude,
                    namespaces,
                    exclude_namespaces,
                    partitions,
                    later,
                    always: None,
                })
            }
            (include, exclude) => {
                Err((include.err().unwrap_or_default(), exclude.err().unwrap_or_default()))
            }
        }
    }

    /// The same selection, limited to these namespaces. An empty include list includes all
    /// namespaces.
    #[must_use]
    pub fn within(self, namespaces: NameList, exclude_namespaces: NameList) -> Self {
        Selection { namespaces, exclude_namespaces, ..self }
    }

    /// The same selection with these rules: the name for changes of partitions, and what happens to
    /// a table that did not exist at the start.
    #[must_use]
    pub fn by(self, partitions: Partitions, later: Later) -> Self {
        Selection { partitions, later, ..self }
    }

    /// The same selection, which always has this table (`namespace.name`), whatever the lists say.
    #[must_use]
    pub fn with(self, always: Option<String>) -> Self {
        Selection { always, ..self }
    }

    fn takes_always(&self, table: &TableName) -> bool {
        self.always.as_ref().is_some_and(|always| *always == table.to_string())
    }

    /// Whether a table that did not exist at the start is captured without a reload.
    #[must_use]
    pub fn captures_later(&self, table: &TableName) -> bool {
        self.later == Later::Capture && self.matches(table)
    }

    /// The table under whose name the changes of a partition are published.
    #[must_use]
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Whether the table is captured.
    #[must_use]
    pub fn matches(&self, table: &TableName) -> bool {
        self.includes(table) && !self.excludes(table)
    }

    /// Whether the include lists match the table, or the table is always captured. The exclude
    /// lists are not looked at.
    #[must_use]
    pub fn includes(&self, table: &TableName) -> bool {
        let in_namespace = self.namespaces.is_empty() || self.namespaces.lists(&[&table.namespace]);
        (in_namespace && self.include.lists(&[&table.namespace, &table.name]))
            || self.takes_always(table)
    }

    /// Whether an exclude list matches the table. A table that is always captured is never
    /// excluded.
    #[must_use]
    pub fn excludes(&self, table: &TableName) -> bool {
        let excluded = self.exclude_namespaces.guards(&[&table.namespace])
            || self.exclude.guards(&[&table.namespace, &table.name]);
        excluded && !self.takes_always(table)
    }

    /// The include patterns for tables, as written, that match none of `tables`. Such a pattern is
    /// misspelt, or its tables do not exist yet.
    pub fn unmatched<'a>(&'a self, tables: &[TableName]) -> Vec<&'a str> {
        let matched = |table: &TableName, pattern: &super::names::NamePattern| {
            pattern.tells(&[&table.namespace, &table.name]).unwrap_or(false)
        };
        let idle = self
            .include
            .iter()
            .filter(|pattern| !tables.iter().any(|table| matched(table, pattern)));
        idle.map(super::names::NamePattern::text).collect()
    }

    /// The names in the include list that are whole names of tables and no patterns, in the order
    /// of the list. Such a table need not exist.
    pub fn exact(&self) -> impl Iterator<Item = TableName> + '_ {
        self.include.iter().filter_map(|pattern| match pattern.exact()?[..] {
            [namespace, name] => Some(TableName::new(namespace, name)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::names::PatternFault;
    use proptest::prelude::*;

    fn lists(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }

    fn fault(text: &str) -> PatternFault {
        Selection::new(&[text.to_owned()], &[]).unwrap_err().0.remove(0).fault
    }

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], (namespace, name): (&str, &str), expect: bool) {
        assert_eq!(lists(include, exclude).matches(&TableName::new(namespace, name)), expect);
    }

    #[test]
    fn an_exact_name_captures_that_table_and_no_other() {
        check(&["public.orders"], &[], ("public", "orders"), true);
        check(&["public.orders"], &[], ("public", "orders2"), false);
        check(&["public.orders"], &[], ("Public", "orders"), false);
    }

    #[test]
    fn a_glob_stays_within_its_part() {
        check(&["inventory.*"], &[], ("inventory", "a.b/c"), true);
        check(&["inventory.*"], &[], ("inventory2", "a"), false);
        check(&["inv*.o?ders_{eu,us}"], &[], ("inventory", "orders_eu"), true);
        check(&["*.orders"], &[], ("a.b", "orders"), true);
    }

    #[test]
    fn exclusion_wins() {
        check(&["public.*"], &["public.audit_*"], ("public", "audit_log"), false);
        check(&["public.audit_log"], &["public.audit_*"], ("public", "audit_log"), false);
        check(&["public.*"], &["public.audit_*"], ("public", "orders"), true);
    }

    #[test]
    fn quotes_take_dots_stars_and_quotes_literally() {
        check(&[r#""my.schema".t"#], &[], ("my.schema", "t"), true);
        check(&[r#"public."a*""#], &[], ("public", "a*"), true);
        check(&[r#"public."a*""#], &[], ("public", "ab"), false);
        check(&[r#"public."say ""hi""""#], &[], ("public", r#"say "hi""#), true);
        check(&["public.größe"], &[], ("public", "größe"), true);
    }

    #[test]
    fn refuses_what_is_not_two_parts() {
        assert_eq!(fault("orders"), PatternFault::NoNamespace("orders".to_owned()));
        assert_eq!(fault("a.b.c"), PatternFault::TooManyParts);
        assert_eq!(fault("a."), PatternFault::EmptyPart);
        assert_eq!(fault(".a"), PatternFault::EmptyPart);
        assert_eq!(fault(r#""".a"#), PatternFault::EmptyPart);
        assert_eq!(fault(r#""a.b"#), PatternFault::Quote);
        assert_eq!(fault(r#""a"b.c"#), PatternFault::Quote);
        assert_eq!(fault(r#"a"b".c"#), PatternFault::Quote);
        assert!(matches!(fault("a.[b"), PatternFault::Glob(_)));
    }

    #[test]
    fn a_table_of_another_namespace_is_not_captured() {
        let namespaces = |list: &[&str]| {
            NameList::read(
                &list.iter().map(ToString::to_string).collect::<Vec<_>>(),
                NameOf::Namespace,
            )
            .unwrap()
        };
        let selection =
            lists(&["*.*"], &[]).within(namespaces(&["regex:S2", "public"]), namespaces(&["pub*"]));
        assert!(selection.matches(&TableName::new("s2", "t")));
        assert!(!selection.matches(&TableName::new("s3", "t")));
        assert!(!selection.matches(&TableName::new("public", "t")));
    }

    #[test]
    fn reports_every_bad_pattern_of_both_lists() {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (include, exclude) =
            Selection::new(&owned(&["a.b", "c", "d.e.f"]), &owned(&["x"])).unwrap_err();
        assert_eq!(include.iter().map(|bad| bad.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(exclude.iter().map(|bad| bad.index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn names_the_patterns_that_match_nothing() {
        let tables = [TableName::new("public", "orders"), TableName::new("inventory", "a")];
        let selection =
            lists(&["public.orders", "public.order", "inventory.*", "x.*"], &["inventory.*"]);
        assert_eq!(selection.unmatched(&tables), ["public.order", "x.*"]);
        assert_eq!(
            selection.exact().collect::<Vec<_>>(),
            [("public", "orders"), ("public", "order")].map(|(a, b)| TableName::new(a, b))
        );
    }

    fn quoted(name: &str) -> String {
        format!("\"{}\"", name.replace('"', "\"\""))
    }

    proptest! {
        /// Goal: any name Postgres allows can be selected. Method: the quoted name as a pattern
        /// must match this name and no other.
        #[test]
        fn a_quoted_name_selects_exactly_that_table(
            namespace in "[^\0]{1,20}", name in "[^\0]{1,20}", other in "[^\0]{1,20}"
        ) {
            let selection = lists(&[&format!("{}.{}", quoted(&namespace), quoted(&name))], &[]);
            prop_assert!(selection.matches(&TableName::new(&namespace, &name)));
            prop_assert_eq!(selection.matches(&TableName::new(&namespace, &other)), name == other);
            prop_assert_eq!(selection.exact().count(), 1);
        }

        #[test]
        fn capturing_is_inclusion_without_exclusion(
            include in prop::collection::vec("[a-c*]{1,2}\\.[a-c*]{1,2}", 0..4),
            exclude in prop::collection::vec("[a-c*]{1,2}\\.[a-c*]{1,2}", 0..4),
            namespace in "[a-c]{1,2}", name in "[a-c]{1,2}"
        ) {
            let table = TableName::new(&namespace, &name);
            let any = |list: &[String]| list.iter().any(|p| lists(&[p], &[]).matches(&table));
            let selection = Selection::new(&include, &exclude).unwrap();
            prop_assert_eq!(selection.matches(&table), any(&include) && !any(&exclude));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Selection::new(&[text], &[]);
        }
    }
}

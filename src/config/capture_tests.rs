//! Golden tests of the capture rules: the text of each fault, and that no salt is printed.

use super::tests::{check, replaced, with};
use expect_test::expect;

#[test]
fn every_rule_of_capture_is_read() {
    let rules = r#"include = ["regex:public\\.o.*"]
namespaces = ["public"]
[columns]
exclude = ["*.*.secret"]
source_types = ["public.orders.*"]
[masks.card]
columns = ["public.orders.card"]
method = "stars"
length = 5
[masks.mail]
columns = ["regex:.*\\.email"]
method = "hash"
salt = "${env:SALT}"
other_types = "pass"
[keys]
"public.orders" = ["region", "id"]"#;
    let loaded =
        with(&replaced(&[("include = [\"public.orders\"]", rules)]), &[("SALT", "pepper")])
            .unwrap();
    let made = &loaded.checked.encode.rules;
    assert_eq!(made.masks.len(), 2);
    assert!(made.keys[0].columns.iter().all(|column| column.exact().is_some()));
    assert!(loaded.checked.selection.matches(&crate::table::TableName::new("public", "Orders")));
    let shown = loaded.shown.to_string();
    assert!(
        !shown.contains("pepper") && !format!("{:?}", loaded.checked).contains("pepper"),
        "{shown}"
    );
    assert!(shown.contains("[masks.mail]") && shown.contains("salt = \"${env:SALT}\""), "{shown}");
}

#[test]
fn faults_of_rules_have_their_place_and_the_way_out() {
    let rules = r#"include = ["public.orders"]
[columns]
include = ["a.b"]
exclude = ["regex:(", "a.b.c"]
[masks.a]
columns = ["public.t.c"]
method = "stars"
salt = "x"
[masks.b]
columns = ["public.t.c", "public.t.d"]
method = "hash"
lenght = 3
[masks.c]
columns = ["public.t.e"]
method = "hash"
salt = "x"
algorithm = "SHA-3"
[masks.d]
columns = ["public.t.f"]
method = "truncate"
length = 1
[masks.e]
columns = ["public.t.f"]
method = "truncate"
length = 2
[keys]
"orders" = ["id"]"#;
    check(
        &[("include = [\"public.orders\"]", rules)],
        &[],
        expect![[r#"
            w.toml:7:1: columns.include: `a.b`: a column is `namespace.table.column`, such as public.a.b
            w.toml:8:1: columns.exclude: `regex:(`: not a regular expression: Parsing error at position 1: Opening parenthesis without closing parenthesis
            w.toml:9:8: masks.a.length: is missing; write length = 5
            w.toml:12:1: masks.a.salt: has no meaning for this method
            w.toml:13:8: masks.b.salt: is missing; write salt = "${env:MASK_SALT}", or salt_file
            w.toml:16:1: masks.b.lenght: unknown key; did you mean `length`?
            w.toml:21:1: masks.c.algorithm: expected one of "SHA-256", "SHA-512", "SHA-384", "SHA-224", "SHA-1", "MD5" (did you mean "SHA-1"?); found "SHA-3"
            w.toml:31:1: keys.orders: a table is `namespace.name`, such as public.orders"#]],
    );
    let twice = "include = [\"a.b\"]\n[masks.a]\ncolumns = [\"public.t.c\"]\nmethod = \
                 \"truncate\"\nlength = 1\n\
                 [masks.b]\ncolumns = [\"public.t.c\"]\nmethod = \"stars\"\nlength = 2";
    check(
        &[("include = [\"public.orders\"]", twice)],
        &[],
        expect![
            "w.toml:11:1: masks.b.columns: masks.a has `public.t.c` as well: a column has one \
             mask; take it out of one of them"
        ],
    );
}

#[test]
fn faults_of_topics_by_an_expression_are_told_at_the_key_that_has_them() {
    let prefix = "prefix = \"Shop.eu1\"";
    let of = |more: &str| format!("{prefix}\n{more}");
    let bad =
        of("regex = \"(\"\nreplacement = \"x\"\nkey_field = \"a-b\"\nkey_field_regex = \"a\"");
    check(
        &[(prefix, &bad)],
        &[],
        expect![[r#"
        w.toml:6:2: topics.key_field_replacement: is missing; write both of topics.key_field_regex and topics.key_field_replacement, or neither
        w.toml:8:1: topics.regex: not a regular expression: Parsing error at position 1: Opening parenthesis without closing parenthesis
        w.toml:10:1: topics.key_field: a field's name has letters a-z and A-Z, digits and `_`, and begins with no digit"#]],
    );
    check(
        &[(prefix, &of("regex = \"(a)\"\nreplacement = \"$2\""))],
        &[],
        expect!["w.toml:9:1: topics.replacement: has no group `2` in the expression"],
    );
    check(
        &[(prefix, &of("replacement = \"x\"\nunique_keys = false"))],
        &[],
        expect![[r#"
        w.toml:8:1: topics.replacement: has no effect without topics.regex
        w.toml:9:1: topics.unique_keys: has no effect without topics.regex"#]],
    );
    check(
        &[(prefix, &of("regex = \"a\""))],
        &[],
        expect![[
            r#"w.toml:6:2: topics.replacement: is missing; write replacement = "$1", the topic that topics.regex makes"#
        ]],
    );
}

//! Tests of the translation of scripts into CEL.

use super::super::{ImportError, Loss, import};
use super::*;
use crate::transform::expression::Expression;
use expect_test::expect;
use proptest::prelude::*;

#[test]
fn simple_scripts_mean_the_same_in_cel() {
    for (script, cel) in [
        ("value.op != 'd' || value.before.id != 2", "value.op != 'd' || value.before.id != 2"),
        (
            "value.op == \"u\" && !(value.after.done)",
            "value.op == 'u' && !((value.after.done) == true)",
        ),
        ("topic.startsWith('dummy')", "topic.startsWith('dummy')"),
        ("headers.idh.value == 1L", "headers.idh.value == 1"),
        ("value.after.id === 2;", "value.after.id == 2"),
        ("value.get('op').equals('c')", "(value['op'] == 'c')"),
        ("value.after.name in ['a', 'b']", "value.after.name in ['a', 'b']"),
        ("value.op.matches('c|u')", "value.op.matches('^(?:c|u)$')"),
        ("value.after.name.length() > 3", "size(value.after.name) > 3"),
        (
            "value.after?.country == 'UK' ? 'uk' : null",
            "(value.after != null ? value.after.country : null) == 'UK' ? 'uk' : null",
        ),
        ("value.after.id % 2 == 1", "value.after.id % 2 == 1"),
        ("'it\\'s' == value.after.name", "'it\\'s' == value.after.name"),
    ] {
        assert_eq!(translated(GROOVY, script).as_deref(), Ok(cel), "{script}");
        Expression::read(cel).unwrap_or_else(|fault| panic!("{cel}: {fault}"));
    }
}

const CONNECTOR: &str = "connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
topic.prefix=shop
database.hostname=db
database.port=5432
database.user=u
database.dbname=app
database.sslmode=disable
bootstrap.servers=k:9092
snapshot.mode=initial
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter=org.apache.kafka.connect.json.JsonConverter
transforms=f,r
transforms.f.type=io.debezium.transforms.Filter
transforms.f.language=jsr223.groovy
transforms.f.condition=value.op == 'u' && value.before.status != value.after.status
transforms.f.topic.regex=shop.public.*
transforms.f.null.handling.mode=drop
transforms.r.type=io.debezium.transforms.ContentBasedRouter
transforms.r.language=jsr223.groovy
transforms.r.topic.expression=value.op == 'u' ? 'updates' : null
";

fn imported(text: &str) -> Result<String, ImportError> {
    Ok(import(&[("c.properties".to_owned(), text.to_owned())], Loss::Refused)?.toml)
}

#[test]
fn debeziums_scripting_transforms_are_translated() {
    let toml = imported(CONNECTOR).unwrap();
    let chain = toml.split_once("[[transform]]").unwrap().1.split("\n# Not").next().unwrap();
    expect![[r#"

        type = "filter"
        condition = "value.op == 'u' && value.before.status != value.after.status"
        when_topic = "shop.public.*"
        nulls = "drop"

        [[transform]]
        type = "content-router"
        topic = "value.op == 'u' ? 'updates' : null"
    "#]]
    .assert_eq(chain);
}

#[test]
fn other_languages_and_scripts_are_refused_by_their_option() {
    for (theirs, other, option) in [
        ("f.language=jsr223.groovy", "f.language=wasm.chicory", "transforms.f.language"),
        ("value.op == 'u' &&", "value.after.tags.any { it } &&", "transforms.f.condition"),
        ("'updates'", "topic.replace('a', 'b')", "transforms.r.topic.expression"),
    ] {
        match imported(&CONNECTOR.replace(theirs, other)) {
            Err(ImportError::Refused { refused }) => {
                let names: Vec<&str> = refused.iter().map(|(name, _)| &**name).collect();
                assert_eq!(names, [option]);
            }
            other => panic!("{option}: {other:?}"),
        }
    }
}

/// In Groovy a null is false, and less than every value.
#[test]
fn a_null_gives_what_it_gives_in_groovy() {
    for (script, cel) in [
        ("value.after.total > 100", "value.after.total > 100"),
        (
            "value.after.total > 100 ? 'large' : 'small'",
            "(value.after.total > 100) == true ? 'large' : 'small'",
        ),
        ("value.after.done ? 'a' : 'b'", "value.after.done == true ? 'a' : 'b'"),
        ("!value.after.done", "!(value.after.done == true)"),
        ("!(value.after.x > 5)", "!((value.after.x > 5) == true)"),
        ("!(value.op == 'c')", "!(value.op == 'c')"),
        ("(value.after.x > 5) == false", "((value.after.x > 5) == true) == false"),
        ("value.after.x < 5", "(value.after.x == null || value.after.x < 5)"),
        ("value.after.x <= 5", "(value.after.x == null || value.after.x <= 5)"),
        ("5 > value.after.x", "(value.after.x == null || 5 > value.after.x)"),
        ("5 < value.after.x", "5 < value.after.x"),
        (
            "value.after.x < value.after.y",
            "(value.after.x == null && value.after.y != null || value.after.x < value.after.y)",
        ),
        (
            "value.after.x >= value.after.y",
            "(value.after.y == null || value.after.x >= value.after.y)",
        ),
        ("value.after.x > -5", "value.after.x > -5"),
        (
            "value.op == 'c' && value.after.x > 5 || value.after.done",
            "value.op == 'c' && value.after.x > 5 || value.after.done",
        ),
        (
            "value.op == 'c' ? value.after.done ? 'a' : 'b' : null",
            "value.op == 'c' ? (value.after.done == true ? 'a' : 'b') : null",
        ),
    ] {
        assert_eq!(translated(GROOVY, script).as_deref(), Ok(cel), "{script}");
    }
}

/// JavaScript takes a null as the number 0 in a comparison by `<`, `<=`, `>` or `>=`.
#[test]
fn a_null_gives_what_it_gives_in_javascript() {
    const JAVASCRIPT: &str = "jsr223.graal.js";
    for (script, cel) in [
        ("value.after.x > 5", Some("value.after.x > 5")),
        ("value.after.x > -5", Some("(value.after.x == null || value.after.x > -5)")),
        ("value.after.x < 5", Some("(value.after.x == null || value.after.x < 5)")),
        ("0 <= value.after.x", Some("(value.after.x == null || 0 <= value.after.x)")),
        ("value.after.name < 'b'", Some("value.after.name < 'b'")),
        ("value.after.x < value.after.y", None),
        ("value.after.x % 2 == 0", None),
        ("-value.after.x == 0", None),
        ("value.after.x in ['a']", None),
    ] {
        let found = translated(JAVASCRIPT, script);
        assert_eq!(found.as_deref().ok(), cel, "{script}: {found:?}");
    }
}

#[test]
fn two_conditions_of_one_transform_are_refused() {
    let more = "transforms.f.predicate=p\npredicates=p\npredicates.p.type=\
                org.apache.kafka.connect.transforms.predicates.TopicNameMatches\n\
                predicates.p.pattern=x\n";
    let Err(ImportError::Refused { refused }) = imported(&format!("{CONNECTOR}{more}")) else {
        panic!("one of the two is lost")
    };
    assert_eq!(refused[0].0, "transforms.f.predicate");
    let alone = CONNECTOR.replace("transforms.f.topic.regex=shop.public.*\n", "");
    assert!(imported(&format!("{alone}{more}")).unwrap().contains("when_topic = \"x\""));
}

#[test]
fn what_only_a_script_can_do_is_refused() {
    for script in [
        "value.after.id / 2 == 1",
        "value.after.name =~ 'a'",
        "valueSchema.name == 'x'",
        "import java.util.*; true",
        "value.after.name.toLowerCase() == 'a'",
        "{ -> true }",
        "value.op == 'c' ?: true",
        "\"${value.op}\" == 'c'",
        "value.after.id == 1e3",
        "value.after.id == ",
        "(value.op == 'c'",
        "value.op == 'c' value",
        "value.op = 'c'",
        "",
    ] {
        assert!(translated(GROOVY, script).is_err(), "{script}");
    }
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(translated(GROOVY, &deep).is_err());
    assert!(translated(GROOVY, &format!("{}value", "!".repeat(10_000))).is_err());
}

proptest! {
    #[test]
    fn what_is_translated_is_an_expression(
        script in "(value|topic|'a'|1|==|&&|!|\\(|\\)|\\.|\\?|:|after| |in|\\[|\\]|,|\\+){1,14}"
    ) {
        for language in LANGUAGES {
            if let Ok(cel) = translated(language, &script) {
                prop_assert!(Expression::read(&cel).is_ok(), "{} became {}", script, cel);
            }
        }
    }
}

//! Tests of refusals with their own texts: properties that only Java can fulfil, that would lose a
//! slot's changes, or that start a first copy in another way.

use super::tests::{imported, refused};
use super::*;
use expect_test::expect;

#[test]
fn the_modes_of_a_first_copy_are_taken_over_or_told() {
    let based = |flags: &str| format!("snapshot.mode=configuration_based\n{flags}");
    let flag = |name: &str| format!("snapshot.mode.configuration.based.{name}=true\n");
    for (more, mode) in [
        ("snapshot.mode=when_needed".to_owned(), "when_needed"),
        (based(&(flag("snapshot.data") + &flag("start.stream"))), "initial"),
        (based(&flag("snapshot.data")), "initial_only"),
        (based(&flag("start.stream")), "no_data"),
        (based(&(flag("start.stream") + &flag("snapshot.on.data.error"))), "when_needed"),
    ] {
        let toml = imported(&more, Loss::Refused).unwrap().toml;
        assert!(toml.contains(&format!("[snapshot]\nmode = \"{mode}\"")), "{more}: {toml}");
    }
    refused(
        "snapshot.mode=configuration_based\nsnapshot.delay.ms=3000\nstreaming.delay.ms=1\nguardrail.collections.max=5",
        expect![[r#"
            snapshot.mode: would neither copy nor stream
            snapshot.delay.ms: there is nothing like it; take it out, or write 0
            streaming.delay.ms: there is nothing like it; take it out, or write 0
            guardrail.collections.max: there is nothing like it; take it out, or write 0"#]],
    );
}

#[test]
fn a_list_of_copied_tables_may_name_others() {
    let toml =
        imported("snapshot.include.collection.list=public\\\\.a,public\\\\.nowhere", Loss::Refused)
            .unwrap()
            .toml;
    let skip = r"skip = ['regex:(?!(?:public\.a|public\.nowhere)\z).*']";
    assert!(toml.contains(skip), "{toml}");
}

#[test]
fn what_only_java_can_do_is_refused() {
    refused(
        "converters=isbn\nisbn.type=x.Isbn\nsourceinfo.struct.maker=x.Maker\npost.processors=reselect\n\
         reselect.type=io.debezium.processors.reselect.ReselectColumnsPostProcessor\ntime.precision.mode=structured\n\
         custom.metric.tags=a=b\ndatabase.sslfactory=x.Factory",
        expect![[r#"
            converters: names a Java class; there is none here
            isbn.type: belongs to a custom converter; there are no Java classes here
            sourceinfo.struct.maker: names a Java class; there is none here
            post.processors: events are not looked up again; with REPLICA IDENTITY FULL an unchanged value is in the stream
            reselect.type: see post.processors
            time.precision.mode: times have no such form here, and Debezium 3.6 does not start with it
            custom.metric.tags: labels are added where metrics are scraped
            database.sslfactory: names a Java class; there is none here"#]],
    );
    refused(
        "value.converter=io.debezium.converters.CloudEventsConverter",
        expect![
            "value.converter: events are Avro or JSON: AvroConverter of Confluent, JsonConverter \
             of Kafka"
        ],
    );
    refused(
        "topic.naming.strategy=io.debezium.schema.DefaultRegexTopicNamingStrategy",
        expect![
            "topic.naming.strategy: its topics lack the namespace, so that tables of one name in \
             two namespaces share one; write SchemaRegexTopicNamingStrategy, whose topic.regex is \
             held against prefix.namespace.table"
        ],
    );
}

#[test]
fn what_a_slot_would_lose_is_refused() {
    refused(
        "lsn.flush.mode=manual\noffset.mismatch.strategy=trust_greater_lsn\n\
         event.processing.failure.handling.mode=skip\ntable.ignore.builtin=false",
        expect![[r#"
            lsn.flush.mode: what is in Kafka is always confirmed; nobody else moves the slot
            offset.mismatch.strategy: a slot ahead of our record means missing changes; `wellspring slot accept` consents to that
            event.processing.failure.handling.mode: a change that cannot be read is never skipped
            table.ignore.builtin: tables of Postgres itself cannot be published"#]],
    );
}

#[test]
fn channels_that_do_not_exist_are_refused_with_the_way_out() {
    refused(
        "signal.enabled.channels=file,jmx,in-process\nsignal.file=signals.txt\nnotification.enabled.channels=mail",
        expect![[r#"
            signal.enabled.channels: there is no channel `file`: signals are read from a table (source) and from a topic (kafka); `wellspring snapshot` asks the running agent for a copy
            signal.enabled.channels: there is no channel `jmx`: signals are read from a table (source) and from a topic (kafka); `wellspring snapshot` asks the running agent for a copy
            signal.enabled.channels: there is no channel `in-process`: signals are read from a table (source) and from a topic (kafka); `wellspring snapshot` asks the running agent for a copy
            notification.enabled.channels: there is no channel `mail`: notifications go to a topic (sink) and to the log; /status and /metrics say the same to who asks"#]],
    );
    // `signal.file` has no effect if the channel `file` is not enabled.
    imported("signal.file=signals.txt\nnotification.enabled.channels=jmx", Loss::Refused).unwrap();
}

#[test]
fn two_rules_for_one_column_are_told_with_their_places_and_the_way_out() {
    let more = "column.mask.with.5.chars=public\\\\.people\\\\.name\ncolumn.truncate.to.3.chars=public\\\\.people\\\\.name";
    let ImportError::Faulty(faults) = imported(more, Loss::Refused).unwrap_err() else { panic!() };
    let text = faults.to_string();
    assert!(text.contains("masks.stars_1") && text.contains("masks.truncate_1"), "{text}");
    assert!(text.contains("a column has one mask; take it out of one of them"), "{text}");
}

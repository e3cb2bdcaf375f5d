//! Notifications of copies: Debezium's records about the progress of a snapshot.
//!
//! All notices go to one topic. The key has the notice's id. The value has the id, too, with the
//! notice's type, the kind of copy, a map of texts and a time. `backfill` and `initial` decide when
//! there is a notice.

use super::Format;
use super::column::Key;
use super::encoder::{Encoder, Slot};
use super::envelope::Step;
use super::form::{Avro, Form, Json, Union};
use super::plan::Plan;
use super::schema::{Base, Field, Schema, field, required};
use crate::change::Position;

/// The content of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A UUID, or the id of the signal that asked for the copy.
    pub id: String,
    /// What happened to the copy, such as `STARTED` or `COMPLETED`.
    pub kind: &'static str,
    /// The kind of copy: `Initial Snapshot` or `Incremental Snapshot`.
    pub aggregate: &'static str,
    /// The entries of the field `additional_data`, by name.
    pub data: Vec<(&'static str, String)>,
    /// The time of the notice in milliseconds since 1970, by the agent's clock.
    pub at_ms: i64,
}

/// Returns the fields in the schema of a notice's value.
pub(super) fn fields() -> Vec<Field> {
    let texts = Base::Map(Box::new(Schema::plain(Base::Text)), Box::new(Schema::plain(Base::Text)));
    vec![
        required("id", Base::Text),
        required("type", Base::Text),
        required("aggregate_type", Base::Text),
        field("additional_data", Schema { optional: true, ..Schema::plain(texts) }),
        required("timestamp", Base::Int64),
    ]
}

impl Encoder {
    /// Writes a notice, by the plan of notices.
    pub fn notice(&mut self, plan: &Plan, notice: &Notice) {
        self.begin(plan, Position::default());
        self.in_context = false;
        let slot = match plan.format {
            Format::Avro => self.notice_in::<Avro>(plan, notice),
            Format::Json | Format::JsonSchema => self.notice_in::<Json>(plan, notice),
        };
        self.slots.push(slot);
    }

    fn notice_in<F: Form>(&mut self, plan: &Plan, notice: &Notice) -> Slot {
        let out = &mut self.out;
        let mut script = |steps: &[Step]| {
            let start = out.len();
            for step in steps {
                match step {
                    Step::Constant(bytes) => out.extend_from_slice(bytes),
                    Step::NoticeId => F::text(&notice.id, out),
                    Step::NoticeType => F::text(notice.kind, out),
                    Step::NoticeAggregate => F::text(notice.aggregate, out),
                    Step::NoticeData => push_data::<F>(&notice.data, out),
                    Step::Millis => F::int(notice.at_ms, out),
                    _ => {}
                }
            }
            (start, out.len())
        };
        let key = match &plan.key {
            Key::Message(steps) => Some(script(steps)),
            Key::None | Key::Columns { .. } => None,
        };
        Slot { key, value: Some(script(&plan.value)), change: None, shaped: None }
    }
}

fn push_data<F: Form>(data: &[(&'static str, String)], out: &mut Vec<u8>) {
    F::some(Union::NullFirst, out);
    F::map_open(data.len(), out);
    for (index, (name, value)) in data.iter().enumerate() {
        F::map_key(index == 0, name, out);
        F::text(value, out);
    }
    F::map_close(data.len(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{Config, Draft, Ids, Planner, Rules};
    use expect_test::expect;
    use std::sync::Arc;

    fn written(format: Format) -> (Draft, Vec<u8>, Vec<u8>) {
        let rules = Rules { notice_topic: Some("shop-notes".to_owned()), ..Rules::default() };
        let config = Config { format, rules: Arc::new(rules), ..Config::new("shop") };
        let draft = Planner::new(config, "app", "run", 1).notice_draft().unwrap();
        let plan = draft.clone().into_plan(Ids { key: Some(1), value: 2 });
        let notice = Notice {
            id: "n1".to_owned(),
            kind: "IN_PROGRESS",
            aggregate: "Initial Snapshot",
            data: vec![
                ("connector_name", "shop".to_owned()),
                ("data_collections", "a.\"b\"".to_owned()),
            ],
            at_ms: 1_700_000_000_000,
        };
        let mut encoder = Encoder::new();
        encoder.notice(&plan, &notice);
        let record = encoder.records().next().unwrap();
        assert_eq!(record.headers().count(), 0);
        let (key, value) = (record.key.unwrap().to_vec(), record.value.unwrap().to_vec());
        (draft, key, value)
    }

    #[test]
    fn a_notice_is_debeziums() {
        let (draft, key, value) = written(Format::Json);
        assert_eq!(draft.topic, "shop-notes");
        expect![[r#"{"id":"n1"}"#]].assert_eq(std::str::from_utf8(&key).unwrap());
        expect![[r#"{"id":"n1","type":"IN_PROGRESS","aggregate_type":"Initial Snapshot","additional_data":{"connector_name":"shop","data_collections":"a.\"b\""},"timestamp":1700000000000}"#]]
            .assert_eq(std::str::from_utf8(&value).unwrap());
    }

    #[test]
    fn avro_reads_a_notice_back() {
        let (draft, key, value) = written(Format::Avro);
        let read = |schema: &str, bytes: &[u8]| {
            let schema = apache_avro::Schema::parse_str(schema).unwrap();
            let reader =
                apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
            reader.read_value(&mut &bytes[5..]).unwrap()
        };
        let value = format!("{:?}", read(&draft.value.as_ref().unwrap().text, &value));
        assert!(value.contains("IN_PROGRESS") && value.contains("a.\\\"b\\\""), "{value}");
        assert!(format!("{:?}", read(&draft.key.unwrap().text, &key)).contains("n1"));
    }
}

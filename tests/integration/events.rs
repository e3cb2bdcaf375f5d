//! Compares our events with Debezium's. Both are made from what a real Postgres sent.
//!
//! `tests/data/events` holds recordings: the pgoutput messages and catalog facts of reference
//! cases, and the records that Debezium 3.6.3 wrote for the same SQL (`record.py` there says how
//! they are made). Here the messages are decoded, described, planned and encoded. The records are
//! read back by apache-avro and compared: keys, values, headers and texts of schemas. Records of
//! snapshots are left out. No server is needed.

mod ours;
mod replay;

use replay::{Normal, Replay, all_shortened, decoded, hex_of};
use serde_json::{Value as Json, json};
use wellspring::encode::Format;

/// The first place at which two values differ. Numbers of `real` columns are compared in single
/// precision.
fn difference(path: &str, expected: &Json, ours: &Json) -> Option<String> {
    let show = || Some(format!("{path}: expected {expected}, ours {ours}"));
    match (expected, ours) {
        (Json::Object(_), Json::Object(right)) if right.contains_key("$float") => show(),
        (Json::Number(left), Json::Object(right)) if right.contains_key("$float") => {
            let bits = u32::try_from(right["$float"].as_u64()?).ok()?;
            let same = left.is_f64() && (left.as_f64()? as f32).to_bits() == bits;
            if same { None } else { show() }
        }
        (Json::Object(left), Json::Object(right)) => {
            let names = left.keys().eq(right.keys());
            let inner = left.iter().find_map(|(name, value)| {
                difference(&format!("{path}/{name}"), value, right.get(name)?)
            });
            inner.or_else(|| if names { None } else { show() })
        }
        (Json::Array(left), Json::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(i, (l, r))| difference(&format!("{path}/{i}"), l, r)),
        (Json::Number(left), Json::Number(right)) if left.is_f64() && right.is_f64() => {
            let (l, r) = (left.as_f64()?, right.as_f64()?);
            // In JSON nothing marks a `real`, and Java does not always print its shortest digits.
            // So numbers that are equal in single precision count as equal.
            let in_json = path.contains("plain_value") || path.contains("json_value");
            let as_real = in_json && (l as f32).to_bits() == (r as f32).to_bits();
            let same_sign = l.is_sign_negative() == r.is_sign_negative();
            let close = as_real || (same_sign && (l - r).abs() <= l.abs() * 1e-15);
            if close { None } else { show() }
        }
        _ if expected == ours => None,
        _ => show(),
    }
}

/// Reads a recording. If it names another recording in `steps_of`, the steps of that one are used.
fn recording(case: &str) -> Json {
    let read = |case: &str| -> Json {
        let path = format!("{}/tests/data/events/{case}.json", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let mut recording = read(case);
    if let Some(other) = recording["steps_of"].as_str() {
        recording["steps"] = read(other)["steps"].take();
    }
    recording
}

/// Replays a case in all formats and compares every record with Debezium's.
#[track_caller]
fn check(case: &str) {
    let recording = recording(case);
    let ours = Replay::of(&recording, Format::Avro);
    let expected = recording["expected"].as_array().unwrap();
    let (mut left, mut right) = (Normal::default(), Normal::default());
    for (index, (expected, ours)) in expected.iter().zip(&ours).enumerate() {
        let at = format!("{case} record {index} ({})", ours.topic);
        assert_eq!(expected["topic"], json!(ours.topic), "{at}");
        let key = ours
            .key
            .as_ref()
            .map_or(Json::Null, |key| decoded(ours.key_schema.as_ref().unwrap(), key));
        let value =
            ours.value.as_ref().map_or(Json::Null, |value| decoded(&ours.value_schema, value));
        for (part, expected, ours) in [
            ("key", &expected["key"], &key),
            ("value", &left.value(expected["value"].clone()), &right.value(value)),
        ] {
            assert_eq!(difference(part, expected, ours), None, "{at}");
        }
        let partition_key = ours.key.as_ref().map_or(Json::Null, |key| json!(hex_of(&key[5..])));
        assert_eq!(expected["partition_key_hex"], partition_key, "{at}");
        let headers: Vec<Json> =
            ours.headers.iter().map(|(name, value)| json!([name, value])).collect();
        let wanted = expected["headers"].as_array().unwrap().iter();
        let wanted: Vec<Json> = wanted
            .map(|h| {
                if h["value"] == "$uuid" {
                    json!([h["name"], "run"])
                } else {
                    json!([h["name"], h["value"]])
                }
            })
            .collect();
        assert_eq!(wanted, headers, "{at}");
        for (part, text) in
            [("key_schema", ours.key_schema.as_ref()), ("value_schema", Some(&ours.value_schema))]
        {
            if let Some((subject, number)) =
                expected[part].as_str().and_then(|id| id.split_once('#'))
            {
                let number: usize = number.parse().unwrap();
                assert_eq!(
                    recording["schemas"][subject][number - 1].as_str(),
                    text.map(String::as_str),
                    "{at} {part}"
                );
            }
        }
    }
    assert_eq!(expected.len(), ours.len(), "{case}: number of records");
    if let Some(converted) = recording["expected_json"].as_array() {
        check_json(case, &recording, converted, Format::Json, ["plain_key", "plain_value"]);
        check_json(case, &recording, converted, Format::JsonSchema, ["json_key", "json_value"]);
    }
}

/// Compares the records of a case in one of the JSON formats. If Debezium's converter has put a
/// default in place of a null, our record must have the null.
fn check_json(case: &str, recording: &Json, converted: &[Json], format: Format, names: [&str; 2]) {
    let ours = Replay::of(recording, format);
    let (mut left, mut right) = (Normal::default(), Normal::default());
    for (index, (expected, ours)) in converted.iter().zip(&ours).enumerate() {
        for (name, bytes) in names.iter().zip([&ours.key, &ours.value]) {
            let mut wanted = expected[name].clone();
            let mut read: Json =
                bytes.as_ref().map_or(Json::Null, |bytes| serde_json::from_slice(bytes).unwrap());
            if format == Format::JsonSchema && !read.is_null() {
                assert_eq!(
                    difference("schema", &wanted["schema"].take(), &read["schema"].take()),
                    None,
                    "{case} {index} {name}"
                );
                (wanted, read) = (wanted["payload"].take(), read["payload"].take());
            }
            for pointer in
                recording["expected"][index]["defaulted"].as_array().into_iter().flatten()
            {
                let pointer = pointer.as_str().unwrap().strip_prefix("/value").unwrap();
                if let (Some(wanted), Some(Json::Null)) =
                    (wanted.pointer_mut(pointer), read.pointer(pointer))
                {
                    *wanted = Json::Null;
                }
            }
            let found = difference(name, &left.value(wanted), &right.value(all_shortened(read)));
            assert_eq!(found, None, "{case} record {index} {format:?}");
        }
    }
    assert_eq!(converted.len(), ours.len());
}

/// One test for each recording.
macro_rules! cases {
    ($($name:ident $case:literal,)*) => { $(#[test] fn $name() { check($case); })* };
}

cases! {
    inserts_updates_and_deletes_are_debeziums "crud-basic",
    a_key_change_is_delete_tombstone_and_create "pk-change",
    a_key_change_under_full_has_whole_rows "pk-change-full",
    keys_have_the_order_of_the_primary_key_or_first_unique_index "key-composite",
    identity_by_index_gives_before_images_of_its_columns "identity-index",
    tables_without_key_have_null_keys "no-key-full",
    scalars_are_debeziums "types-scalar",
    decimals_are_debeziums "types-numeric",
    dates_times_and_timestamps_are_debeziums "temporal-adaptive",
    infinite_timestamps_are_debeziums "temporal-infinity",
    intervals_are_debeziums "interval-numeric",
    unchanged_toast_is_the_placeholder_of_its_type "toast-default",
    unchanged_toast_comes_from_the_old_row_under_full "toast-full",
    the_placeholder_can_be_chosen "toast-placeholder-custom",
    the_placeholder_can_be_bytes_that_are_no_text "more-placeholder",
    truncates_have_no_key "truncate",
    logical_messages_are_debeziums "messages",
    columns_come_and_go_with_their_schemas "ddl-columns",
    types_change_with_their_schemas "ddl-types",
    primary_keys_change_with_their_schemas "ddl-primary-key",
    partitions_are_rows_of_their_root "partitions-root",
    restarts_leave_no_trace "restart",
    transactions_are_their_rows "transactions",
    defaults_are_in_schemas_and_never_in_place_of_nulls "defaults",
    enums_have_their_labels "enums",
    domains_are_their_base_types "domains",
    ranges_are_text "ranges",
    arrays_are_lists "arrays",
    bytes_and_bits_are_debeziums "binary-bytes",
    hstores_are_json "hstore-json",
    tombstones_can_be_left_out "tombstones-off",
    truncates_can_be_left_out "truncate-skipped",
    points_are_structs "geometry",
    names_in_mixed_case_stay_as_they_are "names-none",
    what_a_deleted_row_did_not_log_is_the_empty_value_of_its_type "required-types",
    default_expressions_are_read_as_debezium_reads_them "more-defaults",
    keys_of_every_type_and_their_header_texts_are_debeziums "key-types",
    lists_domains_and_precisions_are_debeziums "more-types",
    unique_indexes_are_keys_by_name "unique-indexes",
    required_and_key_columns_can_be_unchanged_toast "more-toast",
    keys_and_identities_change_with_the_stream "more-ddl",
    values_at_the_limits_of_their_types_are_debeziums "more-extremes",
    bytes_can_be_base64 "binary-base64",
    bytes_can_be_base64_for_urls "binary-base64-url-safe",
    bytes_can_be_hex "binary-hex",
    hstores_can_be_maps "hstore-map",
    intervals_can_be_iso_texts "interval-string",
    decimals_can_be_floating_point "types-numeric-double",
    decimals_can_be_plain_text "types-numeric-string",
    money_can_have_more_digits "more-money-digits",
    times_can_always_be_microseconds "temporal-adaptive-time-microseconds",
    moments_can_be_connects_own_types "temporal-connect",
    moments_can_be_iso_texts "temporal-isostring",
    moments_can_be_microseconds "temporal-microseconds",
    moments_can_be_nanoseconds "temporal-nanoseconds",
    infinite_timestamps_are_debeziums_in_connects_types "temporal-infinity-connect",
    infinite_timestamps_are_debeziums_in_iso_texts "temporal-infinity-isostring",
    infinite_timestamps_are_debeziums_in_nanoseconds "temporal-infinity-nanoseconds",
    unknown_types_can_be_bytes "unknown-types-included",
    every_unknown_type_can_be_bytes "unknown-included-bytes",
    bytes_of_unknown_types_have_the_form_of_bytes "unknown-included-hex",
    unknown_types_can_be_left_out "unknown-dropped",
    types_of_postgis_and_pgvector_are_debeziums "extension-types",
    types_of_postgis_and_pgvector_have_one_form "extension-types-connect",
    lists_have_the_forms_of_their_elements_in_connects_types "arrays-connect",
    lists_have_the_forms_of_their_elements_in_iso_texts "arrays-isostring",
    lists_have_the_forms_of_their_elements_in_nanoseconds "arrays-nanoseconds",
    lists_domains_and_precisions_have_the_chosen_forms "types-connect",
    lists_domains_and_precisions_have_other_chosen_forms "types-isostring",
    lists_domains_and_precisions_have_mixed_forms "types-micro-times",
    defaults_have_the_chosen_forms "defaults-connect",
    defaults_have_other_chosen_forms "defaults-isostring",
    defaults_can_be_nanoseconds "defaults-nanoseconds",
    defaults_can_be_microseconds "defaults-microseconds",
    defaults_have_mixed_forms "defaults-micro-times",
    empty_values_have_the_chosen_forms "required-types-connect",
    empty_values_have_other_chosen_forms "required-types-isostring",
    empty_values_can_be_microseconds "required-types-microseconds",
    empty_values_have_mixed_forms "required-types-micro-times",
    limits_are_debeziums_in_connects_types "extremes-connect",
    limits_are_debeziums_in_iso_texts "extremes-isostring",
    limits_are_debeziums_in_nanoseconds "extremes-nanoseconds",
    limits_are_debeziums_in_mixed_forms "extremes-micro-times",
    keys_have_the_chosen_forms "key-types-connect",
    keys_have_other_chosen_forms "key-types-isostring",
    placeholders_have_the_chosen_forms "toast-microseconds",
}

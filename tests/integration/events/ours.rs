//! Cases in which our events differ from Debezium's, and why.
//!
//! In each of these recordings Debezium loses, invents or refuses a value. The tests pin what
//! Wellspring writes instead, with its notes (`column:loss`).

use super::recording;
use super::replay::{Replay, decoded};
use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};
use wellspring::encode::Format;

/// Replays a recording, and compares the keys, rows and notes of our records with a text.
#[track_caller]
fn check_ours(case: &str, expect: Expect) {
    let mut shown = String::new();
    for ours in Replay::of(&recording(case), Format::Avro) {
        let key = ours.key.as_ref().map(|key| decoded(ours.key_schema.as_ref().unwrap(), key));
        let value = ours.value.as_ref().map(|value| decoded(&ours.value_schema, value));
        let row =
            value.map_or(Json::Null, |value| json!([value["op"], value["before"], value["after"]]));
        let notes = if ours.notes.is_empty() {
            String::new()
        } else {
            format!(" {}", ours.notes.join(","))
        };
        let text = format!("{} {row}{notes}\n", key.unwrap_or_default());
        shown.push_str(&shorten_lists(&text));
    }
    expect.assert_eq(&shown);
}

/// Replays a recording, and compares our first update with a text. The records before it have
/// values that are too long to show.
#[track_caller]
fn check_update(case: &str, expect: Expect) {
    let written = Replay::of(&recording(case), Format::Avro);
    let update = written.iter().find_map(|ours| {
        let value = decoded(&ours.value_schema, ours.value.as_ref()?);
        (value["op"] == "u").then(|| format!("{} {}", value["after"], ours.notes.join(",")))
    });
    expect.assert_eq(&update.unwrap());
}

/// Cuts off a long line after 1500 characters.
fn shorten_lists(line: &str) -> String {
    match line.char_indices().nth(1500) {
        Some((at, _)) => format!("{}…\n", &line[..at]),
        None => line.to_owned(),
    }
}

/// Debezium writes null for the whole list if an element is null (enum) or NaN, lists of nulls for
/// two dimensions, and null for `bit(3)[]`. Wellspring keeps what the schema can hold, in row-major
/// order, and notes the rest.
#[test]
fn lists_keep_their_nulls_and_say_when_they_lose_their_shape() {
    check_ours(
        "defect-arrays-with-nulls-and-dimensions",
        expect![[r#"
        {"id":2} ["c",null,{"bl":[true,false],"bt":[{"$bytes":"05"}],"e":null,"id":2,"ii":[1,2,3,null],"nn":[{"scale":0,"value":{"$bytes":"01"}},null]}] e:null_element,ii:array_shape,bl:array_shape,nn:not_a_number
    "#]],
    );
}

/// Debezium's elements of `time[]` keep only milliseconds, and those of `timetz[]` only seconds.
/// Debezium turns 24:00:00 into 0.
#[test]
fn lists_of_times_are_exact() {
    check_ours(
        "defect-time-arrays",
        expect![[r#"
        {"id":2} ["c",null,{"a":[49890123456,86400000000],"b":["11:51:30.123Z"],"c":[1478267490123456,9223372036825200000],"d":["2016-11-04T11:51:30.123456Z","infinity"],"id":2}]
    "#]],
    );
}

/// An empty bit string is neither true nor false. In a boolean field it is null, as with Debezium,
/// and Wellspring notes that.
#[test]
fn an_empty_bit_string_is_empty_bytes_and_no_boolean() {
    check_ours(
        "defect-varbit-empty",
        expect![[r#"
        {"id":2} ["c",null,{"a":null,"b":{"$bytes":""},"id":2}] a:empty_bits
        {"id":3} ["c",null,{"a":true,"b":{"$bytes":"01"},"id":3}]
    "#]],
    );
}

/// Debezium has the value of a `name` column in the snapshot, and null in the stream.
#[test]
fn names_are_in_the_stream() {
    check_ours(
        "defect-name-type",
        expect![[r#"
        {"id":2} ["c",null,{"a":"stream","id":2}]
    "#]],
    );
}

/// Debezium reads a negative scale of a numeric column as 2046, and pads the value with as many
/// zeros.
#[test]
fn a_negative_scale_is_folded_into_the_precision() {
    check_ours(
        "defect-negative-scale",
        expect![[r#"
        {"id":2} ["c",null,{"a":{"$bytes":"fe79c4"},"id":2}]
    "#]],
    );
}

/// Debezium converts the fraction of a second in an interval to a double, and cuts digits off.
#[test]
fn fractions_of_intervals_are_exact() {
    check_ours(
        "defect-interval-fraction",
        expect![[r#"
        {"id":2} ["c",null,{"a":1235000,"b":300000,"id":2}]
        {"id":3} ["c",null,{"a":2000001,"b":4999000,"id":3}]
    "#]],
    );
}

/// Debezium invents the key `{"id":0}` for deletes. The key of our records has the columns of the
/// identity index, which every old row has.
#[test]
fn an_identity_index_without_the_primary_key_is_the_key() {
    check_ours(
        "defect-identity-index-key",
        expect![[r#"
        {"email":"a@example.org"} ["u",null,{"email":"a@example.org","id":1,"nick":"aa"}]
        {"email":"a@example.org"} ["d",{"email":"a@example.org","id":0,"nick":null},null]
        {"email":"a@example.org"} null
        {"email":"aa@example.org"} ["c",null,{"email":"aa@example.org","id":1,"nick":"aa"}]
        {"email":"aa@example.org"} ["u",null,{"email":"aa@example.org","id":11,"nick":"aa"}]
        {"email":"b@example.org"} ["d",{"email":"b@example.org","id":0,"nick":null},null]
        {"email":"b@example.org"} null
    "#]],
    );
}

/// For infinite dates Debezium writes days in the past, which differ between snapshot and stream.
#[test]
fn infinite_dates_are_beyond_every_date() {
    check_ours(
        "defect-date-infinity",
        expect![[r#"
        {"id":3} ["c",null,{"d":2147483647,"id":3}]
        {"id":4} ["c",null,{"d":-2147483648,"id":4}]
    "#]],
    );
}

/// For an unchanged TOAST value of these types Debezium writes null, as if the column had been
/// cleared. Wellspring writes the placeholder, if the type can hold it.
#[test]
fn unchanged_toast_is_a_sign_where_debezium_has_null() {
    check_ours(
        "defect-toast-without-placeholder",
        expect![[r#"
        {"id":1} ["c",null,{"big":{"scale":0,"value":{"$bytes":{"$long_text":{"characters":5232,"sha256":"e0938e847e0321232aa8dd1973e27748bf1cdd14ef0a02f0b488945a7d6e132e"}}}},"flags":[false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,true,false,false,tr…
        {"id":1} ["u",null,{"big":{"scale":0,"value":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}},"flags":null,"id":1,"nums":[{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}],"rev":2,"stamps":["__debezium_unavailable_value"]}] flags:unavailable
    "#]],
    );
}

/// Debezium leaves out columns of types that it does not map. Wellspring writes their text.
#[test]
fn types_without_mapping_are_text() {
    check_ours(
        "unknown-types",
        expect![[r#"
        {"id":2} ["c",null,{"da":"{1.500}","gb":"(2,3),(0,0)","gc":"<(1,2),3>","gg":"((0,0),(1,1),(2,0))","gl":"{1,-1,0.5}","gp":"((0,0),(1,1),(2,0))","gs":"[(0,0),(1,1)]","id":2,"iv":"{\"1 day\"}","l":"0/16B3748","mn":"{$1.50}","mr":"{[1,3),[5,8)}","p":"(1,x)","pt":"{\"(1,1)\"}","q":"'fat' & 'rat'","v":"v","x":"10:20:10,14","xm":"{<a/>}"}]
    "#]],
    );
}

/// Debezium's infinite dates are days in the past. Dates in lists lose their era, and times in
/// lists their microseconds. A timestamp beyond 64 bits becomes another one.
#[test]
fn the_ends_of_time_are_exact_in_lists_too() {
    check_ours(
        "ends-adaptive",
        expect![[r#"
        {"id":1} ["c",null,{"d":2147483647,"da":[2147483647],"id":1,"t":86400000000,"ta":[86400000000],"ts":9223372036825200000,"tsa":[9223372036825200000],"tt":"00:00:00Z","tta":["00:00:00Z","15:58:59.999999Z"]}] tt:end_of_day,tta:end_of_day
        {"id":2} ["c",null,{"d":-2147483648,"da":[-2147483648],"id":2,"t":86399999999,"ta":[86399999999],"ts":-9223372036832400000,"tsa":[-9223372036832400000],"tt":"19:00:00Z","tta":[]}] tt:end_of_day
        {"id":3} ["c",null,{"d":-735160,"da":[-735160],"id":3,"t":0,"ta":[0],"ts":null,"tsa":[null,-9223372036854776],"tt":"05:00:00Z","tta":[]}] ts:beyond_unit,tsa:beyond_unit,tt:end_of_day
        {"id":4} ["c",null,{"d":2145042905,"da":[2145042905],"id":4,"t":500,"ta":[500],"ts":-210863520000000000,"tsa":[-210863520000000000],"tt":"08:01:00Z","tta":[]}]
    "#]],
    );
}

/// The least and the largest dates and times with `time.precision.mode=connect`. Microseconds, for
/// which Connect's types have no room, are noted.
#[test]
fn the_ends_of_time_are_exact_in_milliseconds_or_noted() {
    check_ours(
        "ends-connect",
        expect![[r#"
        {"id":1} ["c",null,{"d":2147483647,"da":[2147483647],"id":1,"t":86400000,"ta":[86400000],"ts":9223372036825200,"tsa":[9223372036825200],"tt":"00:00:00Z","tta":["00:00:00Z","15:58:59.999999Z"]}] tt:end_of_day,tta:end_of_day
        {"id":2} ["c",null,{"d":-2147483648,"da":[-2147483648],"id":2,"t":86399999,"ta":[86399999],"ts":-9223372036832400,"tsa":[-9223372036832400],"tt":"19:00:00Z","tta":[]}] t:below_millis,ta:below_millis,tt:end_of_day
        {"id":3} ["c",null,{"d":-735160,"da":[-735160],"id":3,"t":0,"ta":[0],"ts":9224318015999999,"tsa":[9224318015999999,-9223372036855],"tt":"05:00:00Z","tta":[]}] ts:below_millis,tsa:below_millis,tsa:below_millis,tt:end_of_day
        {"id":4} ["c",null,{"d":2145042905,"da":[2145042905],"id":4,"t":0,"ta":[0],"ts":-210863520000000,"tsa":[-210863520000000],"tt":"08:01:00Z","tta":[]}] t:below_millis,ta:below_millis
    "#]],
    );
}

/// The least and the largest dates and times with `time.precision.mode=isostring`. Debezium's
/// infinite dates are texts of its sentinels, which differ between scalars and lists.
#[test]
fn the_ends_of_time_are_exact_in_iso_texts() {
    check_ours(
        "ends-isostring",
        expect![[r#"
        {"id":1} ["c",null,{"d":"infinity","da":["infinity"],"id":1,"t":"00:00:00Z","ta":["00:00:00Z"],"ts":"+294247-01-10T04:00:25.2Z","tsa":["+294247-01-10T04:00:25.2Z"],"tt":"00:00:00Z","tta":["00:00:00Z","15:58:59.999999Z"]}] t:end_of_day,ta:end_of_day,tt:end_of_day,tta:end_of_day
        {"id":2} ["c",null,{"d":"-infinity","da":["-infinity"],"id":2,"t":"23:59:59.999999Z","ta":["23:59:59.999999Z"],"ts":"-290308-12-21T19:59:27.6Z","tsa":["-290308-12-21T19:59:27.6Z"],"tt":"19:00:00Z","tta":[]}] tt:end_of_day
        {"id":3} ["c",null,{"d":"-0043-03-15Z","da":["-0043-03-15Z"],"id":3,"t":"00:00:00Z","ta":["00:00:00Z"],"ts":"+294276-12-31T23:59:59.999999Z","tsa":["+294276-12-31T23:59:59.999999Z","1677-09-21T00:12:43.145224Z"],"tt":"05:00:00Z","tta":[]}] tt:end_of_day
        {"id":4} ["c",null,{"d":"+5874897-12-31Z","da":["+5874897-12-31Z"],"id":4,"t":"00:00:00.0005Z","ta":["00:00:00.0005Z"],"ts":"-4712-01-01T00:00:00Z","tsa":["-4712-01-01T00:00:00Z"],"tt":"08:01:00Z","tta":[]}]
    "#]],
    );
}

/// The least and the largest dates and times with `time.precision.mode=nanoseconds`. For a time
/// beyond 64 bits of nanoseconds both programs write null, and Wellspring notes it.
#[test]
fn the_ends_of_time_are_null_in_nanoseconds() {
    check_ours(
        "ends-nanoseconds",
        expect![[r#"
        {"id":1} ["c",null,{"d":2147483647,"da":[2147483647],"id":1,"t":86400000000000,"ta":[86400000000000],"ts":9223372036854775807,"tsa":[9223372036854775807],"tt":"00:00:00Z","tta":["00:00:00Z","15:58:59.999999Z"]}] tt:end_of_day,tta:end_of_day
        {"id":2} ["c",null,{"d":-2147483648,"da":[-2147483648],"id":2,"t":86399999999000,"ta":[86399999999000],"ts":-9223372036854775808,"tsa":[-9223372036854775808],"tt":"19:00:00Z","tta":[]}] tt:end_of_day
        {"id":3} ["c",null,{"d":-735160,"da":[-735160],"id":3,"t":0,"ta":[0],"ts":null,"tsa":[null,null],"tt":"05:00:00Z","tta":[]}] ts:beyond_unit,tsa:beyond_unit,tsa:beyond_unit,tt:end_of_day
        {"id":4} ["c",null,{"d":2145042905,"da":[2145042905],"id":4,"t":500000,"ta":[500000],"ts":null,"tsa":[null],"tt":"08:01:00Z","tta":[]}] ts:beyond_unit,tsa:beyond_unit
    "#]],
    );
}

/// Debezium writes empty lists for `int2vector` and `oidvector`, and null for `name` and
/// `bit(3)[]`.
#[test]
fn vectors_names_and_lists_of_bits_have_their_values() {
    check_ours(
        "defect-system-vectors",
        expect![[r#"
        {"id":1} ["c",null,{"b":[{"$bytes":"05"},{"$bytes":""}],"i":[1,2],"id":1,"n":"nm","o":[3,4000000000]}]
        {"id":2} ["c",null,{"b":[],"i":[],"id":2,"n":"","o":[]}]
    "#]],
    );
}

/// For unchanged TOAST lists of decimals and of timestamps Debezium writes null. Wellspring writes
/// the placeholder.
#[test]
fn unchanged_toast_is_a_sign_in_plain_text() {
    check_update(
        "toast-numbers-connect",
        expect![[
            r#"{"big":"__debezium_unavailable_value","flags":null,"id":1,"nums":["__debezium_unavailable_value"],"rev":2,"stamps":["__debezium_unavailable_value"]} flags:unavailable"#
        ]],
    );
}

/// For unchanged TOAST values of these types Debezium writes null. Wellspring writes a list of
/// numbers as the characters of the placeholder. A single number cannot hold it, so that is null
/// and noted.
#[test]
fn unchanged_toast_is_a_sign_in_floating_point_lists() {
    check_update(
        "toast-numbers-isostring",
        expect![[
            r#"{"big":null,"flags":null,"id":1,"nums":[95.0,95.0,100.0,101.0,98.0,101.0,122.0,105.0,117.0,109.0,95.0,117.0,110.0,97.0,118.0,97.0,105.0,108.0,97.0,98.0,108.0,101.0,95.0,118.0,97.0,108.0,117.0,101.0],"rev":2,"stamps":["__debezium_unavailable_value"]} big:unavailable,flags:unavailable"#
        ]],
    );
}

/// For unchanged TOAST bytes in base64 Debezium writes null, or stops if the column is NOT NULL. It
/// also writes null for lists of dates of Connect's type. Wellspring writes the placeholder.
#[test]
fn unchanged_toast_is_a_sign_in_base64_and_in_lists_of_dates() {
    check_update(
        "toast-default-connect",
        expect![[
            r#"{"bin":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==","body":"__debezium_unavailable_value","body_req":"__debezium_unavailable_value","hist":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],"id":1,"ids":["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],"ints":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],"js":"__debezium_unavailable_value","longs":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],"rev":2,"v":"__debezium_unavailable_value","words":["__debezium_unavailable_value"],"xm":"__debezium_unavailable_value"} "#
        ]],
    );
}

/// For unchanged TOAST lists of bytes in hex Debezium writes null. Wellspring writes the
/// placeholder.
#[test]
fn unchanged_toast_is_a_sign_in_lists_of_bytes_as_hex() {
    check_update(
        "toast-isostring",
        expect![[
            r#"{"ba":["__debezium_unavailable_value"],"bn":"__debezium_unavailable_value","c":"__debezium_unavailable_value","ch":"__debezium_unavailable_value","h":"{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}","hn":"{\"__debezium_unavailable_value\":\"__debezium_unavailable_value\"}","ia":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],"id":1,"j":"__debezium_unavailable_value","ja":["__debezium_unavailable_value"],"lb":[95,95,100,101,98,101,122,105,117,109,95,117,110,97,118,97,105,108,97,98,108,101,95,118,97,108,117,101],"rev":2,"ta":["__debezium_unavailable_value"],"tv":"__debezium_unavailable_value","u":["b68a35a7-17ad-35b3-af2a-ae46edb4545a"],"va":["__debezium_unavailable_value"],"x":"__debezium_unavailable_value"} "#
        ]],
    );
}

/// For unchanged TOAST values of these types Debezium writes null. A sparse vector cannot hold the
/// placeholder, so Wellspring writes null too, and notes it.
#[test]
fn unchanged_toast_is_a_sign_in_geometries_and_vectors() {
    check_update(
        "extension-toast",
        expect![[
            r#"{"g":{"srid":null,"wkb":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}},"ga":[{"srid":null,"wkb":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}}],"gg":{"srid":null,"wkb":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}},"gn":{"srid":null,"wkb":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}},"h":[{"$float":1119748096},{"$float":1119748096},{"$float":1120403456},{"$float":1120534528},{"$float":1120141312},{"$float":1120534528},{"$float":1123287040},{"$float":1121058816},{"$float":1122631680},{"$float":1121583104},{"$float":1119748096},{"$float":1122631680},{"$float":1121714176},{"$float":1120010240},{"$float":1122762752},{"$float":1120010240},{"$float":1121058816},{"$float":1121452032},{"$float":1120010240},{"$float":1120141312},{"$float":1121452032},{"$float":1120534528},{"$float":1119748096},{"$float":1122762752},{"$float":1120010240},{"$float":1121452032},{"$float":1122631680},{"$float":1120534528}],"id":1,"rev":2,"s":null,"v":[95.0,95.0,100.0,101.0,98.0,101.0,122.0,105.0,117.0,109.0,95.0,117.0,110.0,97.0,118.0,97.0,105.0,108.0,97.0,98.0,108.0,101.0,95.0,118.0,97.0,108.0,117.0,101.0],"vn":[95.0,95.0,100.0,101.0,98.0,101.0,122.0,105.0,117.0,109.0,95.0,117.0,110.0,97.0,118.0,97.0,105.0,108.0,97.0,98.0,108.0,101.0,95.0,118.0,97.0,108.0,117.0,101.0]} s:unavailable"#
        ]],
    );
}

/// For unchanged TOAST lists of unknown types Debezium writes null. Wellspring writes the
/// placeholder as bytes.
#[test]
fn unchanged_toast_is_a_sign_in_unknown_types_as_bytes() {
    check_update(
        "unknown-toast",
        expect![[
            r#"{"a":[{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"}],"id":1,"p":{"$bytes":"5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"},"q":"q","rev":2} "#
        ]],
    );
}

/// Debezium leaves the column out of the key as well. Then every row may have the same empty key.
#[test]
fn a_key_column_that_is_left_out_is_refused() {
    let mut recording = recording("unknown-key");
    recording["options"]["modes"] = json!({ "include.unknown.datatypes": "false" });
    expect![[r#"table public.t: its key column `l` is of type pg_lsn, which events.unknown_types = "drop" leaves out, so rows could not be told apart; write "text", or exclude the table"#]].assert_eq(&Replay::refusal_of(&recording));
}

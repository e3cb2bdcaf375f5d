#!/usr/bin/env bash
# Kafka Connect's Cast writes a timestamp before 1970-01-02 as a time of day, without its date.
#
# Package:   org.apache.kafka:connect-transforms and connect-api 4.3.1.
# Expected:  Cast to `string` writes a field of Connect's type Timestamp with its date, as it does for today's moments,
#            so that different moments are different texts.
# Seen:      the form of the text is chosen by the value and not by the type of the field. A moment before 1970-01-02
#            is written as a time of day alone, so that two moments of 1955 and 1969 are one text. Midnight of a later
#            day is written as a date alone. A column therefore has texts in three forms.
# Matters:   Debezium's connector writes columns of type `timestamp` so with `time.precision.mode=connect`, and a Cast
#            to string after it is a usual way to readable times. Birthdays and historic dates lose their day, and no
#            error or log line says so.
# Known:     issue 948 of confluentinc/kafka-connect-jdbc (2020) reports dates before 1970 that are lost behind a Cast to
#            string. We found no report that names the transform.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
maven_jars org.apache.kafka:connect-transforms:4.3.1 org.slf4j:slf4j-nop:1.7.36
cat >"$FOLDER/Moments.java" <<'JAVA'
import java.time.Instant;
import java.util.Date;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.data.Timestamp;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.transforms.Cast;

public class Moments {
    static final Schema ROW = SchemaBuilder.struct().field("at", Timestamp.SCHEMA).build();

    public static void main(String[] arguments) {
        var cast = new Cast.Value<SourceRecord>();
        cast.configure(Map.of("spec", "at:string"));
        for (var moment : new String[] {"1955-11-05T21:00:00Z", "1969-07-20T21:00:00Z", "1970-01-01T21:00:00Z",
                                        "1970-01-02T21:00:00Z", "2026-11-29T00:00:00Z", "2026-11-29T21:00:00Z"}) {
            var row = new Struct(ROW).put("at", Date.from(Instant.parse(moment)));
            var made = cast.apply(new SourceRecord(Map.of(), Map.of(), "t", null, null, null, ROW, row));
            System.out.println(moment + " is cast to " + ((Struct) made.value()).get("at"));
        }
        cast.close();
    }
}
JAVA
java -cp "$JARS" "$FOLDER/Moments.java" | tee "$FOLDER/seen"
status=0
cmp -s "$FOLDER/seen" - <<'SEEN' || status=3
1955-11-05T21:00:00Z is cast to 21:00:00.000Z
1969-07-20T21:00:00Z is cast to 21:00:00.000Z
1970-01-01T21:00:00Z is cast to 21:00:00.000Z
1970-01-02T21:00:00Z is cast to 1970-01-02T21:00:00.000Z
2026-11-29T00:00:00Z is cast to 2026-11-29
2026-11-29T21:00:00Z is cast to 2026-11-29T21:00:00.000Z
SEEN
verdict "$status"

#!/usr/bin/env bash
# Debezium's TimezoneConverter writes moments with an offset that their zone does not have then.
#
# Package:   io.debezium:debezium-connector-postgres 3.7.0.Final with Kafka Connect 4.3.1.
# Expected:  the transform moves a timestamp with time zone into the configured zone: the text has the local time and
#            the offset that the zone has at that instant, as Java's `Instant.atZone` gives them.
# Seen:      the transform asks for the offset of the UTC time as if that were a local time of the zone. Near each change
#            of the clocks the offset is wrong for some hours, because the zone is as many hours away from UTC. In 2024
#            it is wrong in 4 hours in Berlin and in 14 in Los Angeles. The local time in the text is then wrong by an hour.
# Matters:   the instant is still right, but readers take this transform for the local time, such as the day or the hour
#            that a row is counted for. Twice a year rows are counted for the wrong hour.
# Known:     the documentation of the transform does not mention it. We found no report.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
maven_jars org.apache.kafka:connect-json:4.3.1 org.apache.kafka:connect-transforms:4.3.1 org.slf4j:slf4j-nop:1.7.36
mvn -B -q "-Dmaven.repo.local=$FOLDER/maven/repository" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact=io.debezium:debezium-connector-postgres:3.7.0.Final:tar.gz:plugin "-DoutputDirectory=$FOLDER" >&2
tar -xzf "$FOLDER"/debezium-connector-postgres-*.tar.gz -C "$FOLDER"
JARS="$JARS:$FOLDER/debezium-connector-postgres/*"
cat >"$FOLDER/Offsets.java" <<'JAVA'
import io.debezium.data.Envelope;
import io.debezium.time.ZonedTimestamp;
import io.debezium.transforms.TimezoneConverter;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.source.SourceRecord;

public class Offsets {
    static final Schema ROW = SchemaBuilder.struct().name("p.s.t.Value").optional()
        .field("at", ZonedTimestamp.schema()).build();
    static final Schema SOURCE = SchemaBuilder.struct().name("source").field("table", Schema.STRING_SCHEMA).build();
    static final Envelope ENVELOPE = Envelope.defineSchema().withName("p.s.t.Envelope").withRecord(ROW)
        .withSource(SOURCE).build();

    /** The hours of 2024 whose text has another offset than the zone. */
    static void year(String zone) {
        var transform = new TimezoneConverter<SourceRecord>();
        transform.configure(Map.of("converted.timezone", zone));
        int wrong = 0, moved = 0;
        String first = null;
        for (var hour = Instant.parse("2024-01-01T00:30:00Z"); hour.isBefore(Instant.parse("2025-01-01T00:00:00Z"));
            hour = hour.plusSeconds(3600)) {
            var value = ENVELOPE.create(new Struct(ROW).put("at", hour.toString()),
                new Struct(SOURCE).put("table", "t"), Instant.EPOCH);
            var record = new SourceRecord(Map.of(), Map.of(), "p.s.t", ENVELOPE.schema(), value);
            var made = ((Struct) transform.apply(record).value()).getStruct("after").getString("at");
            var expected = hour.atZone(ZoneId.of(zone)).toOffsetDateTime();
            moved += OffsetDateTime.parse(made).toInstant().equals(hour) ? 0 : 1;
            if (!OffsetDateTime.parse(made).equals(expected)) {
                wrong++;
                first = first == null ? hour + " is " + made + " and should be " + expected : first;
            }
        }
        System.out.println(zone + ": hours with a wrong offset: " + wrong + ", wrong instants: " + moved);
        System.out.println("the first of them: " + first);
        transform.close();
    }

    public static void main(String[] arguments) {
        year("Europe/Berlin");
        year("America/Los_Angeles");
    }
}
JAVA
java -cp "$JARS" "$FOLDER/Offsets.java" | tee "$FOLDER/seen"
status=0
{
    grep -qE '^Europe/Berlin: hours with a wrong offset: [1-9][0-9]*, wrong instants: 0$' "$FOLDER/seen" &&
        grep -qE '^America/Los_Angeles: hours with a wrong offset: 1[0-9], wrong instants: 0$' "$FOLDER/seen"
} || status=3
verdict "$status"

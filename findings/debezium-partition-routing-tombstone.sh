#!/usr/bin/env bash
# Debezium's PartitionRouting leaves a tombstone in another partition than all events of its row.
#
# Package:   io.debezium:debezium-connector-postgres 3.6.3.Final with Kafka Connect 4.3.1.
# Expected:  the transform routes each event of a row to the partition that follows from a column of the row. The
#            connector sends two records for a deleted row, the delete event and a tombstone, and both go to the
#            partition of the row.
# Seen:      the transform passes a tombstone on without a partition, because a tombstone has no payload to read the
#            column from. The producer then takes the partition that follows from the key. With 8 partitions and 1,000
#            rows, about 7 of 8 tombstones are in another partition than the row's events.
# Matters:   compaction works inside a partition. The row's last delete event, or with an older event its values, stay
#            in a compacted topic for ever, and the tombstone deletes nothing. A reader of the row's partition that
#            waits for the tombstone, such as a table of Kafka Streams over flattened records, never gets it.
# Known:     Debezium's documentation of the transform says that a record without the field passes unchanged, and does
#            not mention tombstones. We found no report.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
maven_jars org.apache.kafka:connect-json:4.3.1 org.apache.kafka:connect-transforms:4.3.1 org.slf4j:slf4j-nop:1.7.36
mvn -B -q "-Dmaven.repo.local=$FOLDER/maven/repository" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact=io.debezium:debezium-connector-postgres:3.6.3.Final:tar.gz:plugin "-DoutputDirectory=$FOLDER" >&2
tar -xzf "$FOLDER"/debezium-connector-postgres-*.tar.gz -C "$FOLDER"
JARS="$JARS:$FOLDER/debezium-connector-postgres/*"
cat >"$FOLDER/Tombstones.java" <<'JAVA'
import io.debezium.data.Envelope;
import io.debezium.transforms.partitions.PartitionRouting;
import java.time.Instant;
import java.util.Map;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.source.SourceRecord;

public class Tombstones {
    static final int PARTITIONS = 8, ROWS = 1000;
    static final Schema KEY = SchemaBuilder.struct().name("p.s.t.Key").field("id", Schema.INT32_SCHEMA).build();
    static final Schema ROW = SchemaBuilder.struct().name("p.s.t.Value").optional()
        .field("id", Schema.INT32_SCHEMA).field("region", Schema.STRING_SCHEMA).build();
    static final Schema SOURCE = SchemaBuilder.struct().name("source").field("lsn", Schema.INT64_SCHEMA).build();
    static final Envelope ENVELOPE = Envelope.defineSchema().withName("p.s.t.Envelope").withRecord(ROW)
        .withSource(SOURCE).build();

    static SourceRecord record(Struct key, Struct value) {
        return new SourceRecord(Map.of(), Map.of(), "p.s.t", null, KEY, key, value == null ? null : value.schema(), value);
    }

    /** The partition that Connect's producer uses: the record's own, or that of the key. */
    static int partition(SourceRecord record, JsonConverter converter) {
        if (record.kafkaPartition() != null) {
            return record.kafkaPartition();
        }
        return BuiltInPartitioner.partitionForKey(
            converter.fromConnectData(record.topic(), record.keySchema(), record.key()), PARTITIONS);
    }

    public static void main(String[] arguments) {
        var converter = new JsonConverter();
        converter.configure(Map.of("schemas.enable", false), true);
        var transform = new PartitionRouting<SourceRecord>();
        transform.configure(Map.of("partition.payload.fields", "change.region", "partition.topic.num", PARTITIONS));
        int together = 0, apart = 0, routed = 0, unrouted = 0;
        for (int id = 0; id < ROWS; id++) {
            var key = new Struct(KEY).put("id", id);
            var row = new Struct(ROW).put("id", id).put("region", "region " + id % 40);
            var source = new Struct(SOURCE).put("lsn", 1L);
            var insert = transform.apply(record(key, ENVELOPE.create(row, source, Instant.EPOCH)));
            var delete = transform.apply(record(key, ENVELOPE.delete(row, source, Instant.EPOCH)));
            var tombstone = transform.apply(record(key, null));
            routed += insert.kafkaPartition() != null && insert.kafkaPartition().equals(delete.kafkaPartition()) ? 1 : 0;
            unrouted += tombstone.kafkaPartition() == null ? 1 : 0;
            if (partition(tombstone, converter) == partition(delete, converter)) {
                together++;
            } else {
                apart++;
            }
        }
        System.out.println("rows whose insert and delete are routed to one partition: " + routed);
        System.out.println("tombstones without a partition: " + unrouted);
        System.out.println("tombstones in another partition than their rows: " + apart + ", in the same: " + together);
        transform.close();
    }
}
JAVA
java -cp "$JARS" "$FOLDER/Tombstones.java" | tee "$FOLDER/seen"
status=0
{
    grep -qx 'rows whose insert and delete are routed to one partition: 1000' "$FOLDER/seen" &&
        grep -qx 'tombstones without a partition: 1000' "$FOLDER/seen" &&
        grep -qxE 'tombstones in another partition than their rows: 8[0-9]{2}, in the same: 1[0-9]{2}' "$FOLDER/seen"
} || status=3
verdict "$status"

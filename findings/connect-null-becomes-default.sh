#!/usr/bin/env bash
# In Kafka Connect NULL becomes the column's default again at every step, each of which has to be told not to do so.
#
# Package:   org.apache.kafka:connect-json, connect-transforms and connect-api 4.3.1.
# Expected:  a nullable column with a default that holds NULL arrives as NULL. With `replace.null.with.default=false`
#            on the converters of source and sink no other setting is needed.
# Seen:      the JSON converter writes the default instead of null unless it is told otherwise. With both converters
#            told, the record arrives with null, and then ReplaceField, asked to drop another column, turns the null
#            into the default, because each transform has its own setting of that name. Struct.get answers the default
#            even for a record that holds null; only getWithoutDefault shows it. A sink or transform that calls get
#            writes the default.
# Matters:   `UPDATE orders SET discount = NULL` reaches the target as the default discount, without an error. No
#            setting of a source can prevent it: the schema carries the default, and each reader applies it or does
#            not.
# Known:     KAFKA-8713 and KIP-581 for the converter; apache/iceberg issue 17652 (2026) for a sink that calls get.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
maven_jars org.apache.kafka:connect-json:4.3.1 org.apache.kafka:connect-transforms:4.3.1 org.slf4j:slf4j-nop:1.7.36
cat >"$FOLDER/Nulls.java" <<'JAVA'
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.transforms.ReplaceField;

public class Nulls {
    static JsonConverter converter(Map<String, Object> settings) {
        var all = new HashMap<String, Object>(settings);
        all.put("schemas.enable", true);
        var converter = new JsonConverter();
        converter.configure(all, false);
        return converter;
    }

    static String payload(byte[] record) {
        var text = new String(record, StandardCharsets.UTF_8);
        return text.substring(text.indexOf("\"payload\""), text.length() - 1);
    }

    static Struct withoutNote(Struct row, Map<String, Object> settings) {
        try (var transform = new ReplaceField.Value<SinkRecord>()) {
            var all = new HashMap<String, Object>(settings);
            all.put("exclude", "note");
            transform.configure(all);
            return (Struct) transform.apply(new SinkRecord("orders", 0, null, null, row.schema(), row, 0)).value();
        }
    }

    public static void main(String[] arguments) {
        var discount = SchemaBuilder.int32().optional().defaultValue(10).build();
        var schema = SchemaBuilder.struct().field("id", Schema.INT32_SCHEMA).field("discount", discount)
            .field("note", Schema.OPTIONAL_STRING_SCHEMA).build();
        var row = new Struct(schema).put("id", 1).put("discount", null).put("note", "x");
        var keep = Map.<String, Object>of("replace.null.with.default", false);

        System.out.println("untold converter: " + payload(converter(Map.of()).fromConnectData("orders", schema, row)));
        var record = converter(keep).fromConnectData("orders", schema, row);
        System.out.println("told converter: " + payload(record));
        var arrived = (Struct) converter(keep).toConnectData("orders", record).value();
        System.out.println("arrived, getWithoutDefault: " + arrived.getWithoutDefault("discount"));
        System.out.println("arrived, get: " + arrived.get("discount"));
        System.out.println("after ReplaceField: " + withoutNote(arrived, Map.of()).getWithoutDefault("discount"));
        System.out.println("after told ReplaceField: " + withoutNote(arrived, keep).getWithoutDefault("discount"));
    }
}
JAVA
java -cp "$JARS" "$FOLDER/Nulls.java" | tee "$FOLDER/seen"
cat >"$FOLDER/stated" <<'TEXT'
untold converter: "payload":{"id":1,"discount":10,"note":"x"}
told converter: "payload":{"id":1,"discount":null,"note":"x"}
arrived, getWithoutDefault: null
arrived, get: 10
after ReplaceField: 10
after told ReplaceField: null
TEXT
status=0
diff "$FOLDER/stated" "$FOLDER/seen" >/dev/null || status=3
verdict "$status"

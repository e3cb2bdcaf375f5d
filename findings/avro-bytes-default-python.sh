#!/usr/bin/env bash
# Python's two Avro libraries give a new decimal column's default as text, or as other bytes than the schema says.
#
# Package:   fastavro 1.13.1 and avro 1.12.2 (Python); org.apache.avro:avro 1.12.1 (Java) for comparison.
# Expected:  the default of a `bytes` field is a JSON string with one character (0 to 255) for each byte. A reader
#            schema with a new decimal(10,2) field of default 12.34 (bytes 04 D2, text "\u0004\u00d2") fills in the
#            amount 12.34 for records that were written before the field existed.
# Seen:      fastavro fills in the str "\x04\u00d2". Python's avro fills in the bytes 04 C3 92, which is the UTF-8
#            form of that text; as an amount they mean 3122.10. Neither gives a decimal. Java gives 12.34. A default
#            such as 0 or 1.00 hides the wrong bytes, because the two forms are equal below 0x80.
# Matters:   `ADD COLUMN fee numeric(10,2) NOT NULL DEFAULT 12.34` is the everyday change of a captured table, and
#            connectors carry the default over into the schema. Old records then have a fee of another type than new
#            ones, or another fee.
# Known:     fastavro issue 869 and pull request 888 (open) for the type. We found no report for the UTF-8 bytes of
#            avro.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages fastavro==1.13.1 avro==1.12.2
maven_jars org.apache.avro:avro:1.12.1 org.slf4j:slf4j-nop:2.0.17
cat >"$FOLDER/Read.java" <<'JAVA'
import java.util.HexFormat;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;

/** Prints the field `fee` of a record given in hexadecimal digits. */
public class Read {
    public static void main(String[] arguments) throws Exception {
        var data = new GenericData();
        data.addLogicalTypeConversion(new Conversions.DecimalConversion());
        var writer = new Schema.Parser().parse(arguments[0]);
        var reader = new Schema.Parser().parse(arguments[1]);
        var bytes = HexFormat.of().parseHex(arguments[2]);
        var read = new GenericDatumReader<GenericRecord>(writer, reader, data)
            .read(null, DecoderFactory.get().binaryDecoder(bytes, null));
        System.out.println(read.get("fee"));
    }
}
JAVA
status=0
"$PYTHON" - "$FOLDER" "$JARS" <<'PYTHON' || status=$?
import decimal, io, json, subprocess, sys
import avro.io, avro.schema
import fastavro

folder, jars = sys.argv[1:]

def record(*fields):
    return {"type": "record", "name": "Row", "fields": list(fields)}

identity = {"name": "id", "type": "long"}
fee = {"name": "fee", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
       "default": (1234).to_bytes(2, "big").decode("latin-1")}
writer, reader = record(identity), record(identity, fee)
print("default in the schema:", json.dumps(fee["default"]))
out = io.BytesIO()
fastavro.schemaless_writer(out, writer, {"id": 1})
data = out.getvalue()

by_fastavro = fastavro.schemaless_reader(io.BytesIO(data), writer, reader)["fee"]
schemas = [avro.schema.parse(json.dumps(schema)) for schema in (writer, reader)]
by_avro = avro.io.DatumReader(*schemas).read(avro.io.BinaryDecoder(io.BytesIO(data)))["fee"]
by_java = subprocess.run(
    ["java", "-cp", jars, folder + "/Read.java", json.dumps(writer), json.dumps(reader), data.hex()],
    check=True, capture_output=True, text=True,
).stdout.strip()
print(f"fastavro: {by_fastavro!r}")
mistaken = decimal.Decimal(int.from_bytes(by_avro, "big", signed=True)).scaleb(-2)
print(f"Python avro: {by_avro!r}, as an amount {mistaken}")
print(f"Java: {by_java}")
as_stated = by_fastavro == "\x04\xd2" and by_avro == b"\x04\xc3\x92" and by_java == "12.34"
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"

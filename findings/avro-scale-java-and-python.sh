#!/usr/bin/env bash
# Java's Avro reads a decimal with the reader's scale, Python's two libraries with the writer's: 123.45 becomes
# 1.2345.
#
# Package:   org.apache.avro:avro 1.12.1 (Java), fastavro 1.13.1 and avro 1.12.2 (Python).
# Expected:  the specification lets two decimal schemas match only if scale and precision are equal. So decimal(10,2)
#            data that is read with a decimal(12,4) schema is refused, or at least the amount stays the same.
# Seen:      Java's SchemaCompatibility answers COMPATIBLE (registries on the JVM build on this class). Java then
#            reads the unscaled integer with the reader's scale: 123.45 is 1.2345. Python reads 123.45 from the same
#            bytes and the same two schemas. The parsing canonical form drops logical types, so that both schemas even
#            have one fingerprint. timestamp-millis read as timestamp-micros goes the same way: Java reads 2026 as
#            January 1970.
# Matters:   `ALTER COLUMN amount TYPE numeric(12,4)`, or another time precision in the connector, changes the schema
#            in the middle of a topic. A consumer whose class or reader schema is pinned reads amounts that are wrong
#            by a factor of 100 and dates that are wrong by 56 years, while every check passes. A cache keyed by
#            fingerprint mixes the two.
# Known:     AVRO-2078 and apache/avro pull request 247 (open since 2017); Materialize issue 6536 describes the same
#            effect after ALTER COLUMN.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages fastavro==1.13.1 avro==1.12.2
maven_jars org.apache.avro:avro:1.12.1 org.slf4j:slf4j-nop:2.0.17
cat >"$FOLDER/Read.java" <<'JAVA'
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.avro.Conversions;
import org.apache.avro.Schema;
import org.apache.avro.SchemaCompatibility;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.data.TimeConversions;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;

/** Prints the field `x` of the record in the file, the compatibility, and if the fingerprints are equal. */
public class Read {
    public static void main(String[] arguments) throws Exception {
        var data = new GenericData();
        data.addLogicalTypeConversion(new Conversions.DecimalConversion());
        data.addLogicalTypeConversion(new TimeConversions.TimestampMillisConversion());
        data.addLogicalTypeConversion(new TimeConversions.TimestampMicrosConversion());
        var writer = new Schema.Parser().parse(arguments[0]);
        var reader = new Schema.Parser().parse(arguments[1]);
        var bytes = Files.readAllBytes(Path.of(arguments[2]));
        var read = new GenericDatumReader<GenericRecord>(writer, reader, data)
            .read(null, DecoderFactory.get().binaryDecoder(bytes, null));
        System.out.println(read.get("x")
            + " " + SchemaCompatibility.checkReaderWriterCompatibility(reader, writer).getType()
            + " " + (SchemaNormalization.parsingFingerprint64(writer)
                == SchemaNormalization.parsingFingerprint64(reader)));
    }
}
JAVA
status=0
"$PYTHON" - "$FOLDER" "$JARS" <<'PYTHON' || status=$?
import datetime, decimal, io, json, subprocess, sys
import avro.io, avro.schema
import fastavro

folder, jars = sys.argv[1:]

def read_by_all(name, value, written_as, read_as):
    """What three libraries read: the value is written once, and all get the same bytes and schemas."""
    def record(x):
        return {"type": "record", "name": "Row", "fields": [{"name": "x", "type": x}]}
    writer, reader = record(written_as), record(read_as)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, writer, {"x": value})
    data = out.getvalue()
    with open(folder + "/record", "wb") as file:
        file.write(data)
    java = subprocess.run(
        ["java", "-cp", jars, folder + "/Read.java", json.dumps(writer), json.dumps(reader), folder + "/record"],
        check=True, capture_output=True, text=True,
    ).stdout.split()
    schemas = [avro.schema.parse(json.dumps(schema)) for schema in (writer, reader)]
    seen = {
        "fastavro": fastavro.schemaless_reader(io.BytesIO(data), writer, reader)["x"],
        "Python avro": avro.io.DatumReader(*schemas).read(avro.io.BinaryDecoder(io.BytesIO(data)))["x"],
        "Java": java[0],
    }
    print(f"{name}: written {value}, read " + ", ".join(f"{who} {what}" for who, what in seen.items()))
    print(f"  Java's compatibility check: {java[1]}, equal fingerprints: {java[2]}")
    return seen, java[1:]

def amount(precision, scale):
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}

def moment(unit):
    return {"type": "long", "logicalType": unit}

price = decimal.Decimal("123.45")
prices, price_checks = read_by_all("decimal(10,2) as decimal(12,4)", price, amount(10, 2), amount(12, 4))
day = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
days, day_checks = read_by_all("timestamp-millis as timestamp-micros", day, moment("timestamp-millis"),
                               moment("timestamp-micros"))
as_stated = (
    prices == {"fastavro": price, "Python avro": price, "Java": "1.2345"}
    and days["fastavro"] == day and days["Python avro"] == day and days["Java"].startswith("1970-01-21T")
    and price_checks == day_checks == ["COMPATIBLE", "true"]
)
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"

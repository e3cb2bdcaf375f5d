"""Proves decoder and normalisation without any server: the expectation is made raw again, encoded, decoded, compared.

Placeholders become numbers as a run would have them; fastavro writes the bodies with the expected schemas; from there on
everything is as for a real run. A case that does not come out equal shows a fault of the runner, not of the program.
"""
import io
import json
import re

import fastavro

import decode
import normal


def raw(value, shift=700, binary=True):
    """The value with placeholders turned back into what a run would show; with `binary`, bytes as bytes too."""
    if isinstance(value, dict):
        if set(value) == {"$bytes"} and binary:
            return bytes.fromhex(value["$bytes"])
        return {k: clock(k) if v == "$ts" else raw(v, shift, binary) for k, v in value.items()}
    if isinstance(value, list):
        return [raw(v, shift, binary) for v in value]
    if isinstance(value, str):
        match = re.fullmatch(r"\$tx(\d+)(:\$lsn)?", value)
        if match:
            number = shift + 3 * int(match.group(1))
            return "%d:%d" % (number, 9000 + number) if match.group(2) else number
        return {"$lsn": 26_000_000, "$xmin": 600, "$version": "1.2.3"}.get(value, value.replace("$lsn", "26000000"))
    return value


def clock(name):
    unit = next((u for u in normal.PER_SECOND if name.endswith(u)), "ts_ms")
    return int(1_790_000_000 * normal.PER_SECOND[unit])


def numbers(schema, value, named):
    """Texts for NaN and infinity as the numbers they stand for, where the schema has a floating point number."""
    if isinstance(schema, str):
        if schema in ("float", "double") and isinstance(value, str):
            return float(value.replace("Infinity", "inf"))
        return numbers(named[schema], value, named) if schema in named else value
    if isinstance(schema, list):
        branches = [s for s in schema if s != "null"]
        return None if value is None else numbers(branches[0], value, named)
    kind = schema["type"]
    if kind == "record":
        return {f["name"]: numbers(f["type"], value[f["name"]], named) for f in schema["fields"]}
    if kind == "array":
        return [numbers(schema["items"], v, named) for v in value]
    if kind == "map":
        return {k: numbers(schema["values"], v, named) for k, v in value.items()}
    return numbers(kind, value, named)


def encoded(text, value):
    schema = decode.Schema(text)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, numbers(schema.tree, value, schema.named))
    return out.getvalue()


def case(path, properties, load):
    """(differences, records) of the expectation compared with itself by way of bytes."""
    rows, schemas = load(path)
    meta = properties(path + "/case.properties")
    records = []
    for row in rows:
        parts = {}
        for part in ("key", "value"):
            name = row[part + "_schema"]
            if name is None:
                parts[part] = (None, None, None)
                continue
            subject, _, number = name.rpartition("#")
            text = schemas[subject][int(number) - 1]
            if "$long_" in json.dumps(row[part]):
                # Its bytes are not in the expectation; taken as read.
                parts[part] = (raw(row[part], binary=False), text, None)
                continue
            body = encoded(text, raw(row[part]))
            parts[part] = (decode.Schema(text).read(body), text, body)
        headers = [[h["name"], str(raw(h["value"])) if h["value"] is not None else None] for h in row["headers"]]
        body = parts["key"][2]
        records.append(normal.Record(
            row["topic"], parts["key"][0], parts["value"][0], parts["key"][1], parts["value"][1], headers,
            body.hex() if body is not None and "partition_key_hex" in row else row.get("partition_key_hex"),
            row.get("partition"), row.get("timestamp")))
    want = normal.expected(rows, schemas)
    return normal.differences(want, normal.observed(records, meta)), sum(len(lines) for lines in want[0].values())

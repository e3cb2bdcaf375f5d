"""The form in which records are compared: everything that differs between two runs by nature gets a name of its own.

Written from the rules in README.md. `observed` brings what was read from topics into that form, `expected` what a case
says, `differences` compares the two.
"""
import copy
import hashlib
import json
import re

# Outside of these years a "timestamp" is data of a row and no clock reading.
CLOCK_SECONDS = (1_735_689_600, 4_102_444_800)
PER_SECOND = {"ts_ms": 1e3, "ts_us": 1e6, "ts_ns": 1e9}
LONG = 4096
# Fields and headers that single message transforms make: __lsn, __source_ts_ms, ...
FLATTENED = re.compile(r"__(?:source_|transaction_)?(ts_ms|ts_us|ts_ns|lsn|txId|xmin|sequence|version|id)")
XID = re.compile(r"(\d+)(:\d+)?")


class Record:
    """A record with its decoded parts and the exact text of their schemas."""

    def __init__(self, topic, key, value, key_schema, value_schema, headers, key_hex, partition=None, time=None):
        self.topic, self.key, self.value = topic, key, value
        self.key_schema, self.value_schema = key_schema, value_schema
        self.headers, self.key_hex, self.partition = headers, key_hex, partition
        # A clock reading says nothing; a time that a column of the row gave is compared.
        is_clock = isinstance(time, int) and CLOCK_SECONDS[0] <= time / 1e3 < CLOCK_SECONDS[1]
        self.time = time if isinstance(time, int) and not is_clock else None

    @property
    def source(self):
        source = self.value.get("source") if isinstance(self.value, dict) else None
        return source if isinstance(source, dict) and "connector" in source else None

    def is_transaction(self):
        return isinstance(self.value, dict) and {"status", "event_count", "data_collections"} <= set(self.value)

    def is_heartbeat(self):
        return isinstance(self.key, dict) and set(self.key) == {"serverName"}

    def is_notification(self):
        return isinstance(self.value, dict) and {"aggregate_type", "additional_data"} <= set(self.value)


def kinds(record, meta):
    """Paths of the record's volatile places, each with its kind."""
    volatile = dict(item.strip().split(":") for item in meta.get("volatile.fields", "").split(",") if item.strip())

    def flattened(name):
        match = FLATTENED.fullmatch(name)
        return volatile.get(name) or (match.group(1) if match else None)

    for part, content in (("key", record.key), ("value", record.value)):
        if not isinstance(content, dict):
            continue
        for name in content:
            kind = flattened(name)
            if record.is_transaction() and name in ("id", "ts_ms"):
                kind = "id" if name == "id" else "ts_ms"
            elif record.is_heartbeat() and name == "ts_ms":
                kind = "ts_ms"
            elif record.is_notification() and name in ("id", "timestamp"):
                kind = "uuid" if name == "id" else "ts_ms"
            elif record.source is not None and part == "value" and name in PER_SECOND:
                kind = name
            if kind:
                yield (part, name), kind
        if part == "value" and record.source is not None:
            for name in ("version", "ts_ms", "ts_us", "ts_ns", "lsn", "sequence", "xmin", "txId"):
                if name in record.source:
                    yield (part, "source", name), name
            if isinstance(content.get("transaction"), dict):
                yield (part, "transaction", "id"), "id"
    for number, (name, _) in enumerate(record.headers):
        kind = "uuid" if name == "__debezium.context.runId" else flattened(name)
        if kind:
            yield ("headers", number), kind


def place(record, path):
    """The container and the key of a place."""
    if path[0] == "headers":
        return record.headers[path[1]], 1
    node = getattr(record, path[0])
    for step in path[1:-1]:
        node = node[step]
    return node, path[-1]


def named(kind, value, xids):
    """What stands for `value`, which is of the kind `kind`."""
    if value is None:
        return None
    if kind in PER_SECOND:
        try:
            seconds = int(value) / PER_SECOND[kind]
        except (TypeError, ValueError):
            return value
        return "$ts" if CLOCK_SECONDS[0] <= seconds <= CLOCK_SECONDS[1] else value
    if kind == "lsn":
        return "$lsn" if re.fullmatch(r"\d+", str(value)) else value
    if kind == "sequence":
        return re.sub(r'"\d+"', '"$lsn"', value) if isinstance(value, str) else value
    if kind in ("txId", "id"):
        match = XID.fullmatch(str(value))
        if not match or int(match.group(1)) not in xids:
            return value
        return xids[int(match.group(1))] + (":$lsn" if match.group(2) else "")
    return {"xmin": "$xmin", "version": "$version", "uuid": "$uuid"}[kind]


def is_sentinel(record, meta):
    return record.topic.endswith(".ref_sentinel") or record.topic == meta.get("sentinel.topic")


def shortened(value):
    if isinstance(value, dict):
        if set(value) == {"$bytes"} and len(value["$bytes"]) > 2 * LONG:
            data = bytes.fromhex(value["$bytes"])
            return {"$long_bytes": {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}}
        return {k: shortened(v) for k, v in value.items()}
    if isinstance(value, list):
        return [shortened(v) for v in value]
    if isinstance(value, str) and len(value) > LONG:
        return {"$long_text": {"characters": len(value), "sha256": hashlib.sha256(value.encode()).hexdigest()}}
    return value


def observed(records, meta):
    """Records as read, in the form in which they are compared: (lines by topic, schema texts by subject)."""
    kept = without_sentinels(records, meta)
    kept = copy.deepcopy(kept)
    seen = set()
    for record in kept:
        for path, kind in kinds(record, meta):
            if kind in ("txId", "id"):
                node, step = place(record, path)
                match = XID.fullmatch(str(node[step]))
                if match:
                    seen.add(int(match.group(1)))
    xids = {x: "$tx%d" % (i + 1) for i, x in enumerate(sorted(seen))}
    for record in kept:
        for path, kind in list(kinds(record, meta)):
            node, step = place(record, path)
            node[step] = named(kind, node[step], xids)
        if record.is_transaction() and record.value["data_collections"] is not None:
            for item in record.value["data_collections"]:
                item["data_collection"] = re.sub(r"@[0-9a-f]+$", "@$address", item["data_collection"])
            record.value["data_collections"].sort(key=lambda item: item["data_collection"])
    return arranged(kept)


def without_sentinels(records, meta):
    dropped = [t for t in meta.get("drop.topics", "").split(",") if t]
    own, ended = set(), set()
    for record in records:
        if is_sentinel(record, meta) and record.source is not None:
            own.add(str(record.source.get("txId")))
        elif record.is_transaction() and record.value["status"] == "END":
            xid = record.value["id"].split(":")[0]
            ended.add(xid)
            if [c["data_collection"] for c in record.value["data_collections"]] == ["public.ref_sentinel"]:
                own.add(xid)
    kept = []
    for record in records:
        if is_sentinel(record, meta) or record.topic in dropped:
            continue
        if record.is_transaction():
            xid = record.value["id"].split(":")[0]
            if xid in own or xid not in ended:
                continue
        kept.append(record)
    return kept


def arranged(records):
    """Lines by topic, with schemas numbered per subject in the order of their first use; heartbeats once, at the end."""
    subjects, lines, beats = {}, {}, {}
    for record in records:
        line = {"key": shortened(record.key), "value": shortened(record.value)}
        for part, text in (("key", record.key_schema), ("value", record.value_schema)):
            line[part + " schema"] = None
            if text is not None:
                texts = subjects.setdefault("%s-%s" % (record.topic, part), [])
                if text not in texts:
                    texts.append(text)
                line[part + " schema"] = "#%d" % (texts.index(text) + 1)
        line["headers"] = [list(h) for h in record.headers]
        if record.key_hex is not None and not record.is_transaction() and not record.is_notification():
            line["key bytes"] = record.key_hex
        if record.partition is not None:
            line["partition"] = record.partition
        if record.time is not None:
            line["time"] = record.time
        if record.is_heartbeat():
            if line not in beats.setdefault(record.topic, []):
                beats[record.topic].append(line)
        else:
            lines.setdefault(record.topic, []).append(line)
    for topic, found in beats.items():
        lines.setdefault(topic, []).extend(found)
    return lines, subjects


def expected(rows, schemas):
    """The case's expectation in the same form."""
    records = []
    for row in rows:
        def text(part):
            name = row[part + "_schema"]
            if name is None:
                return None
            subject, _, number = name.rpartition("#")
            return schemas[subject][int(number) - 1]

        records.append(Record(
            row["topic"], row["key"], row["value"], text("key"), text("value"),
            [[h["name"], h["value"]] for h in row["headers"]], row.get("partition_key_hex"), row.get("partition"),
            row.get("timestamp"),
        ))
    kept = records
    used = sorted({int(n) for r in kept for n in re.findall(r'"\$tx(\d+)', json.dumps([r.key, r.value, r.headers]))})
    again = {str(old): str(new + 1) for new, old in enumerate(used)}

    def renumbered(value):
        if isinstance(value, dict):
            return {k: renumbered(v) for k, v in value.items()}
        if isinstance(value, list):
            return [renumbered(v) for v in value]
        if isinstance(value, str):
            return re.sub(r"^\$tx(\d+)(?=$|:)", lambda m: "$tx" + again[m.group(1)], value)
        return value

    for record in kept:
        record.key, record.value = renumbered(record.key), renumbered(record.value)
        record.headers = renumbered(record.headers)
    return arranged(kept)


def same(a, b):
    """Equality that tells integers from floating point numbers and 0.0 from -0.0."""
    if isinstance(a, float) and isinstance(b, float):
        if type(a) is not float or type(b) is not float:  # one of them was an Avro `float`: 32 bits decide
            marked, other = (a, b) if type(a) is not float else (b, a)
            return marked == other
        return a.hex() == b.hex()
    return type(a) is type(b) and a == b


def inside(path, want, have):
    """Places where two trees differ, as lines of text."""
    if isinstance(want, dict) and isinstance(have, dict):
        for name in list(want) + [n for n in have if n not in want]:
            if name not in have:
                yield "%s/%s: missing, expected %s" % (path, name, brief(want[name]))
            elif name not in want:
                yield "%s/%s: not expected, is %s" % (path, name, brief(have[name]))
            else:
                yield from inside("%s/%s" % (path, name), want[name], have[name])
    elif isinstance(want, list) and isinstance(have, list) and len(want) == len(have):
        for number, (w, h) in enumerate(zip(want, have)):
            yield from inside("%s/%d" % (path, number), w, h)
    elif not same(want, have):
        yield "%s: expected %s, is %s" % (path, brief(want), brief(have))


def brief(value, most=160):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else text[:most] + "..."


def differences(want, have):
    """Everything in which `have` is not `want`; both as `observed` and `expected` give them."""
    want_lines, want_schemas = want
    have_lines, have_schemas = have
    out = []
    for topic in sorted(set(want_lines) | set(have_lines)):
        w, h = want_lines.get(topic, []), have_lines.get(topic, [])
        if len(w) != len(h):
            out.append("%s: expected %d records, is %d" % (topic, len(w), len(h)))
        for number, (a, b) in enumerate(zip(w, h)):
            out.extend(inside("%s[%d]" % (topic, number), a, b))
        out.extend("%s[%d]: missing: %s" % (topic, len(h) + i, brief(r)) for i, r in enumerate(w[len(h):]))
        out.extend("%s[%d]: not expected: %s" % (topic, len(w) + i, brief(r)) for i, r in enumerate(h[len(w):]))
    for subject in sorted(set(want_schemas) | set(have_schemas)):
        w, h = want_schemas.get(subject, []), have_schemas.get(subject, [])
        if len(w) != len(h):
            out.append("schemas of %s: expected %d, is %d" % (subject, len(w), len(h)))
        for number, (a, b) in enumerate(zip(w, h)):
            where = "schema %s#%d" % (subject, number + 1)
            parsed = list(inside(where, json.loads(a), json.loads(b)))
            out.extend(parsed)
            if not parsed and a != b:
                at = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                out.append("%s: equal but for its text, from character %d: expected %s, is %s"
                           % (where, at, brief(a[at:at + 60]), brief(b[at:at + 60])))
    return out

"""Reads topics as a stranger would: confluent-kafka for the bytes, fastavro and the registry's REST for their meaning."""
import io
import json
import struct
import time

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from servers import http, wait_until


class Float32(float):
    """A number that was an Avro `float`: compares as 32 bits."""

    def __eq__(self, other):
        if isinstance(other, bool) or not isinstance(other, float):
            return NotImplemented
        return struct.pack("<f", self) == struct.pack("<f", other)

    __hash__ = float.__hash__


def without_logical_types(schema):
    """The schema without the annotations that would make fastavro interpret: we compare what is on the wire."""
    if isinstance(schema, dict):
        return {k: without_logical_types(v) for k, v in schema.items() if k != "logicalType"}
    if isinstance(schema, list):
        return [without_logical_types(item) for item in schema]
    return schema


def plain(schema, value, named):
    """The decoded value as the corpus writes it: bytes as {"$bytes": hex}, floats of 32 bits marked, NaN as text."""
    if isinstance(schema, str) and schema in named:
        schema = named[schema]
    if isinstance(schema, list):
        if value is None:
            return None
        branches = [s for s in schema if s != "null"]
        if len(branches) != 1:
            raise ValueError("a union of more than null and one type: %r" % branches)
        return plain(branches[0], value, named)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(kind, (dict, list)):
        return plain(kind, value, named)
    if kind == "record":
        return {f["name"]: plain(f["type"], value[f["name"]], named) for f in schema["fields"]}
    if kind == "array":
        return [plain(schema["items"], item, named) for item in value]
    if kind == "map":
        return {k: plain(schema["values"], v, named) for k, v in value.items()}
    if kind in ("bytes", "fixed"):
        return {"$bytes": value.hex()}
    if kind in ("float", "double"):
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
        return Float32(value) if kind == "float" else float(value)
    return value


class Schema:
    """One writer's schema: its exact text and a decoder for its bodies."""

    def __init__(self, text):
        self.text = text
        tree = json.loads(text)
        self.tree = without_logical_types(tree)
        self.named = {}
        self._names(self.tree, "")
        self.parsed = fastavro.parse_schema(json.loads(json.dumps(self.tree)), named_schemas={})

    def _names(self, schema, space):
        if isinstance(schema, list):
            for item in schema:
                self._names(item, space)
        elif isinstance(schema, dict):
            if schema.get("type") in ("record", "enum", "fixed"):
                name = schema["name"]
                if "." in name:
                    space = name.rpartition(".")[0]
                    full = name
                else:
                    space = schema.get("namespace", space)
                    full = (space + "." if space else "") + name
                # A reference inside the same namespace uses the short name; ours never define one name twice.
                self.named[full] = self.named[name.rpartition(".")[2]] = schema
            for key in ("fields", "items", "values", "type"):
                if isinstance(schema.get(key), (dict, list)):
                    self._names(schema[key], space)

    def read(self, body):
        """The plain value; every byte must be used."""
        stream = io.BytesIO(body)
        value = fastavro.schemaless_reader(stream, self.parsed)
        if stream.tell() != len(body):
            raise ValueError("%d bytes left over" % (len(body) - stream.tell()))
        return plain(self.tree, value, self.named)


class Decoder:
    """Confluent's framing: a zero byte, the schema's id in four, the Avro body."""

    def __init__(self, registry):
        self.registry = registry
        self.schemas = {}

    def schema(self, number):
        if number not in self.schemas:
            status, text = http("%s/schemas/ids/%d" % (self.registry, number))
            if status != 200:
                raise AssertionError("schema %d is not in the registry: %d %s" % (number, status, text))
            self.schemas[number] = Schema(json.loads(text)["schema"])
        return self.schemas[number]

    def read(self, data):
        """(value, schema) of a framed body; (None, None) of none."""
        if data is None:
            return None, None
        if len(data) < 5 or data[0] != 0:
            raise ValueError("not in Confluent's framing: %s" % data[:8].hex())
        schema = self.schema(struct.unpack(">I", data[1:5])[0])
        return schema.read(data[5:]), schema


def consumer(brokers, **more):
    return Consumer({
        "bootstrap.servers": brokers, "group.id": "wellspring-tests", "enable.auto.commit": False,
        "auto.offset.reset": "error", "enable.partition.eof": True, "log_level": 2, "fetch.wait.max.ms": 50, **more,
    })


def topics(source, prefix=""):
    """Names and partition counts of the topics that begin with `prefix`."""
    found = source.list_topics(timeout=10).topics
    return {name: len(found[name].partitions) for name in sorted(found) if name.startswith(prefix)}


# What a broker says of a topic that was made a moment ago.
NEW_TOPIC = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)


def ends(source, names):
    """Partition to end offset of the named topics."""

    def end(name, partition):
        def asked():
            try:
                return source.get_watermark_offsets(TopicPartition(name, partition), timeout=10, cached=False)
            except KafkaException as error:
                if error.args[0].code() in NEW_TOPIC:
                    return None
                raise

        return wait_until("%s/%d has a leader" % (name, partition), asked, 20)[1]

    partitions = topics(source)
    return {(name, p): end(name, p) for name in names for p in range(partitions.get(name, 0))}


def read_all(brokers, prefix, seconds=60.0, until=None):
    """Every message of the prefix's topics (state topic left out) up to the ends at the time of the call, raw.

    Partition by partition in offset order; topics in the order of their names.
    """
    source = consumer(brokers)
    try:
        names = [n for n in topics(source, prefix) if not n.endswith(".wellspring-state")]
        todo = {at: end for at, end in (until or ends(source, names)).items() if end > 0}
        out = {at: [] for at in todo}
        if todo:
            source.assign([TopicPartition(t, p, 0) for t, p in todo])
        deadline = time.monotonic() + seconds
        while todo:
            for message in source.consume(1000, 0.2):
                at = (message.topic(), message.partition())
                if message.error():
                    if message.error().code() != KafkaError._PARTITION_EOF:
                        raise AssertionError("%s: %s" % (at, message.error()))
                    todo.pop(at, None)  # also ends a compacted or transactional tail that has no message left
                    continue
                if at in todo:
                    out[at].append(message)
                    if message.offset() + 1 >= todo[at]:
                        del todo[at]
            if time.monotonic() > deadline:
                raise AssertionError("still unread after %.0f s: %s" % (seconds, todo))
        return [m for at in sorted(out) for m in out[at]]
    finally:
        source.close()

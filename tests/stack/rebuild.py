"""Rebuilds tables from topics as a consumer would, and says what is wrong with the way they got there.

Keyed tables by key, the last record of a key wins; tables without a key as bags of rows from before and after images. A
replay is recognised by the identity headers (epoch, commit LSN, ordinal). Order is judged per key: a replay may go back, but
from there it must repeat everything it had said before it says anything new.
"""
import bisect
import collections
import datetime
import io
import json
import struct

import fastavro

import decode
from agent import lsn
from servers import http

EPOCH = datetime.datetime(1970, 1, 1)


class Event:
    __slots__ = ("key", "value", "position", "run", "topic", "partition", "offset")

    def __init__(self, key, value, position, message, run=None):
        self.key, self.value, self.position, self.run = key, value, position, run
        self.topic, self.partition, self.offset = message.topic(), message.partition(), message.offset()


# Above this a text is worth a look-up.
LARGE_CHARACTERS = 10_000


class Reader(decode.Decoder):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.large = {}

    def fast(self, data):
        """The Python value of a framed body, without the corpus' notation."""
        if data is None:
            return None
        value = self.parsed(data)
        for image in ("before", "after"):
            if isinstance(value.get(image), dict):
                self.share(value[image])
        if isinstance(value.get("source"), dict):
            self.share(value["source"], 0)
        return value

    def parsed(self, data):
        """The value that the bytes of a record hold."""
        schema = self.schema(struct.unpack(">I", data[1:5])[0])
        return fastavro.schemaless_reader(io.BytesIO(data[5:]), schema.parsed)

    def share(self, row, characters=LARGE_CHARACTERS):
        """Equal texts above a length become one: a run holds every event, and thousands may carry the same megabyte."""
        for name, cell in row.items():
            if isinstance(cell, str) and len(cell) > characters:
                row[name] = self.large.setdefault(cell, cell)

    def events(self, brokers, prefix, seconds=300.0):
        """All records of the prefix's tables: topic to events in partition and offset order."""
        out = collections.defaultdict(list)
        for message in decode.read_all(brokers, prefix + ".", seconds):
            if message.topic().endswith(".wellspring-quarantine"):
                continue  # no table's, and no Avro
            headers = {name: value.decode() for name, value in message.headers() or [] if value is not None}
            position = None
            if "wellspring.commit_lsn" in headers:
                position = (int(headers["wellspring.epoch"]), number(headers["wellspring.commit_lsn"]),
                            int(headers["wellspring.ordinal"]))
            key = self.fast(message.key())
            key = tuple(key.values()) if key is not None else None
            run = headers.get("__debezium.context.runId")
            out[message.topic()].append(Event(key, self.fast(message.value()), position, message, run))
        return out


class JsonReader(Reader):
    """Records of `events.format = "json"`, and of `json-schema`, whose frame is five bytes before the text."""

    def parsed(self, data):
        framed = data[:1] == b"\0"
        if framed:
            self.known(struct.unpack(">I", data[1:5])[0])
        value = json.loads(data[5:] if framed else data)
        return value["payload"] if isinstance(value, dict) and value.keys() == {"schema", "payload"} else value

    def known(self, number):
        """The registry serves a schema under this number."""
        if number not in self.schemas:
            status, text = http("%s/schemas/ids/%d" % (self.registry, number))
            assert status == 200, "schema %d is not in the registry: %d %s" % (number, status, text)
            self.schemas[number] = json.loads(text)


READERS = {"avro": Reader, "json": JsonReader, "json-schema": JsonReader}


def number(text):
    return lsn(text) if "/" in text else int(text)


def row_of(image):
    return tuple(image.values())


def keyed(events):
    """The rows that are left when each record is applied in its partition's order: key to row."""
    rows, cleared, last = {}, None, {}
    for event in events:
        value = event.value
        if event.key is None:
            if value is not None and value["op"] == "t":
                cleared = max(cleared or event.position, event.position)
            continue
        last[event.key] = event.position
        if value is None or value["op"] == "d":
            rows.pop(event.key, None)
        else:
            rows[event.key] = row_of(value["after"])
    # A truncate has no key and so its own partition: what it removed is found by position.
    if cleared is not None:
        rows = {k: r for k, r in rows.items() if last[k] > cleared}
    return rows


def bag(events):
    """The rows of a table without a key: row to how often."""
    rows, seen = collections.Counter(), set()
    for event in events:
        if event.position in seen:
            continue
        seen.add(event.position)
        value = event.value
        if value["op"] == "t":
            rows.clear()
            continue
        if value["before"] is not None and value["op"] in "ud":
            before = row_of(value["before"])
            if rows[before] <= 0:
                raise AssertionError("%s@%d removes a row that is not there" % (event.topic, event.offset))
            rows[before] -= 1
        if value["after"] is not None:
            rows[row_of(value["after"])] += 1
    return +rows


def disorder(events):
    """Violations of the order per key, as sentences; at most a few."""
    found, history = [], {}
    for event in events:
        if event.position is None:
            return ["%s has records without identity headers" % event.topic]
        key = event.key if event.key is not None else ("table", event.topic)
        seen, at = history.get(key, ([], -1))
        if at >= 0 and event.position == seen[at]:
            continue  # delete, tombstone and create of one change share a position
        if not seen or event.position > seen[-1]:
            if at != len(seen) - 1:
                found.append("%s/%d@%d: a replay left out %s" % (event.topic, event.partition, event.offset, seen[at + 1]))
            seen.append(event.position)
            at = len(seen) - 1
        else:
            where = bisect.bisect_left(seen, event.position)
            if where == len(seen) or seen[where] != event.position:
                found.append("%s/%d@%d: %s arrives for the first time after %s" % (
                    event.topic, event.partition, event.offset, event.position, seen[-1]))
                continue
            if where > at + 1:
                found.append("%s/%d@%d: a replay left out %s" % (event.topic, event.partition, event.offset, seen[at + 1]))
            at = where
        history[key] = (seen, at)
    return found[:5]


def duplicates(events):
    """Records that repeat a position, whatever parts a change has."""
    seen = collections.Counter((e.key, e.position, e.value is None, (e.value or {}).get("op")) for e in events)
    return sum(count - 1 for count in seen.values())


def repeats(events):
    """Run of the program to how many records it repeated of what an earlier run, or the same one, had sent already."""
    seen, out = set(), collections.Counter()
    for e in events:
        mark = (e.key, e.position, e.value is None, (e.value or {}).get("op"))
        out[e.run] += mark in seen
        seen.add(mark)
    return out


def as_event(value):
    """A value of psycopg as the events have it."""
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None) - value.utcoffset() if value.tzinfo else value
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    return value


def source_rows(sql, table):
    return [tuple(as_event(v) for v in row) for row in sql.execute("select * from " + table)]


def unequal(sql, events, prefix, tables):
    """Where tables and topics differ, as sentences. `tables`: name to its key's column positions, or None."""
    out = []
    for table, key in tables.items():
        mine = events.get("%s.%s" % (prefix, table), [])
        rows = source_rows(sql, table)
        if key is None:
            want, have = collections.Counter(rows), bag(mine)
            missing, extra = want - have, have - want
            if missing or extra:
                out.append("%s: %d rows missing (%s), %d too many (%s)" % (
                    table, sum(missing.values()), list(missing)[:2], sum(extra.values()), list(extra)[:2]))
        else:
            want, have = {tuple(r[i] for i in key): r for r in rows}, keyed(mine)
            wrong = [k for k in want if have.get(k) != want[k]] + [k for k in have if k not in want]
            if wrong:
                out.append("%s: %d of %d keys differ, %s: expected %s, is %s" % (
                    table, len(wrong), len(want), wrong[0], want.get(wrong[0]), have.get(wrong[0])))
    return out

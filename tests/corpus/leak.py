#!/usr/bin/env python3
"""Canaries in columns that are masked, hashed, truncated or excluded: none of them may be found anywhere outside.

    leak.py        needs Postgres and the built programs; mock cluster and built-in registry are its own

The program copies and streams such columns: inserts, updates, key changes, deletes, unsent large values, under identities
DEFAULT and FULL, in three formats; copies a table again because signals ask for it, one whose condition is nonsense among
them, and tells of that in notifications; then meets a record that is too large and halts with it, or sets its table aside,
whose later changes go into the quarantine topic. Everything it gave out is searched for each canary as text, hexadecimal and
base64: topics with keys, values and headers, the state topic, schemas, log, /metrics, /status, the page, `config show`,
`check`. Also: rules that would let a value out are refused at the start.
"""
import base64
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "stack")]

import decode  # noqa: E402
import servers  # noqa: E402
from agent import Agent  # noqa: E402

# Format, and what becomes of a record that no topic takes.
PASSES = (("avro", "stop"), ("json", "detach"), ("json-schema", "stop"), ("avro", "detach"))
WAIT_SECONDS = 30

# Per column: what stands there. Each value has a canary of its own, behind what a truncation may keep.
COLUMNS = {
    "stars": "canary-stars-%d", "stars_ci": "canary-citext-%d", "hashed": "canary-hash-%d", "hashed1": "canary-hashv1-%d",
    "cut": "keepcanary-cut-%d", "gone": "canary-gone-%d", "big": "canary-big-%d" + "x" * 40 + "canary-tail-%d",
}
SALT = "canary-salt"
# In a column without rule: must be found, or the search finds nothing.
SEEN = "seen-in-the-clear"
# In the conditions of signals: only the signal's own row, which is captured as it is, may hold them.
CONDITIONS = ("canary-condition-1", "canary-condition-2")
SIGNAL = """insert into public.signals values ('s%d', 'execute-snapshot',
  '{"data-collections": ["public.plain"], "additional-conditions": [{"data-collection": "public.plain", "filter": "%s"}]}');
"""

SETUP = """
create extension if not exists citext;
create table public.{t} (id integer primary key, free text, stars text, stars_ci citext, hashed text,
  hashed1 varchar(200) not null default 'canary-default', cut text, gone text, big text, bytes bytea);
alter table public.{t} alter column big set storage external;
"""


def rules(tables):
    """The rules of the columns, for every table."""
    def of(*columns):
        return ["public.%s.%s" % (table, column) for table in tables for column in columns]

    return {
        "columns": {"exclude": of("gone")},
        "masks": {
            "stars": {"columns": of("stars", "stars_ci"), "method": "stars", "length": 5},
            "hash": {"columns": of("hashed", "big"), "method": "hash", "salt": "${env:LEAK_SALT}"},
            "hash1": {"columns": of("hashed1"), "method": "hash-v1", "salt": "${env:LEAK_SALT}"},
            "cut": {"columns": of("cut", "bytes"), "method": "truncate", "length": 4},
        },
    }


class Script:
    """SQL that fills the columns, and the canaries it used."""

    def __init__(self):
        self.number, self.canaries = 0, {SALT}

    def values(self):
        self.number += 1
        out = {}
        for column, text in COLUMNS.items():
            value = text % ((self.number,) * text.count("%d"))
            if column == "big":
                value = value.replace("x" * 40, "x" * 9000)
            self.canaries.update(re.findall(r"canary-[a-z0-9]+-\d+", value))
            out[column] = "'%s'" % value
        raw = "canary-bytes-%d" % self.number
        self.canaries.add(raw)
        out["bytes"] = "convert_to('keep%s', 'UTF8')" % raw
        return out

    def insert(self, table, key, free="'%s'" % SEEN):
        values = self.values()
        names = ", ".join(["id", "free", *values])
        return "insert into public.%s (%s) values (%d, %s, %s);\n" % (table, names, key, free, ", ".join(values.values()))

    def update(self, table, key):
        return "update public.%s set %s where id = %d;\n" % (
            table, ", ".join("%s = %s" % pair for pair in self.values().items()), key)


def told(canary):
    """The forms in which a canary would be found."""
    data = canary.encode()
    forms = {data, data.hex().encode(), data.hex().upper().encode(), base64.b64encode(data).rstrip(b"=")}
    # Inside a longer text base64 begins at one of three places.
    forms.update(base64.b64encode(b"\0" * shift + data)[4:-4] for shift in (1, 2))
    return [form for form in forms if len(form) > 6]


def given_out(agent, brokers, registry, prefix):
    """Everything the program gave out, by name."""
    out = {}
    source = decode.consumer(brokers)
    try:
        names = list(decode.topics(source, prefix))
    finally:
        source.close()
    until = None
    for message in decode.read_all(brokers, prefix, until=until):
        parts = [message.key() or b"", message.value() or b"", *(value or b"" for _, value in message.headers() or [])]
        out["topic %s offset %d" % (message.topic(), message.offset())] = b"\0".join(parts)
    out["topics"] = "\n".join(names).encode()
    for subject in servers.http(registry + "/subjects")[1].strip('[]"').split('","'):
        out["schema " + subject] = servers.http("%s/subjects/%s/versions/latest" % (registry, subject))[1].encode()
    for page in ("metrics", "status", ""):
        out["/" + page] = servers.http("%s/%s" % (agent.admin, page))[1].encode()
    with open(agent.log, "rb") as f:
        out["log"] = f.read()
    for command in (("config", "show"), ("check",)):
        out[" ".join(command)] = agent.command(*command)[1].encode()
    return out


def leak(pg, form, refusal):
    """Lines that say what was found; the number of things searched."""
    database = "leak_%s_%s" % (form.replace("-", "_"), refusal)
    pg.psql("drop database if exists %s with (force)" % database)
    pg.psql("create database %s" % database)
    tables = ["plain", "whole", "huge"]
    for table in tables:
        pg.psql(SETUP.format(t=table), database=database)
    pg.psql("alter table public.whole replica identity full; create table public.signals (id text primary key, type text,"
            " data text)", database=database)
    script = Script()
    pg.psql(script.insert("plain", 10) + script.insert("whole", 10), database=database)  # for the first copy
    topics = ["leak.public." + table for table in (*tables, "signals")] + ["leak.notes", "leak.wellspring-quarantine"]
    peers = servers.Peers("leak-peers", {topic: 1 for topic in topics})
    peers.start()
    agent = Agent("leak-agent", pg.url(database), peers.brokers, peers.url, "leak",
                  ["public." + table for table in tables], database,
                  {"events": {"format": form, "on_refusal": refusal}, "log": {"level": "debug", "notifications": True},
                   "topics": {"partitions": 1, "notifications": "leak.notes"},
                   "snapshot": {"mode": "initial", "signal_table": "public.signals"}, **rules(tables)})
    agent.env = {"LEAK_SALT": SALT}
    agent.wipe()
    try:
        agent.start()
        sql = ""
        for table in ("plain", "whole"):
            sql += script.insert(table, 1) + script.update(table, 1)
            sql += "update public.%s set free = 'other' where id = 1;\n" % table  # leaves the large value unsent
            sql += "update public.%s set id = 2 where id = 1;\n" % table
            sql += "update public.%s set stars = null, hashed = null where id = 2;\n" % table
            sql += "delete from public.%s where id = 2;\n" % table
        with open(os.path.join(agent.dir, "leak.sql"), "w", encoding="utf-8") as f:
            f.write(sql)
        pg.psql(file=f.name, database=database)
        source = decode.consumer(peers.brokers)
        try:
            def holds(topic, count):
                return lambda: sum(decode.ends(source, [topic]).values()) >= count

            agent.ready(holds("leak.public.plain", 10), WAIT_SECONDS)
            agent.ready(holds("leak.public.whole", 10), WAIT_SECONDS)
            pg.psql(SIGNAL % (1, "nonsense = ''%s''" % CONDITIONS[0]), database=database)
            agent.ready(lambda: any(w["state"] == "failed" for w in agent.status()["windows"]), WAIT_SECONDS)
            pg.psql(SIGNAL % (2, "stars <> ''%s''" % CONDITIONS[1]), database=database)
            agent.ready(holds("leak.public.plain", 11), WAIT_SECONDS)
            pg.psql(script.insert("huge", 1, "repeat('f', 3000000)") + script.insert("huge", 2), database=database)
            if refusal == "detach":
                agent.ready(holds("leak.wellspring-quarantine", 2), WAIT_SECONDS)
            else:
                servers.wait_until("the large record halts", lambda: agent.phase() == "halted", WAIT_SECONDS)
        finally:
            source.close()
        found = []
        things = given_out(agent, peers.brokers, peers.url, "leak")
        for name, data in things.items():
            own = () if name.startswith("topic leak.public.signals") else CONDITIONS
            for canary in (*script.canaries, *own):
                if any(text in data for text in told(canary)):
                    found.append("%s: %s holds `%s`" % (form, name, canary))
        shown = ["leak.public.plain", "leak.public.whole"] + ["leak.wellspring-quarantine"] * (refusal == "detach")
        for topic in shown:
            published = [data for name, data in things.items() if name.startswith("topic " + topic)]
            if not any(text in data for data in published for text in told(SEEN)):
                found.append("%s: a value without rule is not found in %s either, so nothing is proven" % (form, topic))
        notes = sum(name.startswith("topic leak.notes") for name in things)
        if notes < 5:
            found.append("%s: %d notifications were searched, there should be more" % (form, notes))
        if form != "avro" and not any(b"*****" in data for data in things.values()):
            found.append("%s: no mask is to be seen" % form)
        return found, len(things)
    finally:
        agent.kill()
        peers.kill()
        pg.psql("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '%s' and not active"
                % database, check=False)


# Rules that would let a value out, or cannot be kept: what the program has to say before it makes a slot.
REFUSED = {
    "a masked key column": ({"masks": {"m": {"columns": ["public.plain.id_text"], "method": "stars", "length": 3}}},
                            ["column `id_text` is masked and part of the key", "[keys]"]),
    "an excluded key column": ({"columns": {"exclude": ["public.plain.id_text"]}},
                               ["column `id_text` is excluded and part of the key", "columns.excluded_keys"]),
    "two masks for one column": ({"masks": {"a": {"columns": ["public.*.v"], "method": "stars", "length": 3},
                                            "b": {"columns": ["regex:.*\\.v"], "method": "truncate", "length": 3}}},
                                 ["column `v` has two masks, masks.a and masks.b"]),
    "a mask over a number": ({"masks": {"m": {"columns": ["public.plain.n"], "method": "stars", "length": 3}}},
                             ["its type has no masked form", "masks.m.other_types"]),
    "a key that is not there": ({"keys": {"public.plain": ["nowhere"]}}, ["which the table does not have"]),
    "a regex that does not compile": ({"columns": {"exclude": ["regex:public\\.(plain"]}},
                                      ["columns.exclude", "not a regular expression"]),
    "an unknown property": ({"columns": {"exlude": ["public.plain.v"]}}, ["unknown key; did you mean `exclude`?"]),
}


def refusals(pg):
    """Lines that say which rule was not refused as it should be."""
    pg.psql("drop database if exists refused with (force)")
    pg.psql("create database refused")
    pg.psql("create table public.plain (id_text text primary key, v text, n integer)", database="refused")
    found = []
    peers = servers.Peers("refused-peers")
    peers.start()
    try:
        for name, (over, wanted) in REFUSED.items():
            agent = Agent("refused-agent", pg.url("refused"), peers.brokers, peers.url, "refused", ["public.plain"], "refused", over)
            agent.wipe()
            agent.start(streaming=False)
            try:
                status = agent.ended(WAIT_SECONDS)
            except servers.Late:
                agent.kill()
                status = None
            text = servers.tail(agent.log)
            missing = [part for part in wanted if part not in text]
            if status in (0, None) or missing:
                found.append("%s: ended with %s, and does not say %s:\n%s" % (name, status, missing, text))
            if pg.psql("select count(*) from pg_replication_slots where slot_name = 'refused'") != "0":
                found.append("%s: a slot was made before it was refused" % name)
    finally:
        peers.kill()
    return found


def main():
    pg = servers.Postgres(15, "leak-postgres", {})
    pg.wipe()
    pg.start()
    found, searched = [], 0
    try:
        for form, refusal in PASSES:
            lines, count = leak(pg, form, refusal)
            found, searched = found + lines, searched + count
        found += refusals(pg)
    finally:
        pg.stop()
        pg.wipe()
    print("\n".join(found[:40]))
    print("%d canaries or refusals amiss; %d outputs searched in %d passes, %d refusals" % (
        len(found), searched, len(PASSES), len(REFUSED)))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

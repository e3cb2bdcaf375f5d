#!/usr/bin/env python3
"""Record what a real Postgres sends for the SQL of reference cases, for tests/integration/events.rs to replay without one.

    record.py CASES_DIR OUT_DIR HOST PORT CASE...

CASES_DIR has the layout of Debezium reference cases: setup.sql, stream.sql, expected.jsonl, schemas.json. For each case
a fresh database is made, setup.sql run, a slot of pgoutput created and each step of stream.sql run; what the slot then
holds and what the catalog then says are written to OUT_DIR/CASE.json beside the case's expectation of streamed
records. Where OUT_DIR has a recording of the same SQL, the case refers to its steps instead. Needs psql and a superuser `postgres` without password; wal_level must be logical.
"""
import json
import os
import subprocess
import sys

FACTS = """
select coalesce(json_object_agg(c.oid::text, json_build_object(
  'columns', (select coalesce(json_object_agg(a.attname, json_build_object(
      'not_null', a.attnotnull or t.typnotnull, 'type_oid', a.atttypid::int8, 'typmod', a.atttypmod,
      'default', case when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end,
      'serial', a.attidentity <> '' or pg_get_serial_sequence(c.oid::regclass::text, a.attname) is not null)), '{}')
    from pg_attribute a join pg_type t on t.oid = a.atttypid left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
  'primary_key', (select coalesce(json_agg(a.attname order by k.n), '[]') from pg_index i, unnest(i.indkey) with ordinality k(num, n), pg_attribute a
    where i.indrelid = c.oid and i.indisprimary and a.attrelid = c.oid and a.attnum = k.num),
  'unique_index', (select coalesce(json_agg(a.attname order by k.n), '[]') from
    (select i.* from pg_index i join pg_class ic on ic.oid = i.indexrelid where i.indrelid = c.oid and i.indisunique and i.indpred is null
       and i.indexprs is null order by ic.relname limit 1) i, unnest(i.indkey) with ordinality k(num, n), pg_attribute a
    where a.attrelid = c.oid and a.attnum = k.num),
  'identity_index', (select coalesce(json_agg(a.attname order by k.n), '[]') from pg_index i, unnest(i.indkey) with ordinality k(num, n), pg_attribute a
    where i.indrelid = c.oid and i.indisreplident and a.attrelid = c.oid and a.attnum = k.num))), '{}')
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema')
"""

TYPES = """
select coalesce(json_object_agg(t.oid::text, json_build_object('name', t.typname, 'namespace', n.nspname, 'class',
  case when t.typtype = 'd' then 'domain' when t.typtype = 'e' then 'enum' when t.typtype = 'c' then 'composite' when t.typtype = 'r' then 'range'
       when t.typtype = 'm' then 'multirange' when t.typcategory = 'A' and t.typelem <> 0 then 'array' else 'base' end,
  'element', t.typelem::int8, 'base', t.typbasetype::int8, 'typmod', t.typtypmod,
  'labels', (select json_agg(e.enumlabel order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid))), '{}')
from pg_type t join pg_namespace n on n.oid = t.typnamespace
where t.oid >= 16384 or t.oid in (
  select unnest(array[a.atttypid, u.typelem]) from pg_attribute a join pg_type u on u.oid = a.atttypid
  where a.attrelid >= 16384 and a.attnum > 0 and u.typcategory = 'A')
"""

MODES = ("time.precision.mode", "decimal.handling.mode", "interval.handling.mode", "hstore.handling.mode",
         "binary.handling.mode", "money.fraction.digits", "include.unknown.datatypes")

CHANGES = """
select coalesce(json_agg(json_build_array(lsn::text, encode(data, 'hex'))), '[]')
from pg_logical_slot_get_binary_changes('record', null, null, 'proto_version', '1', 'publication_names', 'record', 'messages', 'true')
"""


def main():
    cases, out, host, port, *names = sys.argv[1:]
    env = dict(os.environ, PGTZ="UTC", PGCLIENTENCODING="UTF8", PGHOST=host, PGPORT=port, PGUSER="postgres")

    def sql(text, database="app"):
        command = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database]
        return subprocess.run(command, input=text, env=env, check=True, capture_output=True, text=True).stdout

    for name in names:
        folder = os.path.join(cases, name)
        properties = read_properties(os.path.join(folder, "connector.properties"))
        scripts = sorted(file for file in os.listdir(folder) if file.endswith(".sql"))
        texts = {file: open(os.path.join(folder, file), encoding="utf-8").read() for file in scripts}
        via_root = properties.get("publish.via.partition.root") == "true"
        same = recorded(out, texts, name)
        steps = None if same else record(sql, folder, via_root)
        records = [json.loads(line) for line in open(os.path.join(folder, "expected.jsonl"), encoding="utf-8")]
        json_path = os.path.join(folder, "expected.converter-json.jsonl")
        converted = [json.loads(line) for line in open(json_path, encoding="utf-8")] if os.path.exists(json_path) else None
        keep = [index for index, record in enumerate(records) if (record["value"] or {}).get("op") != "r"]
        recording = {
            **({"steps_of": same} if same else {"sql": texts}),
            "options": {
                "tombstones": properties.get("tombstones.on.delete") != "false",
                "truncates": "t" not in properties.get("skipped.operations", "t").split(","),
                "placeholder": properties.get("unavailable.value.placeholder", "__debezium_unavailable_value"),
                "modes": {option: properties[option] for option in MODES if option in properties},
            },
            **({} if same else {"steps": steps}),
            "expected": [records[index] for index in keep],
            "expected_json": [converted[index] for index in keep] if converted else None,
            "schemas": json.load(open(os.path.join(folder, "schemas.json"), encoding="utf-8")),
        }
        with open(os.path.join(out, name + ".json"), "w", encoding="utf-8") as file:
            json.dump(recording, file, ensure_ascii=False, separators=(",", ":"))
            file.write("\n")
        print(name, "as " + same if same else sum(len(step["messages"]) for step in steps), "messages", len(keep), "records")


def recorded(out, texts, name):
    """The recording of the same SQL, if there is one."""
    for file in sorted(os.listdir(out)):
        if file.endswith(".json") and file != name + ".json":
            with open(os.path.join(out, file), encoding="utf-8") as f:
                if json.load(f).get("sql") == texts:
                    return file[:-len(".json")]
    return None


def record(sql, folder, via_root):
    """What a server sends for the SQL of a folder, step by step."""
    sql("drop database if exists app with (force); create database app encoding 'UTF8' template template0;".replace("; ", ";\n"), "postgres")
    sql(open(os.path.join(folder, "setup.sql"), encoding="utf-8").read())
    sql(f"create publication record for all tables with (publish_via_partition_root = {str(via_root).lower()});")
    sql("select pg_create_logical_replication_slot('record', 'pgoutput');")
    steps = []
    for number in ("", "-2", "-3"):
        for kind in ("offline", "stream"):
            path = os.path.join(folder, f"{kind}{number}.sql")
            if not os.path.exists(path):
                continue
            for step in open(path, encoding="utf-8").read().split("-- wait\n"):
                sql(step)
                end = position(sql("select pg_current_wal_lsn()").strip())
                steps.append({"end": end, "facts": json.loads(sql(FACTS)), "types": json.loads(sql(TYPES)), "messages": []})
    for lsn, message in json.loads(sql(CHANGES)):  # one decoding session, as a walsender's
        next(step for step in steps if position(lsn) <= step["end"])["messages"].append([lsn, message])
    for step in steps:
        del step["end"]
    sql("select pg_drop_replication_slot('record');")
    return steps


def position(lsn):
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def read_properties(path):
    lines = (line.strip() for line in open(path, encoding="utf-8"))
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


main()

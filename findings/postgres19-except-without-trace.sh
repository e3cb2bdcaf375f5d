#!/usr/bin/env bash
# PostgreSQL 19 leaves no trace of a table that was excepted from FOR ALL TABLES and came back; its rows in between are
# missing from the stream.
#
# Package:   PostgreSQL 19 of Debian's newest suites (19rc1 in November 2026). They keep one version, so it is not
#            pinned; the script prints the version.
# Expected:  a consumer that compares the publication before and after can see that a table was left out meanwhile, as
#            it can for a table of a list: pg_publication_rel has a row with another oid when the table comes back.
# Seen:      ALTER PUBLICATION p SET ALL TABLES EXCEPT (TABLE t) and SET ALL TABLES stop and resume the table. The rows
#            of t in between are not decoded, without an error and without a notice. Afterwards oid and xmin of
#            pg_publication are the ones from before, and pg_publication_rel is empty again.
# Matters:   up to 18 a table could not leave a publication FOR ALL TABLES, so that many tools take such a publication
#            for complete. From 19 on it is complete only for a program that watches the catalog all the time. A
#            publication that names its tables keeps a trace.
# Known:     cloudnative-pg/cloudnative-pg issue 11302 and citusdata/citus issue 8730 are about support of EXCEPT. We
#            found nothing about the missing trace.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages 'psycopg[binary]==3.2.10'
start_postgres_19
status=0
"$PYTHON" - "$PORT" <<'PYTHON' || status=$?
import sys, time
import psycopg

def connect(port):
    deadline = time.monotonic() + 30
    while True:
        try:
            return psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres", autocommit=True)
        except psycopg.OperationalError: # the server is still starting
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

database, notices = connect(sys.argv[1]), []
database.add_notice_handler(lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}"))

def trace():
    """What the catalog says of the publication, and its rows about single tables."""
    row = database.execute("SELECT oid, xmin::text FROM pg_publication WHERE pubname = 'p'").fetchone()
    return row, database.execute("SELECT oid, prexcept FROM pg_publication_rel").fetchall()

print(database.execute("SELECT version()").fetchone()[0])
database.execute("CREATE TABLE t (id text PRIMARY KEY)")
database.execute("CREATE PUBLICATION p FOR ALL TABLES")
database.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
before = trace()
database.execute("INSERT INTO t VALUES ('before')")
database.execute("ALTER PUBLICATION p SET ALL TABLES EXCEPT (TABLE t)")
between = trace()
database.execute("INSERT INTO t VALUES ('between')")
database.execute("ALTER PUBLICATION p SET ALL TABLES")
after = trace()
database.execute("INSERT INTO t VALUES ('after')")
rows = [
    bytes(data)[13:].decode() # tag, relation, 'N', count of columns, kind, length
    for (data,) in database.execute(
        "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, "
        "'proto_version', '1', 'publication_names', 'p')"
    )
    if bytes(data)[:1] == b"I"
]
print(f"rows {rows}, notices {notices}")
print(f"catalog before {before}\n        between {between}\n        after {after}")
as_stated = rows == ["before", "after"] and notices == [] and before == after and between[1] != []
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"

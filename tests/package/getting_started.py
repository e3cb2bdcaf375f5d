#!/usr/bin/env python3
"""docs/getting-started.md followed to the letter, from an empty folder to the removal: its SQL, its files and its
commands, against real servers.

Only addresses are exchanged (the page says localhost and the usual ports). `ALTER SYSTEM` is followed by the restart that
the page asks for, and the command that the page shows as an example is typed as the program prints it.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "stack"))

from servers import HOST, Peers, Postgres, Process, built, free_port, http, wait_until  # noqa: E402

PAGE = os.path.join(TOP, "docs", "getting-started.md")
WAIT_SECONDS = 60
TOPICS = {"shop.public.orders": 1, "shop.public.customers": 1, "shop.wellspring-state": 1, "shop.wellspring-quarantine": 1}


def sections(page):
    """The page's code blocks of each numbered section in their order, as (language, text)."""
    parts = re.split(r"^## (\d)\. .*\n", page, flags=re.M)[1:]
    return {int(number): re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S) for number, text in zip(parts[::2], parts[1::2])}


class Agent(Process):
    """`wellspring run` in the folder of the pipeline."""

    def __init__(self, folder, environment):
        super().__init__("getting-started-run")
        self.dir, self.log, self.environment = folder, os.path.join(folder, "run.log"), environment

    def start(self):
        self.launch([built("", "wellspring"), "run"], self.environment)
        return self


class Newcomer:
    """A person with an empty folder, a database and a Kafka, who types what the page says."""

    def __init__(self, pg, peers):
        self.pg, self.peers, self.typed = pg, peers, 0
        self.folder = tempfile.mkdtemp(prefix="wsp-start-")
        self.admin = "%s:%d" % (HOST, free_port())
        path = os.path.dirname(built("", "wellspring")) + os.pathsep + os.environ["PATH"]
        # Nothing else of this machine reaches the program.
        self.environment = {"PATH": path, "WELLSPRING_ADMIN__LISTEN": self.admin}

    def sql(self, text, database="shop"):
        self.typed += 1
        return self.pg.psql(text, database=database)

    def shell(self, text, wanted=0):
        """Types the lines of a block. The answer is what they print on both streams."""
        self.typed += 1
        done = subprocess.run(["sh", "-ec", text], cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, timeout=WAIT_SECONDS, check=False)
        assert done.returncode == wanted, "%s\nended with %d:\n%s" % (text, done.returncode, done.stdout)
        return done.stdout

    def file(self, text):
        self.typed += 1
        text = text.replace("localhost:5432", "%s:%d" % (HOST, self.pg.port)).replace("localhost:9092", self.peers.brokers)
        text = text.replace("http://localhost:8081", self.peers.url)
        assert "localhost" not in text, text
        with open(os.path.join(self.folder, "wellspring.toml"), "w", encoding="utf-8") as f:
            f.write(text)

    def edit(self, line):
        """Exchanges the line of the file that sets the same key."""
        self.typed += 1
        key = line.split(" = ")[0]
        path = os.path.join(self.folder, "wellspring.toml")
        with open(path, encoding="utf-8") as f:
            old = f.read()
        new, count = re.subn(r"^%s = .*\n" % re.escape(key), lambda _: line, old, flags=re.M)
        assert count == 1, (line, old)
        with open(path, "w", encoding="utf-8") as f:
            f.write(new)

    def status(self):
        return json.loads(http("http://%s/status" % self.admin)[1] or "{}")  # nobody answers yet

    def phase(self, wanted):
        def is_there():
            return self.status().get("phase") == wanted
        wait_until(wanted, is_there, WAIT_SECONDS)


def restarted(pg, system):
    """What ALTER SYSTEM has set counts after the restart. The harness writes the file anew, with the page's values."""
    with open(os.path.join(pg.data, "postgresql.auto.conf"), encoding="utf-8") as f:
        written = f.read()
    for name, value in re.findall(r"^ALTER SYSTEM SET (\w+) = '(\S+)';$", system, re.M):
        assert "%s = '%s'" % (name, value) in written, written
        pg.settings[name] = value
    pg.stop()
    pg.start()


def one(blocks, *kinds):
    """The texts of a section's blocks, which have to be of these kinds."""
    assert [kind for kind, _ in blocks] == list(kinds), [kind for kind, _ in blocks]
    return [text for _, text in blocks]


def events(printed):
    return [json.loads(line) for line in printed.splitlines()]


def prepared(person, page):
    system, tables, role, publication = one(page[1], "sql", "sql", "sql", "sql")
    for statement in system.splitlines():
        person.pg.psql(statement)  # ALTER SYSTEM cannot run within a block of statements
    restarted(person.pg, system)
    person.sql("CREATE DATABASE shop", "postgres")
    for text in (tables, role, publication):
        person.sql(text)
    secrets, file = one(page[2], "sh", "toml")
    person.shell(secrets)
    person.file(file)
    (check,) = one(page[3], "sh")
    said = person.shell(check)
    assert "0 to fix" in said.splitlines()[-1], said
    warned = [line for line in said.splitlines() if line.startswith("warn")]
    assert not [line for line in warned if "sslmode" in line or "max_slot_wal_keep_size" in line], said
    return warned


def saw_events(person, page):
    change, tail = one(page[5], "sql", "sh")
    person.sql(change)
    copied, changed = events(person.shell(tail))
    assert (copied["value"]["op"], copied["value"]["after"]) == ("r", {"id": 1, "total": "9.50"}), copied
    assert (changed["value"]["op"], changed["value"]["after"]) == ("u", {"id": 1, "total": "12.25"}), changed
    assert changed["key"] == {"id": 1}, changed


def added_a_table(person, page):
    publish, line, reload = one(page[6], "sql", "toml", "sh")
    person.sql(publish)
    person.edit(line)
    said = person.shell(reload).splitlines()
    event = json.loads(said[-1])
    assert (event["topic"], event["value"]["after"]) == ("shop.public.customers", {"id": 1, "name": "Ada"}), said


def repaired_a_halt(person, page):
    insert, status, correct, example, tail = one(page[7], "sql", "sh", "sql", "text", "sh")
    person.sql(insert)
    person.phase("halted")
    said = person.shell(status, wanted=3)
    assert "row_unencodable" in said and "`total`" in said, said
    query = re.search(r"`(SELECT [^`]*)`", said)
    assert query and person.sql(query.group(1)).count("NaN") == 1, said
    person.sql(correct)
    assert person.sql(query.group(1)).count("NaN") == 0
    skip = re.search(r"`(wellspring skip [^`]*)`", said).group(1)
    names = re.findall(r'--(?:by|why) (".*?")', example)
    assert len(names) == 2 and skip.count('"..."') == 2, (skip, example)
    skip = re.sub(r"--commit \S+ --ordinal \d+", "--commit X --ordinal N", skip.replace('"..."', "%s") % tuple(names))
    shown = re.sub(r"--commit \S+ --ordinal \d+", "--commit X --ordinal N", example.strip())
    assert skip == shown, (skip, shown)
    typed = re.search(r"`(wellspring skip [^`]*)`", said).group(1).replace('"..."', "%s") % tuple(names)
    person.shell(typed)
    person.phase("streaming")

    def arrived():
        last = events(person.shell(tail))[-1]
        return last["value"]["op"] == "u" and last["value"]["after"] == {"id": 2, "total": "20.00"}
    wait_until("the corrected row", arrived, WAIT_SECONDS)


def removed(person, agent, page):
    remove, drop = one(page[8], "sh", "sql")
    assert agent.stop(signal.SIGINT) == 0
    with open(agent.log, encoding="utf-8") as f:
        assert "everything sent is delivered, recorded and confirmed" in f.read()
    said = person.shell(remove)
    assert "removed slot" in said and "NOT removed" not in said, said
    person.sql(drop)
    left = "select (select count(*) from pg_replication_slots) + (select count(*) from pg_publication) " \
           "+ (select count(*) from pg_roles where rolname = 'wellspring')"
    assert person.pg.psql(left, database="shop").strip() == "0"


def main():
    with open(PAGE, encoding="utf-8") as f:
        page = sections(f.read())
    pg = Postgres(15, "getting-started-postgres", {"wal_level": "replica"})
    pg.wipe()
    pg.start()
    peers = Peers("getting-started-peers", TOPICS).start()
    person = Newcomer(pg, peers)
    try:
        warned = prepared(person, page)
        (run,) = one(page[4], "sh")
        assert run.split() == ["wellspring", "run"], run
        agent = Agent(person.folder, person.environment).start()
        person.phase("streaming")
        status, shown = http("http://%s/" % person.admin, headers={"Accept": "text/html"})
        assert status == 200 and "<title>wellspring</title>" in shown
        saw_events(person, page)
        added_a_table(person, page)
        repaired_a_halt(person, page)
        removed(person, agent, page)
        print("getting started: %d steps of the page followed, from an empty folder to the removal" % person.typed)
        for line in warned:
            print("  " + line)
    finally:
        peers.kill()
        pg.kill()
        shutil.rmtree(person.folder, ignore_errors=True)


if __name__ == "__main__":
    main()

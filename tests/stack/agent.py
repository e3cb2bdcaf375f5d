"""The program under test: its configuration, its process, what it says of itself. Knows nothing of what it should do."""
import json
import os
import re
import subprocess

import servers
from servers import HOST, Process, built, free_port, http, tail, wait_until


def toml(settings):
    """Two levels of tables as TOML text; scalars of the top level come first."""

    def value(v):
        if isinstance(v, bool):
            return "true" if v else "false"
        if isinstance(v, (int, float)):
            return str(v)
        if isinstance(v, dict):
            return "{" + ", ".join("%s = %s" % (key(k), value(item)) for k, item in v.items()) + "}"
        if isinstance(v, (list, tuple)):
            return "[" + ", ".join(value(item) for item in v) + "]"
        return json.dumps(v, ensure_ascii=False)

    def key(k):
        return k if re.fullmatch(r"[A-Za-z0-9_-]+", k) else json.dumps(k)

    lines = []

    def table(name, items):
        plain = {k: v for k, v in items.items() if not isinstance(v, dict) and v is not None}
        if name and (plain or not items):
            lines.append("[%s]" % name)
        lines.extend("%s = %s" % (key(k), value(v)) for k, v in plain.items())
        for k, v in items.items():
            if isinstance(v, dict):
                table((name + "." if name else "") + key(k), v)

    table("", settings)
    return "\n".join(lines) + "\n"


def merged(base, over):
    """`base` with `over` laid over it, table by table; a None takes a key away."""
    out = dict(base)
    for k, v in over.items():
        out[k] = merged(out.get(k, {}), v) if isinstance(v, dict) and isinstance(out.get(k, {}), dict) else v
    return out


class Agent(Process):
    """One `wellspring run` with its own configuration file and admin port. May be started again after it ended."""

    def __init__(self, name, postgres_url, brokers, registry, prefix, tables, slot, over=None):
        super().__init__(name)
        self.program = built("", "wellspring")
        self.port = free_port()
        self.admin = "http://%s:%d" % (HOST, self.port)
        self.slot, self.prefix = slot, prefix
        self.env = {}
        self.given = None
        self.settings = merged(
            {
                "postgres": {"url": postgres_url, "slot": slot, "publication": slot, "sslmode": "disable"},
                "tables": {"include": list(tables)},
                "topics": {"prefix": prefix},
                "events": {"format": "avro"},
                "registry": {"url": registry},
                "kafka": {"brokers": [brokers]},
                "snapshot": {"mode": "no_data"},
                "admin": {"listen": "%s:%d" % (HOST, self.port)},
                "log": {"format": "text"},
            },
            over or {},
        )

    @property
    def file(self):
        return self.given or os.path.join(self.dir, "wellspring.toml")

    def write(self):
        """Writes the configuration; a file that was made elsewhere (`imported`) stays as it is."""
        if not self.given:
            with open(self.file, "w", encoding="utf-8") as f:
                f.write(toml(self.settings))

    def imported(self, *files):
        """From now on it runs with what `config import` makes of a Debezium's files, and with nothing else."""
        made, secrets = (os.path.join(self.dir, name) for name in ("imported.toml", "imported.env"))
        done = subprocess.run([self.program, "config", "import", *files, "--output", made, "--secrets", secrets],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
        assert done.returncode == 0, "config import ended with %d: %s" % (done.returncode, done.stdout)
        with open(secrets, encoding="utf-8") as f:
            self.env.update(line.rstrip("\n").split("=", 1) for line in f)
        self.env["WELLSPRING_ADMIN__LISTEN"] = "%s:%d" % (HOST, self.port)
        self.given = made

    def configure(self, **over):
        self.settings = merged(self.settings, over)

    def start(self, streaming=True, seconds=60.0):
        self.write()
        self.launch([self.program, "run", "--config", self.file], env=self.env)
        if streaming:
            self.until_streaming(seconds)
        return self

    def command(self, *arguments, seconds=60):
        """Another command of the program with the same configuration: (exit status, output)."""
        self.write()
        done = subprocess.run(
            [self.program, *arguments, "--config", self.file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=seconds, check=False, env={**os.environ, **self.env},
        )
        return done.returncode, done.stdout

    def status(self):
        """What /status says; empty while nobody answers."""
        code, text = http(self.admin + "/status")
        return json.loads(text) if code == 200 else {}

    def phase(self):
        return self.status().get("phase", "")

    def until_streaming(self, seconds=60.0):
        def streaming():
            status = self.status()
            if status.get("phase") == "halted":
                raise servers.Late("%s halted: %s\n%s" % (self.name, json.dumps(status, indent=1), tail(self.log)))
            return status.get("phase") == "streaming"

        self.ready(streaming, seconds)

    def until_halted(self, seconds=60.0):
        """The status once the agent has halted."""

        def halted():
            status = self.status()
            return status if status.get("phase") == "halted" else None

        found = []
        self.ready(lambda: found.append(halted()) or found[-1], seconds)
        return found[-1]

    def metrics(self):
        """Every sample of /metrics: name with labels to number."""
        code, text = http(self.admin + "/metrics")
        out = {}
        for line in text.splitlines() if code == 200 else []:
            if line and not line.startswith("#"):
                name, _, number = line.rpartition(" ")
                out[name] = float(number)
        return out

    def metric(self, name):
        """The sum over the labels of one metric; None if there is no such metric."""
        found = [v for k, v in self.metrics().items() if k.split("{")[0] == name]
        return sum(found) if found else None

    def memory_kib(self, field="VmRSS"):
        with open("/proc/%d/status" % self.pid, encoding="utf-8") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise AssertionError("no %s of %d" % (field, self.pid))

    def cpu_seconds(self):
        """User and system time of the process so far, all threads."""
        with open("/proc/%d/stat" % self.pid, encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def lsn(text):
    """A position as a number."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


__all__ = ["Agent", "lsn", "merged", "toml", "wait_until"]

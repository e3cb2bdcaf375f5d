"""Canaries in every credential and in rows: whatever fails, at the most talkative log level, none of them is given out."""
import base64
import json
import os
import sys

import decode
import servers
from scenarios_security import TABLES, Secured
from secure import Authority

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(os.path.dirname(HERE), "corpus"))

from leak import told  # noqa: E402

# One for each place where the program is told a secret; the `wrong` ones are sent as well, and refused.
SECRETS = {
    "postgres": "canary-postgres-1Qw7", "kafka": "canary-kafka-2Rt8", "registry": "canary-token-3Uz9",
    "passphrase": "canary-phrase-4Iy1", "admin": "canary-admin-token-5Op2", "basic": "canary-basic-6As3",
    "wrong": "canary-wrong-7Df4",
}
FURTHER = {"in the URL": "canary-url-8Gh5", "printed": "canary-printed-9Jk6", "on stderr": "canary-stderr-1Lm7",
           "an argument": "canary-argument-2Nb8", "a wrong admin token": "canary-header-token-3Vc9"}
ROW = "canary-row-%d-4Xy1"
# As talkative as it gets: our own trace level, and librdkafka's own debugging.
TALKATIVE = {"log": {"level": "trace"}, "kafka": {"client": {"debug": "security,broker,protocol,conf"}}}
SECONDS = 90


class Heard:
    """Everything that the program gave out, by name."""

    def __init__(self):
        self.things = {}

    def pages(self, agent, when):
        for page in ("metrics", "status", "livez", "readyz", ""):
            self.things["/%s %s" % (page, when)] = servers.http("%s/%s" % (agent.admin, page))[1]

    def log(self, agent):
        with open(agent.log, encoding="utf-8", errors="replace") as f:
            self.things["log of " + agent.name] = f.read()

    def found(self, canaries):
        """Lines that say where which canary stands."""
        lines = []
        for name, thing in self.things.items():
            data = thing if isinstance(thing, bytes) else thing.encode()
            lines += ["%s holds `%s`" % (name, canary) for canary in canaries if any(form in data for form in told(canary))]
        return lines


def fails(world, secured, heard, name, over, says, ends=True):
    """A run that goes wrong: ends, or is ended once it has said so."""
    agent = secured.agent_named("fails-" + name, over)
    agent.start(streaming=False)
    if ends:
        assert agent.ended(SECONDS) != 0, name
    else:
        world.until("%s is told: %s" % (name, says), lambda: says in servers.tail(agent.log, 10000), SECONDS)
        heard.pages(agent, "when it fails: " + name)
        agent.kill()
    heard.log(agent)
    assert says in heard.things["log of " + agent.name], "%s does not say `%s`:\n%s" % (name, says, servers.tail(agent.log))


class Told(Secured):
    """The servers, with canaries for secrets."""

    def agent_named(self, name, over=None):
        agent = self.world.agent(self.pg, TABLES, name, **self.settings())
        agent.configure(**TALKATIVE)
        agent.configure(**(over or {}))
        return agent


def canaries(world):
    """Passwords, tokens, passphrases and rows are in no log, error, metric, status, page or state, whatever goes wrong."""
    secured, heard = Told(world, secrets=SECRETS), Heard()
    basic = "Basic " + base64.b64encode(("agent:" + SECRETS["basic"]).encode()).decode()
    secured.gate.takes = lambda header: header in (basic, "Bearer " + SECRETS["registry"])
    stranger = Authority(secured.file("stranger"), "stranger").ca
    wrong = secured.file("wrong")
    shell = ["sh", "-c", "echo %(printed)s; echo %(on stderr)s >&2; exit 3" % FURTHER, FURTHER["an argument"]]
    in_url = "postgresql://agent:%s@localhost:%d/shop" % (FURTHER["in the URL"], secured.pg.port)
    no_file = {"password_file": None}
    secured.insert(1, 1)

    for name, over, says in (
        ("postgres-password", {"postgres": {"password_file": wrong}}, "28P01"),
        ("postgres-url", {"postgres": {**no_file, "url": in_url}}, "28P01"),
        ("postgres-bad-url", {"postgres": {**no_file, "url": in_url + "?nothing=1"}}, "not a parameter of a Postgres URL"),
        ("postgres-authority", {"postgres": {"sslrootcert": stranger}}, "certificate"),
        ("postgres-passphrase", {"postgres": {"sslpassword_file": wrong}}, "another one than the one given"),
        ("postgres-command", {"postgres": {**no_file, "password_command": shell}}, "ended with exit status: 3"),
        ("registry-passphrase", {"registry": {"key_password_file": wrong}}, "another one than the one given"),
    ):
        fails(world, secured, heard, name, over, says)
    for name, over, says in (
        ("kafka-password", {"kafka": {"password_file": wrong}}, "Authentication failed"),
        ("kafka-command", {"kafka": {**no_file, "password_command": shell}}, "ended with exit status: 3"),
        ("kafka-authority", {"kafka": {"client": {"ssl.ca.location": stranger}}}, "certificate"),
    ):
        fails(world, secured, heard, name, over, says, ends=False)

    # The registry is asked once a row is there, so these stream first.
    basic_auth = {"token_command": None, "username": "agent", "password_file": wrong}
    for number, (name, over, says) in enumerate((
        ("registry-token", {"registry": {"token_command": ["cat", wrong]}}, "denies access"),
        ("registry-command", {"registry": {"token_command": shell}}, "ended with exit status: 3"),
        ("registry-basic", {"registry": basic_auth}, "denies access"),
    )):
        agent = secured.agent_named("fails-" + name, over)
        agent.start(streaming=False)
        # A row of a table that is new to it has its schema registered.
        world.until(name + " streams", lambda agent=agent: agent.phase() in ("streaming", "halted", "retrying"), SECONDS)
        secured.pg.psql("insert into items values (%d, '%s')" % (10 + number, ROW % number), database="shop")
        world.until("%s is told: %s" % (name, says), lambda agent=agent, says=says: says in servers.tail(agent.log, 10000)
                    or says in json.dumps(agent.status()), SECONDS)
        heard.pages(agent, "when it fails: " + name)
        agent.kill()
        heard.log(agent)

    # And a run that works, until a schema is refused, the passwords change, and a row can never be delivered.
    agent = secured.agent_named("works", {"registry": {**basic_auth, "password_file": secured.file("basic")}})
    agent.start()
    for number in range(100, 120):
        secured.pg.psql("insert into items values (%d, '%s')" % (number, ROW % number), database="shop")
    world.until_delivered(secured.pg, agent)
    heard.pages(agent, "while it works")
    for token, code in ((FURTHER["a wrong admin token"], 401), (SECRETS["admin"], 200)):
        answer = servers.http(agent.admin + "/pause", "POST", headers={"Authorization": "Bearer " + token})
        assert answer[0] == code, answer
        heard.things["answer %d of /pause" % code] = answer[1]
    servers.http(agent.admin + "/resume", "POST", headers={"Authorization": "Bearer " + SECRETS["admin"]})
    for command in (("config", "show"), ("check",), ("schema",), ("slot", "status")):
        heard.things[" ".join(command)] = agent.command(*command)[1]

    secured.gate.refusal = lambda path: path.endswith("/versions") and (
        409, json.dumps({"error_code": 409, "message": "not compatible: %s" % path}).encode())
    secured.pg.psql("alter table items add column w text", database="shop")
    secured.pg.psql("insert into items values (200, '%s', '%s')" % (ROW % 200, ROW % 201), database="shop")
    world.until("the refusal is told", lambda: "not compatible" in servers.tail(agent.log, 10000), SECONDS)
    heard.pages(agent, "when a schema is refused")
    secured.gate.refusal = None
    world.until_delivered(secured.pg, agent, 180)

    secured.pg.psql("insert into items values (300, '%s' || repeat('x', 3000000))" % (ROW % 300), database="shop")
    world.until("the large row halts", lambda: agent.phase() == "halted", SECONDS)
    heard.pages(agent, "when it has halted")
    for command in (("check",), ("slot", "status")):
        heard.things[" ".join(command) + " when it has halted"] = agent.command(*command)[1]
    agent.stop()
    heard.log(agent)
    source = decode.consumer(secured.kafka.brokers)
    try:
        until = decode.ends(source, [world.prefix + ".wellspring-state"])
    finally:
        source.close()
    state = decode.read_all(secured.kafka.brokers, world.prefix, until=until)
    heard.things["state"] = b"".join((message.key() or b"") + (message.value() or b"") for message in state)
    assert heard.things["state"], "the state topic is empty"

    rows = [ROW % number for number in (0, 1, 2, *range(100, 120), 200, 201, 300)]
    credentials = [*SECRETS.values(), *FURTHER.values()]
    amiss = heard.found(credentials + rows)
    assert not amiss, "\n".join(amiss[:40])
    # What is searched does hold what it should: a search that finds nothing proves nothing.
    published = b"".join(message.value() or b"" for message in decode.read_all(secured.kafka.brokers, world.prefix))
    assert all(any(form in published for form in told(ROW % number)) for number in range(100, 120))
    assert not [canary for canary in credentials if any(form in published for form in told(canary))]
    log = heard.things["log of " + agent.name]
    assert "TRACE" in log or "DEBUG" in log, "the log is not talkative"
    world.say("%d credentials and %d row values, %d outputs searched, %d KiB of log", len(credentials), len(rows),
              len(heard.things), len("".join(v for k, v in heard.things.items() if k.startswith("log of"))) // 1024)


SCENARIOS = [canaries]

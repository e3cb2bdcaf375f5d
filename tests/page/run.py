#!/usr/bin/env python3
"""The status page in a real browser, of a real agent between a real Postgres and the mock peers.

    run.py            every scenario; pictures into target/page
    run.py --docs     the same, and the pictures into docs/images

Exit status 0 only if every law held. Laws: it loads, it updates by itself, an action needs the token, trouble and halts are
told with the next step, copies are shown, a change is skipped by name and reason, a silent agent is seen to be silent; no error on the console, no request to another host.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

from browser import Browser  # noqa: E402
import dist  # noqa: E402
from agent import Agent, lsn  # noqa: E402
from servers import Peers, Postgres, Process, wait_until  # noqa: E402

PICTURES = os.path.join(TOP, "target", "page")
TOKEN = "a-token-of-the-test-0123456789abcdef"
DATABASE_PASSWORD = "never-shown-on-the-page"

SHOP = """
create table orders (id bigint generated always as identity primary key, customer int not null, state text not null default 'new',
                     total numeric(12,2) not null default 0, placed timestamptz not null default now());
create table customers (id int primary key, name text not null, email text);
create table stock (sku text primary key, warehouse text not null, left_over int not null);
create table audit_log (at timestamptz not null default now(), what text not null, detail jsonb);
alter table audit_log replica identity full;
insert into customers select i, 'customer ' || i, i || '@example.org' from generate_series(1, 500) i;
insert into stock select 'sku-' || i, 'w' || i % 4, 100 from generate_series(1, 200) i;
"""

WORK = """
\\set c random(1, 500)
\\set s random(1, 200)
begin;
insert into orders (customer, total) values (:c, :c * 1.5);
update stock set left_over = left_over - 1 where sku = 'sku-' || :s;
insert into audit_log (what, detail) values ('sold', jsonb_build_object('sku', :s, 'customer', :c));
end;
"""


class Load(Process):
    """pgbench at a steady rate."""

    def start(self, pg, rate):
        script = os.path.join(self.dir, "work.sql")
        with open(script, "w", encoding="utf-8") as f:
            f.write(WORK)
        pgbench = os.path.join(dist.postgres(pg.major), "pgbench")
        if not os.path.exists(pgbench):
            pgbench = dist.client_tool("pgbench")
        self.launch([pgbench, "-n", "-c", "2", "-j", "1", "-R", str(rate), "-T", "3600", "-f", script, pg.url()])
        return self


class World:
    def __init__(self):
        self.pg = Postgres(15, "page-postgres", {"max_slot_wal_keep_size": "4GB", "log_min_messages": "warning"})
        self.pg.wipe()
        self.pg.start()
        self.pg.psql(SHOP)
        topics = {"shop.public." + name: 4 for name in ("orders", "customers", "stock", "audit_log")}
        self.peers = Peers("page-peers", {**topics, "shop.wellspring-state": 1}).start()
        url = self.pg.url().replace("@", ":%s@" % DATABASE_PASSWORD)
        self.agent = Agent("page-agent", url, self.peers.brokers, self.peers.url, "shop", ["public.*"], "wellspring_shop")
        self.agent.wipe()
        with open(os.path.join(self.agent.dir, "token"), "w", encoding="utf-8") as f:
            f.write(TOKEN)
        self.agent.configure(admin={"token_file": os.path.join(self.agent.dir, "token")}, limits={"quarantine": "0s"})
        self.agent.start()
        self.load = Load("page-load").start(self.pg, 250)
        self.browser = Browser().start()

    def close(self):
        self.browser.close()
        for process in (self.load, self.agent, self.peers, self.pg):
            process.kill()

    def picture(self, name, width=1180, **look):
        self.browser.look(width, **look)
        # Two frames, so that what the new size asks for is drawn.
        self.browser.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
        self.browser.picture(os.path.join(PICTURES, name + ".png"))

    def phase(self, phase, seconds=60.0):
        self.browser.until("the page says " + phase, "document.getElementById('phase').dataset.phase === '%s'" % phase, seconds)


def loads_and_updates(world):
    page = world.browser
    page.open(world.agent.admin + "/")
    world.phase("streaming")
    page.until("tables are listed", "document.querySelectorAll('#tables tbody tr').length === 4")
    page.until("rates are shown", "/[1-9]/.test(document.querySelector('[data-arrow=\"3\"] b').innerText)")
    before = page.text("#positions")
    page.until("positions move", "document.getElementById('positions').innerText !== %s" % json.dumps(before))
    assert page.run("return document.title").startswith("streaming"), page.run("return document.title")
    status = world.agent.status()
    where = "127.0.0.1:%d/postgres" % world.pg.port
    for text in (status["slot"], "public.orders", "shop.public.orders", where, "wellspring " + status["version"], status["prefix"]):
        assert text in page.text("body"), text
    page.until("WAL is read", "/limit/.test(document.getElementById('wal').innerText)")
    assert page.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth"), "wider than the screen"


def draws_the_course_of_each_table_and_the_delay(world):
    page = world.browser
    line = "document.querySelector('#tables tbody tr .spark path')"
    page.until("three samples make a line", "(%s?.getAttribute('d') || '').includes('L')" % line, 30)
    busy = page.run("return [...document.querySelectorAll('#tables tbody tr')].filter(row => row.querySelector('.spark')).length")
    assert busy == 4, busy
    delay = world.agent.status()["delay"]
    assert 0 < delay["p50_seconds"] <= delay["p99_seconds"] < 60, delay
    assert "by half of the commits" in page.text("#tiles"), page.text("#tiles")


def fits_a_phone(world):
    page = world.browser
    page.look(390, height=844, phone=True)
    page.until("nothing is wider than a phone", "document.documentElement.scrollWidth <= 390")
    page.look(1180)


def acts_only_with_the_token(world):
    page = world.browser
    page.click("[data-action='/pause']")
    page.until("it is refused", "/token/.test(document.getElementById('answer').innerText)")
    assert world.agent.phase() == "streaming"
    refused = page.complaints()
    assert refused and all("/pause" in line and "401" in line for line in refused), refused  # the browser's own note of a 401
    page.type("#token", TOKEN)
    page.click("[data-action='/pause']")
    world.phase("paused")
    assert "wellspring resume" in page.text("#next")
    world.picture("paused")
    page.click("[data-action='/resume']")
    world.phase("streaming")


def copies_a_command_on_a_phone(world):
    page = world.browser
    page.type("#token", TOKEN)
    page.click("[data-action='/pause']")
    world.phase("paused")
    page.look(390, height=844, phone=True)
    # A page without TLS has no clipboard API, as on a phone in the same network.
    page.run("Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })")
    page.run("document.querySelector('#next').scrollIntoView()")
    box = page.run("const b = document.querySelector('#next .command button').getBoundingClientRect();"
                   "return [b.left, b.right, b.width, b.height]")
    assert 0 <= box[0] and box[1] <= 390 and box[2] >= 40 and box[3] >= 40, box
    page.click("#next .command button")
    page.until("it is copied", "document.querySelector('#next .command button').innerText === 'copied'", 2)
    assert page.run("return document.querySelectorAll('textarea').length") == 0
    page.run("delete navigator.clipboard")
    page.look(1180)
    page.click("[data-action='/resume']")
    world.phase("streaming")


def folds_and_searches_many_tables(world):
    page = world.browser
    names = ["t%02d" % n for n in range(60)]
    world.pg.psql("".join("create table %s (id int primary key);" % name for name in names))
    publication = world.agent.status()["publication"]
    world.pg.psql("alter publication %s add table %s" % (publication, ", ".join(names)))
    world.agent.configure(tables={"include": ["public.*", "public.t00"]})  # a file that is the same is not read again
    code, said = world.agent.command("reload")
    assert code == 0, said
    rows = "document.querySelectorAll('#tables tbody tr').length"
    page.until("the list is folded", rows + " === 15 && document.getElementById('unfold').innerText === 'Show all 64 tables'")
    page.click("#unfold")
    page.until("all are shown", rows + " === 64")
    page.type("#filter", "t4")
    page.until("it is searched", rows + " === 10")
    page.run("document.getElementById('filter').value = ''")
    page.until("all are shown again", rows + " === 64")
    page.click("#unfold")
    page.until("it is folded again", rows + " === 15")


def paints_only_faults_red(world):
    shades = world.browser.run("return ['streaming', 'snapshot', 'standby', 'paused', 'retrying', 'halted'].map(shade)")
    assert shades == ["", "", "still", "still", "gap", "gap"], shades


def tells_of_a_broker_that_is_away(world):
    page = world.browser
    os.kill(world.peers.pid, signal.SIGSTOP)
    try:
        world.phase("retrying", 60)
        page.until("the code is shown", "document.getElementById('reason').innerText === 'kafka_unavailable'")
        page.until("lag is seen", "/[1-9]/.test(document.querySelector('#tiles .tile b').innerText)")
        assert world.agent.metrics()["wellspring_phase{phase=\"retrying\"}"] == 1
        world.picture("broker-away")
    finally:
        os.kill(world.peers.pid, signal.SIGCONT)
    world.phase("streaming", 90)


def tells_of_a_halt_and_what_to_type(world):
    page = world.browser
    # Dropped while nobody holds it, as somebody tidying up would.
    world.pg.psql("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'wellspring_shop'", check=False)
    world.agent.stop()
    world.pg.psql("select pg_drop_replication_slot('wellspring_shop')")
    world.agent.start(streaming=False)
    world.phase("halted", 60)
    page.until("the code is shown", "document.getElementById('reason').innerText === 'slot_missing'")
    assert world.agent.status()["range"]["from"] in page.text("#range"), page.text("#range")
    command = page.text("#next .command code")
    assert command == "wellspring slot accept", command
    page.until("the error is listed", "/slot_missing/.test(document.getElementById('errors').innerText)")
    page.click("#reason")
    page.until("the runbook is open", "document.getElementById('runbook').open")
    told = page.text("#runbook")
    assert "slot_missing" in told and "Find out who dropped the slot. wellspring slot accept creates the slot again" in told, told
    world.picture("runbook")
    page.look(390, height=844, phone=True)
    assert page.run("return document.getElementById('runbook').scrollWidth <= 390")
    page.look(1180)
    page.click("#runbook [data-close]")
    page.click("#errors .reason")
    page.until("the list opens it as well", "document.getElementById('runbook').open")
    page.click("#runbook [data-close]")
    world.picture("halted")
    world.picture("halted-dark", dark=True)
    page.look(1180)
    # What the page says is typed, and repairs it.
    code, said = world.agent.command(*command.split()[1:])
    assert code == 0, said
    world.phase("streaming", 60)


def shows_copies_beside_the_stream(world):
    page = world.browser
    page.run("document.getElementById('table').value = 'public.customers'")
    page.click("[data-action='/snapshot']")
    page.until("the copy is listed", "/public.customers/.test(document.getElementById('copies').innerText)")
    page.until("it is over, with its rows", "/public.customers\\s+done\\s+500/.test(document.getElementById('copies').innerText)", 60)
    page.until("the request is listed", "/snapshot[^]*public.customers is copied/.test(document.getElementById('operators').innerText)")


def skips_one_change_with_token_name_and_reason(world):
    page = world.browser
    page.complaints()
    shown = "document.getElementById('skip').getClientRects().length"
    assert page.run("return " + shown) == 0, "nothing to skip while it streams"
    world.pg.psql("insert into customers values (9001, repeat('x', 2000000), 'too-large')")
    world.phase("halted", 60)
    page.until("the change is named", shown + " && /public.customers at commit/.test(document.getElementById('skip').innerText)")
    status = world.agent.status()
    assert status["reason"] == "record_too_large" and status["stands_at"]["table"] == "public.customers", status
    page.type("#token", "not-" + TOKEN)
    page.type("#skip-by", "ada")
    page.type("#skip-why", "ticket 7: a picture in a name")
    page.click("[data-action='/skip']")
    page.until("it is refused", "/token/.test(document.getElementById('answer').innerText)")
    assert world.agent.phase() == "halted"
    refused = page.complaints()
    assert refused and all("/skip" in line and "401" in line for line in refused), refused
    page.type("#token", TOKEN)
    world.picture("skip")
    page.look(1180)
    page.click("[data-action='/skip']")
    world.phase("streaming", 90)
    page.until("nothing is left to skip", shown + " === 0")
    # The next law stops the broker, and the skipped change needs a topic of its own first.
    passed = lsn(world.pg.psql("select pg_current_wal_lsn()"))
    wait_until("the stream has passed the change", lambda: lsn(world.agent.status()["lsn"]["delivered"]) >= passed, 60)
    told = open(world.agent.log, encoding="utf-8").read()
    assert "ada" in told and "ticket 7" in told, "the decision is in the log"


def reads_every_runbook(world):
    codes = world.browser.run("return [...runbooks.keys()]")
    assert len(codes) > 30 and "slot_lost" in codes and "paused" in codes, codes
    # No mark-up is left as it is written, and no text is lost.
    left = world.browser.run("return [...runbooks].filter(([code, text]) => {"
                             "const shown = make('div', {}, ...markdown(text)).textContent;"
                             "return /[`|]|\\]\\(|\\*\\*/.test(shown) || shown.length < text.length * 0.6; }).map(([code]) => code)")
    assert not left, left


def shows_the_configuration_without_secrets(world):
    page = world.browser
    page.click("#config summary")
    page.until("it is shown", "/\\[postgres\\]/.test(document.getElementById('config-text').innerText)")
    told = page.text("#config-text")
    # A law before has had the configuration reloaded with one more pattern.
    for text in ('include = ["public.*", "public.t00"]', "token_file = ", "default"):
        assert text in told, (text, told)
    assert ":***@" in told and DATABASE_PASSWORD not in told, told
    page.look(390, height=844, phone=True)
    page.until("nothing is wider than a phone", "document.documentElement.scrollWidth <= 390")
    page.look(1180)
    page.click("#config summary")


def keeps_a_button_during_a_press(page, selector):
    """A table is drawn anew each second, but not while a button is held down, and the focus stays."""
    page.until("the button is there", "document.querySelector('%s')" % selector)
    page.run("pressedButton = document.querySelector('%s'); pressedButton.focus();"
             "pressedButton.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}));"
             "asked = () => performance.getEntriesByType('resource').filter(e => e.name.endsWith('/status')).length;"
             "performance.setResourceTimingBufferSize(100000); askedBefore = asked()" % selector)
    page.until("the page has asked again", "asked() > askedBefore + 1")
    assert page.run("return pressedButton.isConnected")
    page.run("pressedButton.dispatchEvent(new PointerEvent('pointerup', {bubbles: true}))")
    page.until("the table is drawn anew", "!pressedButton.isConnected")
    assert page.run("return document.activeElement === document.querySelector('%s')" % selector)


def shows_the_last_events_only_with_the_token(world):
    page = world.browser
    page.run("document.getElementById('token').value = ''")
    page.type("#filter", "public.customers")
    keeps_a_button_during_a_press(page, "#tables .events-of")
    page.run("document.querySelector('#tables .events-of').click()")
    page.type("#events-token", "not-" + TOKEN)
    page.click("#events-form button")
    page.until("it is refused", "/token/.test(document.getElementById('events-answer').innerText)")
    assert page.text("#events-list") == ""
    assert any("/events" in line and "401" in line for line in page.complaints())
    page.type("#events-token", TOKEN)
    page.click("#events-form button")
    page.until("they are shown", "document.querySelectorAll('#events-list li').length === 20", 30)
    first = json.loads(page.run("return document.querySelector('#events-list pre').textContent"))
    assert first["topic"] == "shop.public.customers" and first["value"]["after"]["email"].endswith("@example.org"), first
    page.run("document.documentElement.scrollTop = 0")
    page.look(390, height=844, phone=True)
    assert page.run("return document.getElementById('events').scrollWidth <= 390")
    page.look(1180)
    page.click("#events [data-close]")
    assert page.run("return document.getElementById('events-list').childElementCount") == 0
    page.run("document.getElementById('filter').value = ''")
    page.run("document.getElementById('token').value = %s" % json.dumps(TOKEN))
    told = open(world.agent.log, encoding="utf-8").read()
    assert "@example.org" not in told, "no value is logged"


def shows_what_operators_did(world):
    page = world.browser
    accepted = [did for did in world.agent.status()["operators"] if did["action"] == "accept"]
    assert len(accepted) == 1 and accepted[0]["recorded"], accepted
    page.run("document.getElementById('operators-earlier').open = true")
    told = page.text("#operators") + page.text("#operators-earlier")
    ranges = [accepted[0]["range"][end] for end in ("from", "to")]
    for text in ["went on past slot_missing", "WAL given up: %s to %s" % tuple(ranges), "by ada", "ticket 7: a picture in a name"]:
        assert text in told, (text, told)
    page.run("document.getElementById('operators-earlier').open = false")


def shows_that_the_agent_is_silent(world):
    page = world.browser
    page.complaints()
    os.kill(world.agent.pid, signal.SIGSTOP)
    try:
        page.until("the page says that it is old", "document.body.classList.contains('stale')")
        assert "no news" in page.text("#live"), page.text("#live")
    finally:
        os.kill(world.agent.pid, signal.SIGCONT)
    page.until("it lives again", "!document.body.classList.contains('stale')")


def asks_nobody_else(world):
    # The browser's own first page is of its own scheme.
    asked = [url for url in world.browser.asked() if url.split(":")[0] not in ("data", "chrome")]
    foreign = [url for url in asked if not url.startswith(world.agent.admin + "/")]
    assert asked and not foreign, foreign[:5]


def complains_of_nothing(world):
    complaints = [line for line in world.browser.complaints() if "ERR_CONNECTION" not in line and "timed out" not in line]
    assert not complaints, complaints


def pictures(world):
    """Of an agent that has run for a while; the chart needs some minutes to say something."""
    world.phase("streaming")
    drawn = "(document.querySelector('#rate-chart .line')?.getAttribute('d') || '').split('L').length > 12"
    world.browser.until("the chart has a line", drawn, 90)
    world.picture("streaming")
    world.picture("streaming-dark", dark=True)
    world.picture("streaming-phone", width=390, height=844, phone=True)
    world.browser.look(1180)


LAWS = [loads_and_updates, draws_the_course_of_each_table_and_the_delay, fits_a_phone, complains_of_nothing, acts_only_with_the_token, pictures, complains_of_nothing,
        copies_a_command_on_a_phone, paints_only_faults_red, folds_and_searches_many_tables, shows_copies_beside_the_stream, shows_the_last_events_only_with_the_token, skips_one_change_with_token_name_and_reason, tells_of_a_broker_that_is_away, tells_of_a_halt_and_what_to_type, shows_what_operators_did, shows_the_configuration_without_secrets, reads_every_runbook, shows_that_the_agent_is_silent, asks_nobody_else]


def main(arguments):
    shutil.rmtree(PICTURES, ignore_errors=True)
    world, began = World(), time.monotonic()
    try:
        for law in LAWS:
            law(world)
            print("page: %-34s held, %.0f s" % (law.__name__, time.monotonic() - began), flush=True)
    except BaseException:
        world.picture("failed")
        print(subprocess.run(["tail", "-n", "30", world.agent.log], capture_output=True, text=True, check=False).stdout)
        raise
    finally:
        world.close()
    if "--docs" in arguments:
        images = os.path.join(TOP, "docs", "images")
        os.makedirs(images, exist_ok=True)
        for name in sorted(os.listdir(PICTURES)):
            shutil.copy(os.path.join(PICTURES, name), os.path.join(images, "status-" + name))
    print("page: %d laws held" % len(LAWS))


if __name__ == "__main__":
    main(sys.argv[1:])

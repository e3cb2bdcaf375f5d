#!/usr/bin/env python3
"""Runs the scenarios of scenarios.py and its siblings, one summary line each.

    run.py [--only a,b] [--full] [--lanes N] [--keep] [--list]

Short by default (loads of seconds, five kills); --full, or FULL=1, takes the lengths of the claims in README.md. With
--lanes, or LANES, N scenarios run at the same time, each lane with a Kafka and a registry of its own; the scenarios of
ALONE run after them, one after another. A failure prints what the scenario said, the agent's log and status, and the
slots. Exit status 0 only if all passed.
"""
import argparse
import contextlib
import io
import multiprocessing
import os
import queue
import signal
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import scenarios  # noqa: E402
import scenarios_canary  # noqa: E402
import scenarios_detach  # noqa: E402
import scenarios_dropin  # noqa: E402
import scenarios_failover  # noqa: E402
import scenarios_halts  # noqa: E402
import scenarios_halts_server  # noqa: E402
import scenarios_held  # noqa: E402
import scenarios_noticed  # noqa: E402
import scenarios_operations  # noqa: E402
import scenarios_pressure  # noqa: E402
import scenarios_quiet  # noqa: E402
import scenarios_security  # noqa: E402
import scenarios_shapes  # noqa: E402
import scenarios_snapshot  # noqa: E402
import scenarios_stops  # noqa: E402
import scenarios_storms  # noqa: E402
import scenarios_tables  # noqa: E402
import scenarios_windows  # noqa: E402
import servers  # noqa: E402
from world import World  # noqa: E402


# Their kin run each time; these take further minutes, which one run of everything has no room for. They run when they are
# named, and at full length.
EXTENDED = {"held-bytes-and-a-lower-limit", "many-tables", "pressure-json", "pressure-json-schema", "storm",
            "two-replicas-halt-row-unencodable", "two-replicas-halt-undeliverable", "two-replicas-halt-slot-missing",
            "two-replicas-halt-table-republished", "two-replicas-halt-slot-ahead",
            "two-replicas-halt-publication-missing", "two-replicas-halt-publication-changed",
            "two-replicas-halt-publication-altered", "two-replicas-halt-publication-absent",
            "two-replicas-halt-table-swapped",
            "two-replicas-halt-table-recreated", "two-replicas-halt-table-not-published",
            "two-replicas-halt-slot-lost", "two-replicas-halt-slot-foreign", "two-replicas-halt-state-unreadable",
            "two-replicas-halt-other-database", "two-replicas-halt-server-went-back",
            "two-replicas-halt-published-ahead", "two-replicas-halt-timeline-unknown",
            "two-replicas-halt-history-differs", "failover-behind-50ms", "failover-behind-50ms-later",
            "failover-behind-2s-killed", "failover-behind-2s-later", "failover-behind-20s",
            "failover-behind-20s-killed", "failover-behind-20s-later"}


# These measure memory, throughput or time, and a neighbour would change what they measure.
ALONE = ("pressure", "storm", "killed-often", "held-bytes", "kafka-away", "copy-under-writes", "tpcb", "windows-under-fire",
         "lag-by-other-clocks", "quiet-statements", "many-tables")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--pg", type=int, help="the major version of Postgres, instead of the scenario's own")
    parser.add_argument("--lanes", type=int, default=int(os.environ.get("LANES", "2")),
                        help="how many scenarios run at the same time (2)")
    parser.add_argument("--keep", action="store_true", help="leave data directories behind")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    scenes = (scenarios.SCENARIOS + scenarios_snapshot.SCENARIOS + scenarios_windows.SCENARIOS
              + scenarios_detach.SCENARIOS + scenarios_operations.SCENARIOS + scenarios_security.SCENARIOS
              + scenarios_canary.SCENARIOS + scenarios_dropin.SCENARIOS + scenarios_pressure.SCENARIOS
              + scenarios_held.SCENARIOS + scenarios_halts.SCENARIOS + scenarios_halts_server.SCENARIOS
              + scenarios_stops.SCENARIOS + scenarios_storms.SCENARIOS + scenarios_shapes.SCENARIOS
              + scenarios_failover.SCENARIOS + scenarios_quiet.SCENARIOS + scenarios_noticed.SCENARIOS + scenarios_tables.SCENARIOS)
    chosen = {s.__name__.replace("_", "-"): s for s in scenes}
    if options.list:
        for name, scenario in chosen.items():
            print("%-40s %s" % (name, (scenario.__doc__ or "").split("\n")[0]))
        return 0
    if options.only:
        names = [n.replace("_", "-") for n in options.only.split(",")]
        unknown = [n for n in names if n not in chosen]
        if unknown:
            parser.error("no such scenario: %s" % ", ".join(unknown))
        chosen = {n: chosen[n] for n in names}
    elif not options.full:
        chosen = {name: scenario for name, scenario in chosen.items() if name not in EXTENDED}
    servers.stop_leftovers()
    began = time.monotonic()
    if options.lanes > 1:
        # What must be alone comes last, because other stages of CI run beside the first minutes of this one.
        alone = [name for name in chosen if name.startswith(ALONE)]
        passed = run_lanes(chosen, [name for name in chosen if name not in alone], options)
        passed += run_lane(chosen, alone, options)
    else:
        passed = run_lane(chosen, list(chosen), options)
    print("%d of %d scenarios passed, %.0f s" % (passed, len(chosen), time.monotonic() - began))
    return 0 if passed == len(chosen) else 1


def run_lanes(chosen, names, options):
    """Runs `names` in several processes, which take them one by one; the number that passed."""
    forks = multiprocessing.get_context("fork")
    waiting, ended = forks.Queue(), forks.Queue()
    for name in names:
        waiting.put(name)
    lanes = [forks.Process(target=lane, args=(number, waiting, ended, chosen, options), daemon=True)
             for number in range(1, min(options.lanes, len(names)) + 1)]
    for child in lanes:
        child.start()
    # A run that is told to end ends its lanes, and each lane its servers.
    signal.signal(signal.SIGTERM, end_on_signal)
    passed, left = 0, set(names)
    # A lane that dies reports nothing, so its scenario counts as failed. The other lanes take the scenarios that wait.
    while left and any(child.is_alive() for child in lanes) or not ended.empty():
        try:
            name, ok, text = ended.get(timeout=1)
        except queue.Empty:
            continue
        left.discard(name)
        passed += ok
        print(text, end="", flush=True)
    for child in lanes:
        child.join(60)
    for name in sorted(left):
        print("%-40s FAILED  its lane ended without a result" % name, flush=True)
    return passed


def end_on_signal(*_):
    """Ends this process by way of its `finally` blocks, which a second signal does not interrupt."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def lane(number, waiting, ended, chosen, options):
    """One process of `run_lanes`, with servers of its own. The output of a scenario is printed by the parent."""
    signal.signal(signal.SIGTERM, end_on_signal)
    servers.use_a_block_of_ports()
    try:
        with Stack("-%d" % number) as stack:
            while True:
                try:
                    name = waiting.get(timeout=1)
                except queue.Empty:
                    return
                with contextlib.redirect_stdout(io.StringIO()) as text:
                    ok = stack.run(name, chosen[name], options)
                ended.put((name, ok, text.getvalue()))
    finally:
        servers.end_all()  # a child of multiprocessing runs no atexit function


def run_lane(chosen, names, options):
    """Runs `names` one after another in this process; the number that passed."""
    if not names:
        return 0
    with Stack("") as stack:
        return sum(stack.run(name, chosen[name], options) for name in names)


class Stack:
    """The Kafka and the registry that scenarios share."""

    def __init__(self, suffix):
        self.kafka = servers.Kafka("stack-kafka" + suffix)
        self.registry = servers.Registry("stack-registry" + suffix)

    def __enter__(self):
        self.kafka.wipe()
        self.kafka.start()
        self.registry.start()
        return self

    def __exit__(self, *_):
        self.registry.kill()
        self.kafka.kill()

    def run(self, name, scenario, options):
        """True if the scenario passed. One that fails does not hide the others."""
        at = time.monotonic()
        world = World(name, self.kafka, self.registry, options.full, options.pg)
        try:
            if not self.kafka.alive():
                self.kafka.start()
            scenario(world)
            print("%-40s ok      %4.0f s  %s" % (name, time.monotonic() - at, "; ".join(world.said)), flush=True)
            world.close(options.keep)
            return True
        except Exception as error:  # every kind of failure is reported in the same way
            print("%-40s FAILED  %4.0f s  %s" % (name, time.monotonic() - at, "; ".join(world.said)))
            print("    " + "".join(traceback.format_exception_only(error)).strip().replace("\n", "\n    "))
            where = traceback.extract_tb(error.__traceback__)
            print("    at " + " < ".join("%s:%d" % (f.name, f.lineno) for f in reversed(where) if HERE in f.filename))
            print(world.explain(), flush=True)
            world.close(keep=True)
            return False


if __name__ == "__main__":
    sys.exit(main())

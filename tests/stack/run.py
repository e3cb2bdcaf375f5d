#!/usr/bin/env python3
"""Runs the scenarios of scenarios.py and its siblings, one summary line each.

    run.py [--only a,b] [--full] [--keep] [--list]

Short by default (loads of seconds, five kills); --full, or FULL=1, takes the lengths of the claims in README.md. A failure
prints what the scenario said, the agent's log and status, and the slots. Exit status 0 only if all passed.
"""
import argparse
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import scenarios  # noqa: E402
import scenarios_canary  # noqa: E402
import scenarios_detach  # noqa: E402
import scenarios_dropin  # noqa: E402
import scenarios_halts  # noqa: E402
import scenarios_halts_server  # noqa: E402
import scenarios_held  # noqa: E402
import scenarios_operations  # noqa: E402
import scenarios_pressure  # noqa: E402
import scenarios_security  # noqa: E402
import scenarios_snapshot  # noqa: E402
import scenarios_stops  # noqa: E402
import scenarios_storms  # noqa: E402
import scenarios_windows  # noqa: E402
import servers  # noqa: E402
from world import World  # noqa: E402


# Their kin run each time; these take further minutes, which one run of everything has no room for. They run when they are
# named, and at full length.
EXTENDED = {"held-bytes-and-a-lower-limit", "pressure-json", "pressure-json-schema", "storm",
            "two-replicas-halt-row-unencodable", "two-replicas-halt-undeliverable", "two-replicas-halt-slot-missing",
            "two-replicas-halt-table-republished", "two-replicas-halt-slot-ahead",
            "two-replicas-halt-publication-missing", "two-replicas-halt-publication-changed",
            "two-replicas-halt-table-recreated", "two-replicas-halt-table-not-published",
            "two-replicas-halt-slot-lost", "two-replicas-halt-slot-foreign", "two-replicas-halt-state-unreadable",
            "two-replicas-halt-other-database", "two-replicas-halt-server-went-back",
            "two-replicas-halt-published-ahead", "two-replicas-halt-timeline-unknown",
            "two-replicas-halt-history-differs"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--full", action="store_true", default=os.environ.get("FULL") == "1")
    parser.add_argument("--pg", type=int, help="the major version of Postgres, instead of the scenario's own")
    parser.add_argument("--keep", action="store_true", help="leave data directories behind")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    scenes = (scenarios.SCENARIOS + scenarios_snapshot.SCENARIOS + scenarios_windows.SCENARIOS
              + scenarios_detach.SCENARIOS + scenarios_operations.SCENARIOS + scenarios_security.SCENARIOS
              + scenarios_canary.SCENARIOS + scenarios_dropin.SCENARIOS + scenarios_pressure.SCENARIOS
              + scenarios_held.SCENARIOS + scenarios_halts.SCENARIOS + scenarios_halts_server.SCENARIOS
              + scenarios_stops.SCENARIOS + scenarios_storms.SCENARIOS)
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
    kafka, registry = servers.Kafka("stack-kafka"), servers.Registry("stack-registry")
    kafka.wipe()
    kafka.start()
    registry.start()
    passed, began = 0, time.monotonic()
    for name, scenario in chosen.items():
        at = time.monotonic()
        world = World(name, kafka, registry, options.full, options.pg)
        try:
            if not kafka.alive():
                kafka.start()
            scenario(world)
            passed += 1
            print("%-40s ok      %4.0f s  %s" % (name, time.monotonic() - at, "; ".join(world.said)), flush=True)
            world.close(options.keep)
        except Exception as error:  # one failed scenario does not hide the others
            print("%-40s FAILED  %4.0f s  %s" % (name, time.monotonic() - at, "; ".join(world.said)))
            print("    " + "".join(traceback.format_exception_only(error)).strip().replace("\n", "\n    "))
            where = traceback.extract_tb(error.__traceback__)
            print("    at " + " < ".join("%s:%d" % (f.name, f.lineno) for f in reversed(where) if HERE in f.filename))
            print(world.explain(), flush=True)
            world.close(keep=True)
    registry.kill()
    kafka.kill()
    print("%d of %d scenarios passed, %.0f s" % (passed, len(chosen), time.monotonic() - began))
    return 0 if passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())

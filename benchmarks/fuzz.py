"""Damaged payloads for every installed codec: each is decoded, or refused as `BitstreamError`, in bounded time.

    python benchmarks/fuzz.py --payloads 1000000     # in parts: stop it whenever, the same command goes on
    python benchmarks/fuzz.py --table                # what was found so far

Payload number n of a codec is drawn from the seed n alone, so that any part can be repeated and several can run beside
each other. Anything but a decoded image or a `BitstreamError` is a finding: its number and what was raised are kept. A
decode that crashes the process is found by the next start: it names the number and goes on behind it.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from precomp_sdk import Codec, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.testing.fuzz import DECODED, REFUSED, damaged_payload, decode_damaged, whole_payloads

HERE = Path(__file__).parent
PART = 500  # payloads between two notes of how far it is


def fuzz(codec: Codec, state: dict, until: int, started: Path) -> None:
    """Go on with a codec's payloads up to a number, in ``state``."""
    payloads = whole_payloads(codec)
    for number in range(state["tried"], until):
        started.write_text(f"{codec.name} {number}")
        payload = damaged_payload(payloads, number)
        before = time.process_time()
        outcome = decode_damaged(codec, payload)
        seconds = time.process_time() - before
        state["tried"] = number + 1
        if outcome in (DECODED, REFUSED):
            state[outcome] += 1
        else:
            state["findings"].append([number, outcome[:300]])
        if seconds > state["slowest_s"]:
            state["slowest_s"], state["slowest"] = seconds, number


def table(states: dict[str, dict]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| codec | payloads | decoded | refused | findings | slowest, CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {state['tried']} | {state['decoded']} | {state['refused']} | {len(state['findings'])} | "
        f"{state['slowest_s']:.2f} |"
        for name, state in sorted(states.items())
    ]
    total = sum(state["tried"] for state in states.values())
    return "\n".join([*lines, "", f"{total} payloads."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payloads", type=int, default=1_000_000, help="over all codecs")
    parser.add_argument("--codecs", nargs="*", help="these only")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; the next call goes on")
    parser.add_argument("--state", type=Path, default=HERE / "results" / "fuzz.json")
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    states: dict[str, dict] = json.loads(options.state.read_text()) if options.state.exists() else {}
    if not options.table:
        end = time.monotonic() + options.seconds
        registry = Registry()
        able = [item.name for item in registry.components() if item.kind == "codec" and not item.missing()]
        names = options.codecs or able
        started = options.state.with_suffix(".started")
        options.state.parent.mkdir(parents=True, exist_ok=True)
        for name in names:
            fresh = {"tried": 0, "decoded": 0, "refused": 0, "findings": [], "slowest_s": 0.0, "slowest": 0}
            states.setdefault(name, fresh)
        if started.exists():  # left by a process that was stopped, or that a payload took down
            name, number = started.read_text().split()
            if states.get(name, {}).get("tried") == int(number):
                print(f"the last process ended in {name}, payload {number}: look at it; going on behind it")
                states[name]["findings"].append([int(number), "the process ended here"])
                states[name]["tried"] += 1
        share = options.payloads // max(1, len(names))
        codecs = {name: registry.create("codec", name) for name in names}
        while time.monotonic() < end and any(states[name]["tried"] < share for name in names):
            for name in names:
                fuzz(codecs[name], states[name], min(share, states[name]["tried"] + PART), started)
                write_whole(options.state, json.dumps(states, indent=1) + "\n")
        started.unlink(missing_ok=True)
        write_whole(options.state.with_suffix(".md"), table(states) + "\n")
    print(table(states))
    sys.exit(any(state["findings"] for state in states.values()))


if __name__ == "__main__":
    main()

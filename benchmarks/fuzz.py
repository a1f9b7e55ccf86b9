"""Damaged payloads for every installed codec, and damaged files for every reader: each is read, or refused, in time.

    python benchmarks/fuzz.py --payloads 1000000     # in parts: stop it whenever, the same command goes on
    python benchmarks/fuzz.py --table                # what was found so far

Payload number n of a codec is drawn from the seed n alone, so that any part can be repeated and several can run beside
each other. What is damaged are the codec's own payloads and those of other encoders of its format. Anything but a
decoded image or a `BitstreamError`, and for the readers anything but a result or an error of ours, is a finding: its
number and what was raised are kept. So is whatever takes more than 2 s of CPU. What crashes the process is found by the
next start: it names the number and goes on behind it.
"""

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from fuzz_seeds import foreign_payloads, readers

from precomp_sdk import Codec, Registry
from precomp_sdk.atomic_io import write_whole
from precomp_sdk.testing.fuzz import DECODED, REFUSED, damaged_payload, decode_damaged, read_damaged, whole_payloads

HERE = Path(__file__).parent
PART = 1000  # payloads between two notes of how far it is
LONGEST_S = 2.0
OF_READERS = 0.1  # of the payloads, over all readers
FRESH = {"tried": 0, "decoded": 0, "refused": 0, "findings": [], "slowest_s": 0.0, "slowest": 0}


@dataclass(frozen=True)
class Subject:
    """What is given damaged payloads.

    Args:
        name: of the codec or the reader.
        seeds: whole payloads.
        attempt: says what became of a payload.
        share: payloads to try.
    """

    name: str
    seeds: list[bytes]
    attempt: Callable[[bytes], str]
    share: int


def fuzz(subject: Subject, state: dict, until: int, started: int) -> None:
    """Go on with a subject's payloads up to a number, in ``state``; the number at work is written to a file."""
    for number in range(state["tried"], until):
        os.pwrite(started, f"{number:<12} {subject.name:<40}".encode(), 0)
        payload = damaged_payload(subject.seeds, number)
        before = time.process_time()
        outcome = subject.attempt(payload)
        seconds = time.process_time() - before
        state["tried"] = number + 1
        if outcome in (DECODED, REFUSED):
            state[outcome] += 1
        else:
            state["findings"].append([number, outcome[:300]])
        if seconds > LONGEST_S:
            state["findings"].append([number, f"{seconds:.1f} s of CPU"])
        if seconds > state["slowest_s"]:
            state["slowest_s"], state["slowest"] = seconds, number


def subjects(payloads: int, chosen: list[str]) -> list[Subject]:
    """Return the codecs, which share the payloads equally, and the readers, which share a tenth as many more."""
    registry = Registry()
    able = [item.name for item in registry.components() if item.kind == "codec" and not item.missing()]
    read = readers()
    unknown = set(chosen) - {*able, *read}
    if unknown:
        sys.exit(f"no codec or reader here: {', '.join(sorted(unknown))}; there are {', '.join([*able, *read])}")
    found = []
    for name in able:
        codec: Codec = registry.create("codec", name)
        seeds = [*whole_payloads(codec), *foreign_payloads(name)]
        found.append(Subject(name, seeds, partial(decode_damaged, codec), -(-payloads // len(able))))
    share = int(OF_READERS * payloads / len(read))
    found += [Subject(name, seeds, partial(read_damaged, reader), share) for name, (seeds, reader) in read.items()]
    for subject in found:
        for seed in subject.seeds:
            outcome = subject.attempt(seed)
            if outcome != DECODED:
                sys.exit(
                    f"{subject.name}: a whole payload was not read ({outcome}), so that damage would prove nothing"
                )
    return [subject for subject in found if not chosen or subject.name in chosen]


def table(states: dict[str, dict]) -> str:
    """Return the results as a table in Markdown."""
    lines = [
        "| codec or reader | payloads | read | refused | findings | slowest, CPU s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {name} | {state['tried']} | {state['decoded']} | {state['refused']} | {len(state['findings'])} | "
        f"{state['slowest_s']:.2f} |"
        for name, state in sorted(states.items())
    ]
    total = sum(state["tried"] for state in states.values())
    return "\n".join([*lines, "", f"{total} payloads."])


def note_crash(states: dict[str, dict], started: Path) -> None:
    """Take the payload that a process had at work when it ended as a finding, and go on behind it."""
    number, _, name = started.read_text().strip().partition(" ")
    state = states.get(name.strip())
    if state is None or int(number) < state["tried"]:
        return
    state["tried"] = int(number) + 1
    state["findings"].append([int(number), "the process ended here"])
    print(f"the last process ended in {name.strip()}, payload {number}: look at it; going on behind it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payloads", type=int, default=1_000_000, help="over all codecs; the readers get a tenth more")
    parser.add_argument("--only", nargs="*", default=[], help="these codecs and readers")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long; the next call goes on")
    parser.add_argument("--state", type=Path, default=HERE / "results" / "fuzz.json")
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # being stopped is no finding, and being killed is one
    warnings.simplefilter("ignore")  # Pillow's, of damaged metadata
    states: dict[str, dict] = json.loads(options.state.read_text()) if options.state.exists() else {}
    if not options.table:
        end = time.monotonic() + options.seconds
        todo = subjects(options.payloads, options.only)
        options.state.parent.mkdir(parents=True, exist_ok=True)
        for subject in todo:
            states.setdefault(subject.name, json.loads(json.dumps(FRESH)))
        path = options.state.with_suffix(".started")
        if path.exists():  # left by a process that was stopped, or that a payload took down
            note_crash(states, path)
        started = os.open(path, os.O_CREAT | os.O_RDWR | os.O_TRUNC)
        try:
            while todo and time.monotonic() < end:
                for subject in todo:
                    state = states[subject.name]
                    fuzz(subject, state, min(subject.share, state["tried"] + PART), started)
                    write_whole(options.state, json.dumps(states, indent=1) + "\n")
                todo = [subject for subject in todo if states[subject.name]["tried"] < subject.share]
        finally:
            os.close(started)
            path.unlink()
        write_whole(options.state.with_suffix(".md"), table(states) + "\n")
    print(table(states))
    sys.exit(any(state["findings"] for state in states.values()))


if __name__ == "__main__":
    main()

"""2000 damaged payloads for every installed codec: decoded or refused, and soon."""

import time
from typing import Any

import pytest

from precomp_sdk import BitstreamError, Codec, Registry
from precomp_sdk.testing import FakeCodec
from precomp_sdk.testing.fuzz import DECODED, REFUSED, damaged_payload, decode_damaged, whole_payloads

PAYLOADS = 2000
CODECS = [item.name for item in Registry().components() if item.kind == "codec" and not item.missing()]


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_decodes_or_refuses_whatever_it_is_given(name: str) -> None:
    codec: Codec = Registry().create("codec", name)
    payloads = whole_payloads(codec)
    outcomes: dict[str, int] = {}
    slowest_s = 0.0
    for number in range(PAYLOADS):
        payload = damaged_payload(payloads, number)
        before = time.thread_time()
        outcome = decode_damaged(codec, payload)
        slowest_s = max(slowest_s, time.thread_time() - before)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        assert outcome in (DECODED, REFUSED), f"payload {number}"
    assert outcomes[REFUSED] > PAYLOADS / 4  # it was damaged
    assert slowest_s < 2.0  # of CPU time; the images are small


def test_damage_is_drawn_from_its_number_alone() -> None:
    payloads = whole_payloads(FakeCodec())
    first = [damaged_payload(payloads, number) for number in range(300)]
    assert first == [damaged_payload(payloads, number) for number in range(300)]
    assert len(set(first)) > 200


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
        (BitstreamError(where="a", expected="b", got="c", remedy="d"), REFUSED),
        ("text", "ContractError"),
    ],
)
def test_what_a_decoder_does_is_told_apart(answer: Any, outcome: str) -> None:
    class Answers(FakeCodec):
        def _decode(self, payload: bytes) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

    assert decode_damaged(Answers(), b"x").startswith(outcome)

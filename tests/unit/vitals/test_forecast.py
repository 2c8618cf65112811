from __future__ import annotations

import math

from agent.vitals.forecast import SPANS, Filling

MIB = 1 << 20


def test_a_spool_that_fills_and_empties_with_every_batch_is_never_full() -> None:
    filling = Filling()
    for second in range(600):
        filling.note(float(second), (second % 7) * MIB)
    assert filling.seconds_to(100 * MIB) == math.inf


def test_a_spool_that_grows_steadily_is_full_when_it_will_be() -> None:
    filling = Filling()
    for second in range(301):
        filling.note(float(second), second * MIB + (second % 5) * MIB)
    assert math.isclose(filling.seconds_to(1000 * MIB), 700, rel_tol=0.05)


def test_a_spool_at_its_bound_is_full_now_and_an_unseen_one_never() -> None:
    filling = Filling()
    assert filling.seconds_to(MIB) == math.inf
    filling.note(0.0, 2 * MIB)
    assert filling.seconds_to(MIB) == 0.0


def test_what_happened_long_ago_is_forgotten() -> None:
    filling = Filling()
    for second in range(100):
        filling.note(float(second), second * MIB)
    for second in range(100, 100 + SPANS * 10 + 20):
        filling.note(float(second), 100 * MIB)
    assert filling.seconds_to(1000 * MIB) == math.inf

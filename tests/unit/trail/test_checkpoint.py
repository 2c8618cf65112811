from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.errors import FormatError
from agent.trail.checkpoint import Checkpoint, parse_decimal
from agent.trail.merkle import EMPTY_ROOT
from agent.trail.note import parse_note

ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def test_the_published_checkpoint_is_read():
    examples = json.loads((Path(__file__).parents[2] / "vectors" / "c2sp" / "examples.json").read_text())
    for name in ("checkpoint", "cosigned_checkpoint"):
        text = parse_note(examples[name].encode()).text
        checkpoint = Checkpoint.parse(text)
        assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
        assert checkpoint.text() == text


def test_the_text_of_a_checkpoint():
    checkpoint = Checkpoint("a/b", 0, EMPTY_ROOT)
    assert checkpoint.text() == f"a/b\n0\n{ROOT}\n"
    assert Checkpoint.parse(checkpoint.text()) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"a\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"a\n1\n{ROOT}\nextension\n",
        f"a\n1\n{ROOT}\n\n",
        f"a\n01\n{ROOT}\n",
        f"a\n+1\n{ROOT}\n",
        f"a\n-1\n{ROOT}\n",
        f"a\n 1\n{ROOT}\n",
        f"a\n1_0\n{ROOT}\n",
        f"a\n٣\n{ROOT}\n",
        f"a\n{2**63}\n{ROOT}\n",
        f"a\n\n{ROOT}\n",
        f"a\tb\n1\n{ROOT}\n",
        f"a\n1\n{ROOT[:-1]}\n",
        "a\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=\n",
        "a\n1\nAAAA\n",
    ],
)
def test_texts_that_are_no_checkpoint_are_refused(text):
    with pytest.raises(FormatError):
        Checkpoint.parse(text)


@pytest.mark.parametrize(
    "arguments", [("", 0, EMPTY_ROOT), ("a\nb", 0, EMPTY_ROOT), ("a", -1, EMPTY_ROOT), ("a", 2**63, EMPTY_ROOT), ("a", 0, b"")]
)
def test_checkpoints_without_a_text_form_are_not_made(arguments):
    with pytest.raises(FormatError):
        Checkpoint(*arguments)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("7", 7), ("10", 10), (str(2**63 - 1), 2**63 - 1)])
def test_decimals(text, number):
    assert parse_decimal(text, "the number") == number

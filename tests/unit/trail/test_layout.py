from __future__ import annotations

import pytest

from agent.errors import ConfigError, FormatError
from agent.trail.layout import DataKey, Origin, data_key, fold_name, is_name, parse_data_key, parse_seal_key, seal_key

EPOCH = "01arz3ndektsv4rrffq69g5fav"
ORIGIN = Origin("demo", "payments", EPOCH, "host-1")
DIGEST = "0123456789abcdef" * 4


def test_an_origin_is_four_parts():
    assert str(ORIGIN) == f"demo/payments/{EPOCH}/host-1"
    assert Origin.parse(str(ORIGIN)) == ORIGIN


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"demo/payments/{EPOCH}",
        f"demo/payments/{EPOCH}/host/1",
        f"demo/payments/{EPOCH}/host-1/",
        f"/payments/{EPOCH}/host-1",
        f"Demo/payments/{EPOCH}/host-1",
        f"demo/payments/{EPOCH.upper()}/host-1",
        "demo/payments/epoch/host-1",
        f"demo/../{EPOCH}/host-1",
        f"demo/./{EPOCH}/host-1",
        f"demo/-x/{EPOCH}/host-1",
        f"demo/x-/{EPOCH}/host-1",
        f"demo/x y/{EPOCH}/host-1",
        f"demo/é/{EPOCH}/host-1",
        f"demo/payments/{EPOCH}/{'h' * 64}",
        f"demo/payments/{EPOCH}/host-1\n",
    ],
)
def test_texts_that_are_no_origin_are_refused(text):
    with pytest.raises(FormatError):
        Origin.parse(text)


def test_the_key_of_a_seal():
    assert seal_key(ORIGIN, 41) == f"trails/demo/payments/{EPOCH}/host-1/000000000041.seal"
    assert parse_seal_key(seal_key(ORIGIN, 41)) == (ORIGIN, 41)


@pytest.mark.parametrize("batch", [-1, 10**12])
def test_batches_without_a_seal_key(batch):
    with pytest.raises(FormatError):
        seal_key(ORIGIN, batch)


@pytest.mark.parametrize(
    "key",
    [
        "",
        f"trails/{ORIGIN}/41.seal",
        f"trails/{ORIGIN}/000000000041.seal\n",
        f"trails/{ORIGIN}/000000000041.cosig.01020304",
        f"x/trails/{ORIGIN}/000000000041.seal",
        "trails/demo/000000000041.seal",
        f"trails/{ORIGIN}/٠٠٠٠٠٠٠٠٠٠٤١.seal",
    ],
)
def test_keys_that_are_no_seals_are_refused(key):
    with pytest.raises(FormatError):
        parse_seal_key(key)


def test_the_key_of_a_data_object():
    key = data_key(ORIGIN, 7, "2026-01-08", DIGEST)
    assert key == (f"records/namespace=demo/service=payments/date=2026-01-08/{EPOCH}-00000000000000000007-0123456789abcdef.ndjson.zst")
    assert data_key(ORIGIN, 7, "2026-01-08", bytes.fromhex(DIGEST)) == key
    assert parse_data_key(key) == DataKey("demo", "payments", "2026-01-08", EPOCH, 7, "0123456789abcdef")


def test_keys_of_one_trail_sort_in_its_order():
    seals = [seal_key(ORIGIN, batch) for batch in (0, 9, 10, 99, 100, 10**11)]
    data = [data_key(ORIGIN, seq, "2026-01-08", DIGEST) for seq in (1, 9, 10, 2**40, 2**63 - 1)]
    assert seals == sorted(seals)
    assert data == sorted(data)


@pytest.mark.parametrize(
    ("first_seq", "day", "digest"),
    [
        (-1, "2026-01-08", DIGEST),
        (2**63, "2026-01-08", DIGEST),
        (1, "2026-1-8", DIGEST),
        (1, "2026-02-30", DIGEST),
        (1, "20260108", DIGEST),
        (1, "2026-01-08\n", DIGEST),
        (1, "2026-01-08", DIGEST.upper()),
        (1, "2026-01-08", DIGEST[:-1]),
        (1, "2026-01-08", b"short"),
    ],
)
def test_arguments_without_a_data_key(first_seq, day, digest):
    with pytest.raises(FormatError):
        data_key(ORIGIN, first_seq, day, digest)


GOOD = data_key(ORIGIN, 7, "2026-01-08", DIGEST)


@pytest.mark.parametrize(
    "key",
    [
        "",
        GOOD + "\n",
        GOOD[1:],
        GOOD.replace("2026-01-08", "2026-13-08"),
        GOOD.replace(EPOCH, "u" * 26),
        GOOD.replace("00000000000000000007", "99999999999999999999"),
        GOOD.replace("00000000000000000007", "7"),
        GOOD.replace("demo", "Demo"),
        GOOD.replace("demo", "de/mo"),
        GOOD.replace(".zst", ""),
    ],
)
def test_keys_that_are_no_data_objects_are_refused(key):
    with pytest.raises(FormatError):
        parse_data_key(key)


@pytest.mark.parametrize("name", ["a", "0", "payments-7d9f8b6c5d-x2x4z", "a.b_c-d", "h" * 63])
def test_names_that_need_no_folding(name):
    assert is_name(name)
    assert fold_name(name) == name


def test_capitals_become_small_letters_and_nothing_more():
    assert fold_name("DB-Primary.Example.COM") == "db-primary.example.com"


@pytest.mark.parametrize(
    ("raw", "start"),
    [
        ("host name", "host-name-"),
        ("host.", "host-"),
        ("-host", "host-"),
        ("höst", "h-st-"),
        ("主机", "host-"),
        ("...", "host-"),
        ("\udcff", "host-"),
        ("a" * 64, "a" * 46 + "-"),
        ("a" * 45 + "-" + "b" * 40, "a" * 45 + "-"),
        ("K\u212a", "k-"),
    ],
)
def test_other_names_get_a_readable_part_and_a_hash(raw, start):
    folded = fold_name(raw)
    assert is_name(folded)
    assert folded.startswith(start)
    assert len(folded.removeprefix(start)) == 16
    assert fold_name(raw) == folded
    assert fold_name(folded) == folded


def test_different_names_are_never_folded_to_one():
    raws = [
        "host",
        "host.",
        "host-",
        "-host",
        "host ",
        " host",
        "hos t",
        "host\0",
        "höst",
        "hôst",
        "h" * 64,
        "h" * 65,
        "主机",
        "主",
        "..",
        ".",
    ]
    assert len({fold_name(raw) for raw in raws}) == len(raws)


def test_an_empty_name_is_a_mistake_in_the_configuration():
    with pytest.raises(ConfigError):
        fold_name("")

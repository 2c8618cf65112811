from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import pytest

from agent.errors import FormatError, ProofError
from agent.trail.note import MAX_SIGNATURES, SigningKey, VerifierKey, decode_base64, is_key_name, open_note, parse_note, sign_note

EXAMPLES: Final[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "vectors" / "c2sp" / "examples.json").read_text())
KEY: Final = SigningKey.from_seed("example.com/log", bytes(range(32)))
OTHER: Final = SigningKey.from_seed("example.com/other", bytes(32))


def test_the_published_note_verifies_with_the_published_key():
    key = VerifierKey.parse(EXAMPLES["signed_note"]["vkey"])
    note, verified = open_note(EXAMPLES["signed_note"]["note"].encode(), [key])
    assert note.text == "This is an example message.\n"
    assert verified == {key}
    assert str(key) == EXAMPLES["signed_note"]["vkey"]


@pytest.mark.parametrize("name", ["verse", "checkpoint", "cosigned_checkpoint"])
def test_published_notes_of_unknown_keys_parse_and_verify_nothing(name):
    raw = EXAMPLES[name].encode()
    note, verified = open_note(raw, [KEY.verifier])
    assert verified == frozenset()
    assert note.encode() == raw


def test_a_text_may_hold_empty_lines():
    assert parse_note(EXAMPLES["verse"].encode()).text.endswith("di sole:\n\ned è subito sera.\n")


def test_the_key_and_signature_of_rfc_8032_test_1():
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = SigningKey.from_seed("rfc8032", seed)
    assert key.verifier.public_key.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert key.sign(b"").hex() == (
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
    )


def test_every_signer_of_a_note_is_verified():
    raw = sign_note("hello\n", [KEY, OTHER])
    note, verified = open_note(raw, [KEY.verifier, OTHER.verifier])
    assert verified == {KEY.verifier, OTHER.verifier}
    assert [signature.name for signature in note.signatures] == ["example.com/log", "example.com/other"]


def test_a_known_key_with_a_wrong_signature_rejects_the_whole_note():
    raw = sign_note("hello\n", [KEY, OTHER]).replace(b"hello", b"hallo")
    for keys in ([KEY.verifier], [OTHER.verifier], [KEY.verifier, OTHER.verifier]):
        with pytest.raises(ProofError, match="does not verify"):
            open_note(raw, keys)
    assert open_note(raw, [])[1] == frozenset()


def test_a_second_signature_by_the_same_key_must_verify_too():
    good = sign_note("hello\n", [KEY])
    bad = sign_note("hallo\n", [KEY]).split(b"\n\n")[1]
    with pytest.raises(ProofError):
        open_note(good + bad, [KEY.verifier])


def test_signatures_that_share_only_name_or_only_id_are_ignored():
    same_name = SigningKey.from_seed(KEY.verifier.name, bytes(31) + b"\1")
    assert open_note(sign_note("hello\n", [same_name]), [KEY.verifier])[1] == frozenset()
    raw = sign_note("hello\n", [KEY]).replace(b"example.com/log", b"example.com/gol")
    assert open_note(raw, [KEY.verifier])[1] == frozenset()


def signature_line(name: str = "n", raw: bytes = b"idid" + bytes(64)) -> str:
    return f"— {name} {b64encode(raw).decode()}\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n\n",
        f"text\n{signature_line()}".encode(),
        f"text\n\n{signature_line()[:-1]}".encode(),
        f"text\n\n{signature_line()}\n".encode(),
        f"text\r\n\n{signature_line()}".encode(),
        f"text\t\n\n{signature_line()}".encode(),
        f"text\0\n\n{signature_line()}".encode(),
        b"\xff\n\n" + signature_line().encode(),
        f"text\n\n-{signature_line()[1:]}".encode(),
        f"text\n\n{signature_line('a b')}".encode(),
        f"text\n\n{signature_line('a+b')}".encode(),
        b"text\n\n" + signature_line("a\u2003b").encode(),
        f"text\n\n{signature_line('')}".encode(),
        f"text\n\n{signature_line(raw=b'idid')}".encode(),
        f"text\n\n{signature_line(raw=b'id')}".encode(),
        f"text\n\n{signature_line().replace('=', '')}".encode(),
        "text\n\n— n aWRpZHh=\n".encode(),
        f"text\n\n{signature_line()} {signature_line()}".encode(),
        f"text\n\n{signature_line() * (MAX_SIGNATURES + 1)}".encode(),
        b"x" * (1 << 20) + b"\n\n" + signature_line().encode(),
    ],
    ids=lambda raw: repr(raw[:40]),
)
def test_bytes_that_are_no_note_are_refused(raw):
    with pytest.raises(FormatError):
        parse_note(raw)


def test_a_hundred_signatures_are_read():
    assert len(parse_note(f"text\n\n{signature_line() * MAX_SIGNATURES}".encode()).signatures) == MAX_SIGNATURES


@pytest.mark.parametrize("text", ["", "no newline", "control\x07\n", "tab\t\n", "lone \ud800\n"])
def test_texts_that_no_note_may_have_are_not_signed(text):
    with pytest.raises(FormatError):
        sign_note(text, [KEY])


def test_a_note_without_signers_is_not_made():
    with pytest.raises(FormatError):
        sign_note("hello\n", [])


def test_keys_have_one_text_form():
    assert VerifierKey.parse(str(KEY.verifier)) == KEY.verifier
    again = SigningKey.parse(KEY.encode())
    assert again.verifier == KEY.verifier
    assert again.encode() == KEY.encode()


def test_no_text_form_of_a_signing_key_shows_its_seed():
    seed = b64encode(b"\x01" + bytes(range(32))).decode()
    assert seed in KEY.encode()
    for shown in (repr(KEY), str(KEY), f"{KEY}", f"{KEY!r}"):
        assert seed not in shown
        assert bytes(range(32)).hex() not in shown
        assert str(KEY.verifier) in shown


VKEY: Final = str(KEY.verifier)
VKEY_NAME, VKEY_ID, VKEY_MATERIAL = VKEY.split("+", 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        VKEY_NAME,
        f"{VKEY_NAME}+{VKEY_ID}",
        f"+{VKEY_ID}+{VKEY_MATERIAL}",
        f"other+{VKEY_ID}+{VKEY_MATERIAL}",
        f"{VKEY_NAME}+{VKEY_ID[:-1]}G+{VKEY_MATERIAL}",
        "foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        f"{VKEY_NAME}+0{VKEY_ID}+{VKEY_MATERIAL}",
        f"{VKEY_NAME}+00000000+{VKEY_MATERIAL}",
        f"{VKEY_NAME}+{VKEY_ID}+{VKEY_MATERIAL}=",
        f"{VKEY_NAME}+{VKEY_ID}+{VKEY_MATERIAL}\n",
        f"{VKEY_NAME}+{VKEY_ID}+{VKEY_MATERIAL[:-4]}",
        "+".join((VKEY_NAME, VKEY_ID, b64encode(b"\x04" + KEY.verifier.public_key).decode())),
        f"na me+{VKEY_ID}+{VKEY_MATERIAL}",
        f"é\ud800+{VKEY_ID}+{VKEY_MATERIAL}",
    ],
)
def test_texts_that_are_no_key_are_refused(text):
    with pytest.raises(FormatError):
        VerifierKey.parse(text)
    with pytest.raises(FormatError):
        SigningKey.parse(text)
    with pytest.raises(FormatError):
        SigningKey.parse("PRIVATE+KEY+" + text)


def test_the_message_about_a_bad_signing_key_does_not_repeat_it():
    secret = KEY.encode().replace(KEY.verifier.key_id.hex(), "00000000")
    with pytest.raises(FormatError) as failure:
        SigningKey.parse(secret)
    assert secret.rpartition("+")[2] not in str(failure.value)


@pytest.mark.parametrize(("name", "seed"), [("", bytes(32)), ("a b", bytes(32)), ("a", bytes(31)), ("a", bytes(33))])
def test_a_signing_key_needs_a_name_and_a_whole_seed(name, seed):
    with pytest.raises(FormatError):
        SigningKey.from_seed(name, seed)


@pytest.mark.parametrize("name", ["a", "example.com/log42", "é", "a-b_c/d.e"])
def test_names_that_keys_may_have(name):
    assert is_key_name(name)


@pytest.mark.parametrize("name", ["", " ", "a b", "a\u00a0b", "a+b", "a\nb", "a\x01", "\udc80"])
def test_names_that_keys_may_not_have(name):
    assert not is_key_name(name)


@pytest.mark.parametrize("text", ["A", "AA", "AA=", "AB==", "AAB=", "AA==\n", "A A=", "AA==AA==", "-_8=", "é==="])
def test_base64_with_another_spelling_is_refused(text):
    with pytest.raises(FormatError, match="the thing"):
        decode_base64(text, "the thing")


def test_a_signature_of_another_length_is_wrong_and_not_a_crash():
    assert not KEY.verifier.verify(b"x", b"")
    assert not KEY.verifier.verify(b"x", bytes(65))

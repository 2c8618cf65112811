"""What a bucket answers, and does not answer, becomes what a verifier may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import obstore
import pytest
import tenacity
from obstore.exceptions import GenericError, InvalidPathError, PermissionDeniedError

from agent.config import BucketAddress
from agent.errors import NotVerifiedError
from agent.reader.bucket import GIVEN_UP_AFTER, TRIES, BucketReader
from agent.reader.pins import RECENT, Pin
from agent.stores.bucket import Access
from agent.trail.layout import Origin, seal_key
from tests.support.trail_factory import TrailFactory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 6, 1, tzinfo=UTC)
ORIGIN: Origin = TrailFactory().origin
KEY = seal_key(ORIGIN, 0)


def answer(status: str, code: str = "", message: str = "") -> str:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>" if code else ""
    return f"Error performing GET http://x in 1ms - Server returned non-2xx status code: {status}: {body}"


UNREACHABLE = GenericError("HTTP error\n\nDebug source:\n kind: Timeout")
BUSY = GenericError(answer("503 Service Unavailable", "SlowDown"))
DENIED = PermissionDeniedError(answer("403 Forbidden", "AccessDenied", "not you"))
NO_KEY = FileNotFoundError(answer("404 Not Found", "NoSuchKey"))
NO_BUCKET = FileNotFoundError(answer("404 Not Found", "NoSuchBucket"))


class Answer:
    """What `obstore.get` returns."""

    def __init__(self, raw: bytes, *, size: int | None = None, version: str | None = "v1", modified: datetime = NOW) -> None:
        """Hold a body, and say that it has a size."""
        self.meta = {"size": len(raw) if size is None else size, "version": version, "last_modified": modified}
        self._raw = raw
        self.read = False

    def bytes(self) -> bytes:
        self.read = True
        return self._raw


@pytest.fixture
def reader() -> BucketReader:
    return BucketReader(Access(address=BucketAddress.parse("s3://audit/prod")), bucket=object(), wait=tenacity.wait_none())


@pytest.fixture
def get(monkeypatch) -> Callable[..., list[Any]]:
    """Script what `obstore.get` answers, the last of it for ever; return the list of what was asked."""

    def script(*answers: Any) -> list[Any]:
        asked: list[Any] = []

        def scripted(_: object, key: str, *, options: Any = None) -> Any:
            asked.append((key, options))
            given = answers[min(len(asked), len(answers)) - 1]
            if isinstance(given, Exception):
                raise given
            return given

        monkeypatch.setattr(obstore, "get", scripted)
        return asked

    return script


class TestReading:
    def test_what_is_there_is_returned(self, reader, get):
        get(Answer(b"seal"))
        assert reader.read(KEY, 10) == b"seal"

    def test_only_a_missing_key_is_absent(self, reader, get):
        get(NO_KEY)
        assert reader.read(KEY, 10) is None

    @pytest.mark.parametrize(
        ("error", "words"),
        [(NO_BUCKET, "404 Not Found: NoSuchBucket"), (FileNotFoundError(answer("404 Not Found")), "404 Not Found"), (DENIED, "not you")],
    )
    def test_a_refusal_is_said_at_once_in_the_store_s_words(self, reader, get, error, words):
        asked = get(error)
        with pytest.raises(NotVerifiedError, match=words) as refused:
            reader.read(KEY, 10)
        assert len(asked) == 1
        assert "s3://audit/prod/trails/" in refused.value.message
        assert "tried again by itself" not in refused.value.hint

    @pytest.mark.parametrize("error", [UNREACHABLE, BUSY, OSError("reset")])
    def test_what_may_pass_is_tried_again_a_few_times(self, reader, get, error):
        asked = get(*[error] * (TRIES - 1), Answer(b"seal"))
        assert reader.read(KEY, 10) == b"seal"
        assert len(asked) == TRIES
        asked = get(error)
        with pytest.raises(NotVerifiedError):
            reader.read(KEY, 10)
        assert len(asked) == TRIES

    def test_a_body_that_was_cut_short_is_read_again(self, reader, get):
        get(Answer(b"se", size=4), Answer(b"seal"))
        assert reader.read(KEY, 10) == b"seal"

    def test_the_size_is_looked_at_before_the_body(self, reader, get):
        large = Answer(b"x" * 11)
        get(large)
        with pytest.raises(NotVerifiedError, match="reads no more than 10"):
            reader.read(KEY, 10)
        assert not large.read

    def test_a_store_that_answers_no_more_is_given_up(self, reader, get):
        asked = get(UNREACHABLE)
        for _ in range(GIVEN_UP_AFTER):
            with pytest.raises(NotVerifiedError, match="no answer in time"):
                reader.read(KEY, 10)
        with pytest.raises(NotVerifiedError, match="given up"):
            reader.read(KEY, 10)
        assert len(asked) == GIVEN_UP_AFTER * TRIES

    def test_an_answer_in_between_is_a_reason_not_to_give_up(self, reader, get):
        for _ in range(GIVEN_UP_AFTER):
            get(UNREACHABLE)
            with pytest.raises(NotVerifiedError):
                reader.read(KEY, 10)
            get(NO_KEY)
            assert reader.read(KEY, 10) is None

    def test_after_closing_nothing_is_tried_again(self, reader, get):
        asked = get(BUSY)
        reader.close()
        with pytest.raises(NotVerifiedError):
            reader.read(KEY, 10)
        assert len(asked) == 1


class TestVersions:
    def test_a_pinned_version_is_what_is_read(self, reader, get):
        asked = get(Answer(b"seal"))
        reader.pins.pin(KEY, Pin("v7", 4, 0.0, hidden=False))
        reader.read(KEY, 10)
        assert asked == [(KEY, {"version": "v7"})]

    @pytest.mark.parametrize(
        ("version", "age", "noted"),
        [("v1", RECENT / 2, {}), ("v2", RECENT / 2, {KEY: "v2"}), ("v2", RECENT * 2, {}), (None, RECENT / 2, {KEY: None})],
    )
    def test_another_version_than_was_listed_is_noted(self, reader, get, version, age, noted):
        reader.pins.listed_at(NOW)
        reader.pins.found(KEY, "v1", NOW - RECENT / 2)
        get(Answer(b"seal", version=version, modified=NOW - age))
        reader.read(KEY, 10)
        assert reader.pins.unlisted == noted

    def test_hidden_seals_and_objects_are_listed(self, reader, listing):
        listing([])
        other = TrailFactory(seed=b"other").origin
        for key in (seal_key(ORIGIN, 1), seal_key(other, 0), "records/x"):
            reader.pins.pin(key, Pin("v1", 3, 5.0, hidden=True))
        assert list(reader.seals(ORIGIN)) == [1]
        assert list(reader.origins()) == sorted([ORIGIN, other], key=str)
        assert {info.key for info in reader.objects("records")} == {"records/x"}
        assert {(info.size, info.modified) for info in reader.objects("")} == {(3, 5.0)}


@pytest.fixture
def listing(monkeypatch) -> Callable[..., list[Any]]:
    """Script the pages that `obstore.list` yields, anew from after its offset each time; return the list of offsets."""

    def script(pages: list[list[str] | Exception]) -> list[Any]:
        offsets: list[Any] = []
        left = list(pages)

        def stream(offset: str | None) -> Iterator[list[dict[str, Any]]]:
            while left:
                page = left.pop(0)
                if isinstance(page, Exception):
                    raise page
                yield [{"path": path, "size": 1, "last_modified": NOW} for path in page if offset is None or path > offset]

        def scripted(_: object, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50) -> Any:
            offsets.append(offset)
            return stream(offset)

        monkeypatch.setattr(obstore, "list", scripted)
        monkeypatch.setattr(obstore, "list_with_delimiter", lambda *_: {"common_prefixes": []})
        return offsets

    return script


def seals(*numbers: int) -> list[str]:
    return [seal_key(ORIGIN, number) for number in numbers]


class TestListing:
    def test_a_listing_that_breaks_off_goes_on_where_it_was(self, reader, listing):
        offsets = listing([seals(0, 1), BUSY, seals(1, 2), seals(3)])
        assert list(reader.seals(ORIGIN)) == [0, 1, 2, 3]
        assert offsets == [None, seals(1)[0]]

    @pytest.mark.parametrize("pages", [[seals(0, 2, 1)], [seals(1), seals(0)], [seals(1), seals(1)]])
    def test_seals_that_are_not_in_order_are_an_error(self, reader, listing, pages):
        listing(pages)
        with pytest.raises(NotVerifiedError, match="not in the order of the keys"):
            list(reader.seals(ORIGIN))

    def test_a_listing_without_an_order_that_breaks_off_is_an_error(self, reader, listing):
        listing([["b", "a"], BUSY, ["c"]])
        with pytest.raises(NotVerifiedError, match="no order in which it could go on"):
            list(reader.objects(""))

    def test_other_objects_beside_seals_are_passed_over(self, reader, listing):
        folder = KEY.rpartition("/")[0]
        listing([[*seals(0), f"{folder}/000000000000.cosig.0a1b2c3d", f"{folder}/x/000000000007.seal", *seals(1)]])
        assert list(reader.seals(ORIGIN)) == [0, 1]

    def test_a_key_that_is_no_path_is_an_error_at_once(self, reader, listing):
        listing([InvalidPathError('Encountered object with invalid path: Path "a//b" contained empty path segment')])
        with pytest.raises(NotVerifiedError, match="a//b"):
            list(reader.objects(""))

    def test_greeting_says_what_is_wrong(self, reader, monkeypatch):
        def refuse(*_: object) -> None:
            raise GenericError(answer("404 Not Found", "NoSuchBucket"))

        monkeypatch.setattr(obstore, "list_with_delimiter", refuse)
        with pytest.raises(NotVerifiedError, match="cannot list s3://audit/prod/trails: 404 Not Found: NoSuchBucket") as refused:
            reader.greet()
        assert "Check the bucket's name" in refused.value.hint

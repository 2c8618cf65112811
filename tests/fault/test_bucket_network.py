"""What a network does to requests: cut, lost, late, refused. The bucket ends up with each object once, and everybody is told."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent_process import until
from tests.support.bucket_site import LOCKED, PLAIN, QUICK, BucketSite, assert_each_once, bucket_name
from tests.support.object_servers.proxy import Proxy
from tests.support.object_servers.rgw import Rgw
from tests.support.oracle import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rgw]:
    with Rgw(tmp_path_factory.mktemp("rgw")) as server:
        yield server


@pytest.fixture
def proxy(rgw: Rgw) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", rgw.port) as between:
        yield between


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """Return a name of the test's own."""
    return bucket_name(request)


SEAL, DATA = r"^PUT .*\.seal", r"^PUT .*\.zst"


@pytest.mark.parametrize(
    ("spoil", "store"),
    [
        pytest.param(lambda proxy: proxy.swallow_replies(6, only=SEAL), PLAIN, id="replies to seals are lost"),
        pytest.param(lambda proxy: proxy.swallow_replies(6, only=SEAL), LOCKED, id="replies to seals are lost, where create is weak"),
        pytest.param(lambda proxy: proxy.swallow_replies(6, only=DATA), PLAIN, id="replies to data are lost"),
        pytest.param(lambda proxy: proxy.swallow_replies(12), LOCKED, id="any replies are lost, where create is weak"),
        pytest.param(lambda proxy: proxy.reset_after(200, of="client", only="^PUT"), PLAIN, id="requests are cut in the midst"),
        pytest.param(lambda proxy: proxy.truncate_replies(60), LOCKED, id="replies are cut in the midst, where create is weak"),
        pytest.param(lambda proxy: proxy.refuse("reset"), PLAIN, id="connections are reset"),
        pytest.param(lambda proxy: proxy.answer(503, b"<Error><Code>SlowDown</Code></Error>"), PLAIN, id="throttled"),
        pytest.param(lambda proxy: proxy.answer(500, b"<html>oops</html>"), PLAIN, id="a balancer's error page"),
        pytest.param(lambda proxy: proxy.delay(0.4), LOCKED, id="everything is late, where create is weak"),
        pytest.param(lambda proxy: proxy.throttle(20_000), PLAIN, id="the way is narrow"),
    ],
)
def test_whatever_happens_on_the_way_each_object_is_there_once(
    tmp_path: Path, rgw: Rgw, proxy: Proxy, bucket: str, spoil: Callable[[Proxy], None], store: dict[str, Any]
) -> None:
    rgw.bucket(bucket, lock="compliance" if store is LOCKED else None)
    site = BucketSite(tmp_path, rgw, bucket, endpoint=proxy.endpoint, store=store, seal=QUICK)
    ids = write(site.log, 0, 200)
    with site.run() as agent:
        site.wait_for(agent, ids)
        spoil(proxy)
        for turn in range(1, 4):
            ids += write(site.log, turn * 200, turn * 200 + 200)
            time.sleep(0.7)
        proxy.pass_on()
        ids += write(site.log, 800, 1000)
        site.wait_for(agent, ids)
        until(site.is_ready, "an agent that is ready again")
        assert site.metrics()["trailseal_forks_total"] == 0
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)


def test_a_server_that_takes_requests_and_never_answers_is_given_up_in_time_and_asked_again(
    tmp_path: Path, rgw: Rgw, proxy: Proxy, bucket: str
) -> None:
    rgw.bucket(bucket)
    site = BucketSite(tmp_path, rgw, bucket, endpoint=proxy.endpoint, store=PLAIN, seal=QUICK)
    ids = write(site.log, 0, 100)
    with site.run() as agent:
        site.wait_for(agent, ids)
        proxy.half_close()
        ids += write(site.log, 100, 200)
        until(lambda: (site.status() or {})["store_problems"], "a store problem", 60)
        assert "no answer in time" in (site.status() or {})["store_problems"]["main"]
        assert not site.is_ready()
        proxy.pass_on()
        site.wait_for(agent, ids)
        assert agent.stop() == 0, agent.log
    assert_each_once(site, ids)

"""Catalog coverage: the counts, and that a scope shows nothing of anybody else."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from agent.errors import ConfigError
from agent.reader.ask.filters import Scope
from agent.reader.control.coverage import MAX_UNCATALOGUED, coverage
from agent.reader.control.plain import as_plain
from tests.unit.reader.ask.made import at, event

if TYPE_CHECKING:
    from agent.events.catalog import Catalog
    from tests.unit.reader.ask.made import Made
    from tests.unit.reader.control.conftest import Company


def counted(company: Company, catalog: Catalog) -> Counter[str]:
    """Return what was written, by the catalog's entry; the empty name for what it does not know."""
    found: Counter[str] = Counter()
    for (_, action, _), count in company.written.by_action.items():
        entry = catalog.entry(action)
        found["" if entry is None else entry.action] += count
    return found


class TestCounts:
    def test_every_entry_counts_exactly_the_events_that_were_written_for_it(self, company: Company, catalog: Catalog) -> None:
        found = coverage(company.index, catalog=catalog)
        written = counted(company, catalog)
        assert {each.entry.action: each.seen.count for each in found.seen} == {name: n for name, n in written.items() if name}
        assert found.uncatalogued_events == written[""]
        assert found.events == company.written.events
        assert len(found.entries) == len(catalog.entries)
        assert {each.entry.action for each in found.seen} | {each.entry.action for each in found.unseen} == {
            entry.action for entry in catalog.entries
        }

    def test_outcomes_and_services_of_an_entry_are_those_that_were_written(self, company: Company, catalog: Catalog) -> None:
        grants = next(each for each in coverage(company.index, catalog=catalog).seen if each.entry.action == "role.grant")
        by_outcome: Counter[str] = Counter()
        by_service: Counter[str] = Counter()
        for (service, action, outcome), count in company.written.by_action.items():
            if action == "role.grant":
                by_outcome[outcome] += count
                by_service[f"acme/{service}"] += count
        assert dict(grants.seen.outcomes) == by_outcome
        assert dict(grants.seen.services) == by_service
        assert grants.seen.first == company.written.grants[0].occurred_at
        assert grants.seen.last == company.written.grants[-1].occurred_at
        assert grants in coverage(company.index, catalog=catalog).privileged

    def test_an_action_that_the_catalog_does_not_know_is_listed(self, company: Company, catalog: Catalog) -> None:
        found = coverage(company.index, catalog=catalog)
        assert {each.action for each in found.uncatalogued} == {
            action for _, action, _ in company.written.by_action if catalog.entry(action) is None
        }

    def test_without_a_catalog_every_action_is_uncatalogued_and_nothing_is_expected(self, company: Company) -> None:
        found = coverage(company.index)
        assert not found.has_catalog
        assert not found.entries
        assert {each.action for each in found.uncatalogued} == {action for _, action, _ in company.written.by_action}
        assert found.uncatalogued_events == company.written.events

    def test_quarantine_gaps_and_services_are_counted(self, company: Company) -> None:
        found = coverage(company.index)
        assert sum(each.count for each in found.quarantined) == company.written.quarantined
        assert [each.reason for each in found.quarantined] == ["missing_field", "not_json"]
        assert [each.service for each in found.services] == ["acme/console", "acme/directory", "acme/payments"]
        assert sum(each.gaps for each in found.services) == company.written.gaps == 1
        assert sum(each.batches for each in found.services) == company.written.batches
        assert sum(each.trails for each in found.services) == len(company.written.origins)
        assert sum(each.quarantined for each in found.services) == company.written.quarantined
        assert all(each.untrusted_trails == 0 for each in found.services)

    def test_a_range_counts_its_days_and_no_other(self, company: Company) -> None:
        since, until = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
        written = sum(count for (_, day), count in company.written.by_day.items() if since.date() <= day < until.date())
        assert coverage(company.index, since=since, until=until).events == written

    def test_an_event_is_counted_for_the_entry_that_the_agent_would_have_found(self, made: Made, catalog: Catalog) -> None:
        made.trail().batch(at(2), *(event(action=action) for action in ("auth.mfa.reset", "auth.other", "auth.login")))
        seen = {each.entry.action: dict(each.seen.actions) for each in coverage(made.index, catalog=catalog).seen}
        assert seen == {"auth.mfa.*": {"auth.mfa.reset": 1}, "auth.*": {"auth.other": 1}, "auth.login": {"auth.login": 1}}


class TestUnfriendlyStores:
    def test_events_of_trails_that_nobody_vouches_for_are_said_to_be_so(self, made: Made, catalog: Catalog) -> None:
        made.trail().batch(at(2), event())
        made.trail("demo", "forged", trusted=False).batch(at(2), event(), event())
        found = coverage(made.index, catalog=catalog)
        assert (found.events, found.untrusted) == (3, 2)
        assert [each.untrusted_trails for each in found.services] == [1, 0]
        assert found.seen[0].seen.untrusted == 2

    def test_a_service_that_makes_up_names_without_end_fills_no_report(self, made: Made, catalog: Catalog) -> None:
        made.trail().batch(
            at(2),
            *(event(action=f"made.up.{number}") for number in range(MAX_UNCATALOGUED + 100)),
            event(action="often"),
            event(action="often"),
        )
        found = coverage(made.index, catalog=catalog)
        assert len(found.uncatalogued) == MAX_UNCATALOGUED
        assert found.uncatalogued[0].action == "often"
        assert found.more_uncatalogued
        assert found.uncatalogued_events == MAX_UNCATALOGUED + 102

    def test_an_index_without_anything_is_answered_with_nothing(self, made: Made, catalog: Catalog) -> None:
        found = coverage(made.index, catalog=catalog)
        assert (found.events, found.seen, found.services, found.quarantined) == (0, (), (), ())
        assert len(found.unseen) == len(catalog.entries)


class TestScope:
    def test_a_scope_shows_nothing_of_another_service(self, company: Company, catalog: Catalog) -> None:
        shown = json.dumps(as_plain(coverage(company.index, Scope(("acme/payments",)), catalog)))
        assert "acme/payments" in shown
        assert "console" not in shown.replace("administration console", "")
        assert "directory" not in shown
        # role.approve is recorded by the console alone, and known to no catalog.
        assert "role.approve" not in shown

    def test_counts_of_a_scope_are_of_its_services_alone(self, company: Company, catalog: Catalog) -> None:
        found = coverage(company.index, Scope(("acme/payments",)), catalog)
        assert found.events == sum(count for (service, _, _), count in company.written.by_action.items() if service == "payments")
        assert [each.service for each in found.services] == ["acme/payments"]
        assert all(each.services == ("acme/payments",) for each in found.quarantined)

    @pytest.mark.parametrize(
        "asked",
        [
            {},
            {"since": datetime(2020, 1, 1, tzinfo=UTC)},
            {"until": datetime(2030, 1, 1, tzinfo=UTC)},
            {"since": datetime(2020, 1, 1, tzinfo=UTC), "until": datetime(2030, 1, 1, tzinfo=UTC)},
        ],
    )
    def test_no_range_widens_a_scope(self, company: Company, asked: dict[str, Any]) -> None:
        begin, end = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 11, tzinfo=UTC)
        within = coverage(company.index, Scope(since=begin, until=end), **asked)
        assert within == coverage(company.index, since=begin, until=end)
        assert (within.since, within.until) == (begin, end)

    def test_a_range_beside_the_scope_holds_nothing(self, company: Company, catalog: Catalog) -> None:
        scope = Scope(since=datetime(2026, 4, 1, tzinfo=UTC), until=datetime(2026, 4, 11, tzinfo=UTC))
        found = coverage(company.index, scope, catalog, datetime(2026, 5, 1, tzinfo=UTC))
        assert (found.events, found.quarantined, found.seen) == (0, (), ())
        assert all(each.batches == each.events == each.gaps == each.quarantined == 0 for each in found.services)

    def test_a_scope_of_a_service_that_is_not_there_holds_nothing(self, company: Company) -> None:
        found = coverage(company.index, Scope(("acme/nothing",)))
        assert (found.events, found.services, found.quarantined) == (0, (), ())

    def test_a_range_that_ends_before_it_begins_is_refused(self, company: Company) -> None:
        with pytest.raises(ConfigError, match="ends before"):
            coverage(company.index, since=at(1), until=at(1) - timedelta(hours=1))

"""The examples of the federation's docstrings run."""

from __future__ import annotations

import doctest

import pytest

from tfl_research.federation.site import policy, site_server
from tfl_research.federation.wire import authentication, carriers, exchange, messages


@pytest.mark.parametrize(
    "item",
    [
        authentication.sealed,
        carriers.LocalCarrier,
        exchange.Exchange,
        messages.Message,
        policy.SitePolicy,
        site_server.SiteServer,
    ],
    ids=lambda item: item.__name__,
)
def test_examples(item, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = doctest.DocTestParser().get_doctest(
        item.__doc__, {"__name__": "__main__"}, item.__name__, None, 0
    )
    assert example.examples
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=lines.append)
    assert runner.failures == 0, "".join(lines)

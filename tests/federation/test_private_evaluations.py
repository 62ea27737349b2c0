"""What the coordinator of a private run asks of evaluations, and what the run says."""

from __future__ import annotations

import pytest
from federations import running

import tfl_research as tfl
from tfl_research.experiment.at_sites.site import SiteWork

pytestmark = pytest.mark.slow


class Counting:
    """A site that counts its requests by kind."""

    def __init__(self, work):
        self._work, self.kinds = work, []

    def handle(self, request):
        self.kinds.append(request.kind)
        return self._work.handle(request)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("private")) as started:
        yield started


@pytest.mark.parametrize("released", [(), ("eval_accuracy",)])
def test_sites_evaluate_only_where_the_statement_says_so(
    federation, tmp_path, released
):
    north = Counting(SiteWork(federation.site_file("north"), federation.lines.append))
    federation.stop("north")
    federation.start("north", north)
    experiment = federation.experiment(
        privacy=tfl.RecordLevelPrivacy(record_noise_multiplier=1.0),
        release=tfl.Release(release_exact=released),
        training={"rounds": 1, "evaluate_every": 1},
        execution="separate_graph",
    )
    experiment.run(tmp_path / "run")
    statement = " ".join((tmp_path / "run" / "privacy.txt").read_text().split())
    said = "in evaluations: for each client, it gets the number of test examples"
    assert ("evaluate" in north.kinds) is bool(released)
    assert (said in statement) is bool(released)

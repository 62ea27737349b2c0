"""What the coordinator of a private run asks of evaluations, and what the run says."""

from __future__ import annotations

import dataclasses

import pytest
from federations import running

import tfl_research as tfl
from tfl_research.errors import UserError
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.experiment.federated import shared
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message

pytestmark = pytest.mark.slow

SITES = ("north", "south", "west")


class Counting:
    """A site that counts its requests by kind."""

    def __init__(self, work):
        self._work, self.kinds = work, []

    def handle(self, request):
        self.kinds.append(request.kind)
        return self._work.handle(request)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("private"), names=SITES) as started:
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
    # Sites compute the accuracy, not the task's own metric, which is the AUC.
    chosen = "The best model is chosen by eval_accuracy, which is exact"
    assert (chosen in statement) is bool(released)
    assert ("export/best" in statement) is bool(released)
    assert (tmp_path / "run/export/best").exists() is bool(released)


@pytest.mark.parametrize(
    ("rules", "evaluated"),
    [
        # ε would bound nothing: an evaluation is exact, and of any model.
        ("largest_epsilon = 1000.0", False),
        pytest.param(
            'largest_epsilon = 1000.0\nmetrics = ["examples"]',
            False,
            marks=pytest.mark.campaign,
        ),
        (
            'largest_epsilon = 1000.0\nmetrics = ["loss", "accuracy", "auc", "pr_auc", '
            '"examples"]',
            True,
        ),
    ],
)
def test_a_largest_epsilon_forbids_what_epsilon_does_not_count(
    federation, tmp_path, capsys, rules, evaluated
):
    experiment = federation.experiment(
        privacy=tfl.RecordLevelPrivacy(record_noise_multiplier=1.0),
        release=tfl.Release(release_exact=("eval_accuracy",)),
        training={"rounds": 1, "evaluate_every": 1},
        execution="separate_graph",
    )
    federation.policy("south", rules)
    try:
        result = experiment.run(tmp_path / "run")
    finally:
        federation.policy("south", "")
    # The updates are taken all the same: ε counts them.
    assert result.metrics["cohort_size"].tolist() == [3]
    assert result.metrics["eval_accuracy"].notna().all() == evaluated
    refused = "site south refuses: the metric"
    assert (refused in "".join(capsys.readouterr())) is not evaluated


def test_a_largest_epsilon_forbids_exact_metrics_of_training(federation, tmp_path):
    experiment = federation.experiment(
        privacy=tfl.RecordLevelPrivacy(record_noise_multiplier=1.0),
        release=tfl.Release(release_exact=("train_loss",)),
        secure_sums=tfl.SecureSums(True),
        training={"rounds": 1},
        execution="separate_graph",
    )
    federation.policy("south", "largest_epsilon = 1000.0")
    try:
        with pytest.raises(UserError, match="site south refuses: the metric"):
            experiment.run(tmp_path / "run")
    finally:
        federation.policy("south", "")


class Away:
    """A site that fails in every round."""

    def __init__(self, work):
        self._work, self.rounds = work, 0

    def handle(self, request):
        if request.kind == "round":
            self.rounds += 1
            raise RuntimeError("away")
        return self._work.handle(request)


@pytest.mark.parametrize(
    "cohorts",
    [tfl.Cohorts("poisson", cohort_size=2), tfl.Cohorts("fixed", cohort_size=2)],
)
def test_nothing_that_is_given_out_tells_who_takes_part(
    federation, tmp_path, capsys, cohorts
):
    """A site that is down is seen only by those who know that it was drawn."""
    north = Away(SiteWork(federation.site_file("north"), federation.lines.append))
    federation.stop("north")
    federation.start("north", north)
    experiment = federation.experiment(
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0),
        cohorts=cohorts,
        training={"rounds": 8},
        execution="separate_graph",
    )
    try:
        result = experiment.run(tmp_path / "run")
    finally:
        federation.stop("north")
        federation.start("north")
    assert north.rounds > 0
    printed = "".join(capsys.readouterr())
    assert "north" not in printed
    assert not {"cohort_size", "bytes_up", "bytes_down"} & set(result.metrics)
    kept = tmp_path / "run/federation/lines.txt"
    assert f"lines about sites that do not answer are in {kept}" in printed
    assert kept.stat().st_mode & 0o777 == 0o600
    lines = kept.read_text()
    # A round that draws only this site is abandoned.
    told = lines.count("came in time: 'north'")
    assert 0 < told <= north.rounds <= told + lines.count("is abandoned")


def test_public_cohorts_and_their_sites_are_printed(federation, tmp_path, capsys):
    north = Away(SiteWork(federation.site_file("north"), federation.lines.append))
    federation.stop("north")
    federation.start("north", north)
    experiment = federation.experiment(
        privacy=tfl.UserLevelPrivacy(noise_multiplier=1.0),
        training={"rounds": 1},
        execution="separate_graph",
    )
    try:
        result = experiment.run(tmp_path / "run")
    finally:
        federation.stop("north")
        federation.start("north")
    told = "round 1: left out, because no valid answer came in time: 'north'"
    assert told in capsys.readouterr().err
    assert result.metrics["cohort_size"].tolist() == [2]
    assert not (tmp_path / "run/federation/lines.txt").exists()


def test_names_of_clients_that_take_no_part_stay_at_the_site(federation):
    lines: list[str] = []
    site = dataclasses.replace(federation.site_file("south"), clients=("suoth",))
    experiment = federation.experiment()
    header = {
        "run": "r",
        "round": 0,
        "experiment": shared.settings(experiment),
        shared.SOURCES: shared.source_digest(),
    }
    with pytest.raises(Refused) as refused:
        SiteWork(site, lines.append).handle(Message("hello", header))
    assert "south" not in str(refused.value)
    assert (
        "clients has 'suoth', which is not a client of the task; it has south"
        in (lines[-1])
    )

"""The coordinator drops wrong answers of a site with another program, and says so."""

from __future__ import annotations

import re

import numpy as np
import pytest
from federations import running

from tfl_research.errors import TrainingDivergedError
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.federation.wire.messages import Message

pytestmark = pytest.mark.slow

SITES = ("north", "south")


class Lying:
    """A site that changes its replies of one kind."""

    def __init__(self, federation, name, kind, change):
        self._work = SiteWork(federation.site_file(name), federation.lines.append)
        self._kind, self._change = kind, change

    def handle(self, request):
        reply = self._work.handle(request)
        if request.kind != self._kind:
            return reply
        tensors = {name: np.array(value) for name, value in reply.tensors.items()}
        return Message(reply.kind, *self._change(dict(reply.header), tensors))


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("lying"), names=SITES) as started:
        yield started


@pytest.fixture
def lies(federation):
    """Has the site "north" change its replies of a kind, until the test ends."""

    def start(kind, change):
        federation.stop("north")
        federation.start("north", Lying(federation, "north", kind, change))

    yield start
    federation.stop("north")
    federation.start("north")


def _experiment(federation):
    return federation.experiment(
        training={"rounds": 1, "evaluate_every": 1, "selection_metric": "loss"},
        execution="separate_graph",
    )


def _for_south(header, tensors):
    """North speaks for the client of another site."""
    header["clients"] = ["north", "south"]
    return header, {name: np.concatenate([v, v]) for name, v in tensors.items()}


def _negative(header, tensors):
    return header, {**tensors, "counts": -tensors["counts"]}


def _wide(header, tensors):
    name = next(name for name in tensors if name.startswith("sums/"))
    value = tensors[name]
    return header, {**tensors, name: np.stack([value, value], axis=1)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_for_south, "site north: its evaluation does not fit: it answers for the "),
        (_negative, "site north: .* negative number of test examples"),
        (_wide, "the sites .* send sums of different names or shapes"),
    ],
)
def test_a_wrong_evaluation_is_none(federation, lies, tmp_path, capfd, change, words):
    lies("evaluate", change)
    result = _experiment(federation).run(tmp_path / "run")
    assert result.metrics["eval_loss"].isna().all()
    out, err = capfd.readouterr()
    assert re.search(words, out + err)


def test_a_site_that_forgets_at_once(federation, lies, tmp_path, capfd):
    lies("evaluate", lambda header, tensors: ({"forgotten": True}, {}))
    before = len(federation.lines)
    result = _experiment(federation).run(tmp_path / "run")
    assert result.metrics["eval_loss"].isna().all()
    assert "site north: has forgotten the run again" in "".join(capfd.readouterr())
    begun = [line for line in federation.lines[before:] if " begins: " in line]
    # The two sites, and north again at each of at most three evaluations.
    assert 2 <= len(begun) <= 5


def test_who_reports_what_is_not_finite(federation, lies, tmp_path, capfd):
    lies(
        "round",
        lambda header, tensors: (
            header,
            {
                n: np.full_like(v, np.nan) if v.dtype.kind == "f" else v
                for n, v in tensors.items()
            },
        ),
    )
    with pytest.raises(TrainingDivergedError):
        _experiment(federation).run(tmp_path / "run")
    line = "round 1: site north: client 'north' reports numbers that are not finite"
    assert line in capfd.readouterr().err


def test_who_evaluates_to_what_is_not_finite(federation, lies, tmp_path, capfd):
    lies(
        "evaluate",
        lambda header, tensors: (
            header,
            {n: v * np.nan if n.startswith("sums/") else v for n, v in tensors.items()},
        ),
    )
    result = _experiment(federation).run(tmp_path / "run")
    assert result.metrics["eval_loss"].isna().all()
    assert "evaluation: site north sends numbers that are not" in capfd.readouterr().err


def test_the_coordinator_counts_the_clients(federation, lies, tmp_path, capfd):
    """Each report has a one for its client, which a site can change."""
    lies(
        "round",
        lambda header, tensors: (
            header,
            {
                n: np.full_like(v, 7) if v.dtype == "int32" else v
                for n, v in tensors.items()
            },
        ),
    )
    result = _experiment(federation).run(tmp_path / "run")
    assert result.metrics["cohort_size"].tolist() == [2]
    line = "round 1: the reports count 8 clients, but 2 answered: a site sends wrong"
    assert line in capfd.readouterr().err

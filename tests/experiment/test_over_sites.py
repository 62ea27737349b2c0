"""What the privacy statement says of the coordinator and the sites of a federation."""

import pytest

import tfl_research as tfl
from tfl_research import sampling
from tfl_research.experiment.private import over_sites

SAMPLED = sampling.Poisson(["a", "b", "c", "d"], 2, seed=1).amplification
ALL = sampling.Full(["a", "b", "c", "d"]).amplification


def _lines(
    privacy,
    amplification,
    *,
    secure=False,
    runtime="federation",
    evaluates=False,
    reports=False,
):
    experiment = tfl.Experiment(
        "heart",
        privacy=privacy,
        secure_sums=tfl.SecureSums(secure),
        runtime=tfl.Runtime(
            runtime, federation="f.toml" if runtime == "federation" else None
        ),
    )
    return over_sites.outside_lines(
        experiment, amplification, evaluates=evaluates, reports=reports
    )


GAUSSIAN = tfl.UserLevelPrivacy(noise_multiplier=1)


def test_nothing_of_sites_without_sites():
    assert _lines(GAUSSIAN, SAMPLED, runtime="in_process") == []


def test_the_coordinator_sees_updates_without_noise():
    [line] = _lines(GAUSSIAN, ALL)
    assert "it sees each client's exact update" in line
    [line] = _lines(GAUSSIAN, ALL, secure=True)
    assert "it sees the exact sum of the updates" in line


@pytest.mark.parametrize("secure", [False, True])
def test_sites_know_when_they_take_part(secure):
    _, line = _lines(GAUSSIAN, SAMPLED, secure=secure)
    assert line.startswith("The sites, as far as the guarantee rests on sampling")
    assert ("which other sites do" in line) is secure


@pytest.mark.parametrize(
    "privacy",
    [
        tfl.RecordLevelPrivacy(record_noise_multiplier=1),
        tfl.UserLevelPrivacy("local_gaussian", noise_multiplier=1),
    ],
)
def test_noise_of_sites_follows_from_their_secrets(privacy):
    [line] = _lines(privacy, ALL)
    assert line.startswith("Whoever sees a site's secret (state/secret)")


@pytest.mark.parametrize(
    "privacy", [GAUSSIAN, tfl.RecordLevelPrivacy(record_noise_multiplier=1)]
)
@pytest.mark.parametrize("secure", [False, True])
def test_evaluations_are_exact_to_the_coordinator(privacy, secure):
    line, *others = _lines(privacy, ALL, secure=secure, evaluates=True)
    assert "in evaluations: for each client, it gets" in line
    assert others == _lines(privacy, ALL, secure=secure)
    assert _lines(privacy, ALL, evaluates=True, runtime="in_process") == []


@pytest.mark.parametrize(
    ("secure", "whom"), [(False, "of each client"), (True, "of all clients together")]
)
@pytest.mark.parametrize(
    "privacy",
    [
        tfl.RecordLevelPrivacy(record_noise_multiplier=1),
        tfl.UserLevelPrivacy("local_gaussian", noise_multiplier=1),
    ],
)
def test_training_metrics_are_exact_to_the_coordinator(privacy, secure, whom):
    line, *others = _lines(privacy, ALL, secure=secure, reports=True)
    assert f"the exact number of examples {whom} and the exact sums" in line
    assert others == _lines(privacy, ALL, secure=secure)


def test_exact_updates_tell_more_than_training_metrics():
    assert _lines(GAUSSIAN, ALL, reports=True) == _lines(GAUSSIAN, ALL)

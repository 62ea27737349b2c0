"""What a finished run gives, without TensorFlow."""

from __future__ import annotations

import types

import pytest

from tfl_research import tasks
from tfl_research.errors import UserError
from tfl_research.experiment import Experiment, Result


@pytest.fixture
def result(tmp_path):
    ended = types.SimpleNamespace(
        path=tmp_path,
        stop_reason="rounds",
        summary={"final": {"round": 3}},
        metrics="a table",
        epsilon=2.5,
    )
    return Result(Experiment("heart"), tasks.get("heart"), ended)


def test_is_what_the_loop_ended_with(result, tmp_path):
    assert (result.path, result.stop_reason) == (tmp_path, "rounds")
    assert result.summary == {"final": {"round": 3}}
    assert (result.metrics, result.epsilon) == ("a table", 2.5)
    assert result.audit is None


def test_models_that_are_not_there(result, tmp_path):
    with pytest.raises(UserError, match="which must be 'final' or 'best', got"):
        result.model("last")
    for which in ("final", "best"):
        with pytest.raises(UserError) as raised:
            result.model(which)
        assert str(raised.value) == (
            f"{tmp_path}/export/{which} does not exist: the run has no {which} model, "
            "or did not write it (export=False); the same run with export=True writes "
            "it"
        )

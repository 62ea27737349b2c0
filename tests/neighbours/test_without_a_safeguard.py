"""Every safeguard is seen to matter: without it, a comparison finds what happens.

With the safeguard the same comparison passes. Withheld outputs are in
`test_neighbours.py`, and the tails of the noise in `test_stateless_random.py`.
"""

from __future__ import annotations

import pathlib
from typing import Any

import comparisons
import numpy as np
import pairs
import pytest

import tfl_research as tfl
from tfl_research import privacy
from tfl_research.data import hold_out
from tfl_research.experiment.private import assumptions, fingerprints
from tfl_research.experiment.private.releases import released
from tfl_research.privacy.ledger import hash_chain
from tfl_research.privacy.ledger.checks import ledger_set, run_files
from tfl_research.privacy.ledger.statements import statement
from tfl_research.storage.attempts import Attempts

pytestmark = pytest.mark.slow

CLIP, NOISE, CLIENTS = 0.1, 8.0, 12
STDDEV = CLIP * NOISE / CLIENTS


def experiment(task: Any) -> tfl.Experiment:
    """One round over all clients, whose noise is larger than what they send."""
    return tfl.Experiment(
        task,
        client_optimizer=tfl.SGD(0.1),
        server_optimizer=tfl.SGD(1.0),
        cohorts=tfl.Cohorts("full"),
        privacy=tfl.UserLevelPrivacy(
            "gaussian", l2_norm_clip=CLIP, noise_multiplier=NOISE, delta=1e-2
        ),
        release=tfl.Release(release_exact=("train_loss", "cohort_size")),
        training=tfl.Training(rounds=1, run_seed="1234", progress_bar=False),
        runtime=tfl.Runtime(client_execution="folded_graph"),
    )


def far_outside(data: pairs.Clients) -> None:
    """The feature that tells the classes apart is a million in one row of a client."""
    data[pairs.CHANGED]["x"] = data[pairs.CHANGED]["x"].copy()
    data[pairs.CHANGED]["x"][0, 0] = 1e6


class TestPooledRows:
    """One value of one client would rescale everybody else's."""

    def pair(self, folder: pathlib.Path) -> list[tfl.Experiment]:
        found = []
        for change in (pairs.unchanged, far_outside):
            data = pairs.written(folder / change.__name__, change)
            (data / "schema.json").unlink()
            chosen = tfl.tasks.get("csv", data_dir=str(data), label_column="y")
            found.append(experiment(chosen))
        return found

    def check(self, folder: pathlib.Path) -> None:
        folder.mkdir()
        comparisons.check_sensitivity(
            self.pair(folder), folder, clip=CLIP, clients=CLIENTS
        )

    def test_they_are_refused(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.check(tmp_path / "refused")
        # The noise of both is the same, so that it leaves their difference.
        monkeypatch.setattr(Attempts, "key", lambda *_: 7)
        monkeypatch.setattr(assumptions, "check", lambda setup: None)
        with pytest.raises(AssertionError, match="moves the released sum by") as found:
            self.check(tmp_path / "accepted")
        moved = float(str(found.value).split("sum by ")[1].split()[0])
        assert moved > 3


def wide(activation: str) -> tfl.tasks.Task:
    """The clients, with a model of 242 weights."""

    def build_model() -> Any:
        import tensorflow as tf

        return tf.keras.Sequential(
            [
                tf.keras.layers.Input([3]),
                tf.keras.layers.Dense(40, activation=activation),
                tf.keras.layers.Dense(2),
            ]
        )

    return tfl.tasks.from_arrays(pairs.clients(), model=build_model)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that has ended: its folder, its release and its fingerprint."""
    found, inner = [], fingerprints.of_run

    def of_run(*given: Any) -> Any:
        found.append(inner(*given))
        return found[-1]

    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprints, "of_run", of_run)
        release = comparisons.released(
            experiment(wide("relu")), folder, to_the_end=True
        )
    return folder, release, found[0]


class TestKeyOfTheNoise:
    """Another model under the same seed would have the same noise."""

    def test_it_depends_on_what_the_noise_covers(
        self,
        finished: Any,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        _, release, fingerprint = finished
        edited = experiment(wide("tanh"))
        other = comparisons.released(edited, tmp_path / "other noise")
        comparisons.check_noise(release, other, STDDEV)
        monkeypatch.setattr(fingerprints, "of_run", lambda *_: fingerprint)
        same = comparisons.released(edited, tmp_path / "same noise")
        with pytest.raises(AssertionError, match="of the noise of two releases"):
            comparisons.check_noise(release, same, STDDEV)


class TestSplits:
    """A split by position would move the records after the one that is missing."""

    @pytest.mark.parametrize("missing", ["record", "client"])
    def test_they_depend_on_content_alone(
        self, monkeypatch: pytest.MonkeyPatch, missing: str
    ) -> None:
        whole = pairs.clients()
        shorter = dict(whole)
        arrays = shorter.pop("client 5")
        if missing == "record":
            shorter["client 5"] = {n: a[1:] for n, a in arrays.items()}
        rows = arrays["x"][:1] if missing == "record" else arrays["x"]
        removed = {("client 5", row.tobytes()) for row in rows}

        def check() -> None:
            one, other = (
                tfl.tasks.from_arrays(
                    data, model=pairs.build_model, test=0.3, held_out=0.3, seed=4
                )
                for data in (whole, dict(sorted(shorter.items())))
            )
            comparisons.check_splits(one, other, removed)

        check()

        def shuffled(total: int, fraction: float, seed: int) -> Any:
            order = np.random.default_rng(seed).permutation(total)
            cut = round(fraction * total)
            return np.sort(order[cut:]), np.sort(order[:cut])

        def examples(contents: Any, fraction: float, *, seed: int, client_id: str):
            return shuffled(len(list(contents)), fraction, seed)

        def clients(client_ids: Any, *, seed: int, fraction: float, **_: Any):
            parts = shuffled(len(client_ids), fraction, seed)
            return tuple(tuple(client_ids[i] for i in part) for part in parts)

        name, patched = {
            "record": ("examples", examples),
            "client": ("clients", clients),
        }[missing]
        monkeypatch.setattr(hold_out, name, patched)
        with pytest.raises(AssertionError, match="other records left a split"):
            check()


EVENT = privacy.GaussianEvent("none", 20.0, 1.0, 900, 30.0, "add_or_remove_one")
PEOPLE = privacy.Population.of(map(str, range(900)))


class TestLedgers:
    """A run would count twice, and a ledger that was cut would show a lower ε."""

    @pytest.fixture
    def root(self, tmp_path: pathlib.Path) -> pathlib.Path:
        folder, shared = tmp_path / "run", tmp_path / "shared.jsonl"
        folder.mkdir()
        run = privacy.run_id(folder)
        identity = privacy.RunIdentity(run, 77)
        own = privacy.Ledger(folder / "ledger.jsonl", identity)
        with own, privacy.SharedLedger(shared, run, PEOPLE) as together:
            for number in range(1, 13):
                together.record(number, EVENT)
                own.record(number, EVENT)
        return tmp_path

    def test_a_run_counts_once(
        self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared, run = root / "shared.jsonl", root / "run"

        def check() -> None:
            both, alone = comparisons.shown(shared, run), comparisons.shown(shared)
            assert both == alone, f"the run counts twice: ε {both} and not {alone}"

        check()

        def joined(ledgers: Any) -> Any:
            runs = tuple(run for ledger in ledgers for run in ledger.runs)
            return ledger_set.LedgerSet(tuple(ledgers), runs)

        monkeypatch.setattr(ledger_set, "joined", joined)
        with pytest.raises(AssertionError, match="the run counts twice"):
            check()

    @pytest.mark.parametrize("name", ["shared.jsonl", "run"])
    def test_a_ledger_that_was_cut(
        self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        path = root / name
        whole = comparisons.shown(path)
        if name == "run":
            # The folder's own files know better, even without the head file.
            (path / "metrics.csv").write_text("round,loss\n11,1.0\n12,0.5\n")
            (path / "ledger.jsonl.head").unlink()
        file = path / "ledger.jsonl" if name == "run" else path
        file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:6]))

        def check() -> None:
            left = comparisons.shown(path)
            assert left >= whole, f"the ledger shows ε {left} and had {whole}"

        check()
        monkeypatch.setattr(hash_chain.HashChain, "check_head", lambda self: None)
        monkeypatch.setattr(run_files, "check", lambda *_: [])
        with pytest.raises(AssertionError, match="the ledger shows ε"):
            check()


class TestStatement:
    """Fixed sentences, or the statement of the start, would not be true."""

    def test_it_names_what_was_given_out_at_the_end(
        self,
        finished: Any,
        tmp_path: pathlib.Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        comparisons.check_statement(finished[0])
        comparisons.check_report(finished[0])
        fixed = "- Train metrics do not leave the clients."
        monkeypatch.setattr(statement, "given_lines", lambda given: [fixed])
        inner = released.of_run
        monkeypatch.setattr(
            released, "of_run", lambda setup, key, write: inner(setup, key, None)
        )
        folder = tmp_path / "run"
        comparisons.released(experiment(wide("relu")), folder, to_the_end=True)
        with pytest.raises(AssertionError, match="has no list of what is"):
            comparisons.check_statement(folder)
        with pytest.raises(AssertionError, match=r"report\.html has not"):
            comparisons.check_report(folder)

"""What the settings of training, runtime and attacks accept, refuse and build."""

from __future__ import annotations

import pytest
from refused_settings import refused

from tfl_research.errors import SettingError
from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Attack,
    Compression,
    Runtime,
    Training,
)
from tfl_research.settings import declared


class TestTraining:
    def test_config_carries_every_value(self):
        training = Training(
            rounds=7,
            seed=4,
            evaluate_every=2,
            max_evaluation_examples=50,
            selection_metric="loss",
            early_stopping_patience=3,
            checkpoint_every=5,
            keep_checkpoints=2,
            print_every=6,
            progress_bar=False,
            report=False,
            export=False,
        )
        config = training.config()
        # The others are no part of the round loop.
        others = {"run_seed", "client_weight", "tensorboard"}
        for field in declared(Training):
            if field.name not in others:
                found = getattr(config, field.name)
                assert found == getattr(training, field.name), field.name
                assert found != field.default, field.name

    def test_refusals(self):
        refused(lambda: Training(rounds=0), "--rounds=0: must be a whole number, at l")
        refused(lambda: Training(selection_metric="a:x"), "--selection_metric=a:x: ")

    @pytest.mark.parametrize(
        "secret", ["-3", "abcdefgh", str(2**128), [123, 456], b"abcdefgh", 1234.5]
    )
    def test_a_bad_run_seed_is_not_repeated(self, secret):
        with pytest.raises(SettingError, match=r"^run_seed: must be") as raised:
            Training(run_seed=secret)
        for said in (str(raised.value), raised.value.for_command_line):
            assert str(secret) not in said.replace("2^128", "")

    @pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
    def test_a_seed_that_no_model_takes(self, seed):
        """It ended a run as an error that nobody foresaw, when the model was built."""
        message = refused(lambda: Training(seed=seed))
        assert message == (
            f"--seed={seed}: must be a whole number, at least 0 and at most 4294967295"
        )
        assert Training(seed=2**32 - 1).seed == 2**32 - 1

    def test_a_run_seed_is_not_shown(self):
        training = Training(rounds=3, run_seed="918273645546372819")
        for shown in (training, Experiment("heart", training=training)):
            assert "Training(rounds=3, run_seed=<secret>)" in repr(shown)
            assert "918273645546372819" not in f"{shown!r} {shown}"

    def test_a_run_seed_may_be_a_number(self):
        assert Training(run_seed=2**128 - 1).run_seed == str(2**128 - 1)

    def test_weights_of_clients(self):
        def weights(*texts):
            return Training(client_weight=texts).client_weights(("a", "b=c"))

        assert weights("a=2", "b=c=0") == {"a": 2.0, "b=c": 0.0}
        for text in ("a", "a=", "a=x", "=2", "a=-1", "a=inf", "a=nan"):
            assert refused(lambda text=text: weights(text)) == (
                f"--client_weight={text}: must be NAME=WEIGHT, with a weight of at "
                "least 0"
            )
        assert refused(lambda: weights("d=1")) == (
            "--client_weight=d=1: the task has no client 'd'"
        )
        assert refused(lambda: weights("a=1", "a=2")) == (
            "--client_weight=a=2: client a has a weight already; give each client one "
            "weight"
        )


class TestRuntime:
    def test_addresses(self):
        runtime = Runtime("remote", workers="a:1, b.c:65535")
        assert runtime.addresses() == ["a:1", "b.c:65535"]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"runtime": "tff", "client_execution": "folded_xla"},
                "--client_execution=folded_xla: goes with --runtime=in_process and "
                "--runtime=remote only; leave it out",
            ),
            (
                {"runtime": "tff", "chunk_clients": 3},
                "--chunk_clients=3: goes with --runtime=in_process only; leave it out",
            ),
            (
                {"runtime": "remote"},
                "--runtime=remote: needs --workers=HOST:PORT,...; scripts/worker "
                "starts a worker",
            ),
            (
                {"workers": "a:1"},
                "--workers=a:1: goes with --runtime=remote only; leave it out",
            ),
            *(
                (
                    {"runtime": "remote", "workers": text},
                    f"--workers={text}: '{text}': must be HOST:PORT with a port from "
                    "1 to 65535",
                )
                for text in ("a", "a:", ":1", "a:0", "a:65536", "a:-1", "a:x")
            ),
            *(
                (
                    {"runtime": "remote", "workers": "a:1", "worker_data": folder},
                    f"--worker_data={folder}: must be the path of a folder, as "
                    "/shared/mnist; mount a store of another kind, and write your home "
                    "folder out",
                )
                for folder in ("gs://bucket/mnist", "~/mnist", "~")
            ),
            (
                {"runtime": "remote", "workers": "a:1,a:1"},
                "--workers=a:1,a:1: 'a:1' is given twice",
            ),
        ],
    )
    def test_refusals(self, given, message):
        assert refused(lambda: Runtime(**given)) == message


class TestCompression:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                {"compression_fraction": 0.1},
                "--compression_fraction=0.1: goes with --compression=top_k or random_"
                "k; leave it out",
            ),
            (
                {"compression": "top_k", "compression_bits": 4},
                "--compression_bits=4: goes with --compression=quantize; leave it out",
            ),
            (
                {"compression": "quantize", "compression_rank": 4},
                "--compression_rank=4: goes with --compression=low_rank; leave it out",
            ),
            (
                {"error_feedback": False},
                "--error_feedback=False: goes with --compression; leave it out",
            ),
        ],
    )
    def test_refusals(self, given, message):
        assert refused(lambda: Compression(**given)) == message

    def test_what_is_lost_is_fed_back_by_default_where_it_is_biased(self):
        found = {
            name: Compression(name).feeds_back
            for name in ("top_k", "random_k", "low_rank", "quantize")
        }
        assert found == {
            "top_k": True,
            "random_k": True,
            "low_rank": True,
            "quantize": False,
        }
        assert Compression("quantize", error_feedback=True).feeds_back
        assert not Compression("top_k", error_feedback=False).feeds_back


class TestAttack:
    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"attack": "evil"}, "--attack=evil: must be one of none, label_flip"),
            (
                {"malicious_fraction": 0.2},
                "--malicious_fraction=0.2: there is no --attack; leave it out",
            ),
            ({"attack": "alie", "malicious_fraction": 0}, "above 0 and at most 1"),
            (
                {"attack": "mimic", "attack_scale": 2},
                "--attack_scale=2: goes with --attack=backdoor, gaussian, sign_",
            ),
            ({"attack": "alie", "attack_scale": -1}, "--attack_scale=-1: must be"),
            (
                {"attack": "alie", "attack_perturbation": "std"},
                "goes with --attack=min_max or min_sum, not with alie",
            ),
            (
                {"attack": "alie", "label_flip": "reverse"},
                "--label_flip=reverse: goes with --attack=label_flip",
            ),
            (
                {"attack": "label_flip", "backdoor_target": 1},
                "--backdoor_target=1: goes with --attack=backdoor, not with label_flip",
            ),
            ({"attack": "backdoor", "backdoor_share": 0}, "above 0 and at most 1"),
            (
                {
                    "attack": "backdoor",
                    "backdoor_trigger": "feature",
                    "backdoor_patch_size": 2,
                },
                "--backdoor_patch_size=2: goes with --backdoor_trigger=patch",
            ),
            (
                {
                    "attack": "backdoor",
                    "backdoor_trigger": "patch",
                    "backdoor_feature": 2,
                },
                "--backdoor_feature=2: goes with --backdoor_trigger=feature",
            ),
        ],
    )
    def test_what_is_refused(self, wrong, message):
        refused(lambda: Attack(**wrong), message)

    def test_defaults(self):
        assert Attack().is_none
        assert Attack().fraction == 0
        assert Attack("alie").fraction == 0.2
        assert Attack("alie", malicious_fraction=0.1).fraction == 0.1
        kinds = [Attack(name).kind for name in ("none", "backdoor", "scaled", "alie")]
        assert kinds == ["none", "data", "local", "omniscient"]


def test_more_threads_than_memory_holds():
    """TensorFlow made them all: 20 GB, and no end by SIGTERM."""
    message = refused(lambda: Runtime(operation_threads=1025))
    assert message == (
        "--operation_threads=1025: must be a whole number, at least 1 and at most 1024"
    )
    assert Runtime(operation_threads=1024).operation_threads == 1024

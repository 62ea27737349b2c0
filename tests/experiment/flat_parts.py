"""Experiments and their flat settings, which make the same experiments again."""

from __future__ import annotations

import dataclasses
import json

from tfl_research.experiment import Experiment
from tfl_research.experiment.configs import (
    Attack,
    Audit,
    Baseline,
    Batches,
    Cohorts,
    Compression,
    Devices,
    RecordLevelPrivacy,
    Runtime,
    SecureSums,
    Silos,
    TaskChoice,
    Training,
    Weighting,
)
from tfl_research.models.optimizers import (
    ClientOptimizer,
    ServerOptimizer,
)
from tfl_research.storage import run_record

HEART = Experiment("heart")


def check_round_trip(experiment):
    flat = experiment.flat()
    again = Experiment.from_flat(flat, name=experiment.name)
    assert again.flat() == flat
    assert again == dataclasses.replace(
        experiment,
        cohorts=experiment.resolved_cohorts,
        weighting=experiment.resolved_weighting,
    )
    # As a run's folder holds it, without the seed that is a secret.
    recorded = json.loads(json.dumps(run_record.plain_hparams(flat)))
    found = Experiment.from_flat(recorded, name=experiment.name)
    assert found == again.with_settings(run_seed=None)
    return flat


PARTS = {
    "task": TaskChoice(
        "mnist",
        partition="dirichlet",
        dirichlet_alpha=0.1,
        num_clients=7,
        task_option=("model=cnn", "held_out_clients=2"),
    ),
    "client_optimizer": ClientOptimizer(
        "yogi",
        0.25,
        beta_1=0.5,
        beta_2=0.75,
        epsilon=0.125,
        initial_preconditioner=2.0,
        learning_rate_schedule="step",
        learning_rate_decay=0.5,
        learning_rate_decay_rounds=4,
        learning_rate_warmup_rounds=2,
        gradient_clip=3.0,
    ),
    "server_optimizer": ServerOptimizer("sgd", 2.0, momentum=0.9),
    "batches": Batches(batch_size=5, client_steps=3, max_examples_per_client=20),
    "cohorts": Cohorts("cyclic_poisson", 2.5, 3),
    "weighting": Weighting("capped", 30),
    "privacy": RecordLevelPrivacy(
        record_target_epsilon=3,
        record_delta=1e-4,
        record_budget_epsilon=4,
        record_accountant="rdp",
        record_ledgers="l",
        record_l2_norm_clip=0.5,
        record_batch_size=8,
        microbatch_size=2,
    ),
    "compression": Compression("quantize", compression_bits=4, error_feedback=True),
    "secure_sums": SecureSums(True, secure_sum_bits=40, secure_sum_bound=3),
    "devices": Devices(
        50,
        over_selection=1.5,
        report_deadline=90,
        minimum_cohort=2,
        drop_out=0.2,
        partial_work=True,
        seconds_per_example=0.5,
        download_rate=3e6,
        upload_rate=2e6,
        speed_spread=0.3,
        mean_availability=0.4,
        diurnal_amplitude=0.1,
        availability_by_label=0.7,
    ),
    "silos": Silos(0.25, 2),
    "attack": Attack(
        "backdoor",
        malicious_fraction=0.3,
        attack_scale=2,
        backdoor_target=1,
        backdoor_share=0.25,
        backdoor_trigger="feature",
        backdoor_feature=2,
        backdoor_value=9,
    ),
    "baseline": Baseline("pooled"),
    "audit": Audit(20, 10, "max", 0.9, 50, "noise_off"),
    "personal_evaluation": True,
    "training": Training(
        rounds=7,
        seed=4,
        run_seed="5",
        evaluate_every=2,
        max_evaluation_examples=50,
        selection_metric="auc:0.7,accuracy:0.3",
        client_weight=("Cleveland=2", "Oslo=1"),
        early_stopping_patience=3,
        checkpoint_every=5,
        keep_checkpoints=2,
        print_every=6,
        progress_bar=False,
        tensorboard=False,
    ),
    "runtime": Runtime(client_execution="folded_graph", chunk_clients=4),
}

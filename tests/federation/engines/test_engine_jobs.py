"""An experiment exported to FLARE and Flower ends at the model of our FedAvg."""

import dataclasses
import json
import os
import threading
import time

import numpy as np
import pytest
from federations import NAMES, running
from real_engines import environment, free_port, until

import tfl_research as tfl
from tfl_research.errors import SettingError, UserError
from tfl_research.experiment.at_sites import engine_jobs
from tfl_research.federation.engines import flower, processes, training_socket
from tfl_research.federation.wire.handler import Refused

pytestmark = pytest.mark.slow

ROUNDS = 2


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(tmp_path_factory.mktemp("jobs")) as started:
        yield started


@pytest.fixture(scope="module")
def experiment(federation):
    return federation.experiment(
        client_optimizer=tfl.SGD(0.3),
        training={"rounds": ROUNDS, "selection_metric": "loss"},
    )


@pytest.fixture(scope="module")
def expected(federation, experiment, tmp_path_factory):
    """The weights of our FedAvg, in simulation."""
    task = dataclasses.replace(experiment.task, data_dir=str(federation.folder / "all"))
    simulated = dataclasses.replace(
        experiment, task=task, runtime=tfl.Runtime("in_process")
    )
    return simulated.run(tmp_path_factory.mktemp("simulated")).model().get_weights()


@pytest.fixture(scope="module")
def sockets(federation, experiment, tmp_path_factory):
    """The sites' training sockets."""
    settings = tmp_path_factory.mktemp("flare") / "experiment.json"
    engine_jobs.export(experiment, "flare", settings.parent, minimum_sites=4)
    found = {}
    for name in NAMES:
        site = federation.site_file(name)
        trainer = engine_jobs.trainer_at(site, settings, print)
        found[name] = site.socket.with_name("train.sock")
        server = training_socket.TrainingServer(found[name], trainer, print)
        threading.Thread(target=server.serve, daemon=True).start()
    return found


def assert_same(expected, found):
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found):
        np.testing.assert_allclose(theirs, ours, atol=1e-6, rtol=0)


def test_flare(experiment, expected, sockets, tmp_path):
    own = environment("flare")
    job = engine_jobs.export(
        experiment,
        "flare",
        tmp_path / "exported",
        minimum_sites=4,
        simulated_sockets=sockets,
    )
    processes.run(
        "nvflare simulator",
        [
            *(str(own.program("nvflare")), "simulator", str(job)),
            *("-w", str(tmp_path / "workspace"), "-c", ",".join(NAMES), "-t", "4"),
        ],
        folder=tmp_path,
        environment={"PATH": f"{own.folder / 'bin'}:{os.environ['PATH']}"},
        seconds=180,
    )
    path = next((tmp_path / "workspace").rglob("models/weights.npz"))
    assert_same(expected, training_socket.load_weights(path))


@pytest.mark.campaign
def test_flower(experiment, expected, sockets, tmp_path):
    own, port = environment("flower"), free_port()
    tmp_path.chmod(0o700)
    app = engine_jobs.export(
        experiment, "flower", tmp_path / "exported", minimum_sites=4
    )
    keys = flower.provision(own, tmp_path / "keys", sites=NAMES)
    with processes.Processes() as started:
        link = flower.SuperLink(own, keys, tmp_path / "link", port=port)
        started.add(link.process)
        until(lambda: link.register(NAMES[0]) or True, 120)
        for name in NAMES[1:]:
            link.register(name)
        for name in NAMES:
            started.add(
                flower.start_site(
                    own,
                    name=name,
                    key=keys / f"{name}.key",
                    authority=keys / "ca.crt",
                    socket=sockets[name].with_name("site.sock"),
                    folder=tmp_path / name,
                    superlink=f"127.0.0.1:{port}",
                    port=free_port(),
                )
            )
        run, end = link.run(app, {}), time.monotonic() + 300
        while not (status := link.status(run)).startswith("finished"):
            assert time.monotonic() < end, status
    assert status == "finished:completed"
    assert_same(expected, training_socket.load_weights(app / "result.npz"))


def test_what_an_engine_cannot_average_is_refused(experiment, tmp_path):
    for changed, name in (
        ({"server_optimizer": tfl.SGD(1.0, momentum=0.9)}, "server_optimizer=sgd"),
        ({"aggregator": "coordinate_median"}, "aggregator=coordinate_median"),
    ):
        other = dataclasses.replace(experiment, **changed)
        with pytest.raises(SettingError, match=f"{name}: FLARE and Flower average"):
            engine_jobs.export(other, "flare", tmp_path, minimum_sites=4)
    with pytest.raises(UserError, match="engine=openfl: must be flare or flower"):
        engine_jobs.export(experiment, "openfl", tmp_path, minimum_sites=4)


def test_a_site_refuses_a_job_against_its_policy(federation, experiment, tmp_path):
    engine_jobs.export(experiment, "flower", tmp_path, minimum_sites=4)
    path = tmp_path / "experiment.json"
    site = federation.site_file("north")
    policy = dataclasses.replace(site.policy, most_rounds=1)
    with pytest.raises(Refused, match="most_rounds"):
        engine_jobs.trainer_at(dataclasses.replace(site, policy=policy), path, print)
    policy = dataclasses.replace(site.policy, metrics=("loss",))
    with pytest.raises(Refused, match="examples"):
        engine_jobs.trainer_at(dataclasses.replace(site, policy=policy), path, print)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "task": "heart"}))
    with pytest.raises(Refused, match="asks for the task 'heart'"):
        engine_jobs.trainer_at(site, path, print)


def test_a_job_of_another_version_is_refused(federation, experiment, tmp_path):
    engine_jobs.export(experiment, "flower", tmp_path, minimum_sites=4)
    path, site = tmp_path / "experiment.json", federation.site_file("north")
    content = json.loads(path.read_text())
    assert len(content.pop("source_files")) == 64
    for others in ({}, {"source_files": "0" * 64}):
        path.write_text(json.dumps({**content, **others}))
        with pytest.raises(Refused, match="versions of tfl_research's source files"):
            engine_jobs.trainer_at(site, path, print)
    path.write_text("[]")
    with pytest.raises(UserError, match="json cannot be read: it must be"):
        engine_jobs.trainer_at(site, path, print)

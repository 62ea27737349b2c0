"""The frameworks: what is installed, which program runs, and what their pages say."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Optional

from benchmark.peers import environments

SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = SCRIPTS / "compare" / "programs"


@dataclasses.dataclass(frozen=True)
class Fact:
    """What a framework's documentation says of itself.

    Attributes:
      text: a few words.
      page: where that is written.
    """

    text: str
    page: str


@dataclasses.dataclass(frozen=True)
class Framework:
    """A framework, as it is measured.

    Attributes:
      title: its name, with the version.
      environment: of `environments.ENVIRONMENTS`; None for this toolkit's own.
      documented: what its documentation has pip install; empty where it is not on PyPI.
        Torch is named with a version where it is the reader's to choose.
      statement: Python that works where the installation does.
      program: the file that is run, in `programs`.
      further: the other files of the program.
      arguments: what the program is given.
      note: what a reader of its row must know.
      documentation: the page that writes such a program.
      epsilon: what it says of ε.
      stays: whether it is made for data that stay at their sites.
      secure: whether sums can be secure.
    """

    title: str
    environment: Optional[str]
    documented: tuple[str, ...]
    statement: str
    program: str
    documentation: str
    epsilon: Fact
    stays: Fact
    secure: Fact
    further: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    note: str = ""

    @property
    def files(self) -> list[pathlib.Path]:
        """The files that a user writes."""
        return [PROGRAMS / name for name in (self.program, *self.further)]

    def interpreter(self) -> str:
        """The Python that runs the program.

        Raises:
          PeerUnavailable: its environment cannot be made.
        """
        if self.environment is None:
            return sys.executable
        return str(environments.python_of(self.environment))

    def command(self, python: str) -> list[str]:
        """The program's command; a script of commands finds `python` on its PATH."""
        path = PROGRAMS / self.program
        runs = "bash" if path.suffix == ".sh" else python
        return [runs, str(path), *self.arguments]


_TFF = "https://www.tensorflow.org/federated"
_FLOWER = "https://flower.ai/docs/framework"
_FLARE = "https://github.com/NVIDIA/NVFlare"
_PFL = "https://apple.github.io/pfl-research"
_FEDJAX = "https://fedjax.readthedocs.io/en/latest"
_OPENFL = "https://github.com/securefederatedai/openfl"
_FEDML = "https://github.com/FedML-AI/FedML"
_SYFT = "https://github.com/OpenMined/PySyft/tree/PySyft/syft_0.2.x/examples/tutorials"
_SIMULATION = "no, a simulation"

FRAMEWORKS = {
    "ours": Framework(
        title="tfl_research",
        environment=None,
        documented=(),
        statement="import tfl_research",
        program="ours.py",
        documentation="README.md",
        epsilon=Fact("ε of all rounds after each round, and a ledger", "privacy.md"),
        stays=Fact("yes, over FLARE or Flower", "federation.md"),
        secure=Fact("yes: Bonawitz et al. 2017", "secure_sums.md"),
    ),
    "plain_tff": Framework(
        title="TFF 0.87.0",
        environment="tff",
        documented=("tensorflow-federated==0.87.0",),
        statement="import tensorflow_federated",
        program="plain_tff.py",
        documentation=f"{_TFF}/tutorials/federated_learning_for_image_classification",
        epsilon=Fact(
            "none; its tutorial computes ε before training",
            f"{_TFF}/tutorials/federated_learning_with_differential_privacy",
        ),
        stays=Fact(_SIMULATION, f"{_TFF}/faq"),
        secure=Fact(
            "in its type system; simulated in the clear",
            f"{_TFF}/api_docs/python/tff/aggregators/SecureSumFactory",
        ),
    ),
    "fedjax": Framework(
        title="FedJAX 0.0.17",
        environment="fedjax",
        documented=("fedjax==0.0.17",),
        statement=(
            "import fedjax, jax, numpy as np; a = fedjax.algorithms.fed_avg."
            "federated_averaging(lambda p, b, r: p, fedjax.optimizers.sgd(0.1), "
            "fedjax.optimizers.sgd(1.0), fedjax.ShuffleRepeatBatchHParams(2)); "
            "d = fedjax.ClientDataset({'x': np.zeros((2, 2))}); "
            "a.apply(a.init(np.zeros(2)), [(b'0', d, jax.random.PRNGKey(0))])"
        ),
        program="fedjax_program.py",
        note=(
            "Checkpoints need TensorFlow, which the installation does not bring. So "
            "the program has no checkpoints."
        ),
        documentation=f"{_FEDJAX}/notebooks/fedjax_intro.html",
        epsilon=Fact("none", f"{_FEDJAX}/fedjax.html"),
        stays=Fact(_SIMULATION, f"{_FEDJAX}/"),
        secure=Fact("no", f"{_FEDJAX}/fedjax.aggregators.html"),
    ),
    "pfl": Framework(
        title="pfl 0.6.0",
        environment="pfl",
        documented=("pfl==0.6.0",),
        statement="import pfl.algorithm.federated_averaging",
        program="pfl_program.py",
        note=(
            "RestoreTrainingCallback stores the number of the finished round as the "
            "next round. So a resumed run repeats this round with the newer model."
        ),
        documentation=f"{_PFL}/tutorials",
        epsilon=Fact(
            "none; its accountants find the noise for an ε before training",
            f"{_PFL}/reference/privacy.html",
        ),
        stays=Fact(_SIMULATION, f"{_PFL}/"),
        secure=Fact("no", f"{_PFL}/reference/aggregate.html"),
    ),
    "flower": Framework(
        title="Flower 1.42.0",
        environment="flower",
        documented=("flwr[simulation]==1.42.0",),
        statement="from flwr.simulation import run_simulation; import ray",
        program="flower_program.py",
        further=("flower_client.py",),
        note=(
            "Flower does not resume runs by itself. The program writes and loads a "
            "checkpoint as Flower's page on checkpoints does."
        ),
        documentation=f"{_FLOWER}/tutorial-quickstart-pytorch.html",
        epsilon=Fact(
            "none; its DP strategies log the noise",
            f"{_FLOWER}/how-to-use-differential-privacy.html",
        ),
        stays=Fact("yes", f"{_FLOWER}/explanation-flower-architecture.html"),
        secure=Fact(
            "yes: SecAgg+",
            f"{_FLOWER}/explanation-ref-secure-aggregation-protocols.html",
        ),
    ),
    "flare": Framework(
        title="NVIDIA FLARE 2.9.0",
        environment="flare",
        documented=("nvflare==2.9.0",),
        statement="import nvflare.client; from nvflare.recipe import SimEnv",
        program="flare/flare_job.py",
        further=("flare/flare_client.py", "flare/flare_model.py"),
        note=(
            "Measured in the simulator, with a process for each client, and torch in "
            "each process. A round ends when the first client gets the next model."
        ),
        documentation=f"{_FLARE}/tree/main/examples/hello-world/hello-pt",
        epsilon=Fact(
            "none of a run; ε is a setting of its SVT filter",
            _FLARE,
        ),
        stays=Fact("yes", _FLARE),
        secure=Fact("by homomorphic encryption", _FLARE),
    ),
    "openfl": Framework(
        title="OpenFL 1.9",
        environment="openfl",
        documented=("openfl==1.9",),
        statement=(
            "import numpy; from openfl.pipelines import NoCompressionPipeline as P; "
            "p = P(); p.backward(*p.forward(numpy.zeros((2, 2), 'f4')))"
        ),
        program="openfl/run.sh",
        note=(
            "The aggregator and ten collaborators are real processes on one machine, "
            "without TLS. A round ends when the first collaborator gets the next "
            "model. OpenFL's last saved model, save/last.pbuf, is the model with which "
            "the last round began. The model after the last round is taken from the "
            "aggregator's database."
        ),
        further=(
            "openfl/plan/plan.yaml",
            "openfl/plan/cols.yaml",
            "openfl/plan/data.yaml",
            "openfl/src/dataloader.py",
            "openfl/src/taskrunner.py",
            "openfl/last_model.py",
        ),
        documentation=f"{_OPENFL}/tree/develop/openfl-workspace/torch/mnist",
        epsilon=Fact("none", _OPENFL),
        stays=Fact("yes", _OPENFL),
        secure=Fact("yes, a setting", _OPENFL),
    ),
    "fedml": Framework(
        title="FedML 0.9.6",
        environment="fedml",
        documented=("fedml==0.9.6",),
        statement="import fedml",
        program="fedml_program.py",
        further=("fedml_config.yaml",),
        note=(
            "In the first round each client starts from the model that the client "
            "before it trained, because all clients train the same model object. A "
            "chain of clients in NumPy gives the same model to 1e-6. Later rounds are "
            "federated averaging."
        ),
        arguments=("--cf", str(PROGRAMS / "fedml_config.yaml")),
        documentation=(
            "https://github.com/FedML-AI/FedML/tree/master/python/examples/"
            "federate/simulation/sp_fedavg_mnist_lr_example"
        ),
        epsilon=Fact(
            "none of a run; ε is a setting",
            f"{_FEDML}/tree/master/python/fedml/core/dp",
        ),
        stays=Fact("yes", f"{_FEDML}/tree/master/python/fedml/cross_silo"),
        secure=Fact(
            "LightSecAgg, SecAgg",
            f"{_FEDML}/tree/master/python/fedml/cross_silo/lightsecagg",
        ),
    ),
    "pysyft": Framework(
        title="PySyft 0.2.5",
        environment="syft",
        documented=("syft==0.2.5",),
        statement="import syft",
        program="pysyft_program.py",
        note=(
            "Measured with virtual workers, all in one process, on Python 3.8. "
            "Releases 0.2.6 to 0.2.9 need PyAV 8, which has no wheel. Release 0.10 "
            "moves files through cloud storage, and has no federated averaging. Other "
            "releases were not tried. The average gives each client the same weight. "
            "The tutorials write no checkpoints, so the program has none."
        ),
        documentation=_SYFT,
        epsilon=Fact("none of a run; ε of PATE's labels", f"{_SYFT}/advanced/PATE"),
        stays=Fact(
            "yes, at workers behind websockets", f"{_SYFT}/advanced/websockets_mnist"
        ),
        secure=Fact("by secret sharing", _SYFT),
    ),
}


def fact_rows() -> list[tuple[str, str, str]]:
    """(framework, words, page) of every fact."""
    return [
        (framework.title, fact.text, fact.page)
        for framework in FRAMEWORKS.values()
        for fact in (framework.epsilon, framework.stays, framework.secure)
    ]

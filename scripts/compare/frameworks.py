"""The frameworks: what is installed, which program runs, and what their pages say."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Optional

from benchmark.peers import environments

SCRIPTS = pathlib.Path(__file__).resolve().parents[1]
PROGRAMS = SCRIPTS / "compare" / "programs"
PYTHON = "{python}"


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
      imports: a statement that works where the installation does.
      program: the file that is run, in `programs`; None where none can be.
      further: the other files of the program.
      documentation: the page that writes such a program.
      epsilon: what it says of ε.
      stays: whether it is made for data that stay at their sites.
      secure: whether sums can be secure.
      without: why there is no program.
    """

    title: str
    environment: Optional[str]
    documented: tuple[str, ...]
    imports: str
    program: Optional[str]
    documentation: str
    epsilon: Fact
    stays: Fact
    secure: Fact
    further: tuple[str, ...] = ()
    without: str = ""

    @property
    def files(self) -> list[pathlib.Path]:
        """The files that a user writes."""
        names = [self.program] if self.program is not None else []
        return [PROGRAMS / name for name in (*names, *self.further)]

    def interpreter(self) -> str:
        """The Python that runs the program.

        Raises:
          PeerUnavailable: its environment cannot be made.
        """
        if self.environment is None:
            return sys.executable
        return str(environments.python_of(self.environment))

    def command(self, python: str) -> list[str]:
        """The program's command."""
        return [python, str(PROGRAMS / str(self.program))]


_TFF = "https://www.tensorflow.org/federated"
_FLOWER = "https://flower.ai/docs/framework"
_FLARE = "https://nvflare.readthedocs.io/en/2.7"
_PFL = "https://apple.github.io/pfl-research"
_FEDJAX = "https://fedjax.readthedocs.io/en/latest"
_SIMULATION = "no, a simulation"

FRAMEWORKS = {
    "ours": Framework(
        title="tfl_research",
        environment=None,
        documented=(),
        imports="import tfl_research",
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
        imports="import tensorflow_federated",
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
        imports="import fedjax",
        program="fedjax_program.py",
        documentation=f"{_FEDJAX}/notebooks/fedjax_intro.html",
        epsilon=Fact("none", f"{_FEDJAX}/fedjax.html"),
        stays=Fact(_SIMULATION, f"{_FEDJAX}/"),
        secure=Fact("no", f"{_FEDJAX}/fedjax.aggregators.html"),
    ),
    "pfl": Framework(
        title="pfl 0.6.0",
        environment="pfl",
        documented=("pfl==0.6.0",),
        imports="import pfl.algorithm.federated_averaging",
        program="pfl_program.py",
        documentation=f"{_PFL}/tutorials",
        epsilon=Fact(
            "none; its accountants find the noise for an ε before training",
            f"{_PFL}/reference/privacy.html",
        ),
        stays=Fact(_SIMULATION, f"{_PFL}/"),
        secure=Fact("no", f"{_PFL}/reference/aggregate.html"),
    ),
}


def fact_rows() -> list[tuple[str, str, str]]:
    """(framework, words, page) of every fact."""
    return [
        (framework.title, fact.text, fact.page)
        for framework in FRAMEWORKS.values()
        for fact in (framework.epsilon, framework.stays, framework.secure)
    ]

"""A site whose clients are trained by a class of the user, in any framework.

The class has the methods of Flower's `NumPyClient`, and takes part in rounds of this
package. The experiment decides about aggregators, user-level privacy, secure sums and
the ledger. The class has its own data and training.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from tfl_research.data import ClientData
from tfl_research.errors import UserError
from tfl_research.experiment.at_sites.numpy_methods import NumPyClient
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.experiment.description import Description
from tfl_research.experiment.federated import shared
from tfl_research.federation.facts import SiteFacts
from tfl_research.federation.site import site_server
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.wire.handler import Refused
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research.experiment.at_sites.numpy_run import NumPyRun


def serve_numpy_client(
    path: pathlib.Path,
    client: NumPyClient,
    *,
    examples: int,
    say: Callable[[str], None] = print,
) -> None:
    """Serves a site whose only client is the user's class, until SIGINT or SIGTERM.

    The site's client has the site's name. The coordinator's task has the model. The
    model's arrays must have the shapes of the class's parameters, in the same order.
    The rows of the task are not used.

    Args:
      path: the path of the site's site.toml.
      client: an object of the class.
      examples: the client's number of training examples.
      say: prints a line.

    Raises:
      UserError: a file does not fit, or another process serves the site.

    Example:
        class Torch(flwr.client.NumPyClient):  # or any class with these methods
            ...

        serve_numpy_client(pathlib.Path("site.toml"), Torch(...), examples=1200)
    """
    site = SiteFile.read(path)
    site_server.serve(
        site.socket,
        site.name,
        site.key,
        lambda: NumPySite(site, client, examples, say),
        state_folder=site.folder,
        say=say,
    )


class NumPySite(SiteWork):
    """Answers a coordinator's requests at a site, with a class of the user.

    Args:
      site: the content of site.toml.
      client: an object of the class.
      examples: the client's number of training examples.
      say: prints a line.
    """

    def __init__(
        self,
        site: SiteFile,
        client: NumPyClient,
        examples: int,
        say: Callable[[str], None] = print,
    ):
        if examples < 1:
            raise UserError(f"examples={examples}: must be at least 1")
        super().__init__(site, say)
        self._client, self._examples = client, examples

    def _task(self, experiment: Description) -> Task:
        """Returns the task, with a row of zeros that stands for the class's data."""
        task = shared.blueprint(experiment)
        row = {
            name: np.zeros((1, *spec.shape), spec.dtype)
            for name, spec in task.train.specs.items()
        }
        return dataclasses.replace(
            task,
            train=ClientData.from_arrays({self._site.name: row}, task.train.batching),
            test=ClientData.from_arrays({self._site.name: row}, task.test.batching),
        )

    def _facts(self, task: Task) -> SiteFacts:
        sizes: Optional[dict[str, int]] = None
        if self._site.policy.allows("examples"):
            sizes = {self._site.name: self._examples}
        kind = type(self._client)
        return SiteFacts(
            self._site.name,
            (self._site.name,),
            task.train.specs,
            sizes,
            task.agreed,
            # The number of examples may have to stay here.
            self._mark(f"{kind.__module__}.{kind.__qualname__} {self._examples}"),
        )

    def _run_at_site(self, *args: Any, **kwargs: Any) -> NumPyRun:
        from tfl_research.experiment.at_sites.numpy_run import NumPyRun

        try:
            return NumPyRun(*args, client=self._client, **kwargs)
        except UserError as error:
            raise Refused(str(error)) from error

"""The process of a site, which answers the coordinator with the site's own data."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import pathlib
import secrets
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Optional, TextIO

from tfl_research import tasks
from tfl_research.errors import UserError
from tfl_research.experiment.configs import TaskChoice
from tfl_research.experiment.description import Description
from tfl_research.experiment.experiment import Experiment
from tfl_research.experiment.federated import shared
from tfl_research.federation.facts import AllFacts, SiteFacts
from tfl_research.federation.secure_sums import SecureSumError
from tfl_research.federation.site import site_server
from tfl_research.federation.site.site_file import SiteFile
from tfl_research.federation.summing import MASKED, SHARES, UNMASK
from tfl_research.federation.wire import questions
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message, MessageError
from tfl_research.federation.wire.sockets import private_folder
from tfl_research.storage import provenance
from tfl_research.storage.files import atomic
from tfl_research.tasks import Task

if TYPE_CHECKING:
    from tfl_research.experiment.at_sites.site_run import RunAtSite

# Number of runs that stay open, since a coordinator may ask for an older run again.
_OPEN_RUNS = 2


class SiteWork:
    """Answers a coordinator's requests at a site, within the site's policy.

    Args:
      site: the content of site.toml.
      say: prints a line for the site's own people.
    """

    def __init__(self, site: SiteFile, say: Callable[[str], None] = print):
        self._site, self._say = site, say
        site.load_plugin()
        self._secret = secret_of(site.folder)
        self._sources = shared.source_digest()
        self._tasks: dict[str, Task] = {}
        self._runs: dict[str, RunAtSite] = {}

    def handle(self, request: Message) -> Message:
        """Returns the reply to a request; raises the errors of `Handler.handle`."""
        run = request.text("run")
        if request.kind == questions.KIND:
            return self._hello(request)
        if request.kind == "begin":
            return self._begin(run, request)
        if request.kind == "end":
            self._end(run)
            return Message("end")
        if request.kind not in ("round", "evaluate", SHARES, MASKED, UNMASK):
            raise MessageError(
                f"a site does not know requests of the kind {request.kind!r}"
            )
        if run not in self._runs:
            return Message(request.kind, {"forgotten": True})
        at_site = self._runs[run]
        try:
            if request.kind == "evaluate":
                return at_site.evaluate(request)
            if request.kind == "round":
                return at_site.round(request)
            return at_site.sum_step(request)
        except (Refused, MessageError, SecureSumError):
            raise
        except UserError as error:
            raise self._untold(str(error)) from error

    def _untold(self, reason: str) -> Refused:
        """Makes a refusal without its reason, which may quote data; tells the site."""
        self._say(f"the site's own data or computation: {reason}")
        return Refused(
            "its own data or computation failed; the site's output has the reason"
        )

    def _hello(self, request: Message) -> Message:
        self._check_sources(request.header.get(shared.SOURCES))
        experiment = self._experiment(request)
        task = self._task(experiment)
        self._site.policy.check(experiment, task)
        return Message(questions.KIND, self._facts(task).header())

    def _check_sources(self, theirs: object) -> None:
        """Refuses a coordinator of another version, before anything is read or built.

        Raises:
          Refused: the source files here are not the coordinator's, or have changed
            since this process began.
        """
        if shared.source_digest() != self._sources:
            raise Refused(
                "the files of tfl_research at this site have changed since the site's "
                "process began; start the site again"
            )
        if theirs != self._sources:
            raise Refused(
                "this site and the coordinator have different versions of "
                "tfl_research's source files; install the same version on both, then "
                "start the site again"
            )

    def _begin(self, run: str, request: Message) -> Message:
        digests = request.mapping("digests")
        self._check_sources(digests.get(shared.SOURCES))
        experiment = self._experiment(request)
        task = self._task(experiment)
        self._site.policy.check(experiment, task)
        sites = request.header.get("sites")
        if not isinstance(sites, list):
            raise MessageError("begin: expected the facts of all sites")
        facts = AllFacts.of(sites)
        if facts.sites.get(self._site.name) != self._facts(task):
            raise Refused(
                "the data of this site have changed since the site told the "
                "coordinator of them; start the run again"
            )
        self._end(run)
        while len(self._runs) >= _OPEN_RUNS:
            self._end(next(iter(self._runs)))
        self._runs[run] = self._run_at_site(
            experiment,
            facts,
            task,
            compiler=request.text("compiler"),
            digests=digests,
            folder=site_server.run_folder(self._site.folder, run),
            secret=self._secret,
            site=self._site,
            say=self._say,
        )
        self._say(f"run {run} begins: {experiment!r}"[:500])
        return Message("begin")

    def _run_at_site(self, *args: Any, **kwargs: Any) -> RunAtSite:
        """Returns the class of a run's part at this site; imports TensorFlow."""
        from tfl_research.experiment.at_sites.site_run import RunAtSite

        return RunAtSite(*args, **kwargs)

    def _end(self, run: str) -> None:
        if run in self._runs:
            self._runs.pop(run).close()

    def _experiment(self, request: Message) -> Description:
        """Makes the experiment of a request, with the site's own task options."""
        flat = request.mapping("experiment")
        name = flat.get("task")
        if name != self._site.task:
            raise Refused(
                f"the coordinator asks for the task {str(name)[:60]!r}, but site.toml "
                f"has the task {self._site.task!r}"
            )
        own = sorted(n for n in shared.OWN & set(flat) if flat[n] not in (None, [], ""))
        if own:
            raise Refused(
                f"{own[0]} is a setting of this machine; a site does not take it from "
                "the coordinator"
            )
        options = flat.get("task_option", ())
        paths = shared.path_options(options if isinstance(options, list) else ())
        if paths:
            raise Refused(
                f"task_option={paths[0]} names a file or folder of this machine; a "
                "site takes it from its site.toml alone"
            )
        try:
            experiment = Experiment.from_flat(
                {
                    **_with_own_options(_tuples(flat), self._site.options),
                    "runtime": "federation",
                    "federation": "-",
                }
            )
            shared.check(experiment)
        except (UserError, TypeError) as error:
            raise Refused(f"the experiment is refused here: {error}") from error
        return experiment

    def _task(self, experiment: Description) -> Task:
        """Returns the task with this site's rows, which are read once."""
        choice = experiment.task
        if not isinstance(choice, TaskChoice):
            raise TypeError(f"expected a registered task, got {choice!r}")
        seed = experiment.training.seed
        key = repr((choice, seed))
        if key not in self._tasks:
            try:
                task = choice.build(seed)
                task = shared.without_held_out(task)
            except UserError as error:
                raise self._untold(str(error)) from error
            self._tasks = {key: self._own(task)}
        return self._tasks[key]

    def _own(self, task: Task) -> Task:
        """Returns the task with only the clients that site.toml names."""
        names = self._site.clients
        if names is None:
            return task
        unknown = [name for name in names if name not in task.train.client_ids]
        if unknown:
            # The names of those that take no part are not for the coordinator.
            raise self._untold(
                f"site.toml: clients has {unknown[0]!r}, which is not a client of the "
                f"task; it has {', '.join(task.train.client_ids[:20])}"
            )
        return dataclasses.replace(
            task, train=task.train.subset(names), test=task.test.subset(names)
        )

    def _facts(self, task: Task) -> SiteFacts:
        sizes = None
        if self._site.policy.allows("examples"):
            train = task.train
            sizes = {name: train.num_examples(name) for name in train.client_ids}
        return SiteFacts(
            self._site.name,
            tuple(task.train.client_ids),
            task.train.specs,
            sizes,
            task.agreed,
            self._mark(tasks.content_digest(task)),
        )

    def _mark(self, content: str) -> str:
        """What others may see of a text that says which data the site has."""
        return hmac.new(self._secret, content.encode(), hashlib.sha256).hexdigest()


def _tuples(flat: dict[str, Any]) -> dict[str, Any]:
    """Turns JSON's lists in settings into tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in flat.items()}


def _with_own_options(flat: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings, with the task's options from site.toml."""
    settings = dict(flat)
    fields = {field.name for field in dataclasses.fields(TaskChoice)}
    texts = [
        text
        for text in settings.get("task_option", ())
        if str(text).partition("=")[0] not in options
    ]
    for name, value in options.items():
        if name in fields:
            settings[name] = value
        else:
            texts.append(f"{name}={value}")
    return {**settings, "task_option": tuple(texts)}


def secret_of(folder: pathlib.Path) -> bytes:
    """Reads the site's secret, 32 bytes; makes the secret at the first start.

    A kill leaves a whole file or no file. A missing folder is made.

    Raises:
      UserError: the file has another length, or other users can enter the folder.
    """
    path = folder / "secret"
    private_folder(folder)
    if not path.exists():
        atomic.write(path, secrets.token_bytes(32), mode=0o600)
    content = path.read_bytes()
    if len(content) != 32:
        raise UserError(f"{path}: expected 32 bytes, got {len(content)}; restore it")
    return content


def serve_site(path: pathlib.Path, *, stream: Optional[TextIO] = None) -> None:
    """Serves a site until SIGINT or SIGTERM.

    Args:
      path: the path of the site's site.toml.
      stream: where lines are printed; standard output by default.

    Raises:
      UserError: a file does not fit, or another process serves the site.
    """
    site = SiteFile.read(path)
    out = stream or sys.stdout

    def say(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    line = provenance.rounding_line()
    if line is not None:
        say(f"warning: {line}")
    site_server.serve(
        site.socket,
        site.name,
        site.key,
        lambda: SiteWork(site, say),
        state_folder=site.folder,
        say=say,
    )

"""The web application: a list of runs and a page of each run, both read-only.

Werkzeug is the framework: TensorFlow's TensorBoard needs this package too, so it is
already installed. Its server is for few readers on one machine, as this page is.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Optional
from urllib.parse import quote

from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from tfl_research.report import rendering, words
from tfl_research.report.dashboard import access
from tfl_research.report.dashboard.ledgers import Ledgers
from tfl_research.report.dashboard.watched import Status, Watched
from tfl_research.report.run_page import page

# A page that takes a second is made every ten seconds at most.
REST = 9.0
_HEADERS = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class _Page(NamedTuple):
    """A page that was made, and the time until which it is used again."""

    etag: str
    content: str
    until: float


class Dashboard:
    """The WSGI application.

    The application answers GET and HEAD only, and reads only the files that runs
    release. It makes a page again when the files of the page's run have changed, but
    not so often that training would slow down.
    """

    def __init__(
        self, watched: Watched, token: Optional[str] = None, *, rest: float = REST
    ):
        """Makes an application over a folder.

        Args:
          watched: the folder's runs.
          token: the token that a reader needs to see a page; None for a server on
            loopback.
          rest: how long a page is used again, in multiples of the time that it took to
            make the page.
        """
        self._rest = rest
        self._watched = watched
        self._ledgers = Ledgers(watched.folder)
        self._token = token
        self._routes = Map(
            [
                Rule("/", endpoint=self._list, methods=["GET"]),
                Rule("/favicon.ico", endpoint=self._no_icon, methods=["GET"]),
                Rule("/run/<path:name>", endpoint=self._run, methods=["GET"]),
            ]
        )
        # The style of pictures is global to matplotlib: one page at a time.
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        response = self._answer(request)
        response.headers.extend(_HEADERS)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Any:
        given = request.args.get(access.PARAMETER)
        kept = request.cookies.get(access.COOKIE)
        host = request.headers.get("Host", "")
        if not access.allows(self._token, host=host, given=given, kept=kept):
            return Forbidden(
                "Open the address that scripts/dashboard printed, with its token."
            ).get_response()
        if self._token is not None and given is not None:
            # A cookie hides the token from the address line and the browser's history.
            response = redirect(request.path)
            response.set_cookie(
                access.COOKIE, self._token, httponly=True, samesite="Strict"
            )
            return response
        try:
            endpoint, values = self._routes.bind_to_environ(request.environ).match()
            return endpoint(request, **values)
        except HTTPException as error:
            return error.get_response()

    def _made(
        self, request: Request, key: str, tag: Any, make: Callable[[], str]
    ) -> Any:
        """Returns the page, or "304 Not Modified" if the browser has the page."""
        etag = hashlib.sha256(repr(tag).encode()).hexdigest()[:32]
        with self._lock:
            made = self._pages.get(key)
            began = time.monotonic()
            if made is None or (made.etag != etag and began >= made.until):
                content = make()
                took = time.monotonic() - began
                made = _Page(etag, content, began + (1 + self._rest) * took)
                self._pages[key] = made
        response = Response(made.content, mimetype="text/html")
        response.set_etag(made.etag)
        return response.make_conditional(request)

    def _no_icon(self, request: Request) -> Any:
        return Response(status=204)

    def _list(self, request: Request) -> Any:
        runs = self._watched.paths()
        statuses = self._watched.statuses()
        states = [(one.name, one.state) for one in statuses]
        signatures = [self._watched.signature(path) for path in runs.values()]
        tag = "list", states, signatures, self._ledgers.signature(runs)

        def make() -> str:
            return rendering.render(
                "dashboard.html",
                live=True,
                folder=str(self._watched.folder),
                running=[_row(one) for one in statuses if one.is_running],
                others=[_row(one) for one in statuses if not one.is_running],
                ledgers=self._ledgers.views(runs),
            )

        return self._made(request, "", tag, make)

    def _run(self, request: Request, name: str) -> Any:
        # Only names in the list are accepted, not paths that somebody made up.
        path = self._watched.paths().get(name)
        if path is None:
            raise NotFound(f"there is no run {name}")
        status = self._watched.status(name, path)

        def make() -> str:
            problem = status.problem
            if status.results is not None:
                try:
                    return page.html(status.results, live=True, back="/")
                except ValueError as error:
                    problem = str(error)
            return rendering.render(
                "problem.html", live=True, name=name, problem=problem
            )

        return self._made(request, name, (name, self._watched.signature(path)), make)


def _row(status: Status) -> dict[str, Any]:
    """Makes the entry of a run in the list."""
    results = status.results
    metric, value = status.metric
    rounds = epsilon = words.NONE
    if results is not None:
        rounds = words.number(results.completed)
        if results.planned:
            rounds += f" of {words.number(results.planned)}"
        if results.is_private:
            epsilon = words.bound(results.epsilon)
            if results.limit is not None:
                epsilon += f" of {words.bound(results.limit[0])}"
    return {
        "name": status.name,
        "address": f"/run/{quote(status.name)}",
        "experiment": "" if results is None else results.title,
        "task": "" if results is None else str(results.hparams.get("task") or ""),
        "state": status.problem or status.state,
        "is_damaged": results is None,
        "rounds": rounds,
        "share": status.share,
        "metric": metric,
        "value": value or words.NONE,
        "epsilon": epsilon,
    }

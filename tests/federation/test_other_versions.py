"""A site and a coordinator of different versions do not begin a run together."""

from __future__ import annotations

import pytest
from federations import running

from tfl_research.errors import UserError
from tfl_research.experiment.at_sites.site import SiteWork
from tfl_research.experiment.federated import shared
from tfl_research.federation.wire.handler import Refused
from tfl_research.federation.wire.messages import Message

pytestmark = pytest.mark.slow

_DIFFERENT = "different versions of tfl_research's source files; install the same"


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("versions"), names=("north", "south")
    ) as started:
        yield started


class OfAnother:
    """A site that gets requests of one kind from a coordinator of another version."""

    def __init__(self, federation, kind, digest):
        self._work = SiteWork(federation.site_file("north"), federation.lines.append)
        self._kind, self._digest = kind, digest

    def handle(self, request):
        header = dict(request.header)
        if request.kind == self._kind:
            place = header
            if request.kind == "begin":
                place = header["digests"] = dict(header["digests"])
            place.pop(shared.SOURCES)
            if self._digest is not None:
                place[shared.SOURCES] = self._digest
        return self._work.handle(Message(request.kind, header, request.tensors))


@pytest.mark.parametrize("kind", ["hello", "begin"])
@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_another_version_is_refused(federation, tmp_path, kind, digest):
    federation.stop("north")
    federation.start("north", OfAnother(federation, kind, digest))
    experiment = federation.experiment(
        training={"rounds": 1, "selection_metric": "loss"}, execution="separate_graph"
    )
    with pytest.raises(UserError, match=f"site north refuses: .*{_DIFFERENT}"):
        experiment.run(tmp_path / "run")
    refused = [line for line in federation.lines if line.startswith("refused ")]
    assert f"refused {kind!r} of round 0" in refused[-1]
    assert _DIFFERENT in refused[-1]


def test_files_that_change_below_a_site_are_refused(federation, monkeypatch):
    site = SiteWork(federation.site_file("south"), federation.lines.append)
    monkeypatch.setattr(shared, "source_digest", lambda: "0" * 64)
    request = Message("hello", {"run": "r", shared.SOURCES: "0" * 64})
    with pytest.raises(Refused, match="start the site again"):
        site.handle(request)

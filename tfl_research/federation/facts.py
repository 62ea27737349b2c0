"""Facts that a site tells about itself before a run: clients, and form of the data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np

from tfl_research.data import ArraySpec
from tfl_research.errors import UserError
from tfl_research.federation.wire.messages import MessageError

# How NumPy writes types of numbers, texts and objects, such as "<f4".
_DTYPE = re.compile(r"[<>|=][biufcSUO][0-9]{0,4}")
_LONGEST_TEXT = 500
_MOST_DIMENSIONS = 16
# Of a size: floats hold all whole numbers up to it.
_LARGEST = 2**53


@dataclasses.dataclass(frozen=True)
class SiteFacts:
    """The facts that a site tells about itself.

    Attributes:
      site: name of the site.
      client_ids: the site's clients, in the site's order.
      specs: the specs of one example of the site's arrays, by flat name.
      sizes: number of training examples by client; None if the site does not tell.
      agreed: digest of the values that must be equal at all sites (`Task.agreed`).
      mark: a keyed digest of the site's data. It changes if the data change, and says
        nothing about the data to anyone without the site's secret.
    """

    site: str
    client_ids: tuple[str, ...]
    specs: Mapping[str, ArraySpec]
    sizes: Optional[Mapping[str, int]]
    agreed: str
    mark: str

    def header(self) -> dict[str, Any]:
        """Returns the facts as JSON values, without the site's name (in the seal)."""
        return {
            "clients": list(self.client_ids),
            "specs": {
                name: [spec.dtype.str, list(spec.shape)]
                for name, spec in self.specs.items()
            },
            "sizes": None if self.sizes is None else dict(self.sizes),
            "agreed": self.agreed,
            "mark": self.mark,
        }

    @classmethod
    def of(cls, site: str, header: Mapping[str, Any]) -> SiteFacts:
        """The facts of a site's message.

        Raises:
          MessageError: values of another form.
        """
        try:
            specs = {
                name: _spec(dtype, shape)
                for name, (dtype, shape) in header["specs"].items()
            }
            client_ids = tuple(
                _text(name) for name in _checked(header["clients"], list)
            )
            sizes = header["sizes"]
            if sizes is not None:
                sizes = {name: _number(size) for name, size in sizes.items()}
            facts = cls(
                site,
                client_ids,
                specs,
                sizes,
                _text(header["agreed"]),
                _text(header["mark"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MessageError(
                f"site {site}: its facts cannot be read ({type(error).__name__}: "
                f"{error}); install the same version at the site and here"
            ) from error
        if not client_ids or len(set(client_ids)) < len(client_ids):
            raise MessageError(
                f"site {site}: expected at least one client and different names, got "
                f"{list(client_ids)}"
            )
        if sizes is not None and (
            set(sizes) != set(client_ids) or min(sizes.values()) < 0
        ):
            raise MessageError(
                f"site {site}: the sizes that it sent do not fit its clients; install "
                "the same version at the site and here"
            )
        return facts


def _checked(value: Any, kind: type) -> Any:
    # A truth value is a whole number for Python.
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {str(value)[:40]!r}")
    return value


def _text(value: Any) -> str:
    text: str = _checked(value, str)
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"a text has {len(text)} characters; {_LONGEST_TEXT} fit")
    return text


def _number(value: Any) -> int:
    number: int = _checked(value, int)
    if not 0 <= number <= _LARGEST:
        raise ValueError(f"{number} is not a number from 0 to {_LARGEST}")
    return number


def _spec(dtype: Any, shape: Any) -> ArraySpec:
    """The type of an array; NumPy would also take expressions."""
    if not _DTYPE.fullmatch(_checked(dtype, str)):
        raise ValueError(f"{dtype[:40]!r} is not the type of an array")
    sizes = tuple(_number(size) for size in _checked(shape, list))
    if len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(f"an array has {len(sizes)} dimensions")
    return ArraySpec(sizes, np.dtype(dtype))


@dataclasses.dataclass(frozen=True)
class AllFacts:
    """The facts of all sites of a federation, checked against each other.

    Attributes:
      sites: the facts by site, in the order of federation.toml.
    """

    sites: Mapping[str, SiteFacts]

    def __post_init__(self) -> None:
        _check_alike(self.sites)
        owner: dict[str, str] = {}
        for name, facts in self.sites.items():
            for client_id in facts.client_ids:
                if client_id in owner:
                    raise UserError(
                        f"sites {owner[client_id]} and {name}: both have a client "
                        f"{client_id!r}; give the clients different names, for "
                        "example by the names of their files"
                    )
                owner[client_id] = name

    @property
    def site_of(self) -> dict[str, str]:
        """The site of each client."""
        return {
            client_id: name
            for name, facts in self.sites.items()
            for client_id in facts.client_ids
        }

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers of training examples, of the clients whose sites tell the numbers."""
        return {
            client_id: size
            for facts in self.sites.values()
            for client_id, size in (facts.sizes or {}).items()
        }

    @property
    def specs(self) -> Mapping[str, ArraySpec]:
        """Types of an example's arrays, which are alike at all sites."""
        return next(iter(self.sites.values())).specs

    @property
    def agreed(self) -> str:
        """The digest of what is equal at all sites."""
        return next(iter(self.sites.values())).agreed

    def ordered(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """Returns all clients, in the order of the known ids, otherwise by name."""
        found = set(self.site_of)
        if found <= set(known):
            return tuple(name for name in known if name in found)
        return tuple(sorted(found))

    def header(self) -> list[dict[str, Any]]:
        """The facts as JSON values, for the sites."""
        return [{"site": name, **facts.header()} for name, facts in self.sites.items()]

    @classmethod
    def of(cls, header: list[Mapping[str, Any]]) -> AllFacts:
        """The facts of a coordinator's message.

        Raises:
          MessageError: values of another form.
        """
        try:
            names = [_text(one["site"]) for one in header]
        except (KeyError, TypeError, ValueError) as error:
            raise MessageError(
                "the sites' facts cannot be read; install the same version at the "
                "sites and here"
            ) from error
        return cls({n: SiteFacts.of(n, one) for n, one in zip(names, header)})


def _check_alike(sites: Mapping[str, SiteFacts]) -> None:
    """Refuses sites whose data have different forms, with the two sites' names."""
    first = next(iter(sites.values()), None)
    if first is None:
        raise UserError("no site answered; start the sites with scripts/site")
    for facts in sites.values():
        names = f"sites {first.site} and {facts.site}"
        if dict(facts.specs) != dict(first.specs):
            mine = {n: str(s) for n, s in first.specs.items()}
            other = {n: str(s) for n, s in facts.specs.items()}
            raise UserError(
                f"{names}: their examples have different forms, {mine} and {other}; "
                "give both the same schema file and options"
            )
        if facts.agreed != first.agreed:
            raise UserError(
                f"{names}: they encode rows by different schema files; give both the "
                "schema.json that the sites agreed on"
            )

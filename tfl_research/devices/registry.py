"""Registered devices: any number, without memory for each device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional, Union, overload

from tfl_research.data import ClientData, Examples

_PREFIX = "device "


@dataclasses.dataclass(frozen=True)
class DeviceIds(Sequence[str]):
    """The ids "device 0", "device 1", ..., made when they are needed.

    Attributes:
      size: number of devices, at least 1.
      owners: number of clients whose examples the devices hold in turn, at least 1.
        With fewer clients than devices, several devices hold the same examples. None if
        the number is unknown.

    Raises:
      ValueError: a number is below 1.
    """

    size: int
    owners: Optional[int] = None

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("owners", self.owners)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def __len__(self) -> int:
        return self.size

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...

    def __getitem__(self, index: Union[int, slice]) -> Union[str, tuple[str, ...]]:
        if isinstance(index, slice):
            return tuple(f"{_PREFIX}{i}" for i in range(self.size)[index])
        return f"{_PREFIX}{range(self.size)[index]}"

    def __contains__(self, name: object) -> bool:
        try:
            self.number(name)
        except ValueError:
            return False
        return True

    def index(self, value: Any, start: int = 0, stop: Any = None) -> int:
        """Returns the position of a device id, which the id contains: no search."""
        number = self.number(value)
        if number not in range(self.size)[start:stop]:
            raise ValueError(
                f"{value!r} is not among the devices from place {start} to {stop}"
            )
        return number

    def number(self, name: object) -> int:
        """Returns the position of an id.

        Raises:
          ValueError: the id is not one of these ids.
        """
        digits = name[len(_PREFIX) :] if isinstance(name, str) else ""
        if name == f"{_PREFIX}{digits}" and digits.isascii() and digits.isdigit():
            number = int(digits)
            if number < self.size and str(number) == digits:
                return number
        raise ValueError(f"{name!r} is not one of the {self.size} devices")


def registered(clients: ClientData, count: int) -> ClientData:
    """Makes client data in which `count` devices hold the examples of `clients`.

    Device d holds the examples of client d modulo the number of clients. Devices with
    the same examples are different clients, with different shuffles.

    Args:
      clients: the clients whose examples the devices hold.
      count: number of devices, at least 1. With fewer devices than clients, the last
        clients take no part.

    Raises:
      ValueError: the count is below 1, or clients have roles.
    """
    if clients.roles is not None:
        raise ValueError(
            "clients with roles cannot be registered as devices; give clients without "
            "roles"
        )
    owners = clients.client_ids
    ids = DeviceIds(count, len(owners))

    def load(name: str) -> Examples:
        return clients.load(owners[ids.number(name) % len(owners)])

    holders = min(count, len(owners))
    return dataclasses.replace(clients, client_ids=ids, load=load, holders=holders)

"""Fingerprints of a run's computation, data and code, compared at every start."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Optional

# Texts for the parts of a process, by the names of `runtime.computation_digests`.
PROCESS_PARTS = {
    "initial_state": "initial state",
    "client_computation": "client computation",
    "aggregation": "aggregation",
    "server_update": "server update",
    "round": "round",
}
_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Digests and versions of everything on which a round's result depends.

    Attributes:
      computation: digests of `runtime.computation_digests`, by part of the process.
      data: SHA-256 of the clients' examples; "" if the settings record it.
      plan: SHA-256 of the record of the privacy plan; "" without privacy.
      settings: SHA-256 of the settings that a resumed run must not change.
      execution: SHA-256 of the settings of the runtime and of TensorFlow's variables
        in the environment, on which results depend by float rounding alone.
      packages: versions by package.
      sources: SHA-256 of source files by their names: of this package, and of the
        modules in which a user registered parts of the run.
    """

    computation: Mapping[str, str]
    data: str = ""
    plan: str = ""
    settings: str = ""
    execution: str = ""
    packages: Mapping[str, Optional[str]] = dataclasses.field(default_factory=dict)
    sources: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of everything but `execution`; it is part of the noise key.

        Runs that differ only in the runtime draw the same noise, so that runtimes can
        be compared. A run still keeps its runtime.
        """
        parts = dataclasses.asdict(self)
        del parts["execution"]
        return digest(parts)

    def fixed_differences(self, now: Fingerprint) -> list[str]:
        """Describes the differences that no run may have between its starts."""
        pairs = (
            ("privacy plan", self.plan, now.plan),
            ("settings", self.settings, now.settings),
            ("settings of the runtime or XLA_FLAGS", self.execution, now.execution),
        )
        return [f"the {name}" for name, before, after in pairs if before != after]

    def differences(self, now: Fingerprint) -> list[str]:
        """Describes all differences."""
        phrases = []
        names = dict.fromkeys([*PROCESS_PARTS, *now.computation, *self.computation])
        changed = [
            PROCESS_PARTS.get(name, name)
            for name in names
            if self.computation.get(name) != now.computation.get(name)
        ]
        if changed:
            phrases.append(f"the computation ({', '.join(changed)})")
        if self.data != now.data:
            phrases.append("the data")
        phrases += [
            f"{name} {self.packages.get(name)} → {now.packages.get(name)}"
            for name in dict.fromkeys([*now.packages, *self.packages])
            if self.packages.get(name) != now.packages.get(name)
        ]
        files = [
            name
            for name in sorted({*now.sources, *self.sources})
            if self.sources.get(name) != now.sources.get(name)
        ]
        if files:
            more = len(files) - _SHOWN
            listed = ", ".join(files[:_SHOWN])
            phrases.append(
                f"the source {'files' if len(files) > 1 else 'file'} {listed}"
                + (f" and {more} more" if more > 0 else "")
            )
        return [*phrases, *self.fixed_differences(now)]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON values, for `from_json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Makes the object whose `to_json` returned these values.

        Raises:
          ValueError, TypeError: the values have another form.
        """
        found = cls(**values)
        if not all(
            isinstance(getattr(found, field.name), (Mapping, str))
            for field in dataclasses.fields(cls)
        ):
            raise ValueError("a part must be text or a mapping")
        return found


def digest(values: Any) -> str:
    """Computes SHA-256 of JSON values, in hexadecimal."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()

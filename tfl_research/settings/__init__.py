"""Settings as fields of a frozen dataclass, with name, default, range and help.

A group of settings is a plain Python object that checks itself. `cli` turns the fields
into flags. This package does not depend on command lines.
"""

from tfl_research.settings.fields import (
    choice as choice,
    declared as declared,
    help_of as help_of,
    integer as integer,
    kind_of as kind_of,
    real as real,
    repeated as repeated,
    switch as switch,
    text as text,
)
from tfl_research.settings.groups import (
    NamedSettings as NamedSettings,
    Settings as Settings,
    comma_separated as comma_separated,
)
from tfl_research.settings.kinds import (
    Kind as Kind,
    Repeated as Repeated,
    Switch as Switch,
)

"""Events: what a round releases, as plain data; a module for each kind.

`accounting.composition` composes events. `privacy.mechanisms` adds the noise that the
events describe.
"""

from tfl_research.privacy.accounting.events.event import (
    ACCOUNTANTS as ACCOUNTANTS,
    LARGEST_NOISE_MULTIPLIER as LARGEST_NOISE_MULTIPLIER,
    SMALLEST_NOISE_MULTIPLIER as SMALLEST_NOISE_MULTIPLIER,
    Event as Event,
    NoisedEvent as NoisedEvent,
    check_accountant as check_accountant,
    check_delta as check_delta,
    check_noise_multiplier as check_noise_multiplier,
    fields_of as fields_of,
)
from tfl_research.privacy.accounting.events.registry import (
    EVENTS as EVENTS,
    UnknownKindError as UnknownKindError,
    check_readable as check_readable,
    check_registered as check_registered,
    event_from_dict as event_from_dict,
    plugin_of as plugin_of,
    register_event as register_event,
)

"""What one round did to privacy, as plain data that accountants judge.

One module a kind of event; how events are composed is in `privacy.accounting`.
"""

from tfl_research.privacy.accounting.events.event import (
    ACCOUNTANTS as ACCOUNTANTS,
    EVENTS as EVENTS,
    LARGEST_NOISE_MULTIPLIER as LARGEST_NOISE_MULTIPLIER,
    SMALLEST_NOISE_MULTIPLIER as SMALLEST_NOISE_MULTIPLIER,
    Event as Event,
    NoisedEvent as NoisedEvent,
    UnknownKindError as UnknownKindError,
    check_accountant as check_accountant,
    check_delta as check_delta,
    check_noise_multiplier as check_noise_multiplier,
    check_readable as check_readable,
    check_registered as check_registered,
    event_from_dict as event_from_dict,
    fields_of as fields_of,
    plugin_of as plugin_of,
    register_event as register_event,
)

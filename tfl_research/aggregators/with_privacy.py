"""Which robust rules go with noise for privacy, with secure sums and sparse updates.

A mechanism declares an l2 sensitivity: how far one client can move what is noised.
Clipping every update to C and summing has sensitivity C. A rule between clipping and
noise has another one, mostly as large as the distance between two updates, 2C,
however many clients there are: noise calibrated to a share C/n of a mean then covers
next to nothing. Plain data, without TensorFlow.
"""

from __future__ import annotations

from typing import Optional

# Where noise is added: to the sum at the server; to integer shares that only their
# sum is decoded of; or by each client, before anything is sent.
NOISED_AT: dict[str, str] = {
    "gaussian": "server",
    "tree": "server",
    "banded_matrix": "server",
    "discrete_gaussian": "secure sum",
    "skellam": "secure sum",
    "record_dp_sgd": "client",
    "local_gaussian": "client",
}
_SELECTS = (
    "it follows a few of the updates, so that one client can move its result by up to "
    "the distance between two clipped updates, 2C, and not by C/n"
)
_PER_COORDINATE = (
    "one client can move every coordinate of its result at once, by up to the gap "
    "between neighbouring values: up to 2C in l2 norm a coordinate, and not C/n in all"
)
_MIXES = "it puts one client's update into many rows, so that its part is not bounded"
# Rules that keep a sum's sensitivity have None.
_SENSITIVITY: dict[str, Optional[str]] = {
    "mean": None,
    "norm_clipping": None,
    "coordinate_median": _PER_COORDINATE,
    "trimmed_mean": _PER_COORDINATE,
    "mean_around_median": _PER_COORDINATE,
    "sign_majority": (
        "one client's votes have l2 norm √d, whatever its update was clipped to"
    ),
    "krum": _SELECTS,
    "multi_krum": _SELECTS,
    "bulyan": _SELECTS,
    "geometric_median": _SELECTS,
    "repeated_geometric_median": (
        "a client's part is divided by its distance from the last median, and by "
        "a sum that depends on the others, so that it is not bounded by C/n"
    ),
    "centered_clipping": (
        "updates are clipped around a centre and divided by the number of clients "
        "that came, which the mechanism's clip and denominator do not describe"
    ),
    "trusted_root": (
        "rows are divided by a sum of trust that depends on the others, so that "
        "one client's part is not bounded by C/n"
    ),
    "nearest_neighbour_mixing": _MIXES,
    "bucketing": (
        "a bucket's mean is sound by itself, but what follows bucketing is a rule "
        "that selects or trims"
    ),
    # TFF's own.
    "secure": "its zeroing and clipping follow exact norms, which no noise covers",
    "robust": ("its zeroing follows exact norms of the clients, which no noise covers"),
    "zeroing": "it follows exact norms of the clients, which no noise covers",
    "clipping": (
        "its norm follows an exact quantile of the clients' norms, which no noise "
        "covers; use the mechanism's adaptive clipping"
    ),
    "compression": ("quantising a clipped update can lengthen it beyond the clip"),
}
# What a secure sum lets the server see is enough for these.
_SUMS = (
    "mean",
    "norm_clipping",
    "sign_majority",
    "repeated_geometric_median",
    "secure",
)
# Rules that take what a client did not send in a coordinate for a value of zero.
_BY_COORDINATE = {
    "coordinate_median": "where most clients send nothing it is zero",
    "trimmed_mean": "where few clients send anything it takes their values off",
    "mean_around_median": "where most clients send nothing it is about zero",
    "bulyan": "where most clients send nothing it is about zero",
    "sign_majority": "where few clients send anything a few hostile votes decide",
}


def is_noised_at_clients(mechanism: str) -> bool:
    """Whether clients add a mechanism's noise, so that any rule may follow it.

    Args:
      mechanism: an event's `kind`.

    Raises:
      ValueError: an unknown one.
    """
    if mechanism not in NOISED_AT:
        raise ValueError(
            f"mechanism must be one of {', '.join(NOISED_AT)}, got {mechanism!r}"
        )
    return NOISED_AT[mechanism] == "client"


def _check_known(rule: str) -> None:
    if rule not in _SENSITIVITY:
        raise ValueError(f"rule must be one of {', '.join(_SENSITIVITY)}, got {rule!r}")


def check_with_privacy(rule: str, mechanism: str) -> None:
    """Refuses a rule together with a mechanism whose guarantee it would break.

    Noise that clients add themselves covers whatever the server does with what they
    send (post-processing), so that every rule is sound with it. Noise on a sum at the
    server is calibrated to the sensitivity of a sum of clipped updates, which only
    rules that are such a sum have.

    Args:
      rule: a rule of `RULES`, a pre-aggregation, "trusted_root",
        "repeated_geometric_median", or one of TFF's aggregators by flag.
      mechanism: an event's `kind`.

    Raises:
      ValueError: the pair is unsound, with the reason; or an unknown word.
    """
    _check_known(rule)
    if is_noised_at_clients(mechanism):
        return
    reason = _SENSITIVITY[rule]
    if NOISED_AT[mechanism] == "secure sum":
        check_with_secure_sum(rule)
    if reason is not None:
        raise ValueError(
            f"{rule} breaks the guarantee of {mechanism}: {reason}; use mean or "
            "norm_clipping, or noise that clients add themselves (local_gaussian, "
            "record_dp_sgd)"
        )


def check_with_secure_sum(rule: str) -> None:
    """Refuses a rule that needs single updates where the server sees sums only.

    Raises:
      ValueError: the rule is no sum of what clients can compute; or is unknown.
    """
    _check_known(rule)
    if rule not in _SUMS:
        raise ValueError(
            f"{rule} needs every client's update, but under secure aggregation the "
            f"server sees their sum only; use one of {', '.join(_SUMS)}"
        )


def check_with_sparse_updates(rule: str) -> None:
    """Refuses a rule of coordinates where clients send some of their entries only.

    Rules that look at whole updates (selection by distances, geometric median,
    clipping) take the decoded ones for what they are: they keep their promise, with the
    code's own error in the updates' spread. Quantised and low-rank updates have a value
    in every coordinate and go with every rule.

    Raises:
      ValueError: the rule looks at every coordinate by itself; or is unknown.
    """
    _check_known(rule)
    if rule in _BY_COORDINATE:
        raise ValueError(
            f"{rule} looks at every coordinate by itself: {_BY_COORDINATE[rule]}"
        )

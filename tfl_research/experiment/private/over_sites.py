"""States what a private run shows to its coordinator and to its sites."""

from __future__ import annotations

from tfl_research.experiment.configs import UserLevelPrivacy
from tfl_research.experiment.description import Description
from tfl_research.sampling import Amplification

_EVALUATIONS = (
    "The coordinator of --runtime=federation, in evaluations: for each client, it gets "
    "the number of test examples and the exact value of every metric on them, also of "
    "metrics that the run withholds or adds noise to. A site's policy (metrics in "
    "site.toml) can refuse evaluations."
)


def outside_lines(
    experiment: Description,
    amplification: Amplification,
    *,
    evaluates: bool,
    reports: bool = True,
) -> list[str]:
    """Writes sentences about data that a federation leaves outside the guarantee.

    Args:
      experiment: the experiment.
      amplification: the amplification of the run's sampler.
      evaluates: whether the run evaluates models on its clients' test examples.
      reports: whether clients report metrics of training with their updates.
    """
    if experiment.runtime.runtime != "federation":
        return []
    lines = [_EVALUATIONS] if evaluates else []
    privacy, secure = experiment.privacy, experiment.secure_sums.secure_sums
    noised_by_server = (
        isinstance(privacy, UserLevelPrivacy) and privacy.chosen.NOISED_AT == "server"
    )
    if reports and not noised_by_server:
        whom = "of all clients together" if secure else "of each client"
        lines.append(
            "The coordinator of --runtime=federation, in every round: with the noised "
            f"updates, it gets the exact number of examples {whom} and the exact sums "
            "from which training metrics are computed, also of metrics that the run "
            "withholds."
        )
    if not isinstance(privacy, UserLevelPrivacy):
        lines.append(
            "Whoever sees a site's secret (state/secret): the noise for the site's "
            "records, and which records a local step has, follow from it."
        )
        return lines
    mechanism = privacy.chosen
    if mechanism.NOISED_AT == "server":
        seen = "each client's exact update"
        if secure:
            seen = "the exact sum of the updates"
        lines.append(
            f"The coordinator of --runtime=federation: it sees {seen}, and who is in "
            "it, and adds the noise."
        )
    else:
        lines.append(
            "Whoever sees a site's secret (state/secret): the noise of the site's "
            "clients follows from it."
        )
    if amplification.kind != "none" and amplification.sampling_rate < 1:
        also = ", and which other sites do" if secure else ""
        lines.append(
            "The sites, as far as the guarantee rests on sampling: a site knows in "
            f"which rounds it takes part{also}, and gets the model of each round. So "
            "does the coordinator, which draws the cohorts. Against them, only an ε "
            "without amplification by sampling holds."
        )
    return lines

"""Checks that a process was built from the privacy plan that its account charges."""

from __future__ import annotations

from typing import Optional

from tfl_research.errors import UserError
from tfl_research.program.interfaces import Account, Plan
from tfl_research.storage.run_record import plain, plan_differences


def check_plans(account: Optional[Account], process_plan: Optional[Plan]) -> None:
    """Checks that the account's privacy plan is the plan of the process.

    Args:
      account: charges the rounds; None when nothing is charged.
      process_plan: the plan that the process was built from; None for no plan.

    Raises:
      UserError: there is an account, and the process has no plan or another plan.
    """
    if account is None:
        return
    if process_plan is None:
        raise UserError(
            "the account charges for a privacy plan, but the process was built "
            "without that plan; build the process from the account's plan"
        )
    if process_plan == account.plan:
        return
    differences = plan_differences(
        plain("plan", account.plan.record()),
        plain("plan", process_plan.record()),
        "{name} is {recorded} in the account's plan and {requested} in the process' "
        "plan",
    )
    shown = "; ".join(differences) or "the plans have equal records"
    raise UserError(
        f"the process was not built from the account's privacy plan: {shown}; build "
        "the process from the account's plan"
    )

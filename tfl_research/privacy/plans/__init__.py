"""The privacy plan of a run, as one object; no TensorFlow.

A `UserLevelPlan` or `RecordLevelPlan` has mechanism, clip, noise, sampling, δ,
accountant and event. It builds what adds the noise; `privacy.ledger` charges its event.
"""

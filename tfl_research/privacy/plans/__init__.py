"""The privacy plan of a run as one object, without TensorFlow.

A `UserLevelPlan` or `RecordLevelPlan` has mechanism, clip, noise, sampling, δ,
accountant and event. The plan builds the mechanism that adds the noise.
`privacy.ledger` charges the plan's event.
"""

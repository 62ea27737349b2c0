"""What a private run does and is charged for, as one object; no TensorFlow.

`UserLevelPlan` and `RecordLevelPlan` own the mechanism, clip, noise, sampling, δ,
accountant and event together: they build what adds the noise, and the account charges
what they say.
"""

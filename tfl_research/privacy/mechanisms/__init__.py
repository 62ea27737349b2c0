"""TFF aggregators that clip, sum and noise updates, by kind of mechanism.

What their rounds are charged as is in `privacy.accounting.events`.
"""

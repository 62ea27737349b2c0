"""Timing of federated rounds: contenders in processes of their own, taking turns.

The benchmark calls the toolkit like a user. The toolkit does not import it.
"""

"""The durable record of what was spent, accounts that charge it, and statements.

How ε is computed is in `privacy.accounting`.
"""

"""Noise as functions of seeds, with its matrices and tables; no aggregation."""

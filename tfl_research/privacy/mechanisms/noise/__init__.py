"""Noise and the seeds and matrices behind it; no aggregation."""

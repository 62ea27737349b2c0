"""Adds TFF's graphs to the programs that are being traced."""

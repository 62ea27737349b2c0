"""Noise as functions of seeds, with the matrices and tables that the noise needs."""

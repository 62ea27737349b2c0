"""FLARE and Flower: their environments, their jobs, and carrying a federation."""

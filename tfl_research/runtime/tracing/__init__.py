"""Adds the graphs of TFF computations to the program that is being traced."""

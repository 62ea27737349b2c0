"""The programs that are measured, one a framework, as its documentation writes them.

Lines that end in `# measured` are there for the measurement and count for nobody.
"""

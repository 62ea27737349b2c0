"""Prints from when to when certificates are valid.

Runs in an engine's environment, which has `cryptography`:
`python tfl_certificate_dates.py FILE...` prints a line for each PEM file, "BEGIN END"
in seconds since 1970.
"""

import pathlib
import sys

from cryptography import x509


def main(*paths):
    """Prints the lines."""
    for path in paths:
        try:
            found = x509.load_pem_x509_certificate(pathlib.Path(path).read_bytes())
        except OSError as error:
            sys.exit(f"{path}: cannot be read ({error.strerror})")
        except ValueError:
            sys.exit(f"{path}: is damaged; restore it")
        begin, end = found.not_valid_before_utc, found.not_valid_after_utc
        print(int(begin.timestamp()), int(end.timestamp()))


if __name__ == "__main__":
    main(*sys.argv[1:])

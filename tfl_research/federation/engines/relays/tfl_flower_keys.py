"""Makes the certificates and keys of a Flower federation.

Runs in Flower's environment, which has `cryptography`:
`python tfl_flower_keys.py FOLDER HOST SITE...` writes `ca.crt` and `ca.key`, the
server's `server.crt` and `server.key` for HOST and the loopback addresses, and for each
site `SITE.key` and `SITE.pub`, elliptic-curve keys in OpenSSH's form, with which the
site's SuperNode proves who it is. Files that exist are kept.
"""

import datetime
import ipaddress
import os
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_FORMAT = serialization.PrivateFormat
_VALID = datetime.timedelta(days=360)


def main(folder, host, *sites):
    """Writes the missing files."""
    folder = pathlib.Path(folder)
    if not (folder / "ca.crt").exists():
        _certificates(folder, host)
    for site in sites:
        if not (folder / f"{site}.key").exists():
            key = ec.generate_private_key(ec.SECP384R1())
            _write_key(folder / f"{site}.key", key, _FORMAT.OpenSSH)
            public = key.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
            (folder / f"{site}.pub").write_bytes(public + b"\n")


def _certificates(folder, host):
    authority_key = ec.generate_private_key(ec.SECP384R1())
    authority = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, "federation's authority")]
    )
    authority_usage = x509.BasicConstraints(ca=True, path_length=0)
    certificate = _builder(authority, authority, authority_key.public_key())
    certificate = certificate.add_extension(authority_usage, critical=True).sign(
        authority_key, hashes.SHA384()
    )
    server_key = ec.generate_private_key(ec.SECP384R1())
    server = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    names = [x509.DNSName("localhost"), loopback]
    try:
        names.append(x509.IPAddress(ipaddress.ip_address(host)))
    except ValueError:
        names.append(x509.DNSName(host))
    signed = _builder(server, authority, server_key.public_key())
    signed = signed.add_extension(
        x509.SubjectAlternativeName([*dict.fromkeys(names)]), critical=False
    )
    signed = signed.sign(authority_key, hashes.SHA384())
    _write_key(folder / "server.key", server_key, _FORMAT.TraditionalOpenSSL)
    pem = serialization.Encoding.PEM
    (folder / "server.crt").write_bytes(signed.public_bytes(pem))
    _write_key(folder / "ca.key", authority_key, _FORMAT.TraditionalOpenSSL)
    # Last: the file that says that all of them exist.
    (folder / "ca.crt").write_bytes(certificate.public_bytes(pem))


def _builder(subject, issuer, key):
    now = datetime.datetime.now(datetime.timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + _VALID)
    )


def _write_key(path, key, form):
    data = key.private_bytes(
        serialization.Encoding.PEM,
        form,
        serialization.NoEncryption(),
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Addresses, such as s3://bucket/animals?region=eu-west-1, that may be given in place of a path."""

from urllib.parse import urlsplit


def is_address(written: str) -> bool:
    """Whether this is an address, such as s3://bucket/animals, rather than a path."""
    return "://" in written


def address_below(address: str, *names: str) -> str:
    """The address of a file or folder below another address, with the same options after `?`."""
    base, mark, options = address.partition("?")
    return "/".join((base.rstrip("/"), *names)) + mark + options


def holds_a_password(address: str) -> bool:
    """Whether an address contains a password, which files and screens would show."""
    return urlsplit(address).password is not None

"""Addresses, such as s3://bucket/animals?region=eu-west-1: what stands where a path may stand."""

from urllib.parse import urlsplit


def is_address(written: str) -> bool:
    """Whether this is an address, such as s3://bucket/animals, rather than a path."""
    return "://" in written


def address_below(address: str, *names: str) -> str:
    """The address of what lies below another one; what follows its `?` holds for both."""
    index, mark, options = address.partition("?")
    return "/".join((index.rstrip("/"), *names)) + mark + options


def holds_a_password(address: str) -> bool:
    """Whether an address has a secret in it, which would come into files and onto screens."""
    return urlsplit(address).password is not None

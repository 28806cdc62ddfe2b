"""Addresses, such as s3://bucket/animals?region=eu-west-1, that may be given in place of a path."""

import re
from urllib.parse import urlsplit

from spaces.errors import UserError

# user:password@ before the host; the password may hold any character but a slash.
_PASSWORD = re.compile(r"(\w[\w+.-]*://)[^/\s?#]*:[^/\s]*@")
_SECRET_OPTION = re.compile(
    r"([?&][\w.-]*(?:secret|password|passwd|token|credential|signature|access_key|account_key|sas"
    r"|sig|api_?key)[\w.-]*=)[^&\s'\"]+",
    re.IGNORECASE,
)
_UNREADABLE = re.compile(r"[\x00-\x20\x7f]")


def is_address(written: str) -> bool:
    """Whether this is an address, such as s3://bucket/animals, rather than a path."""
    return "://" in written


def address_below(address: str, *names: str) -> str:
    """The address of a file or folder below another address, with the same options after `?`."""
    base, mark, options = address.partition("?")
    return "/".join((base.rstrip("/"), *names)) + mark + options


def holds_a_secret(address: str) -> bool:
    """Whether an address contains a password or a key, which files and screens would show."""
    return _PASSWORD.search(address) is not None or _SECRET_OPTION.search(address) is not None


def without_secrets(text: str) -> str:
    """A text for the screen, with *** in place of the passwords and keys of its addresses."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1***@", text))


def check_address(address: str) -> None:
    """Raise UserError for an address that can't be read, or that holds a secret."""
    if holds_a_secret(address):
        raise UserError(
            f"{without_secrets(address)}: the address holds a key, which files and screens would"
            " show; put keys where this kind of storage looks for them, such as"
            " AWS_SECRET_ACCESS_KEY"
        )
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise UserError(f"{address}: is no address: {error}") from None
    if _UNREADABLE.search(address):
        raise UserError(f"{address!r}: is no address: it holds a space or a control character")
    if not parts.netloc and not parts.path:
        raise UserError(f"{address}: is no address: it names no bucket or folder")

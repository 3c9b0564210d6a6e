"""What the Hub and the network answer, as one sentence; and what is worth asking again."""

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from mimzoo.hub.handle import HF_PREFIX, Handle

T = TypeVar("T")
# Requests in all; seconds before the second one, doubled each time; the longest wait that a server
# may ask for, beyond which its error is reported at once.
ATTEMPTS = 4
WAIT = 1.0
LONGEST_WAIT = 60.0


class Unreachable(ValueError):
    """The network or a server fails, perhaps only for now."""


class NoRepository(ValueError):
    """There is no such repository on the Hub, as far as this user may know."""


class WrongFile(ValueError):
    """A file whose hash is not the listed one."""


def with_retries(request: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Calls `request`, again after an answer of 429 or 5xx, as `Retry-After` asks.

    Raises:
        Exception: what `request` raises at last.
    """
    from huggingface_hub.errors import HTTPError

    for attempt in range(ATTEMPTS):
        try:
            return request(*arguments, **named)
        except HTTPError as error:
            wait = _wait(getattr(error, "response", None), WAIT * 2**attempt)
            if wait is None or attempt == ATTEMPTS - 1:
                raise
            time.sleep(wait)
    raise AssertionError("unreachable")


def _wait(response: Any, at_least: float) -> float | None:
    """Seconds before the next request; None where none is worth it."""
    if response is None or not is_temporary(response.status_code):
        return None
    asked = response.headers.get("Retry-After", "0")
    try:
        seconds = float(asked)
    except ValueError:  # a date
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except ValueError:
            seconds = 0.0
    return max(seconds, at_least) if seconds <= LONGEST_WAIT else None


def is_temporary(status: int) -> bool:
    """Whether an HTTP status may change by itself."""
    return status in (408, 429) or status >= 500


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids every request."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def reason(error: Exception) -> str:
    """A failed request in a few words, without headers, which may hold a token."""
    kind = type(error).__name__
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answers {response.status_code}"
    if "Timeout" in kind:
        return "the server did not answer in time"
    if kind == "RemoteProtocolError":
        return "the connection was cut off"
    return f"the server cannot be reached ({kind})"


def hub_error(error: Exception, handle: Handle) -> ValueError:
    """huggingface_hub's error in one sentence, without headers."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return ValueError(
            f"{handle} is gated: accept its terms at {constants.ENDPOINT}/{handle.repo}, then log "
            "in with `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ValueError(
            f"{HF_PREFIX}{handle.repo} has no revision {handle.revision!r}.{_revisions(handle)}"
        )
    response = getattr(error, "response", None)
    if response is None:
        return Unreachable(f"{handle} cannot be read from the Hub: {reason(error)}.")
    status = response.status_code
    said = response.headers.get("X-Error-Message", "")
    if status == 401 and "Invalid credentials" in said:
        return ValueError(
            f"the Hub refuses the token that was sent for {handle}: log in again with "
            "`hf auth login`, or remove the environment variable HF_TOKEN."
        )
    # Strangers get 401 for a repository that is private and for one that does not exist.
    if status == 401 or isinstance(error, errors.RepositoryNotFoundError):
        return NoRepository(
            f"{HF_PREFIX}{handle.repo} is not on the Hub, or it is private: check the name; a "
            "private one needs `hf auth login`."
        )
    if status == 403:
        return ValueError(
            f"the Hub forbids to read {handle} (403): ask its owner, or log in with "
            "`hf auth login` as somebody who may."
        )
    if is_temporary(status):
        return Unreachable(
            f"{handle} cannot be read from the Hub: it answers {status}. Try again later."
        )
    return ValueError(f"{handle} cannot be read from the Hub: it answers {status}.")


def _revisions(handle: Handle) -> str:
    from huggingface_hub import HfApi

    try:
        refs = HfApi().list_repo_refs(handle.repo)
    except Exception:  # an error of its own would hide the first one
        return ""
    names = [ref.name for ref in (*refs.branches, *refs.tags)]
    return f" It has {', '.join(names[:10])}{', …' if len(names) > 10 else ''}."

"""Licences of weights: what the Hub calls them, and which let us pass the weights on."""

import re
from collections.abc import Iterable
from pathlib import Path

UNKNOWN = "unknown"

# Anybody may pass on changed weights under them, for every use, with licence and source named.
FREE = {
    "afl-3.0",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "bsl-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc0-1.0",
    "isc",
    "mit",
    "unlicense",
}
# Identifiers of the Hub (https://huggingface.co/docs/hub/repositories-licenses) with conditions.
RESTRICTED = {
    "cc-by-nc-2.0",
    "cc-by-nc-3.0",
    "cc-by-nc-4.0",
    "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-4.0",
    "cc-by-nd-4.0",
    "gpl-3.0",
    "lgpl-3.0",
    "agpl-3.0",
    "openrail",
}


class LicenceRefused(ValueError):
    """Weights that may not be passed on, or only with --allow-licence."""


def hub_licence(licence: str) -> dict[str, str]:
    """A licence as the front matter of a model card names it.

    Args:
        licence: such as "CC-BY-NC-4.0", or "unknown".

    Returns:
        "license", an identifier of the Hub; where it has none "other", and "license_name".
    """
    known = licence.lower()
    if known in FREE | RESTRICTED:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", known).strip("-")}


def check_licences(licences: Iterable[str], allowed: Iterable[str] = ()) -> None:
    """Checks whether weights may be passed on.

    Args:
        licences: all that hold for the weights.
        allowed: those that are allowed though they have conditions, or "unknown".

    Raises:
        LicenceRefused: one of them does not let us, and is not allowed.
    """
    accepted = FREE | {name.lower() for name in allowed}
    for licence in dict.fromkeys(licences):
        if licence.lower() in accepted:
            continue
        if licence.lower() == UNKNOWN:
            raise LicenceRefused(
                "no licence of these weights is known, so only their owner may pass them on; "
                "if the owner agrees, --allow-licence unknown."
            )
        if "-nc-" in f"{licence.lower()}-":
            raise LicenceRefused(
                f"{licence} forbids commercial use; if nothing here is commercial, "
                f"--allow-licence {licence}."
            )
        raise LicenceRefused(
            f"{licence} has conditions; read it, and if they are kept, --allow-licence {licence}."
        )


def card_licence(folder: Path) -> str | None:
    """The licence in the front matter of a model card that lies beside the tensors."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    found = re.match(
        r"---\n(.*?\n)---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL
    )
    line = re.search(r"^license:[ \t]*(\S+)", found[1], re.MULTILINE) if found else None
    return line[1] if line else None

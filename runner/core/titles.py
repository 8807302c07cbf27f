"""Titles of items, from the data set that a sweep was run with, for readers of its dialogues."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from agents.core.errors import CrsweepError, DataError
from simulators.core.profiles import WrittenProfiles
from sweeps.load import expanded_part
from sweeps.manifest import Manifest
from sweeps.origins import Origins
from sweeps.schema import PluginRef
from sweeps.sources import make_domain


def titles_of(manifest: Manifest, source_id: str) -> Mapping[str, str]:
    """Item id -> title of the items of a source.

    Raises CrsweepError if the data set cannot be read here, or has changed since the run.
    """
    recorded = next(
        (
            cell.settings["domain"]
            for cell in manifest.cells
            if cell.source_id == source_id and isinstance(cell.settings.get("domain"), dict)
        ),
        None,
    )
    if recorded is None:
        return {}
    source = next(s for s in manifest.sources if s.source_id == source_id)
    # Profiles say nothing of items, so their digest is enough.
    written = WrittenProfiles(source.profiles, {}) if source.profiles else None
    ref = PluginRef.model_validate(expanded_part("domain", recorded))
    domain = make_domain(ref, Origins(), written)
    if domain.fingerprint() != source.fingerprint:
        raise DataError(f"the data set {recorded.get('name')} has changed since the run")
    return {item.id: item.title for item in domain.catalogue.items if item.title}


def all_titles(manifest: Manifest) -> tuple[dict[str, Mapping[str, str]], list[str]]:
    """The titles of each source that can be read, and the reasons for the others."""
    found: dict[str, Mapping[str, str]] = {}
    problems = []
    for source in manifest.sources:
        try:
            found[source.source_id] = titles_of(manifest, source.source_id)
        except (CrsweepError, OSError) as error:
            reason = error.message if isinstance(error, CrsweepError) else str(error)
            problems.append(f"items of {source.domain} are shown by their ids: {reason}")
    return found, problems


class TitlesInBackground:
    """Reads titles in a separate thread, so that large data sets block nothing."""

    def __init__(self, manifest: Manifest) -> None:
        self._found: dict[str, Mapping[str, str]] = {}
        self.reading = threading.Thread(target=self._read, args=(manifest,), daemon=True)
        self.reading.start()

    def __call__(self, source_id: str) -> Mapping[str, str]:
        """The titles known so far."""
        return self._found.get(source_id, {})

    def _read(self, manifest: Manifest) -> None:
        self._found, _ = all_titles(manifest)

"""Options of the backend `sentence_transformers`, and the engine that they ask for."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agents.core.errors import UsageError
from agents.core.plugins import Options, operational
from sweeps.identity import digest
from workers.backends.core import weights
from workers.backends.core.weights import Resolved

MODULES = "modules.json"
"""The file that makes a folder a sentence-transformers model: it lists the steps from text to
vector."""


class SentenceTransformersOptions(Options):
    """Only the weights and the version of the library decide a vector, up to its last bits."""

    model: Annotated[str, Field(min_length=1)]
    """A folder that sentence-transformers saved, or a Hugging Face Hub id."""
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Branch, tag or commit on the Hub. The resolved commit is what counts."""
    device: Literal["auto", "cpu", "cuda"] = operational("auto")
    """`auto`: a GPU where the cluster has one; `cpu` takes none anywhere."""
    gpus_per_replica: float = operational(1.0, ge=0.001, le=1)
    """The share of one GPU, and of its memory, that a replica takes."""
    replicas: int = operational(1, ge=1)
    """Engines that share the texts."""
    max_batch: int = operational(32, ge=1)
    """Texts that one replica encodes at once."""
    start_timeout: float = operational(600.0, gt=0)
    """Seconds for an engine to load."""

    @model_validator(mode="after")
    def _share_is_of_a_gpu(self) -> SentenceTransformersOptions:
        if self.device == "cpu" and "gpus_per_replica" in self.model_fields_set:
            raise ValueError("gpus_per_replica cannot be combined with `device: cpu`")
        return self

    def weights(self) -> Resolved:
        """The weights that `model` and `revision` resolve to. Raises UsageError if there are
        none, or if a folder is not a sentence-transformers model."""
        return weights.resolve(self.model, self.revision, file=MODULES)

    def identity(self) -> dict[str, Any]:
        """The weights, in place of `model` and `revision`."""
        return {"weights": self.weights().identity()}

    def engine_key(self) -> str:
        """Digest of all that decides the engine. Models with one key share its replicas."""
        return digest(
            {
                "sentence_transformers": self.weights().identity(),
                "device": self.device,
                "gpus": self.gpus,
                "max_batch": self.max_batch,
            }
        )

    @property
    def gpus(self) -> float:
        """GPUs that one replica takes."""
        return 0.0 if self.device == "cpu" else self.gpus_per_replica


@cache
def installed_version() -> str | None:
    """The version of the library, without importing it; None if it is not installed."""
    try:
        return metadata.version("sentence-transformers")
    except metadata.PackageNotFoundError:
        return None


def check_installed(label: str) -> None:
    """Raises UsageError if the library is not installed here."""
    if installed_version() is None:
        raise UsageError(
            f"model {label!r} needs the package sentence-transformers, which is not installed; it "
            "comes with the extra crsweep[sentence-transformers]"
        )

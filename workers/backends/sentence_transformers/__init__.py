"""The backend `sentence_transformers`: embeddings by any model of that library."""

from workers.backends.sentence_transformers.backend import SentenceTransformersBackend

__all__ = ["SentenceTransformersBackend"]

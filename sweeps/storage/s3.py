"""The folder of a sweep on an S3-compatible object store.

Parts are put as complete, immutable objects through pyarrow's file system. The lease, which must be
read and replaced atomically, goes through boto3, which has the conditional put: `If-None-Match` for
the first, `If-Match: <etag>` for every later one. Credentials, region and endpoint come from the
environment, as for all AWS tools (`AWS_ENDPOINT_URL`, ...), and are never written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from agents.core.errors import UsageError

if TYPE_CHECKING:
    import pyarrow.dataset as ds
    import pyarrow.fs as fs

_TRIES = 10  # of a conditional put that others come before; a driver and its rivals, not a crowd


class S3Folder:
    """A prefix of an existing bucket."""

    def __init__(self, bucket: str, prefix: str, logs: Path) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.logs = logs

    @classmethod
    def at(cls, rest: str) -> S3Folder:
        """The folder of `bucket/prefix`. Raises UsageError if either is missing or invalid."""
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        odd = {"", ".", ".."} & set(prefix.split("/"))
        if odd or not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
            raise UsageError(f"expected s3://bucket/prefix, found s3://{rest}")
        return cls(bucket, prefix, Path.cwd() / "logs" / bucket / prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def __getstate__(self) -> dict[str, Any]:
        # Clients stay in their process: they hold connections, and credentials.
        return {"bucket": self.bucket, "prefix": self.prefix, "logs": self.logs}

    @property
    def local(self) -> Path:
        return self.logs

    def absolute(self) -> S3Folder:
        return self

    def names(self, table: str = "") -> list[str]:
        from pyarrow import fs

        path = self._path(table).rstrip("/")
        found = self._files.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return sorted(i.base_name for i in found if not i.base_name.startswith("."))

    def open(self, name: str) -> pa.NativeFile:
        return self._files.open_input_file(self._path(name))

    def size(self, name: str) -> int:
        return self._files.get_file_info(self._path(name)).size

    @contextmanager
    def writing(self, name: str) -> Iterator[pa.BufferOutputStream]:
        # Buffered in memory, because a stream that ends early would put half an object.
        sink = pa.BufferOutputStream()
        yield sink
        with self._files.open_output_stream(self._path(name)) as stream:
            stream.write(sink.getvalue())

    def update(self, name: str, change: Callable[[bytes | None], bytes | None]) -> None:
        for _ in range(_TRIES):
            content, etag = self._content(name)
            new = change(content)
            if new is None or self._put(name, new, etag):
                return
        raise OSError(f"{self}/{name} was changed by others {_TRIES} times while it was replaced")

    @contextmanager
    def guarded(self, name: str, check: Callable[[bytes | None], None]) -> Iterator[None]:
        check(self._content(name)[0])
        yield

    def delete(self, name: str) -> None:
        try:
            self._files.delete_file(self._path(name))
        except FileNotFoundError:
            return

    def rename(self, name: str, to: str) -> None:
        self._files.move(self._path(name), self._path(to))

    def remove_leftovers(self, tables: Iterable[str]) -> int:
        """Does nothing: an incompletely put object does not exist."""
        return 0

    def room(self) -> str:
        try:
            with self._errors(""):
                self._client.head_bucket(Bucket=self.bucket)
        except OSError as error:
            raise UsageError(f"{self} cannot be written: {error}") from None
        return "an object store"

    def dataset(self, names: Sequence[str], schema: pa.Schema) -> ds.Dataset:
        """Parts as one table, from which only what a query asks for is fetched."""
        from pyarrow import dataset

        paths = [self._path(name) for name in names]
        return dataset.dataset(paths, schema=schema, format="parquet", filesystem=self._files)

    def _path(self, name: str) -> str:
        return f"{self.bucket}/{self.prefix}/{name}"

    def _content(self, name: str) -> tuple[bytes | None, str | None]:
        """The content and etag of an object; None for both if it is missing."""
        client = self._client
        with self._errors(name):
            try:
                found = client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")
            except client.exceptions.NoSuchKey:
                return None, None
            return found["Body"].read(), found["ETag"]

    def _put(self, name: str, content: bytes, etag: str | None) -> bool:
        """Puts an object if it still has this etag. Returns whether it did."""
        client = self._client
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with self._errors(name):
            try:
                client.put_object(
                    Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=content, **condition
                )
            except client.exceptions.ClientError as error:
                # Gone, being changed, or changed.
                if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (404, 409, 412):
                    raise
                return False
            return True

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        """Turns boto3's errors into the OSError that every folder raises."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise OSError(f"{self}/{name}: {error}") from error

    @cached_property
    def _files(self) -> fs.S3FileSystem:
        from pyarrow import fs

        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        scheme, separator, host = (endpoint or "").rpartition("://")
        where = {"endpoint_override": host} if endpoint else {}
        if separator:
            where["scheme"] = scheme
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            where["region"] = region
        return fs.S3FileSystem(**where)

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
        except ImportError:
            raise UsageError(
                f"{self} needs the libraries for object stores: pip install -e '.[s3]'"
            ) from None
        return boto3.client("s3")

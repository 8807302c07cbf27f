"""A sweep folder in DuckDB.

The views: `episodes` (one row for each episode of the plan: its earliest `done`
attempt, else its latest failed one; axes as columns), `turns` and `calls` (of all attempts; join on
attempt_id), `judgements` (of the plan's judges and of people, on dialogues in `episodes`), `cases`,
`cells`, `curves` (what was measured in trainings), and `attempts` (every row of episodes that was
ever committed). The macro `best_place(items, wanted)` finds targets in lists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa

from agents.core.errors import StoreError, UsageError, near
from analysis import sandbox, sql
from sweeps import manifest as manifests
from sweeps.judges import PairChoice, opponents
from sweeps.manifest import Manifest
from sweeps.storage import parts
from sweeps.storage.folder import Folder, LocalFolder, folder_at
from sweeps.storage.records import SCHEMA_VERSION, SCHEMAS
from sweeps.storage.s3 import S3Folder

T = TypeVar("T")

# Table -> the view of all its rows.
_VIEWS = {
    "episodes": "attempts",
    "turns": "turns",
    "calls": "calls",
    "judgements": "all_judgements",
    "curves": "all_curves",
    "rollouts": "rollouts",
}


class Results:
    """The results in one sweep folder, as of now."""

    def __init__(self, folder: Folder, manifest: Manifest, *, plan_only: bool = False) -> None:
        """With `plan_only`, no part is looked at: there are the plan's tables and its cases."""
        self.folder = folder
        self.manifest = manifest
        self.axes = list(dict.fromkeys(axis for cell in manifest.cells for axis in cell.axes))
        self.db = duckdb.connect()
        # It would draw into standard output, CSV included, once a query takes two seconds.
        self.db.execute("SET enable_progress_bar = false")
        # Names in a query are names of views, not of variables of this program.
        self.db.execute("SET python_enable_replacements = false")
        self.db.execute("SET TimeZone = 'UTC'")  # as times are stored, whatever this machine's is
        # What does not fit into memory would go into the current folder.
        self.db.execute("SET temp_directory = ?", [tempfile.gettempdir()])
        self._make_plan_tables()
        cases = [f"cases/{manifest.cases_file}"] if manifest.cases_file else []
        self._make_view("all_cases", "cases", cases)
        self.db.execute(
            "CREATE VIEW cases AS SELECT c.* FROM all_cases c JOIN plan_sources p "
            "ON p.source_id = c.source_id AND c.position < p.sample"
        )
        self._files: dict[str, list[str]] = {}
        if not plan_only:
            self._list_files()
        self.db.execute(sql.read("best_place"))

    @classmethod
    def open(cls, where: str | Path | Folder) -> Results:
        """Reads the manifest and the lists of files. Raises UsageError if it is not a sweep's
        folder."""
        folder, manifest = sweep_at(where)
        try:
            return cls(folder, manifest)
        except duckdb.Error as error:
            _name_damage(folder, error)
            reason = str(error).splitlines()[0]
            raise StoreError(f"{folder} cannot be read: {reason}") from None

    def select(
        self, text: str, *, as_json: bool = False
    ) -> tuple[list[str], list[tuple[str | None, ...]]]:
        """The names and rows of a query that a user typed; UsageError if it does not only read.

        Values are in DuckDB's own words, or JSON: Python has no intervals of months, no dates
        before year 1, and needs another package for times with a zone. NULL is None.
        """
        self.check_select(text)
        one = _without_semicolon(text)

        def answer() -> tuple[list[str], list[tuple[str | None, ...]]]:
            found = self.db.sql(one)
            columns = [f"c{number}" for number in range(len(found.columns))]
            value = "to_json({})::VARCHAR" if as_json else "{}::VARCHAR"
            values = ", ".join(map(value.format, columns))
            as_text = f"SELECT {values} FROM answer AS a({', '.join(columns)})"
            return found.columns, found.query("answer", as_text).fetchall()  # type: ignore[union-attr]

        return self._retried(answer)

    def check_select(self, text: str) -> None:
        """Raises UsageError unless `text` is a single statement that only reads."""
        sandbox.check_select(self.db, text)

    def confine(self, memory: str) -> None:
        """Restricts a query that a user typed: no files outside the folder, at most `memory`."""
        sandbox.confine(self.db, self.folder, memory)

    def query(self, text: str, parameters: Any = None) -> duckdb.DuckDBPyConnection:
        """Runs SQL. Raises UsageError with DuckDB's message if it is wrong, StoreError for damaged
        parts."""
        return self._retried(lambda: self.db.execute(text, parameters))

    def arrow(self, text: str) -> pa.Table:
        """The rows of a query, with the errors of `query`."""
        return self._retried(lambda: self.db.sql(text).to_arrow_table())

    def stream(self, text: str, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query, at most `rows` in memory at once.

        StoreError if a driver compacts the folder meanwhile: what was given cannot be taken back.
        """
        try:
            yield from self.db.sql(text).to_arrow_reader(rows)
        except duckdb.Error as error:
            if self._compacted_meanwhile():
                raise StoreError(f"{self.folder} was compacted meanwhile; try again") from None
            _name_damage(self.folder, error)
            raise UsageError(f"SQL: {error}") from None

    def _retried(self, ask: Callable[[], T]) -> T:
        """What `ask` gives, with the errors of `query`.

        A driver may compact the folder meanwhile: where listed parts are gone, they are listed
        again, and the query runs again over the same rows in other files.
        """
        while True:
            try:
                return ask()
            except duckdb.Error as error:
                if not self._compacted_meanwhile():
                    _name_damage(self.folder, error)
                    raise UsageError(f"SQL: {error}") from None
                self._list_files()

    @contextmanager
    def joins_as_written(self) -> Iterator[None]:
        """DuckDB joins in the order of the SQL, and holds the right side of each in memory.

        For queries that name the larger side first. The order that DuckDB would choose rests on
        guesses at the rows of Parquet files; a wrong one held a million episodes, or all turns
        with their lists, where the cases of the plan would have done.
        """
        self.db.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        try:
            yield
        finally:
            self.db.execute("RESET disabled_optimizers")

    @staticmethod
    def column(axis: str) -> str:
        """The column of `axis` in `episodes`; `axis.success` where the name is taken."""
        return f"axis.{axis}" if axis in SCHEMAS["episodes"].names else axis

    @property
    def varying_axes(self) -> list[str]:
        """The axes with several values among the cells."""
        cells = self.manifest.cells
        return [axis for axis in self.axes if len({c.axes.get(axis) for c in cells}) > 1]

    @property
    def planned(self) -> dict[str, int]:
        """Cell id -> episodes of the plan."""
        samples = {source.source_id: source.sample for source in self.manifest.sources}
        return {c.cell_id: len(c.seeds) * samples[c.source_id] for c in self.manifest.cells}

    def _list_files(self) -> None:
        """Makes the views over the parts that count now."""
        while True:
            self._files = {table: parts.live(self.folder, table) for table in _VIEWS}
            try:
                for table, view in _VIEWS.items():
                    self._make_view(view, table, self._files[table])
                self._make_episodes()
                return
            except (duckdb.Error, FileNotFoundError):
                if not self._compacted_meanwhile():
                    raise

    def _compacted_meanwhile(self) -> bool:
        """Whether parts that were listed are gone."""
        return any(
            not {f"{table}/{name}" for name in self.folder.names(table)}.issuperset(names)
            for table, names in self._files.items()
        )

    def _make_view(self, view: str, table: str, files: list[str]) -> None:
        if not files:
            self.db.register(f"no_{view}", SCHEMAS[table].empty_table())
            source = f"no_{view}"
        elif isinstance(self.folder, LocalFolder):
            paths = ", ".join(
                "'" + sandbox.pattern_of(self.folder.path / f).replace("'", "''") + "'"
                for f in files
            )
            # A folder named `seed=3` is not a partition: it would replace the column `seed`.
            # Parts of older versions lack columns; to look for them opens every file.
            mixed = self.manifest.oldest_parts < SCHEMA_VERSION
            for name in files if mixed else ():
                parts.footer_of(self.folder, name)  # DuckDB could now read anything
            source = f"read_parquet([{paths}], hive_partitioning = false, union_by_name = {mixed})"
            if mixed:  # a column that all parts lack reads as null too
                self.db.register(f"no_{view}", SCHEMAS[table].empty_table())
                source += f" UNION ALL BY NAME SELECT * FROM no_{view}"
        else:
            assert isinstance(self.folder, S3Folder)
            self.db.register(f"stored_{view}", self.folder.dataset(files, SCHEMAS[table]))
            source = f"stored_{view}"
        self.db.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {source}")

    def _make_plan_tables(self) -> None:
        """`cells` and `repetitions`: what the plan asks for, whatever else is in the folder."""
        cells, judges, made = (
            self.manifest.cells,
            self.manifest.judges,
            self.manifest.artifacts,
        )
        columns: dict[str, Any] = {
            "cell": pa.array(range(len(cells)), pa.int32()),
            "cell_id": [c.cell_id for c in cells],
            "source_id": [c.source_id for c in cells],
            "fixed_sentences": pa.array([c.fixed_sentences for c in cells], pa.bool_()),
        }
        for axis in self.axes:
            columns[axis] = pa.array([c.axes.get(axis) for c in cells], pa.string())
        sources = self.manifest.sources
        number = {s.source_id: index for index, s in enumerate(sources)}
        repetitions = [(number[c.source_id], c.cell_id, *seeds) for c in cells for seeds in c.seeds]
        names = ("source", "cell_id", "seed", "seed_training", "seed_order")
        by_column = [list(column) for column in zip(*repetitions, strict=True)] or [[]] * 5
        for name, table in {
            "plan_cells": pa.table(columns),
            "plan_repetitions": pa.table(
                {
                    "repetition": pa.array(range(len(repetitions)), pa.int32()),
                    **dict(zip(names, by_column, strict=True)),
                }
            ),
            "plan_sources": pa.table(
                {
                    "source": pa.array(range(len(sources)), pa.int32()),
                    "source_id": [s.source_id for s in sources],
                    "sample": [s.sample for s in sources],
                    "dataset": pa.array([s.dataset or s.domain for s in sources], pa.string()),
                }
            ),
            "plan_judges": pa.table(
                {
                    "title": pa.array([j.title for j in judges], pa.string()),
                    "name": pa.array([j.name for j in judges], pa.string()),
                    "judge_digest": pa.array([j.digest for j in judges], pa.string()),
                    "samples": pa.array([j.samples for j in judges], pa.int32()),
                }
            ),
            "plan_pairs": self._pairs_of_cells(),
            "plan_artifacts": pa.table(
                {
                    "artifact_key": pa.array([a.key for a in made], pa.string()),
                    "artifact": pa.array([a.name or a.title for a in made], pa.string()),
                    "seed": pa.array([a.seed for a in made], pa.int64()),
                }
            ),
        }.items():
            self.db.register(f"given_{name}", table)
            self.db.execute(f"CREATE TABLE {name} AS SELECT * FROM given_{name}")
        self.db.execute("CREATE VIEW cells AS SELECT * FROM plan_cells")

    def _pairs_of_cells(self) -> pa.Table:
        """A row for each two cells that a judge of the plan compares."""
        axes = [cell.axes for cell in self.manifest.cells]
        rows = [
            (judge.title, cell, other)
            for judge in self.manifest.judges
            if judge.pairs is not None
            for cell, others in opponents(PairChoice(**judge.pairs.model_dump()), axes).items()
            for other in others
        ]
        return pa.table(
            {
                "title": pa.array([row[0] for row in rows], pa.string()),
                "cell": pa.array([row[1] for row in rows], pa.int32()),
                "other": pa.array([row[2] for row in rows], pa.int32()),
            }
        )

    def _repeated(self) -> np.ndarray:
        """Hashes of the ids of episodes that have several attempts.

        Two episodes with one hash cost time and change nothing. Sorting numbers takes half the
        time of grouping them in SQL, and less memory.
        """
        hashes = self.db.execute("SELECT hash(episode_id) AS hashed FROM attempts").fetchnumpy()
        hashed = np.sort(hashes["hashed"])
        return np.unique(hashed[1:][hashed[1:] == hashed[:-1]])

    def _make_episodes(self) -> None:
        self.db.register("repeated", pa.table({"hashed": self._repeated()}))
        self.db.execute(f"CREATE OR REPLACE TABLE superseded AS {sql.read('superseded')}")
        some = self.db.execute("SELECT 1 FROM superseded LIMIT 1").fetchone()
        # Without second attempts, as in most sweeps, attempt_id need not be read.
        superseded = "ANTI JOIN superseded USING (attempt_id)" if some else ""
        axes = "".join(
            f", c.{sql_name(axis)} AS {sql_name(self.column(axis))}" for axis in self.axes
        )
        self.db.execute(
            "CREATE OR REPLACE VIEW episodes AS "
            + sql.read("episodes").format(axes=axes, superseded=superseded)
        )
        for view in ("judgements", "curves"):
            self.db.execute(f"CREATE OR REPLACE VIEW {view} AS {sql.read(view)}")


def sweep_at(where: str | Path | Folder) -> tuple[Folder, Manifest]:
    """The output folder of a sweep, and its manifest. Raises UsageError if it is not a sweep's
    folder."""
    folder = folder_at(where)
    manifest = manifests.read(folder)
    if manifest is None:
        path = folder.path if isinstance(folder, LocalFolder) else None
        if path is not None and path.is_file():
            raise UsageError(f"expected the output folder of a sweep, found the file {folder}")
        if path is not None and not path.exists():
            siblings = [p.name for p in path.parent.glob("*/")]
            raise UsageError(f"there is no folder {folder}{near(path.name, siblings)}")
        raise UsageError(f"{folder} contains no sweep (there is no {manifests.FILE} in it)")
    return folder, manifest


def _without_semicolon(text: str) -> str:
    """One statement without the semicolon that ends it, and what follows that: comments."""
    encoded = text.encode()
    for place, kind in duckdb.tokenize(text):
        if kind == duckdb.token_type.operator and encoded[place : place + 1] == b";":
            return encoded[:place].decode()
    return text


def _name_damage(folder: Folder, error: duckdb.Error) -> None:
    """Raises a StoreError that names the part to blame for a failed query, if there is one."""
    # Errors of the query have nothing to do with what pages hold.
    of_query = (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ConversionException,
        duckdb.OutOfRangeException,
        duckdb.OutOfMemoryException,
        duckdb.InterruptException,
    )
    for table in ("cases", *_VIEWS):
        parts.check(folder, table, pages=not isinstance(error, of_query))


def sql_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'

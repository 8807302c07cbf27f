"""No completed call is paid for twice: the model server's own log is the witness."""

import shutil
import sys
import time

import pytest

from sweeps.load import cache_of, load
from tests.chaos.storm import WAY_SECONDS
from tests.runner.processes import below, copy_run, end_of, run_for_several, wait_for
from tests.runner.reading import log, outcomes, prompts, raw, requests, words
from tests.sweep_files import write_sweep
from workers.cache import journal, segments

MODEL = {"backend": "latency", "latency_ms": 10, "invalid_rate": 0.3}
GRID = {"agent": ["zero_shot", {"name": "react", "max_thoughts": 2}], "seed": [0, 1]}
EPISODES = 2 * 2 * 6


def sweep(folder, *, cache=None, model=None, **changes):
    folder.mkdir(exist_ok=True)
    given = {
        "models": {"m": {**MODEL, **(model or {})}},
        "roles": {"user": "m", "agent": "m"},
        "grid": GRID,
        "cases": {"sample": 6},
        "cache": cache or {"path": str(folder.parent / "shared")},
        **changes,
    }
    return write_sweep(folder, **given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, fork_server):
    """A run that nothing has disturbed, with its cache in `shared`. Not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, folder / "a" / "out", run_for_several(fork_server, sweep(folder / "a"))


@pytest.fixture
def ran(whole, tmp_path):
    """A copy of it, as if it had taken place in `tmp_path`."""
    there, _, _ = whole
    shutil.copytree(there / "shared", tmp_path / "shared")
    return sweep(tmp_path / "a"), copy_run(there, tmp_path, "a/out")


def results(out):
    return outcomes(out), words(out), prompts(out)


def test_equal_calls_are_paid_once_and_the_users_opening_once_for_all_agents(whole):
    _, out, said = whole
    assert set(requests(out).values()) == {1}
    openings = [line for line in log(out) if (line["step"], line["reask"]) == ("open", 0)]
    assert len(openings) == 6 * 2  # users and seeds
    calls = raw(out, "calls")
    assert len(calls[(calls.step == "open") & (calls.reask == 0)]) == EPISODES
    assert (~calls.cached).sum() == len(log(out))
    assert f"{len(calls):,} calls ({calls.cached.sum():,} from the cache)" in said


def test_a_folder_with_journals_resumes_after_its_manifest_was_deleted(ran, crsweep):
    path, out = ran
    assert (out / journal.FOLDER).is_dir()
    (out / "manifest.json").unlink()
    assert "nothing to do" in crsweep("run", path).stdout


def test_another_sweep_pays_only_for_what_is_new_and_comes_to_the_same_end(ran, tmp_path, crsweep):
    shared = tmp_path / "shared"
    assert sum(health.entries for health in segments.verify(shared)) == len(
        requests(tmp_path / "a" / "out")
    )
    files = segments.paths(shared)
    crsweep("run", sweep(tmp_path / "b", name="b.yaml", cache={"path": str(shared), "owners": 3}))
    assert not log(tmp_path / "b" / "out")
    assert raw(tmp_path / "b" / "out", "calls").cached.all()
    crsweep("run", sweep(tmp_path / "c", cache={"path": str(shared), "mode": "read"},
                         cases={"sample": 7}))  # fmt: skip
    new = {line["scope"] for line in log(tmp_path / "c" / "out")}
    assert len(new) == 1
    assert segments.paths(shared) == files
    said = crsweep("run", sweep(tmp_path / "d", cache="off")).stdout
    shared = raw(tmp_path / "d" / "out", "calls").cached.sum()  # equal calls, asked at once
    assert f"({shared} of them shared with equal calls or replayed from the sweep's" in said
    assert "from the cache" not in said
    assert requests(tmp_path / "d" / "out") == requests(tmp_path / "a" / "out")
    found = [results(tmp_path / name / "out") for name in "abd"]
    assert found[0] == found[1] == found[2]
    assert not any(journal.files(tmp_path / name / "out") for name in "abcd")


@pytest.mark.parametrize("mode", ["readwrite", "off"])
def test_after_sigkill_of_the_driver_only_calls_in_flight_are_paid_again(
    tmp_path, crsweep, mode, start, whole
):
    cache = {"path": str(tmp_path / f"shared-{mode}"), "mode": mode}
    slow = {"latency_ms": 300}  # or it might be through before it is killed
    path, out = sweep(tmp_path / "killed", cache=cache, model=slow), tmp_path / "killed" / "out"
    process = start(path)
    wait_for(lambda: requests(out).total() >= 40, process, "calls")
    process.kill()
    process.wait()
    asked = requests(out)
    kept = {key for file in journal.files(out) for key, _ in journal.read(file)}
    assert set(asked.values()) == {1}
    status = crsweep("status", out).stdout
    assert "call cache: 1 journal of this sweep, 0." in status
    crsweep("run", path, "models.m.latency_ms=10")
    again = sum(requests(out).values()) - len(requests(out))
    assert again == len(asked) - len(kept) <= 4  # dialogues at once
    assert requests(out).keys() == requests(whole[1]).keys()
    assert results(out) == results(whole[1])
    assert not journal.files(out)
    assert len(segments.paths(tmp_path / f"shared-{mode}")) == (mode == "readwrite")


@pytest.mark.ray
def test_a_cache_that_is_killed_comes_back_and_nothing_is_paid_twice(tmp_path, crsweep, start):
    run = {"executor": "ray", "concurrency": 24, "episode_workers": 3}
    path = sweep(tmp_path / "a", run=run, model={"latency_ms": 300})
    out = tmp_path / "a" / "out"
    process = start(path)
    (actor,) = wait_for(lambda: below(process, "CacheActor"), process, "the cache's owner")
    wait_for(lambda: requests(out).total() >= 60, process, "calls")
    actor.kill()
    killed = time.time()
    text = end_of(process)
    assert process.returncode == 0, text
    episodes = raw(out, "episodes")
    assert len(episodes) == episodes.episode_id.nunique() == EPISODES
    assert "infrastructure" not in set(episodes.blame)
    first = {}
    for line in log(out):
        before = first.setdefault(line["request"], line)
        in_the_air = before["arrived"] < killed < before["answered"] + WAY_SECONDS
        assert before is line or in_the_air, (before, killed)
    assert max(line["answered"] for line in log(out)) > killed
    assert not journal.files(out)
    entries = sum(health.entries for health in segments.verify(tmp_path / "shared"))
    assert entries == len(requests(out))


def test_prune_and_verify_look_after_the_shared_cache(ran, tmp_path, crsweep):
    shared = tmp_path / "shared"
    count = len(requests(tmp_path / "a" / "out"))
    whole = crsweep("cache", "verify", "--path", shared).stdout
    assert f"{shared}: {count:,} calls read in 1 file, all intact" in whole
    assert f"shared in {shared}: 1 file," in crsweep("status", tmp_path / "a" / "out").stdout
    kept = crsweep("cache", "prune", "--keep", "30d", "--path", shared).stdout
    assert f"{shared}: 0 calls dropped, 0.0 MiB freed; now 1 file," in kept
    (path,) = segments.paths(shared)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    (shared / "0.segment").write_text("nonsense")
    ill = crsweep("cache", "verify", "--path", shared, check=3).stdout
    assert f"{path}: 1 of {count:,} calls are damaged" in ill
    assert f"{shared / '0.segment'}: file is not a database" in ill
    assert "2 files damaged" in ill
    said = crsweep("run", sweep(tmp_path / "b")).stdout
    program = f"{sys.executable} -m runner"
    assert (
        "paid for again, because the call cache is damaged: 1 call; "
        f"`{program} cache verify --path {shared}` names the files\n"
    ) in said
    assert (
        "partly unreadable: 1 file of the call cache, whose lost calls are paid for again: "
        f"{shared / '0.segment'}\n"
    ) in said
    assert sum(requests(tmp_path / "b" / "out").values()) == 1  # the damaged one
    assert results(tmp_path / "a" / "out") == results(tmp_path / "b" / "out")
    gone = crsweep("cache", "prune", "--keep", "0h", "--path", shared).stdout
    assert "now 1 file," in gone  # what cannot be read is left to a person
    assert crsweep("cache", "verify", "--path", shared, check=3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("prune", "--keep", "30"), "--keep 30: expected a number of hours, days or weeks"),
        (("prune", "--keep", "9" * 400 + "d"), "expected a number of hours, days or weeks"),
        (("prune", "--keep", "-3d"), "--keep -3d: expected"),
        (
            ("prune", "--keep", "1d", "--path", "/missing/at/all"),
            "/missing/at/all: expected the folder of a call cache, found nothing",
        ),
        (
            ("verify", "--path", __file__),
            f"{__file__}: expected the folder of a call cache, found a file",
        ),
    ],
)
def test_a_mistake_is_one_clear_line(crsweep, words, message):
    refused = crsweep("cache", *words, check=2)
    assert message in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_used_is_refused_before_anything_starts(tmp_path, crsweep):
    (tmp_path / "file").touch()
    for place, message in [
        (tmp_path / "file", "cache.path: expected a folder, found the file"),
        (tmp_path / "file" / "below", "below cannot be written: Not a directory"),
        ("/proc/nothing", "/proc/nothing cannot be written"),
    ]:
        path = sweep(tmp_path / "a", cache={"path": str(place)})
        refused = crsweep("run", path, check=2).stderr
        assert message in refused
        assert refused.startswith(f"error: {path}:")
        assert refused.count("\n") == 1
        assert not (tmp_path / "a" / "out").exists()
        doctor = crsweep("doctor", path, check=2).stdout
        (line,) = [line for line in doctor.splitlines() if line.startswith("FAIL")]
        assert message in line
    whole = sweep(tmp_path / "a", cache={"path": str(tmp_path / "new")})
    assert f"ok    call cache: {tmp_path / 'new'}" in crsweep("doctor", whole).stdout
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("key", ["cache", "artifacts"])
def test_a_uri_is_no_folder_that_sweeps_share(tmp_path, crsweep, key):
    path = sweep(tmp_path / "a", **{key: {"path": "s3://bucket/calls"}})
    for command in ("plan", "run", "doctor"):
        refused = crsweep(command, path, check=2).stderr
        message = "expected a folder of a local or shared file system, found s3://bucket/calls"
        assert refused.endswith(f": {key}.path: {message}\n")
        assert refused.count("\n") == 1


def test_strict_is_refused_if_the_server_is_unknown(tmp_path, crsweep):
    for command in ("plan", "run"):
        path = sweep(tmp_path / "a", cache={"match": "strict"})
        refused = crsweep(command, path, check=2).stderr
        assert "cache.match: strict needs to know what serves" in refused
        assert "'m'" in refused
        assert not (tmp_path / "a" / "out").exists()
    crsweep("plan", write_sweep(tmp_path, cache={"match": "strict"}))  # rules are never cached


def test_yamls_off_is_a_mode(tmp_path, crsweep):
    path = sweep(tmp_path / "a", cases={"sample": 1}, grid={"agent": ["zero_shot"]})
    lines = [line for line in path.read_text().splitlines() if "shared" not in line]
    without = [line for line in lines if line != "cache:"]
    for cache in ("cache: {mode: off}", 'cache: {mode: "off"}', "cache: off"):
        path.write_text("\n".join([*without, cache]))
        assert cache_of(load(path, []).recorded).mode == "off"
    crsweep("run", path)
    assert not (tmp_path / "shared").exists()
    assert "none is shared" in crsweep("status", tmp_path / "a" / "out").stdout

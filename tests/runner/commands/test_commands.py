"""The reading commands, a real model server, and a worker that dies."""

import gzip
import json
import random
import subprocess
import sys

import pytest

from tests.fixtures_reviews import rows, write_amazon, write_gz
from tests.runner.driver.test_run import committed
from tests.runner.processes import below, end_of, wait_for
from tests.runner.reading import outcomes, raw
from tests.sweep_files import BASE, write_sweep
from workers.backends.core.replies import random_reply


def test_help_names_every_command(crsweep):
    text = crsweep("--help").stdout
    for command in (
        "plan",
        "run",
        "render",
        "play",
        "status",
        "table",
        "compare",
        "power",
        "plot",
        "report",
        "sql",
        "cache",
        "doctor",
        "schema",
    ):
        assert f" {command} " in text


def test_help_imports_nothing_heavy():
    code = (
        "import sys, runner.cli.main; heavy = {'ray', 'duckdb', 'pyarrow', 'pydantic', 'numpy', "
        "'openai', 'omegaconf', 'jinja2'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_with_nothing_left_imports_neither_ray_nor_what_only_statistics_need(ran):
    code = (
        "import sys, runner.cli.main as cli\n"
        "try: cli.main(['run', sys.argv[1]])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'ray', 'scipy', 'matplotlib', 'torch', 'sklearn', 'statsmodels'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(ran.path)], check=True)


def test_plan_shows_cells_episodes_and_cost_and_writes_nothing(tmp_path, crsweep):
    path = write_sweep(tmp_path)
    text = crsweep("plan", path).stdout
    assert "4 cells, 32 episodes: 0 done, 32 to run" in text
    assert "calls" in text
    data = json.loads(crsweep("plan", path, "--json").stdout)
    assert (data["episodes"], data["left"], len(data["cells"])) == (32, 32, 4)
    assert data["estimate"]["calls"] >= 32 * 5
    assert not (tmp_path / "out").exists()


def test_plan_doctor_and_run_tell_of_the_data(tmp_path, crsweep):
    folder = write_amazon(tmp_path / "beauty")
    path = folder / "reviews_Beauty_5.json.gz"
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    write_gz(path, [*lines, "[nonsense]"])
    domain = {"name": "amazon", "path": str(folder)}
    sweep = write_sweep(tmp_path, domain=domain, cases={"sample": 2}, grid={"agent": ["zero_shot"]},
                        roles={"user": "strong", "agent": "strong"})  # fmt: skip
    liked = sum(row.rating >= 3 for row in rows())
    ours = f"30 users, 40 items, {liked} interactions ({liked / 30:.1f} per user)"
    published = "15,576 users, 8,678 items, 139,318 interactions (8.9 per user)"
    remark = (
        "1 of 841 lines of reviews_Beauty_5.json.gz are malformed and left out, the first in line "
        "841: found '[nonsense]', expected a JSON object"
    )
    compared = f"{ours}; AF-IRS, Table 1 (min_rating 3, k_core 10) has {published}"
    plan, doctor = crsweep("plan", sweep).stdout, crsweep("doctor", sweep).stdout
    assert f"amazon: {compared}\namazon: {remark}" in plan
    assert f"ok    domain amazon: {compared}; {remark}" in doctor
    assert f"amazon: {remark}" in crsweep("run", sweep).stdout
    write_gz(path, ["[nonsense]"])
    refused = crsweep("plan", sweep, check=2)
    assert "max_bad_lines" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_render_prints_each_step_once(tmp_path, crsweep):
    text = crsweep("render", write_sweep(tmp_path)).stdout
    for step in ("user · open", "agent · decide", "agent · recommend", "agent · think"):
        assert text.count(step) >= 1, step
    assert "You are a user talking with a game recommender" in text
    assert not (tmp_path / "out").exists()


def test_doctor_checks_and_fails_with_exit_code_2(tmp_path, crsweep):
    path = write_sweep(tmp_path)
    well = crsweep("doctor", path)
    assert "FAIL" not in well.stdout
    models = {"strong": {"backend": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    broken = write_sweep(
        tmp_path, models=models, grid={"agent": ["zero_shot"]}, roles={"user": "strong",
        "agent": "strong"}, name="broken.yaml",
    )  # fmt: skip
    ill = crsweep("doctor", broken, check=2)
    assert "FAIL  model strong" in ill.stdout


def test_status_table_compare_and_sql_read_a_folder_of_any_name(tmp_path, crsweep):
    out = tmp_path / "it's 50% é[a-z]*?#:car:[red]{a,b}$HOME;"
    path = write_sweep(tmp_path, out=str(out))
    assert f"results: {out}\n" in crsweep("run", path).stdout
    assert "nothing to do" in crsweep("run", path).stdout
    status = crsweep("status", out).stdout
    assert "32 of 32 episodes done, 0 failed, 0 not run" in status
    assert "not running" in status
    header, *rows = crsweep("table", out, "--format", "csv").stdout.splitlines()
    assert header.startswith("agent,roles.agent,sr@1,sr@1_std,sr@1_n,")
    assert len(rows) == 4
    assert r"\toprule" in crsweep("table", out, "--format", "latex").stdout
    assert "| agent |" in crsweep("table", out, "--format", "markdown").stdout
    compared = crsweep("compare", out, "--axis", "roles.agent").stdout
    assert "roles.agent strong - weak" in compared
    assert "WATERMARK: these numbers are made with the rules backend" in compared
    both = ["--metric", "sr@1", "--metric", "sr@2", "--baseline", "strong"]
    compared = crsweep("compare", out, "--axis", "roles.agent", *both).stdout
    assert compared.count("roles.agent weak - strong") == 2
    assert (
        "did you mean 'roles.agent'"
        in crsweep("compare", out, "--axis", "role.agent", check=2).stderr
    )
    query = 'select "roles.agent", count(*) as n from episodes group by all order by 1'
    assert crsweep("sql", out, query, "--format", "csv").stdout == (
        "roles.agent,n\nstrong,16\nweak,16\n"
    )
    assert "SQL: " in crsweep("sql", out, "selec 1", check=2).stderr
    refused = crsweep("table", out, "--published", "af_irs/table2", check=2).stderr
    assert "holds results of the rules backend" in refused
    assert len(refused.splitlines()) == 1
    unknown = crsweep("table", out, "--published", "af_irs/table22", check=2).stderr
    assert "did you mean 'af_irs/table2'? (known: af_irs/table2, af_irs/table3," in unknown
    for command in ("status", "table"):
        assert "contains no sweep" in crsweep(command, tmp_path, check=2).stderr


def test_play_lets_a_person_be_the_user(tmp_path):
    import io
    from pathlib import Path

    from rich.console import Console

    from runner.commands.play import play
    from runner.commands.transcript import TranscriptView
    from tests.sweep_files import plan_of

    lines = iter(["something with magic", "", "/accept 99", "tell me more", "/leave"])
    screen = Console(file=io.StringIO(), width=200)
    plan = plan_of(Path(write_sweep(tmp_path)))
    attempt = play(
        plan,
        cell=0,
        position=0,
        person=lambda _: next(lines),
        calls=False,
        view=TranscriptView(screen),
    )
    assert attempt.error is None
    assert attempt.transcript.stop_reason == "user_left"
    assert "the user left, no success; the target was " in screen.file.getvalue()  # type: ignore[attr-defined]
    assert attempt.transcript.opening is not None
    assert attempt.transcript.opening.text == "something with magic"
    assert "You are looking for: " in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_sweep_speaks_with_a_real_server_and_its_key_reaches_no_file(tmp_path, crsweep):
    from tests.workers.backends.fake_openai import Answer, FakeOpenAI, completion

    class Obedient(FakeOpenAI):
        """Answers with a random valid reply of the schema that it is asked for."""

        def answer(self, asked):
            if "messages" not in asked.body:
                return super().answer(asked)
            self.asked.append(asked)
            schema = asked.body["response_format"]["json_schema"]["schema"]
            text = random_reply(schema, random.Random(asked.body["seed"]))
            return Answer(body=completion(text))

    with Obedient() as server:
        models = {
            "remote": {"backend": "openai", "base_url": server.url, "model": "qwen",
                       "api_key_env": "SWEEP_KEY"},
        }  # fmt: skip
        path = write_sweep(
            tmp_path, models=models, roles={"user": "remote", "agent": "remote"},
            grid={"agent": ["zero_shot"], "seed": [0]},
        )  # fmt: skip
        missing = crsweep("run", path, check=2)
        assert "SWEEP_KEY is not set" in missing.stderr
        assert not (tmp_path / "out").exists()
        crsweep("run", path, SWEEP_KEY="sk-very-secret")
    calls = raw(tmp_path / "out", "calls")
    assert len(calls) == len(server.asked)
    assert set(calls.input_tokens) == {11}
    assert sorted(calls.seed) == sorted(asked.body["seed"] for asked in server.asked)
    assert {asked.headers["authorization"] for asked in server.asked} == {"Bearer sk-very-secret"}
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or b"sk-very-secret" not in file.read_bytes(), file


@pytest.mark.ray
def test_a_worker_that_is_killed_is_replaced_and_no_episode_is_lost_or_done_twice(
    tmp_path, crsweep, start
):
    models = {"strong": BASE["models"]["strong"], "weak": {"backend": "latency", "latency_ms": 500}}
    run = {"executor": "ray", "concurrency": 32, "episode_workers": 2}
    limits = {"max_turns": 2}
    path = write_sweep(tmp_path, run=run, models=models, limits=limits, cache="off")
    out = tmp_path / "out"
    process = start(path)
    server = wait_for(lambda: below(process, "LatencyServer"), process, "the model's server")[0]
    server.suspend()  # the dialogues that need it continue when the worker is gone, and not before
    before = wait_for(lambda: committed(out), process, "a commit")
    below(process, "EpisodeWorker")[0].kill()
    server.resume()
    text = end_of(process)
    assert process.returncode == 0, text
    assert "was lost; its unfinished episodes run again" in text
    assert before < committed(out)
    assert len(committed(out)) == 32
    assert len(outcomes(out)) == 32
    assert set(raw(out, "episodes").status) == {"done"}


def test_infrastructure_failures_are_tried_again_left_out_and_make_the_run_incomplete(
    tmp_path, crsweep
):
    models = {"strong": {"backend": "latency", "latency_ms": 0, "error_rate": 1.0}}
    path = write_sweep(
        tmp_path, models=models, roles={"user": "strong", "agent": "strong"},
        grid={"agent": ["zero_shot"], "seed": [0]}, retries={"transient": 0, "episode": 1},
    )  # fmt: skip
    failed = crsweep("run", path, check=3)
    assert "4 episodes (4 failed; 4 failed attempts retried)" in failed.stdout
    assert "4 x EngineOverloaded, blame infrastructure; the next run" in failed.stdout
    assert "0 of 4" in failed.stdout
    episodes = raw(tmp_path / "out", "episodes")
    assert len(episodes) == 8
    assert set(episodes.status) == {"failed"}
    assert "4 to run" in crsweep("run", path, check=3).stdout


def test_sql_only_reads(ran_once, tmp_path, crsweep):
    text = f"copy (select 1) to '{tmp_path}/x.csv'"
    refused = crsweep("sql", ran_once.out, text, check=2).stderr
    assert "one query that only reads" in refused
    assert not (tmp_path / "x.csv").exists()

"""A sweep with foreign recommenders, of which two misbehave: all dialogues continue."""

import threading

from tests.agents.http.server import Foreign, Sent
from tests.runner.reading import raw
from tests.sweep_files import write_sweep

CASES = 10
HANGS = threading.Event()


def bad(number):
    """What a server does wrong in its dialogue `number`; None where it answers well."""
    return {
        1: Sent(b"<html>"),
        2: Sent(b"x" * 1_000, endless=True),
        3: Sent(b"", drop=True),
        4: Sent({"error": "out of memory", "blame": "infrastructure"}, status=503),
        5: Sent({"message": "m", "shown": [{"id": "no such id"}]}),
    }.get(number)


def test_a_foreign_server_that_misbehaves_is_blamed_and_survived(tmp_path, crsweep):
    sessions: list[str] = []

    def reply(request):
        if request["session"] not in sessions:
            sessions.append(request["session"])
        wrong = bad(sessions.index(request["session"]))
        return wrong or {"message": "Which genre would you like?"}

    def late(request):
        return Sent({"message": "late"}, wait=HANGS)

    def plain(request):
        return {"message": "What?"}

    with Foreign(reply) as worse, Foreign(plain) as fine, Foreign(late) as hanging:
        systems = {"worse": (worse, 60), "fine": (fine, 60), "late": (hanging, 0.3)}
        agents = [
            {
                "name": "http",
                "system": system,
                "url": server.url,
                "timeout": timeout,
                "most_bytes": 50_000,
            }
            for system, (server, timeout) in systems.items()
        ]
        path = write_sweep(
            tmp_path,
            grid={"agent": agents},
            roles={"user": "strong"},
            cases={"sample": CASES},
            limits={"max_turns": 2},
            retries={"transient": 0, "episode": 0},
            run={"executor": "local", "concurrency": 2},
        )
        done = crsweep("run", path, check=3)
        HANGS.set()
    episodes = raw(tmp_path / "out", "episodes")
    of = {
        system: episodes[episodes["axes"].map(lambda axes, s=system: s in dict(axes)["agent"])]
        for system in systems
    }
    assert of["fine"].status.tolist() == ["done"] * CASES
    assert of["late"].status.tolist() == ["failed"] * CASES
    assert of["late"].error.str.contains("no complete answer within 0.3 s").all()
    assert set(of["late"].blame) == {"agent"}
    mine = of["worse"]
    assert (mine.status == "done").sum() == CASES - 5
    failed = mine[mine.status == "failed"]
    words = " ".join(failed.error)
    for said in ("expected a JSON object, found '<html>'", "more than 50,000 bytes",
                 "no item with the id 'no such id'"):  # fmt: skip
        assert said in words
    assert set(failed[failed.error_class == "AgentError"].blame) == {"agent"}
    gone = failed[failed.error_class == "EngineDead"]
    assert set(gone.blame) == {"infrastructure"}
    assert len(gone) == 2
    assert "2 " in done.stdout

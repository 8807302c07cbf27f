"""What engines print goes to a file; the screen is the run's."""

import logging
import logging.config
import os

import pytest

from workers.engines.output import log_vllm_to
from workers.processes import logs


def configure():
    """As vLLM sets up its logging when it is imported."""
    stream = os.environ.get("VLLM_LOGGING_STREAM", "ext://sys.stdout")
    handler = {"class": "logging.StreamHandler", "level": "INFO", "stream": stream}
    logger = {"handlers": ["vllm"], "level": "INFO", "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"vllm": handler},
            "loggers": {"vllm": logger},
        }
    )


@pytest.fixture
def logger():
    found = logging.getLogger("vllm")
    before = list(found.handlers), found.level, found.propagate
    # As before vLLM's import. Of a logger that propagates, pytest leaves the handlers alone.
    found.handlers[:], found.propagate = [], True
    yield found
    found.handlers[:], found.level, found.propagate = before


@pytest.mark.parametrize("imported", [False, True])
def test_log_lines_of_vllm_go_to_the_file_from_its_import_on(
    tmp_path, monkeypatch, capfd, logger, imported
):
    monkeypatch.setenv("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    monkeypatch.setattr(logs, "vllm_stream", None)
    if imported:
        configure()
    path = tmp_path / "engine.log"
    path.write_text("what its processes print\n")
    log_vllm_to(path)
    if imported:
        logger.info("was here before")
    configure()
    logger.info("loads a model")
    first, *said = path.read_text().splitlines()
    assert first == "what its processes print"
    assert said == ["was here before"] * imported + ["loads a model"]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setattr(logs, "vllm_stream", None)  # as in a process of its own
    configure()
    logger.info("works")
    assert capfd.readouterr() == ("", "works\n")

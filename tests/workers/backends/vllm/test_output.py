"""What engines print goes to a file; the screen is the run's."""

import logging
import logging.config
import os

import pytest

from workers.backends.vllm.output import importing_vllm


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
    yield found
    found.handlers[:], found.level, found.propagate = before


@pytest.mark.parametrize("imported", [False, True])
@pytest.mark.parametrize("own", [None, "ext://sys.stderr"])
def test_log_lines_of_vllm_go_to_the_file_from_its_import_on(
    tmp_path, monkeypatch, capfd, logger, imported, own
):
    if own is None:
        monkeypatch.delenv("VLLM_LOGGING_STREAM", raising=False)
    else:
        monkeypatch.setenv("VLLM_LOGGING_STREAM", own)
    if imported:
        configure()
    path = tmp_path / "engine.log"
    path.write_text("what its processes print\n")
    with importing_vllm(path):
        if not imported:
            configure()
            logger.info("detected a platform")
    logger.info("loads a model")
    assert os.environ.get("VLLM_LOGGING_STREAM") == own  # its processes have files of their own
    first, *said = path.read_text().splitlines()
    assert first == "what its processes print"
    assert said == ["detected a platform"] * (not imported) + ["loads a model"]
    assert capfd.readouterr() == ("", "")

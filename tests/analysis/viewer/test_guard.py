"""Who the viewer answers, and what browsers may do with its pages."""

from __future__ import annotations

import pytest

from tests.analysis.builder import Built, grid_of
from tests.analysis.viewer.reading import HOST, Browser

OWN = f"http://{HOST}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    built = Built(grid_of("a", backbones=["s"]), seeds=[0])
    built.episode(built.cells[0], "u0", 0)
    return Browser(built.write(tmp_path_factory.mktemp("guard") / "sweep"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # a name that was made to mean 127.0.0.1
        {"Host": "evil.example:8765"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:80"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8765"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/", "/static/style.css"])
def test_other_hosts_and_sites_are_refused(browser, headers, path):
    response = browser.client.get(path, headers=headers)
    assert response.status_code == 403
    assert "built" not in response.text


def test_of_two_hosts_in_one_request_none_counts(browser):
    pairs = [("Host", HOST), ("Host", "evil.example")]
    assert browser.client.get("/", headers=pairs).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": OWN},
        {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        # A link in a user's notes.
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
    ],
    ids=str,
)
def test_its_own_pages_and_links_to_them_are_answered(browser, headers):
    assert browser.client.get("/", headers=headers).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_but_reading_is_done(browser, method):
    assert browser.client.request(method, "/episodes").status_code == 405


@pytest.mark.parametrize("path", ["/", "/episodes", "/static/keys.js", "/nonsense", "/dialogue"])
def test_every_answer_forbids_scripts_and_styles_that_are_not_files_of_the_viewer(browser, path):
    headers = browser.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy and "*" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers

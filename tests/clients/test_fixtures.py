"""A server directory of every released format is served by this release, object for object.

`tests/fixtures/server/vN.image.gz` is the one directory of a store of version N that was killed
after the writes that `harness/stones.py` tells; `scripts/make-fixtures` makes it.
"""

from pathlib import Path

import pytest

from harness import image, stones
from harness.sdk import connect
from harness.server import Server

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "server"


@pytest.mark.parametrize("fixture", sorted(FIXTURES.glob("v*.image.gz")), ids=lambda path: path.name)
def test_every_released_format_is_served(binary, tmp_path, fixture):
    server = Server(binary, tmp_path / "server", directories=1)
    image.unpack(fixture.read_bytes(), server.directories[0])
    try:
        server.start()
        stones.check(connect(server.endpoint))
        assert server.stop() == 0
        server.start()
        stones.check(connect(server.endpoint))
        stones.write_more(connect(server.endpoint))
        assert server.stop() == 0
    finally:
        server.remove()


def test_there_is_a_fixture_of_the_format():
    assert list(FIXTURES.glob("v1.image.gz"))

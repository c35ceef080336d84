"""Where does a role serve HTTP, when several of it run on one machine?"""

from __future__ import annotations

import pytest

from fulcrum.settings import Settings


@pytest.mark.parametrize(
    ("instance", "given", "port"),
    [("0", 0, 6066), ("1", 0, 6166), ("12", 0, 7266), ("west", 0, 6066), ("123", 0, 6066), ("1", 7000, 7000)],
)
def test_each_numbered_instance_has_a_port_of_its_own(instance: str, given: int, port: int) -> None:
    """The role's default plus 100 a number; a port that was given wins."""
    assert Settings(instance=instance, http_port=given).port(6066) == port


def test_no_two_roles_come_together() -> None:
    """The default ports of the roles stay apart whatever the instances' numbers are."""
    defaults = (6066, 6067, 8080, 8082, 8083, 8084, 8090, 8091)
    settings = [Settings(instance=str(number)) for number in range(20)]

    ports = [each.port(default) for each in settings for default in defaults]

    assert len(set(ports)) == len(ports)

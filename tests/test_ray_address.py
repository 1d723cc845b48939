"""A cluster of Ray that is not there is told of at once."""

import socket

import pytest

pytest.importorskip("hydra_plugins.hydra_ray_launcher")

from rnnlab.engines.ray import check_address


def test_whether_somebody_answers():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check_address(address)
    with pytest.raises(ValueError, match=rf"ray\.init\.address={address} is not possible"):
        check_address(address)


@pytest.mark.parametrize("address", ["local", "auto", "None"])
def test_others_are_left_to_ray(address):
    check_address(address)

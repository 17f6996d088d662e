"""What the servers are told: listen on this machine alone; with three brokers, acknowledge on two."""

from pathlib import Path

import pytest

from tidewire.stack.kafka import Cluster, Node, properties
from tidewire.stack.postgres import SETTINGS


def cluster_of(count: int) -> Cluster:
    return Cluster("id", tuple(Node(n, 20000 + n, 21000 + n) for n in range(1, count + 1)))


@pytest.mark.parametrize("count", [1, 3])
def test_every_address_is_on_this_machine(count: int) -> None:
    """Kafka has no password here: on another interface, anybody in the same café could write to it."""
    cluster = cluster_of(count)
    for node in cluster.nodes:
        values = properties(cluster, node, Path("/d"))
        for name in ("listeners", "advertised.listeners", "controller.quorum.voters"):
            for address in str(values[name]).split(","):
                assert "127.0.0.1:" in address
        assert values["auto.create.topics.enable"] == "false"
    assert SETTINGS["listen_addresses"] == "127.0.0.1"
    assert SETTINGS["unix_socket_directories"] == ""


def test_three_brokers_acknowledge_on_two() -> None:
    """With min.insync.replicas=1 the loss of a broker could lose what was acknowledged."""
    values = properties(cluster_of(3), cluster_of(3).nodes[1], Path("/d"))
    assert values["default.replication.factor"] == 3
    assert values["min.insync.replicas"] == 2
    assert values["offsets.topic.replication.factor"] == 3
    assert values["transaction.state.log.min.isr"] == 2
    assert values["node.id"] == 2
    assert values["controller.quorum.voters"] == "1@127.0.0.1:21001,2@127.0.0.1:21002,3@127.0.0.1:21003"


def test_one_broker_asks_for_no_copies_that_it_cannot_have() -> None:
    values = properties(cluster_of(1), cluster_of(1).nodes[0], Path("/d"))
    copies = {
        v for k, v in values.items() if k.endswith(("replication.factor", "min.isr", "insync.replicas"))
    }
    assert copies == {1}
    assert cluster_of(1).bootstrap == "127.0.0.1:20001"

"""What is read out of Redis' answers to INFO."""

from lampstand.tiers.cache.probe import parse

PRIMARY = """# Replication\r
role:master\r
connected_slaves:1\r
slave0:ip=127.0.0.1,port=1234,state=online,offset=56,lag=0\r
master_replid:61a790ecca1163988e19113f1836c159b678af92\r
master_replid2:0000000000000000000000000000000000000000\r
master_repl_offset:56\r
# Memory\r
used_memory:1007872\r
# Persistence\r
loading:0\r
async_loading:0\r
"""

REPLICA = """# Replication\r
role:slave\r
master_host:10.0.0.1\r
master_port:6379\r
master_link_status:up\r
slave_read_repl_offset:70\r
slave_repl_offset:68\r
master_replid:61a790ecca1163988e19113f1836c159b678af92\r
master_repl_offset:68\r
"""


def test_a_primary() -> None:
    facts = parse(PRIMARY)
    assert (facts.answered, facts.role, facts.source, facts.link_up) == (True, "master", "", None)
    assert (facts.offset, facts.used_bytes, facts.loading) == (56, 1007872, False)
    assert facts.replication_id == "61a790ecca1163988e19113f1836c159b678af92"


def test_a_replica() -> None:
    facts = parse(REPLICA)
    assert (facts.role, facts.source, facts.link_up, facts.offset) == ("slave", "10.0.0.1:6379", True, 68)


def test_a_replica_of_nobody() -> None:
    waiting = (
        REPLICA.replace("10.0.0.1", "127.0.0.1").replace("6379", "1").replace("status:up", "status:down")
    )
    facts = parse(waiting)
    assert (facts.role, facts.source, facts.link_up) == ("slave", "", False)


def test_a_server_that_is_loading() -> None:
    assert parse(PRIMARY.replace("loading:0", "loading:1", 1)).loading
    assert parse(PRIMARY.replace("async_loading:0", "async_loading:1")).loading


def test_what_is_missing_is_not_guessed() -> None:
    facts = parse("")
    assert (facts.offset, facts.used_bytes, facts.loading, facts.replication_id) == (None, None, False, "")

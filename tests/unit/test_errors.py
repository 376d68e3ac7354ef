import pickle

import pytest

from lampstand import errors
from lampstand.errors import ExitCode, Finding, LampstandError, SiteFileError


def test_exit_codes_are_the_documented_numbers() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "SITE_FILE": 3,
        "BREACHED": 4,
        "TIMED_OUT": 5,
        "LOCKED": 6,
        "UNAVAILABLE": 7,
        "ENGINE_MISSING": 8,
        "INTERRUPTED": 130,
    }


def test_an_error_says_what_where_and_how_to_mend_it() -> None:
    error = LampstandError("port 80 is in use", "balancer-1", "choose another with balancer.port")
    assert (error.what, error.where, error.mend) == (
        "port 80 is in use",
        "balancer-1",
        "choose another with balancer.port",
    )
    assert str(error) == "balancer-1: port 80 is in use\n  choose another with balancer.port"
    assert error.exit_code is ExitCode.FAILED


def test_where_and_mend_may_be_missing() -> None:
    assert str(LampstandError("it broke")) == "it broke"
    assert str(LampstandError("it broke", "web-1")) == "web-1: it broke"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.UsageError, 2),
        (errors.BreachedError, 4),
        (errors.TimedOutError, 5),
        (errors.LockedError, 6),
        (errors.UnavailableError, 7),
        (errors.EngineMissingError, 8),
        (errors.InterruptedByUserError, 130),
    ],
)
def test_each_kind_has_its_exit_code(kind: type[LampstandError], code: int) -> None:
    error = kind("what", "where", "mend")
    assert error.exit_code == code
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


def test_a_site_file_error_lists_every_finding() -> None:
    key = "database.replica"
    one = Finding("unknown key `replica`", "lampstand.yaml", 3, 5, key, "did you mean `replicas`?")
    two = Finding("not a file", "lampstand.yaml")
    error = SiteFileError([one, two])
    assert error.exit_code is ExitCode.SITE_FILE
    assert error.findings == (one, two)
    assert str(error) == (
        "lampstand.yaml:3:5 database.replica: unknown key `replica`\n"
        "  did you mean `replicas`?\n"
        "lampstand.yaml: not a file"
    )
    assert pickle.loads(pickle.dumps(error)).findings == (one, two)


def test_a_single_finding_is_the_error_itself() -> None:
    error = SiteFileError([Finding("not a number", "f.yaml", 1, key="web.servers", mend="write 2")])
    assert (error.what, error.where, error.mend) == ("not a number", "f.yaml:1 web.servers", "write 2")


def test_a_site_file_error_needs_a_finding() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SiteFileError([])

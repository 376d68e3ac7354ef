"""Durations, sizes, shares, rates, names, paths, commands: what is read, what is refused, what is written back."""

import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lampstand.site import types, units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("1.5h", 5400.0),
        ("2w", 1_209_600.0),
        ("7d", 604_800.0),
        ("1y", 31_536_000.0),
        ("0s", 0.0),
        ("1m500ms", 60.5),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "30", "-5s", "5 m", "1h1h", "1s1h", "1d2w", "5M", "1e3s", "٣s", None, True, [1]]
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match=r"; (write|the)"):
        units.parse_duration(text)


def test_a_bare_number_is_told_its_unit() -> None:
    with pytest.raises(ValueError, match="30 has no unit; write 30s"):
        units.parse_duration(30)


@given(st.integers(0, 10**13))
def test_durations_come_back(milliseconds: int) -> None:
    text = units.format_duration(milliseconds / 1000)
    assert units.parse_duration(text) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("128MB", 128_000_000),
        ("10GiB", 10 * 2**30),
        ("64kB", 64_000),
        ("64KiB", 65_536),
        ("1.5GB", 1_500_000_000),
        ("512 MB", 512_000_000),
        ("128mb", 128_000_000),
        ("7B", 7),
        ("0B", 0),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MB", "128", "128M", "-1MB", "1.0000001kB", "1e3MB", "128 parsecs", None, 5, False, {}]
)
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="; write a number with a unit"):
        units.parse_size(text)


@given(st.integers(0, 2**60))
def test_sizes_come_back(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@given(st.integers(0, 10_000))
def test_shares_come_back(hundredths: int) -> None:
    text = f"{hundredths / 100}%"
    share = units.parse_percent(text)
    assert share == pytest.approx(hundredths / 10_000)
    assert units.parse_percent(units.format_percent(share)) == share


@pytest.mark.parametrize("text", ["10", "101%", "-1%", 0.1, "ten%"])
def test_what_is_no_share(text: object) -> None:
    with pytest.raises(ValueError, match="percentage"):
        units.parse_percent(text)


@given(st.integers(1, 10**6), st.sampled_from("smh"))
def test_rates_come_back(number: int, unit: str) -> None:
    rate = units.parse_rate(f"{number}/{unit}")
    assert units.parse_rate(units.format_rate(rate)) == pytest.approx(rate)


@pytest.mark.parametrize("text", ["20", "0/s", "5/d", "-1/s", 20])
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match="such as 20/s"):
        units.parse_rate(text)


@pytest.mark.parametrize("name", ["a", "shop", "my-shop-2", "a" * 40])
def test_names(name: str) -> None:
    assert types.check_name(name) == name


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("My Shop", "my-shop"),
        ("Müller's Shop!", "muller-s-shop"),
        ("2shop", "shop"),
        ("-a-", "a"),
        ("shop; rm -rf /", "shop-rm-rf"),
        ("a_b", "a-b"),
        ("a" * 41, "a" * 40),
        ("shop\n", "shop"),
    ],
)
def test_a_wrong_name_gets_a_right_one(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean `{near}`"):
        types.check_name(name)


@given(st.text())
def test_a_slug_is_a_name_or_nothing(text: str) -> None:
    near = types.slug(text)
    assert near == "" or types.check_name(near) == near


@pytest.mark.parametrize(
    ("path", "normal"), [("a/b", "a/b"), ("./a//b/", "a/b"), (".", "."), ("a b/ü", "a b/ü"), ("..a", "..a")]
)
def test_paths_inside(path: str, normal: str) -> None:
    assert types.check_folder(path) == normal


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../x", "~/x", "C:\\x", "a\nb", "a\0b", "~root"])
def test_paths_that_lead_out(path: str) -> None:
    with pytest.raises(ValueError, match="; "):
        types.check_folder(path)


@pytest.mark.parametrize("pattern", ["assets", "", " /a", "/a b", "/ü", '/"', "/{a}", "/a\n"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match="is not a path pattern"):
        types.check_pattern(pattern)


@pytest.mark.parametrize("path", ["healthz", "", "/a b", "/ü", "/;\n", '/"', "/{x}"])
def test_what_is_no_url_path(path: str) -> None:
    with pytest.raises(ValueError, match="is not the path of a URL"):
        types.check_url_path(path)


def test_networks() -> None:
    assert types.check_network("10.0.0.0/8") == "10.0.0.0/8"
    assert types.check_network("192.0.2.7") == "192.0.2.7/32"
    assert types.check_network("2001:DB8::/32") == "2001:db8::/32"
    with pytest.raises(ValueError, match=r"did you mean `10\.0\.0\.0/8`"):
        types.check_network("10.1.2.3/8")
    with pytest.raises(ValueError, match="is not a network"):
        types.check_network("everywhere")


def test_hosts() -> None:
    assert types.check_host("Shop.Example.com.") == "shop.example.com"
    for wrong in ("https://x.org", "a b", "-a.org", "x:80", "", "a..b", "*.x.org"):
        with pytest.raises(ValueError, match="is not a host name"):
            types.check_host(wrong)


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("php bin/migrate.php", ("php", "bin/migrate.php")),
        ("php 'my script.php' --name=x", ("php", "my script.php", "--name=x")),
        ("npm ci && npm run build", ("/bin/sh", "-c", "npm ci && npm run build")),
        ("echo $HOME", ("/bin/sh", "-c", "echo $HOME")),
        ("A=1 php x.php", ("/bin/sh", "-c", "A=1 php x.php")),
        ('echo "a;b"', ("/bin/sh", "-c", 'echo "a;b"')),
    ],
)
def test_commands(line: str, argv: tuple[str, ...]) -> None:
    assert types.parse_command(line) == argv


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1))
def test_commands_come_back(words: list[str]) -> None:
    argv = tuple(words)
    written = types.format_command(argv)
    again = types.parse_command(written)
    assert tuple(again) if isinstance(again, list) else again == argv  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


@given(st.text(st.sampled_from("ab '\"-=./,:@%_+ü\t"), max_size=12))
def test_a_line_means_what_the_shell_makes_of_it(text: str) -> None:
    line = f"printf %s\\n {shlex.quote('x')} {text}".replace("\\n", "")
    try:
        argv = types.parse_command(line)
    except ValueError:
        return
    assert isinstance(argv, tuple)
    ours = subprocess.run(argv, capture_output=True, check=False)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    shell = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=False)
    assert ours.stdout == shell.stdout


@pytest.mark.parametrize("value", ["", [], [""], ["a\0b"]])
def test_what_is_no_command(value: object) -> None:
    argv = types.parse_command(value)
    with pytest.raises(ValueError, match="; "):
        types.check_command(tuple(argv))  # pyright: ignore[reportArgumentType, reportUnknownArgumentType]

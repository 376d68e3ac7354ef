"""Packages of a Perl application: what its cpanfile asks for and this machine does not have."""

import re
from pathlib import Path

from lampstand.engines import Engines
from lampstand.errors import LampstandError
from lampstand.tiers.web.workshop import Workshop

_ASK = r"""
use strict; use warnings;
our ($phase, %wanted) = ('runtime');
sub requires { my ($name, $version) = @_; $wanted{$name} = $version // 0 if $phase eq 'runtime' }
sub on { my ($in, $code) = @_; local $phase = $in; $code->() }
sub feature { } sub mirror { } sub recommends { } sub suggests { } sub conflicts { }
for my $other (qw(configure build test author)) {
    no strict 'refs';
    *{"${other}_requires"} = sub { };
}
my $read = do './cpanfile';
die $@ if $@;
for my $name (sort keys %wanted) {
    my ($least) = $wanted{$name} =~ /^\s*(?:>=|==)?\s*(v?[\d._]+)\s*(?:,|$)/;
    if ($name eq 'perl') {
        print "perl $least\n" if $least && !eval "use $least; 1";
        next;
    }
    print "$name\n" unless eval "require $name; 1" && eval { $name->VERSION($least) if $least; 1 };
}
"""
"""Prints the modules of ./cpanfile that cannot be loaded. A cpanfile is a Perl program (Module::CPANfile), so Perl
reads it; the few words of its language are defined here."""


def install(workshop: Workshop, engines: Engines) -> None:
    """Install the missing modules into `local/` of the release (local::lib).

    Carton follows cpanfile.snapshot; cpanm takes the newest. Raises LampstandError when both are missing or fail.
    """
    source = workshop.folder / "cpanfile"
    if not source.exists():
        return
    missing = missing_modules(workshop, engines)
    if not missing:
        workshop.note("# cpanfile: everything is on this machine or in the release")
        return
    snapshot = workshop.folder / "cpanfile.snapshot"
    inputs = (source.read_bytes(), snapshot.read_bytes() if snapshot.exists() else b"", engines.perl.version)
    argv = _installer(workshop, snapshot, missing, source)
    link = workshop.folder / "local"
    if link.exists():
        raise LampstandError(
            "the release has a folder `local` that lacks modules of its cpanfile: " + ", ".join(missing),
            str(link),
            "name `local/` in .lampstandignore, so that it is made anew",
        )
    with workshop.kept("local", *inputs) as (place, complete):
        link.symlink_to(place)
        if not complete:
            workshop.run(argv, purpose="installing Perl modules", mend="run it by hand in the project")
    if missing := missing_modules(workshop, engines):
        raise LampstandError("these modules are still missing: " + ", ".join(missing), str(source))


def missing_modules(workshop: Workshop, engines: Engines) -> list[str]:
    """What the cpanfile asks for at run time and cannot be loaded. Raises LampstandError when it cannot be read."""
    output, code = workshop.ask((engines.perl.path, "-e", _ASK))
    if code:
        raise LampstandError(f"cpanfile cannot be read: {output.strip()}", str(workshop.folder / "cpanfile"))
    return output.split("\n")[:-1]


def _installer(workshop: Workshop, snapshot: Path, missing: list[str], source: Path) -> tuple[str, ...]:
    if snapshot.exists() and (carton := workshop.find("carton")):
        return (carton, "install", "--deployment")
    if cpanm := workshop.find("cpanm"):
        return (cpanm, "--local-lib-contained", "local", "--notest", "--quiet", "--installdeps", ".")
    debian = " ".join(f"lib{re.sub('::', '-', name).lower()}-perl" for name in missing if " " not in name)
    raise LampstandError(
        f"modules of the cpanfile are missing ({', '.join(missing)}), and cpanm is not installed",
        str(source),
        f"install Debian's package `cpanminus`, or the modules themselves where Debian has them ({debian})",
    )

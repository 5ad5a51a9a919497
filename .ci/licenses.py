"""Writes docs/licenses.md: the licenses of all runtime dependencies, read from the installed packages.

Run it after a change of requirements.lock, with the Python of an environment that was installed from it.
"""

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licenses.md"
HEADER = "| package | license | copyleft |"
# Extras that users install; the others are for tests and linters.
EXTRAS = ("evaluation", "huggingface", "archives", "shelf", "pipeline", "stack", "signing")
# From the license files of packages whose metadata is missing or vague.
STATED = {
    "accelerate": "Apache-2.0",
    "click-plugins": "BSD-3-Clause",
    "grandalf": "GPL-2.0-only OR EPL-1.0",
    "huey": "MIT",
    "psycopg2-binary": "LGPL-3.0-or-later with exceptions",
    "pygit2": "GPL-2.0-only with linking exception",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "shellingham": "ISC",
    "sigstore-models": "MIT",
    "skops": "MIT",
    "supervisor": "BSD-derived (Repoze)",
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
}
SPDX = {
    r"apache( license|[- ]?software license)?[,]?[- ]?(version )?2(\.0)?|apache software license": "Apache-2.0",
    r"apache 2\.0 license": "Apache-2.0",
    r"(the )?mit( license)?( \(mit\))?": "MIT",
    r"3-clause bsd license|bsd 3-clause.*|new bsd license": "BSD-3-Clause",
    r"bsd|bsd license": "BSD",
    r"mozilla public license 2\.0 \(mpl 2\.0\)": "MPL-2.0",
    r"python software foundation license|psf-2\.0|psfl": "PSF-2.0",
    r"isc license \(iscl\)": "ISC",
    r"the unlicense \(unlicense\)": "Unlicense",
}
COPYLEFT = re.compile(r"GPL|MPL|EPL|EUPL|CDDL|Eclipse|Mozilla|Artistic", re.IGNORECASE)


def closure() -> dict[str, Distribution]:
    """The installed packages that the library and its `EXTRAS` need on this machine, by canonical name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = canonicalize_name(project["name"])
    wanted = [Requirement(line) for line in project["dependencies"]]
    wanted += [Requirement(line) for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if name == own or (name, extra) in done:
                continue
            done.add((name, extra))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:  # an optional package
                continue
            needed = map(Requirement, found[name].requires or [])
            wanted += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return found


def license_of(package: Distribution) -> str:
    """The license of a package, an SPDX expression where the metadata allows."""
    metadata = package.metadata
    if stated := STATED.get(canonicalize_name(metadata["Name"])):
        return stated
    classifiers = [
        one.split(" :: ")[-1] for one in metadata.get_all("Classifier") or [] if one.startswith("License ::")
    ]
    text = metadata.get("License") or ""
    names = [metadata.get("License-Expression") or ""]
    names += [text if "\n" not in text.strip() and len(text) < 60 else "", " or ".join(classifiers)]
    name = next((" ".join(name.split()) for name in names if name.strip()), "")
    return next((spdx for pattern, spdx in SPDX.items() if re.fullmatch(pattern, name, re.IGNORECASE)), name)


def main() -> int:
    """Replaces the table in the page."""
    rows = {name: license_of(package) for name, package in sorted(closure().items())}
    if unknown := [name for name, license in rows.items() if not license]:
        print(
            f"no license found for {', '.join(unknown)}: look at their files, and add them to STATED", file=sys.stderr
        )
        return 1
    before = PAGE.read_text(encoding="utf-8").partition(HEADER)[0]
    lines = [HEADER, "|---|---|---|"]
    lines += [f"| {name} | {license} | {'yes' if COPYLEFT.search(license) else ''} |" for name, license in rows.items()]
    PAGE.write_text(before + "\n".join([*lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes a list of what is in each deployed function (CycloneDX), by cargo-cyclonedx, and checks it.

cargo-cyclonedx lists what any platform and any test of the workspace needs. What is deployed is what `cargo tree` says of
the very build that `sam build` makes: the rest is taken out. That what is left is complete, and valid by CycloneDX's own
schema, is checked. Run `infra/release/sbom`, which brings the validator along.
"""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = "aarch64-unknown-linux-gnu"
SPEC_VERSION = "1.5"
TOOL_VERSION = "0.5.9"
MADE_FILES = "*/*/*_bin.cdx.json"
TREE_LINE = re.compile(r"(\d+)\|(\S+) v(\S+)")

Package = tuple[str, str]  # name and version


class Incomplete(Exception):
    """A list lacks what is deployed, or is not valid."""


def run(*command: str, env: dict | None = None) -> str:
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout


def graph(tree: str) -> dict[Package, set[Package]]:
    """What each package needs, from `cargo tree --prefix depth`, which shows the needs of a package once."""
    needs: dict[Package, set[Package]] = {}
    above: list[Package] = []
    for line in tree.splitlines():
        if found := TREE_LINE.match(line):
            package = (found[2], found[3])
            del above[int(found[1]) :]
            if above:
                needs[above[-1]].add(package)
            needs.setdefault(package, set())
            above.append(package)
    return needs


def needed(needs: dict[Package, set[Package]], root: Package) -> set[Package]:
    """All that a package needs, directly or not."""
    found: set[Package] = set()
    waiting = list(needs[root])
    while waiting:
        package = waiting.pop()
        if package not in found:
            found.add(package)
            waiting.extend(needs[package])
    return found


def named(component: dict) -> Package:
    return component["name"], component["version"]


def deployed(listed: dict, wanted: set[Package]) -> dict:
    """The same list without what is not deployed. Raises Incomplete if something that is deployed is not in it."""
    function = listed["metadata"]["component"]
    if missing := wanted - {named(component) for component in listed["components"]}:
        raise Incomplete(f"{function['name']}: {sorted(missing)} are deployed and not listed")
    components = [component for component in listed["components"] if named(component) in wanted]
    kept = {component["bom-ref"] for component in components} | {function["bom-ref"]}
    dependencies = [
        {"ref": entry["ref"], "dependsOn": [ref for ref in entry.get("dependsOn", []) if ref in kept]}
        for entry in listed["dependencies"]
        if entry["ref"] in kept
    ]
    properties = [{"name": "cdx:rustc:sbom:target:triple", "value": TARGET}]
    metadata = listed["metadata"] | {"properties": properties}
    return listed | {"metadata": metadata, "components": components, "dependencies": dependencies}


@functools.cache
def validator():
    """Of CycloneDX's own schema. It takes seconds to make."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.from_version(SPEC_VERSION))


def check_valid(name: str, text: str) -> None:
    """Raises Incomplete if it is not as CycloneDX's schema says."""
    if fault := validator().validate_str(text):
        raise Incomplete(f"{name}: {fault}")


def made_files() -> list[pathlib.Path]:
    return sorted(ROOT.glob(MADE_FILES))


def main() -> None:
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    version = run("cargo", "cyclonedx", "--version").split()[-1]
    if version != TOOL_VERSION:
        sys.exit(f"cargo-cyclonedx {TOOL_VERSION} is wanted, and {version} is installed.")
    tree = run(
        "cargo", "tree", "--locked", "--workspace", f"--target={TARGET}", "--edges=normal,build",
        "--prefix=depth", "--format=|{p}",
    )
    needs = graph(tree)
    # The same commit gives the same lists, wherever it lies.
    commit_time = run("git", "log", "-1", "--format=%ct").strip()
    try:
        run(
            "cargo", "cyclonedx", "--quiet", "--format=json", f"--spec-version={SPEC_VERSION}",
            "--describe=binaries", "--target=all",
            env=os.environ | {"SOURCE_DATE_EPOCH": commit_time},
        )
        texts = [file.read_text().replace(f"file://{ROOT}/", "file:///") for file in made_files()]
    finally:
        for file in made_files():
            file.unlink()
    functions = {path.parent.name for path in ROOT.glob("functions/*/Cargo.toml")}
    for text in texts:
        listed = json.loads(text)
        root = named(listed["metadata"]["component"])
        if root[0] not in functions:
            continue
        functions.remove(root[0])
        listed = deployed(listed, needed(needs, root))
        text = json.dumps(listed, indent=2) + "\n"
        check_valid(root[0], text)
        (folder / f"{root[0]}.cdx.json").write_text(text)
        print(f"{root[0]}: {len(listed['components'])} packages")
    if functions:
        raise Incomplete(f"there are no lists of {sorted(functions)}")


if __name__ == "__main__":
    try:
        main()
    except Incomplete as incomplete:
        sys.exit(str(incomplete))

"""Makes a CycloneDX 1.5 document of what `cargo metadata` says on standard input. The arguments are Cargo.lock, for checksums, and
deny.toml, whose licences alone are allowed: an error names what has another one, or comes without a checksum."""

import json
import re
import sys
import tomllib


def normal_closure(metadata):
    """The packages that are linked into the root, which is first: along dependencies that are neither of tests nor of build scripts."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, queue = {root: set()}, [root]
    while queue:
        here = queue.pop()
        for dependency in nodes[here]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                found[here].add(dependency["pkg"])
                if dependency["pkg"] not in found:
                    found[dependency["pkg"]] = set()
                    queue.append(dependency["pkg"])
    return root, found


def expression(package):
    """Its licence, SPDX: what older manifests write with a slash, or a small `or`, is a choice."""
    text = re.sub(r"\s*/\s*|\s+or\s+", " OR ", package["license"] or "")
    return " ".join(text.split())


def is_allowed(text, allowed):
    """Whether an SPDX expression can be met by licences that are allowed: `OR` is a choice, `AND` is not."""
    tokens = re.findall(r"[()]|(?:(?!\b(?:AND|OR)\b)[^()\s]+(?:\s+WITH\s+\S+)?)|AND|OR", text)

    def choice():
        met = every()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = every() or met
        return met

    def every():
        met = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = one() and met
        return met

    def one():
        token = tokens.pop(0) if tokens else ""
        if token != "(":
            return token in allowed
        met = choice()
        tokens.pop(0)
        return met

    return choice() and not tokens


def component(package, checksums, kind):
    purl = f"pkg:cargo/{package['name']}@{package['version']}"
    made = {"type": kind, "bom-ref": purl, "name": package["name"], "version": package["version"], "purl": purl}
    if package["license"]:
        made["licenses"] = [{"expression": expression(package)}]
    if checksum := checksums.get((package["name"], package["version"])):
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def main():
    metadata = json.load(sys.stdin)
    with open(sys.argv[1], "rb") as file:
        lock = tomllib.load(file)
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root, found = normal_closure(metadata)
    made = {one: component(packages[one], checksums, "application" if one == root else "library") for one in found}
    # What comes from a registry has a checksum, or it could be anything: of what tests and build scripts use, too.
    unknown = [f"{name} {version}" for (name, version), sum in checksums.items() if not sum and name != packages[root]["name"]]
    if unknown:
        sys.exit(f"error: Cargo.lock has no checksum of {', '.join(sorted(unknown))}")
    with open(sys.argv[2], "rb") as file:
        rules = tomllib.load(file)["licenses"]
    stated = {rule["crate"]: rule["expression"] for rule in rules.get("clarify", [])}
    for one in packages.values():
        text = stated.get(one["name"], expression(one))
        if one["id"] != root and not is_allowed(text, rules["allow"]):
            sys.exit(f"error: {one['name']} {one['version']} has the licence {text!r}, which deny.toml does not allow")
    by_ref = sorted((one for one in found if one != root), key=lambda one: made[one]["bom-ref"])
    json.dump({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": made[root]},
        "components": [made[one] for one in by_ref],
        "dependencies": [
            {"ref": made[one]["bom-ref"], "dependsOn": sorted(made[to]["bom-ref"] for to in found[one])}
            for one in [root, *by_ref]
        ],
    }, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

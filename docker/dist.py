#!/usr/bin/env python3
"""Puts together what a release consists of, next to each other in one folder.

    dist.py PROGRAM FOLDER [TARGET]     PROGRAM is built already; `make dist` builds it first, for TARGET

`wellspring-VERSION-TARGET`              the program
`wellspring-VERSION-TARGET.cdx.json`     its software bill of materials, as CycloneDX 1.5
`wellspring-VERSION-TARGET.sha256`       the checksums of both, for `sha256sum --check`

The bill lists the crates that are part of the program: what is needed for tests or for the build
alone is not in it. Versions and checksums are those of Cargo.lock. C libraries that a crate brings
are part of that crate (librdkafka of rdkafka-sys, zstd of zstd-sys). Shared libraries, which come
from the system, are properties of the program. The same program gives the same files.
"""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import uuid

# Crates that only a build script needs, and whose C code becomes a part of the program.
C_SOURCES = {"openssl_src"}
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=TOP).stdout


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def target():
    return re.search(r"^host: (\S+)$", output("rustc", "--version", "--verbose"), re.M).group(1)


def graph(target):
    """The packages of the program by id, and the ids that each of them needs."""
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target,
                                 *(["--features", "static"] if target.endswith("-musl") else [])))
    packages = {package["id"]: package for package in metadata["packages"]}

    def is_part(dep):
        return dep["name"] in C_SOURCES or any(kind["kind"] is None for kind in dep["dep_kinds"])

    needs = {node["id"]: sorted(dep["pkg"] for dep in node["deps"] if is_part(dep)) for node in metadata["resolve"]["nodes"]}
    root, found = metadata["resolve"]["root"], {}
    waiting = [root]
    while waiting:
        at = waiting.pop()
        if at not in found:
            found[at] = needs[at]
            waiting += needs[at]
    return root, packages, found


def checksums():
    """SHA-256 of the published crates, by name and version."""
    with open(os.path.join(TOP, "Cargo.lock"), "rb") as file:
        locked = tomllib.load(file)["package"]
    return {(crate["name"], crate["version"]): crate.get("checksum") for crate in locked}


def purl(package):
    return "pkg:cargo/%s@%s" % (package["name"], package["version"].replace("+", "%2B"))


def component(package, kind, digest):
    made = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"],
            "purl": purl(package)}
    if package["license"]:
        made["licenses"] = [{"expression": package["license"].replace(" / ", " OR ").replace("/", " OR ")}]
    if digest:
        made["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if package["repository"]:
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def shared_libraries(program):
    """Names of the libraries that the loader looks for; none for a static program."""
    found = re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "--dynamic", program))
    return sorted(set(found))


def bill(program, target):
    root, packages, found = graph(target)
    digests, own = checksums(), packages[root]
    crates = sorted((packages[at] for at in found if at != root), key=lambda crate: (crate["name"], crate["version"]))
    digest = sha256(program)
    described = component(own, "application", digest)
    described["properties"] = [{"name": "wellspring:target", "value": target}] + [
        {"name": "wellspring:shared-library", "value": name} for name in shared_libraries(program)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": "urn:uuid:%s" % uuid.uuid5(uuid.NAMESPACE_OID, digest),
        "version": 1,
        "metadata": {"component": described},
        "components": [component(crate, "library", digests[crate["name"], crate["version"]]) for crate in crates],
        "dependencies": [
            {"ref": purl(packages[at]), "dependsOn": sorted(purl(packages[need]) for need in found[at])}
            for at in sorted(found, key=lambda at: purl(packages[at]))],
    }


def main():
    program, folder = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    host = sys.argv[3] if len(sys.argv) > 3 else target()
    if host.endswith("-musl") and shared_libraries(program):
        sys.exit("dist: %s is not static, it needs %s" % (program, ", ".join(shared_libraries(program))))
    version = output(program, "--version").split()[1]
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    name = "wellspring-%s-%s" % (version, host)
    shutil.copy(program, os.path.join(folder, name))
    with open(os.path.join(folder, name + ".cdx.json"), "w", encoding="utf-8") as file:
        json.dump(bill(program, host), file, indent=1)
        file.write("\n")
    with open(os.path.join(folder, name + ".sha256"), "w", encoding="utf-8") as file:
        for each in (name, name + ".cdx.json"):
            file.write("%s  %s\n" % (sha256(os.path.join(folder, each)), each))
    for each in sorted(os.listdir(folder)):
        print("%10d  %s" % (os.path.getsize(os.path.join(folder, each)), os.path.join(os.path.relpath(folder, TOP), each)))


if __name__ == "__main__":
    main()

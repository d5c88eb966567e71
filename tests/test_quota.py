"""Quotas and limits of control groups, in trees of files as Linux shows them, and in real groups."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from bench import quota
from bench.results.environment import machine
from bench.run import environment


class Tree:
    """A process's folder in /proc, and the control groups' folders that it refers to."""

    def __init__(self, folder: Path) -> None:
        self.process = folder / "self"
        self.groups = folder / "cgroup"
        self.process.mkdir()

    def place(self, groups: str, *mounts: str) -> "Tree":
        """Write the groups of the process, and the mounts: `ROOT FOLDER KIND OPTIONS`."""
        lines = []
        for number, mount in enumerate(mounts, 30):
            root, below, kind, options = mount.split(" ")
            lines.append(
                f"{number} 23 0:28 {root} {self.groups / below} rw,relatime shared:9 - {kind} {kind} {options}"
            )
        (self.process / "cgroup").write_text(groups)
        (self.process / "mountinfo").write_text("\n".join(["22 1 8:1 / / rw - ext4 /dev/sda rw", *lines]) + "\n")
        return self

    def write(self, files: Mapping[str, str]) -> "Tree":
        for name, text in files.items():
            (self.groups / name).parent.mkdir(parents=True, exist_ok=True)
            (self.groups / name).write_text(text + "\n")
        return self


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({}, None, None),
        ({"ci/job/cpu.max": "max 100000", "ci/job/memory.max": "max"}, None, None),
        ({"ci/job/cpu.max": "100000 100000", "ci/job/memory.max": "2147483648"}, 1, 2147483648),
        ({"ci/job/cpu.max": "50000 50000"}, 1, None),
        ({"ci/job/cpu.max": "50000 100000"}, 0.5, None),
        ({"ci/job/cpu.max": "max 100000", "ci/cpu.max": "150000 100000", "ci/memory.max": "1000"}, 1.5, 1000),
        ({"ci/job/cpu.max": "200000 100000", "ci/cpu.max": "150000 100000", "cpu.max": "400000 100000"}, 1.5, None),
        ({"ci/job/memory.max": "1000", "ci/memory.max": "2000"}, None, 1000),
        ({"ci/another/cpu.max": "1000 100000"}, None, None),
    ],
)
def test_the_tightest_limit_up_to_the_root_counts(
    tree: Tree, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    tree.place("0::/ci/job\n", "/ . cgroup2 rw").write(files)
    assert (quota.cpu_quota(tree.process), quota.memory_limit(tree.process)) == (cpus, memory)


@pytest.mark.parametrize(
    ("quota_us", "period_us", "cpus"),
    [("-1", "100000", None), ("100000", "100000", 1), ("50000", "50000", 1), ("50000", "100000", 0.5)],
)
@pytest.mark.parametrize("group", ["ci/job", "ci", "."])
def test_version_1_has_a_file_for_the_quota_and_one_for_its_period(
    tree: Tree, quota_us: str, period_us: str, cpus: float | None, group: str
) -> None:
    files = {f"cpu/{group}/cpu.cfs_quota_us": quota_us, f"cpu/{group}/cpu.cfs_period_us": period_us}
    tree.place("4:memory:/mine\n1:cpu,cpuacct:/ci/job\n0::/\n", "/ cpu cgroup rw,cpu,cpuacct").write(files)
    assert quota.cpu_quota(tree.process) == cpus


def test_version_1_writes_no_limit_of_memory_as_a_number(tree: Tree) -> None:
    tree.place("4:memory:/ci\n", "/ memory cgroup rw,memory").write(
        {"memory/ci/memory.limit_in_bytes": str(2**63 - 4096)}
    )
    assert quota.memory_limit(tree.process) is None
    tree.write({"memory/memory.limit_in_bytes": "1048576"})
    assert quota.memory_limit(tree.process) == 1048576


@pytest.mark.parametrize(
    ("groups", "root"),
    [
        ("1:cpu:/docker/abc", "/docker/abc"),
        ("1:cpu:/", "/"),
        ("1:cpu:/../../elsewhere", "/"),
        ("1:cpu:/x", "/docker/abc"),
    ],
)
def test_a_container_sees_its_own_group_where_it_is_mounted(tree: Tree, groups: str, root: str) -> None:
    tree.place(groups, f"{root} cpu cgroup rw,cpu")
    tree.write({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"})
    assert quota.cpu_quota(tree.process) == 0.5


def test_both_versions_count_where_both_are_mounted(tree: Tree) -> None:
    tree.place("1:cpu:/a\n0::/b\n", "/ cpu cgroup rw,cpu", "/ unified cgroup2 rw")
    tree.write({"cpu/a/cpu.cfs_quota_us": "150000", "cpu/a/cpu.cfs_period_us": "100000"})
    assert quota.cpu_quota(tree.process) == 1.5
    tree.write({"unified/b/cpu.max": "50000 100000"})
    assert quota.cpu_quota(tree.process) == 0.5


def test_a_folder_with_a_blank_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "with blank"
    folder.mkdir()
    tree = Tree(folder).place("0::/a", "/ . cgroup2 rw").write({"a/cpu.max": "50000 100000"})
    mounts = (tree.process / "mountinfo").read_text()
    (tree.process / "mountinfo").write_text(mounts.replace("with blank", "with\\040blank"))
    assert quota.cpu_quota(tree.process) == 0.5


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert (quota.cpu_quota(tmp_path), quota.memory_limit(tmp_path)) == (None, None)
    assert quota.usable_processors(tmp_path) == quota.processors()


def test_a_quota_is_less_than_all_processors_or_no_bound(tree: Tree) -> None:
    tree.place("0::/", "/ . cgroup2 rw").write({"cpu.max": "30000 100000"})
    assert quota.usable_processors(tree.process) == 0.3
    tree.write({"cpu.max": "102400000 100000"})
    assert quota.usable_processors(tree.process) == quota.processors()


def test_limits_are_kept_by_what_they_mean(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree.place("0::/", "/ . cgroup2 rw").write({"cpu.max": "50000 50000", "memory.max": "2147483648"})
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota.cpu_quota(tree.process))
    monkeypatch.setattr(environment, "memory_limit", lambda: quota.memory_limit(tree.process))
    assert environment.control_group_limits() == {"cpus": "1", "memory": "2147483648"}
    tree.write({"cpu.max": "50000 100000", "memory.max": "max"})
    assert environment.control_group_limits() == {"cpus": "0.5"}


@pytest.mark.parametrize(
    ("cores", "limits", "says"),
    [
        (2, {}, "2 cores, 8 GiB"),
        (1, {}, "1 core, 8 GiB"),
        (2, {"cpus": "1"}, "1 of 2 cores (quota), 8 GiB"),
        (2, {"cpus": "0.5", "memory": str(3 * 2**29)}, "0.5 of 2 cores (quota), 1.5 of 8 GiB (limit)"),
        (1, {"cpus": "4", "memory": str(2**40)}, "1 core, 8 GiB"),
        (2, {"cpu.cfs_quota_us": "50000"}, "2 cores, 8 GiB"),  # of an older version
    ],
)
def test_a_machine_is_said_with_what_of_it_can_be_used(cores: int, limits: dict[str, str], says: str) -> None:
    assert machine(cores, 2**33, limits) == says

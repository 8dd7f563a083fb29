from pathlib import Path

import pytest

from services.inference.engine import UpdateRejected
from services.inference.weights import tensor_shapes, verify
from tests.unit.inference.policy_versions import manifest_of, write_tensors


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "base" / "model.safetensors", {"a": [0.0, 1.0], "b": [2.0]})
    return tmp_path / "base"


@pytest.fixture
def version(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "v1" / "model.safetensors", {"a": [5.0, 6.0], "b": [7.0]})
    return tmp_path / "v1"


def test_a_whole_version_is_accepted(tmp_path: Path, base: Path, version: Path) -> None:
    verify(manifest_of(version, base, 1), tmp_path)


def test_tensors_may_be_split_over_files_in_another_way(tmp_path: Path, base: Path) -> None:
    write_tensors(tmp_path / "v1" / "one.safetensors", {"b": [7.0]})
    write_tensors(tmp_path / "v1" / "two.safetensors", {"a": [5.0, 6.0]})
    verify(manifest_of(tmp_path / "v1", base, 1), tmp_path)
    assert tensor_shapes(tmp_path / "v1") == {"a": (2,), "b": (1,)}


def test_a_changed_byte_is_found(tmp_path: Path, base: Path, version: Path) -> None:
    manifest = manifest_of(version, base, 1)
    file = version / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    with pytest.raises(UpdateRejected, match="want sha256"):
        verify(manifest, tmp_path)


def test_a_missing_file_is_named(tmp_path: Path, base: Path, version: Path) -> None:
    manifest = manifest_of(version, base, 1)
    (version / "model.safetensors").unlink()
    with pytest.raises(UpdateRejected, match=r"model\.safetensors: No such file"):
        verify(manifest, tmp_path)


def test_a_file_that_the_manifest_does_not_name_is_refused(tmp_path: Path, base: Path, version: Path) -> None:
    manifest = manifest_of(version, base, 1)
    write_tensors(version / "other.safetensors", {"c": [1.0]})
    with pytest.raises(UpdateRejected, match=r"other\.safetensors"):
        verify(manifest, tmp_path)


@pytest.mark.parametrize(
    ("tensors", "odd"),
    [
        ({"a": [1.0, 2.0]}, "'b' has the shape none, want \\(1,\\)"),
        ({"a": [1.0], "b": [2.0]}, "'a' has the shape \\(1,\\), want \\(2,\\)"),
        ({"a": [1.0, 2.0], "b": [2.0], "c": [2.0]}, "'c' has the shape \\(1,\\), want none"),
    ],
)
def test_tensors_that_the_engine_did_not_start_with_are_refused(
    tmp_path: Path, base: Path, version: Path, tensors: dict[str, list[float]], odd: str
) -> None:
    served = verify(manifest_of(version, base, 1), tmp_path)
    write_tensors(tmp_path / "v2" / "model.safetensors", tensors)
    with pytest.raises(UpdateRejected, match=odd):
        verify(manifest_of(tmp_path / "v2", base, 2), tmp_path, served)
    assert verify(manifest_of(version, base, 1), tmp_path, served) == served


def test_the_bases_own_names_are_no_measure(tmp_path: Path, base: Path) -> None:
    """transformers renames and fuses, leaves out tied duplicates, and reads one of several sets of files."""
    write_tensors(base / "consolidated.safetensors", {"other": [1.0]})
    write_tensors(tmp_path / "v1" / "model.safetensors", {"fused": [0.0, 1.0, 2.0]})
    assert verify(manifest_of(tmp_path / "v1", base, 1), tmp_path) == {"fused": (3,)}


def test_a_link_that_leads_out_of_the_data_folder_is_refused(tmp_path: Path, base: Path, version: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "v1").symlink_to(version)
    base.rename(data / "base")
    with pytest.raises(UpdateRejected, match="is outside"):
        verify(manifest_of(data / "v1", data / "base", 1), data)


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "model.safetensors").write_bytes(b"\x80\x04pickle, perhaps")
    with pytest.raises(UpdateRejected, match="not a safetensors file"):
        verify(manifest_of(tmp_path / "v1", base, 1), tmp_path)


def test_a_version_without_files_is_refused(tmp_path: Path, base: Path) -> None:
    (tmp_path / "v1").mkdir()
    with pytest.raises(UpdateRejected, match="names no files"):
        verify(manifest_of(tmp_path / "v1", base, 1), tmp_path)

"""What a path in a profile means."""

from pathlib import Path

from gpuserve.profile.places import Places


def test_a_path_upwards_is_told_without_dots(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    places = Places(tmp_path / "profiles", tmp_path)
    assert places.weights("../models/a") == str(tmp_path / "models" / "a")
    assert places.executable("../venv/bin/vllm") == str(tmp_path / "venv" / "bin" / "vllm")


def test_dots_behind_a_link_stay_where_they_mean_another_place(tmp_path: Path) -> None:
    (tmp_path / "far" / "profiles").mkdir(parents=True)
    (tmp_path / "profiles").symlink_to(tmp_path / "far" / "profiles")
    places = Places(tmp_path / "profiles", tmp_path)
    named = Path(places.weights("../models"))
    assert named.resolve() == (tmp_path / "far" / "models").resolve()

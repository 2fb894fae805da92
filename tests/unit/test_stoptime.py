"""A patient profile is told what systemd must be told."""

import re
from pathlib import Path

from gpuserve.profile.spec import Patience
from gpuserve.stoptime import UNIT_STOP_S, stop_time_caution
from tests.unit.memory.models import model, profile

UNIT = Path(__file__).resolve().parents[2] / "systemd" / "gpuserve.service"


def patient(drain_s: float, stop_s: float = 10.0) -> Patience:
    return Patience(drain_timeout_s=drain_s, stop_timeout_s=stop_s)


def test_the_limit_is_the_one_of_the_unit_that_is_shipped() -> None:
    (value,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert int(value) == UNIT_STOP_S


def test_what_the_unit_allows_is_not_mentioned() -> None:
    assert stop_time_caution(profile()) is None
    assert stop_time_caution(profile(model("a"))) is None
    assert stop_time_caution(profile(model("a", patience=patient(40)))) is None


def test_the_most_patient_model_decides_how_far_to_raise_the_limit() -> None:
    given = profile(
        model("a", patience=patient(60)), model("b", patience=patient(300.5, 20)), model("c")
    )
    caution = stop_time_caution(given)
    assert caution is not None
    assert caution.warning
    assert caution.where == "model[1]"
    assert '"b" may drain for 300.5 s and stop for 20 s' in caution.message
    assert "raise TimeoutStopSec to 361" in (caution.hint or "")

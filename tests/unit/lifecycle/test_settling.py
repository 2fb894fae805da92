"""Free memory has settled only if it is the same over a while, however often one looks."""

from gpuserve.lifecycle.settling import Look, compare


def test_the_first_look_has_nothing_to_compare_with() -> None:
    assert compare(None, Look(10.0, 5)) == (Look(10.0, 5), None)


def test_a_look_a_second_later_is_compared() -> None:
    assert compare(Look(10.0, 5), Look(11.0, 7)) == (Look(11.0, 7), 5)


def test_looks_a_moment_apart_tell_nothing_and_do_not_move_the_first() -> None:
    """Two engines that crash together wake the gate twice while memory still comes back."""
    kept = Look(10.0, 5)
    for at_s in (10.001, 10.3, 10.7):
        kept, before = compare(kept, Look(at_s, 5))
        assert (kept, before) == (Look(10.0, 5), None)
    assert compare(kept, Look(10.9, 99)) == (Look(10.9, 99), 5)


def test_a_look_from_long_ago_tells_nothing() -> None:
    assert compare(Look(10.0, 5), Look(100.0, 5)) == (Look(100.0, 5), None)

"""Which layers a pipeline stage holds."""


def stage_bounds(layers: int, stages: int) -> tuple[tuple[int, int], ...]:
    """Return (first, after the last) of each stage.

    As vLLM deals them out (distributed/utils.py, get_pp_indices): evenly, and what is left over
    one each from the last stage but one backwards.
    """
    each, left = divmod(layers, stages)
    sizes = [each] * stages
    for n in range(2, left + 2):
        sizes[-n] += 1
    bounds = []
    start = 0
    for size in sizes:
        bounds.append((start, start + size))
        start += size
    return tuple(bounds)

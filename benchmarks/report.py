"""What benchmarks/gpu.py found, as Markdown."""

RIVALS = {"(a)": "full SVD", "(b)": "4 power iterations", "(c)": "compiled (b)"}

# float32 on an H200: microseconds of the operator, and how many times as long (a) and (c) take at least.
TARGETS = {
    (128, 100): (15, 50, 5),
    (128, 1000): (35, 300, 5),
    (1024, 1000): (45, 300, 5),
    (256, 8142): (1000, None, 3),
}


def markdown(found: dict) -> str:
    """`found`: "facts" and "steps", and "bench" and "vit" where those steps left something."""
    facts = found["facts"]
    parts = [
        [f"# {facts['device']}, {facts['date']}"],
        [f"`{facts['command']}`"],
        [f"{key}: {value}  " for key, value in facts.items() if key not in ("command", "device", "date")],
        table(
            ["step", "seconds", "result"],
            [[step["name"], f"{step['seconds']:.0f}", step["result"]] for step in found["steps"]],
            align="---",
        ),
    ]
    if bench := found.get("bench"):
        parts += operator(bench)
    if vit := found.get("vit"):
        parts += training(vit)
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def table(head: list[str], rows: list[list[str]], align: str = "---:") -> list[str]:
    lines = [head, ["---"] + [align] * (len(head) - 1), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def operator(bench: dict) -> list[list[str]]:
    shapes = bench["shapes"]
    floors = ", ".join(f"{name} {micro(spread)} µs" for name, spread in bench["floors"].items())
    names = [f"{key} {name}" for key, name in RIVALS.items()]
    parts = [
        ["## Forward, gradient and moving average, float32"],
        [
            "Microseconds on the device, replayed from CUDA graphs (but where marked *), in turns, medians; one graph "
            "holds eight batches. *cold*: with the cache overwritten before each call. *module*: `CAR` with autograd. "
            "In brackets: times as long as the operator; after the slash, the target. "
            f"Floors: {floors}."
        ],
        table(["B, K", "operator / target", "cold", "module", *names], [device_row(s) for s in shapes]),
        ["The same called from Python, without graphs, with autograd:"],
        table(["B, K", "car_ext", *names], [python_row(s) for s in shapes]),
        ["Where the operator's time goes, by leaving out samples or iterations (microseconds):"],
        table(["B, K", "samples", "average, first iteration", "later iterations", "iterations"], phases(shapes)),
        [
            "What must move through device memory where the matrix exceeds the cache of "
            f"{bench['cache_bytes'] / 1e6:.0f} MB, against a copy at {bench['copy_bytes_per_second'] / 1e12:.2f} TB/s "
            "(read and written) in the same run; and what a step of the module allocates at most."
        ],
        table(["B, K", "MB to move", "share of the copy's rate", "peak MB", "bound, MB"], traffic(bench)),
    ]
    notes = [f"- {s['samples']}, {s['classes']}: {note}" for s in shapes for note in s["notes"]]
    return [*parts, notes] if notes else parts


def shape_of(s: dict) -> str:
    return f"{s['samples']}, {s['classes']}"


def micro(spread: dict | float) -> str:
    value = 1e6 * (spread if isinstance(spread, float) else spread["median"])
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def device_row(s: dict) -> list[str]:
    ours = s["operator"]
    target, over_svd, over_compiled = TARGETS.get((s["samples"], s["classes"]), (None, None, None))
    row = [shape_of(s), micro(ours) + (f" / {target}" if target else ""), micro(s["operator, cold cache"])]
    row.append(micro(s["module"]))
    for key, least in (("(a)", over_svd), ("(b)", None), ("(c)", over_compiled)):
        if key not in s:
            row.append("-")
            continue
        ratio = s[key]["median"] / ours["median"]
        goal = f" / {least}x" if least else ""
        row.append(f"{micro(s[key])}{'' if s[key]['in_graph'] else '*'} ({ratio:.1f}x{goal})")
    return row


def python_row(s: dict) -> list[str]:
    took = {"(a)": s.get("(a)"), **s["python"]}
    return [shape_of(s), *(micro(took[key]) if took.get(key) else "-" for key in ("car_ext", *RIVALS))]


def phases(shapes: list[dict]) -> list[list[str]]:
    return [[shape_of(s), *map(micro, s["phases"].values()), f"{s['iterations']:.1f}"] for s in shapes]


def traffic(bench: dict) -> list[list[str]]:
    rows = []
    for s in bench["shapes"]:
        off_chip = 4 * s["classes"] ** 2 > bench["cache_bytes"] > 0
        rate = s["least_bytes"] / s["operator"]["median"] / bench["copy_bytes_per_second"]
        peak = "-" if s["peak_bytes"] is None else f"{s['peak_bytes'] / 1e6:.2f}"
        moved = [f"{s['least_bytes'] / 1e6:,.0f}", f"{rate:.0%}"] if off_chip else ["-", "-"]
        rows.append([shape_of(s), *moved, peak, f"{s['peak_bound'] / 1e6:.2f}"])
    return rows


def training(vit: dict) -> list[list[str]]:
    plain, with_car = vit["cross-entropy"], vit["with CAR"]

    def milliseconds(spread: dict) -> str:
        return f"{spread['median'] * 1e3:.2f} ({spread['low'] * 1e3:.2f} to {spread['high'] * 1e3:.2f})"

    return [
        ["## Training step"],
        [
            f"{vit['model']}, batch {vit['samples']}, {vit['pixels']} px, {vit['classes']} classes, bfloat16 autocast, "
            f"AdamW; milliseconds, median (20th to 80th percentile) of {plain['turns']} turns each, alternating."
        ],
        table(
            ["cross-entropy", "with CAR", "overhead"],
            [[milliseconds(plain), milliseconds(with_car), f"{vit['overhead']:+.2%}"]],
        ),
    ]

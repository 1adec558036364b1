"""One training on 1, 2 and 4 processes of this machine: images a second, and bytes sent a step.

    python benchmarks/ranks.py                                # the digits; on GPUs where there are some
    python benchmarks/ranks.py --ranks 1 8 -- --data photos/ --model resnet50 --img-size 224 --batch-size 512

What stands behind `--` are options of `car-ext train`. An epoch warms up, the next ones are timed, without scoring.
Bytes are what the loopback interface carries between processes that talk over gloo, protocol included; over NCCL the
processes of one machine do not use it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from car_ext.cli.flags import add_job, job
from car_ext.cli.parser import Parser

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
LOOPBACK = Path("/proc/net/dev")


def sent() -> int | None:
    """Bytes over the loopback interface since the machine started; None where the system does not say."""
    if not LOOPBACK.exists():
        return None
    rows = (line.split(":") for line in LOOPBACK.read_text().splitlines() if ":" in line)
    return int({name.strip(): fields.split() for name, fields in rows}["lo"][8])


def measure(options: list[str], epochs: int) -> None:
    """On each process of a launcher; the first prints images a second and bytes a step as JSON."""
    from car_ext.machine.processes import joined
    from car_ext.training.job import Job
    from car_ext.training.progress import Progress

    parser = Parser()
    add_job(parser)
    config = job(parser.parse_args(options))
    with joined(config.device) as processes:
        measured = Job(config, processes)
        with Progress(config, 1, 0, shown=False) as report:
            measured.train_epoch(report)
            seconds, bytes_sent = [], []
            for _ in range(epochs):
                processes.wait()
                start, before = time.perf_counter(), sent()
                measured.train_epoch(report)
                processes.wait()
                seconds.append(time.perf_counter() - start)
                bytes_sent.append(None if before is None else (sent() or 0) - before)
        steps, images = len(measured.batches.train), len(measured.data.train)
        if processes.first:
            told = None if bytes_sent[0] is None else statistics.median(bytes_sent) / steps
            print(json.dumps({"rate": images / statistics.median(seconds), "sent": told}))


def main() -> None:
    own = sys.argv[1:]
    at = own.index("--") if "--" in own else len(own)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--epochs", type=int, default=5, help="timed")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments, options = parser.parse_args(own[:at]), own[at + 1 :]
    if arguments.one:
        measure(options, arguments.epochs)
        return
    print("| processes | images a second | MB sent a step |\n| ---: | ---: | ---: |")
    for ranks in arguments.ranks:
        command = [*LAUNCHER, str(ranks), __file__, "--one", "--epochs", str(arguments.epochs), "--", *options]
        environment = {"OMP_NUM_THREADS": "1"} | os.environ
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found = json.loads(done.stdout.splitlines()[-1])
        megabytes = "-" if found["sent"] is None else f"{found['sent'] / 1e6:.2f}"
        print(f"| {ranks} | {found['rate']:,.0f} | {megabytes} |", flush=True)


if __name__ == "__main__":
    main()

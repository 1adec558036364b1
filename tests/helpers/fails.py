"""A training on the processes of a launcher, of which the second fails in the second epoch: `fails.py HOW OUT`."""

import os
import signal
import sys

from car_ext.cli import exits
from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.training.job import Job
from car_ext.training.train import train


class Failing(Job):
    def train_epoch(self, *arguments):
        if self.epoch == 1 and self.machine.processes.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            if sys.argv[1] == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise InputError("a file that only this process reads is broken; bring it back.")
        super().train_epoch(*arguments)


def main() -> None:
    train.__globals__["Job"] = Failing
    train(Config(epochs=2, batch_size=64, out=sys.argv[2], resume=True))


if __name__ == "__main__":
    sys.exit(exits.run(main))

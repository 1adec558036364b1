"""A training run as one more runtime: its last checkpoint in PyTorch, described as an exported file is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import car_ext
from car_ext.errors import InputError
from car_ext.methods.heads.post_hoc import logit_adjusted, tau_normalized
from car_ext.metrics.temperature import of_classes
from car_ext.run.classifier import load_run
from car_ext.run.folder import RunFolder
from car_ext.runtimes.described import Described
from car_ext.runtimes.tempered import Tempered


class FinishedRun(Described):
    """The classifier of a run, with its head corrected for the class frequencies after training if asked for.

    Attributes, besides those of `Described`:
        classifier: uint8 (N, H, W, C) to float32 logits (N, K), in eval mode.
        facts: what an exported file says of itself, ready for JSON.
        config: the run's configuration.
        scores_hold: whether the scores of the run are those of the classifier: they are of the head as trained, and may
            be of two views of an image.
        whole: whether its data came in one part, of which it made the splits.

    Args:
        run_dir: the folder of a training run; of one that is not finished, the last checkpoint.
        device: "auto", "cpu" or "cuda".
        logit_adjust: tau of `heads.logit_adjusted`.
        tau_norm: tau of `heads.tau_normalized`; the bias is dropped, as published.

    Raises:
        InputError: no run there, both corrections at once, a second correction of a corrected head, or a head that the
            correction is not for.
    """

    def __init__(
        self,
        run_dir: str | Path,
        device: str = "auto",
        *,
        logit_adjust: float | None = None,
        tau_norm: float | None = None,
    ) -> None:
        self.classifier, state = load_run(run_dir, device)
        self.config: dict[str, Any] = state["config"]
        summary = RunFolder(Path(run_dir)).read_summary() or {}
        correction = _correction(state["heads"][-1], logit_adjust, tau_norm)
        self.scores_hold = not (correction or self.config.get("test_flip"))
        if not self.scores_hold:
            summary = {}
        head: Any = self.classifier.head  # of a kind that the corrections check themselves
        if tau_norm is not None:
            self.classifier.head = tau_normalized(head, tau_norm)
        if logit_adjust is not None:
            self.classifier.head = logit_adjusted(head, state["class_counts"], logit_adjust)
        side, stored, channels = state["image_size"], state["stored_size"], state["channels"]
        self.facts = {
            "class_names": state["class_names"],
            "class_counts": state["class_counts"],
            "image_size": side,
            "stored_size": stored,
            "channels": channels,
            "train_worst_class_accuracy": summary.get("train_worst_class_accuracy"),
            "input": f"uint8 (batch, {side}, {side}, {channels}), {'RGB' if channels == 3 else 'grey'}: "
            f"shorter side resized to {stored} (Pillow, bicubic), centre {side} x {side} cut out; nothing else",
            "spent": state.get("spent"),
            "correction": correction,
            "config": self.config,
            "summary": {key: value for key, value in summary.items() if isinstance(value, int | float | str)},
            "car_ext_version": car_ext.__version__,
        }
        self.whole: bool = (state.get("spent") or {}).get("others") is not None
        self.device = self.classifier.mean.device
        super().__init__(self.facts, f"torch {self.device.type}", "PyTorch")

    def temper(self, temperatures: Mapping[str, float]) -> None:
        """Divides the logits by a temperature of "all", or of each group of classes; the facts say so from then on."""
        by_class = of_classes(temperatures, self.class_counts).tolist()
        self.classifier.head = Tempered(self.classifier.head, by_class).to(self.device)
        self.facts["temperature"] = self.temperature = dict(temperatures)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.classifier(torch.from_numpy(images).to(self.device)).cpu().numpy()


def _correction(head: str, logit_adjust: float | None, tau_norm: float | None) -> str | None:
    asked = {"logit_adjusted": logit_adjust, "tau_norm": tau_norm}
    chosen = [f"{name}:tau={tau:g}" for name, tau in asked.items() if tau is not None]
    before = [head] if head.partition(":")[0] in asked else []
    if len(before + chosen) > 1 and chosen:
        raise InputError(
            f"{' and '.join(before + chosen)} correct the same bias twice: use --logit-adjust or --tau-norm, and "
            "neither for a head that is corrected already."
        )
    return chosen[0] if chosen else None

"""The terms of the pages, each explained where it stands and once more at the end."""

import re
from typing import NamedTuple

from markupsafe import Markup, escape


class Term(NamedTuple):
    """What is marked: `phrases` within a text, and a text that is one of `alone`."""

    name: str
    says: str
    phrases: tuple[str, ...]
    alone: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return "term-" + re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")


TERMS = (
    Term(
        "classes at 0 %",
        "The classes of which not one test image is right. Where the worst class is one of them, "
        "this number still tells two models apart.",
        ("classes at 0 %", "classes of which no image is recognised"),
    ),
    Term(
        "worst tenth",
        "Mean accuracy of the tenth of the classes with the lowest accuracies. Steadier than the worst "
        "class, which is a single one.",
        ("worst tenth", "worst 10 %", "worst 5 %", "worst 1 %"),
    ),
    Term(
        "smoothed",
        "Each class's accuracy drawn towards the overall one by the weight of two images, so that a class of few "
        "images is less of a matter of chance.",
        ("smoothed",),
    ),
    Term(
        "worst class",
        "The class with the lowest accuracy. It is picked after looking, so on few test images it is "
        "partly the unluckiest one.",
        ("worst class",),
    ),
    Term("overall", "The part of all test images that is right.", ("overall accuracy",), ("overall",)),
    Term(
        "worst-class ratio",
        "Accuracy of the worst class on the test images over that of the worst class on the "
        "training images: near 1 where what is learned carries over.",
        ("worst-class ratio", "test over training"),
    ),
    Term(
        "many, medium, few",
        "Groups by the training images of a class: over 100 (many), 20 to 100 (medium), under 20 "
        "(few). Liu et al., CVPR 2019.",
        ("many-shot", "medium-shot", "few-shot"),
        ("many", "medium", "few"),
    ),
    Term("balanced accuracy", "Mean of the classes' accuracies: every class counts alike.", ("balanced accuracy",)),
    Term(
        "harmonic mean",
        "The number of classes over the sum of 1 / accuracy: low as soon as one class is.",
        ("harmonic mean",),
    ),
    Term(
        "geometric mean",
        "The product of the classes' accuracies to the power 1 / classes: 0 as soon as one class is.",
        ("geometric mean",),
    ),
    Term("precision", "Of the images taken for a class, the part that is of it.", ("precision",)),
    Term("recall", "Of the images of a class, the part that is taken for it: the class's accuracy.", ("recall",)),
    Term("F1", "Harmonic mean of precision and recall: 2 right / (taken for it + of it).", ("macro F1", "F1")),
    Term(
        "95 % interval",
        "Where the value would lie in 95 of 100 such test sets, by the number of images alone "
        "(Wilson's for an accuracy). Two runs whose intervals overlap may be equally good.",
        ("95 % interval", "95 % Wilson intervals", "95 % Wilson interval"),
    ),
    Term(
        "confidence",
        "The largest probability that the model gives a picture, that of the class it says.",
        ("confidence",),
    ),
    Term(
        "expected calibration error",
        "ECE: how far confidence and accuracy lie apart, mean over bins of the confidence. Guo et al., ICML 2017.",
        ("expected calibration error", "ECE"),
    ),
    Term(
        "Brier score",
        "Mean squared distance of the probabilities from the truth, 0 to 2; less is better.",
        ("Brier score",),
    ),
    Term(
        "negative log-likelihood",
        "Mean of -log of the true class's probability, in nats; less is better.",
        ("negative log-likelihood",),
    ),
    Term(
        "temperature",
        "A number that the logits are divided by before the softmax. It changes how sure the model is, "
        "never which class it says.",
        ("temperature",),
    ),
    Term(
        "conformal set",
        "The classes that are named together so that the true one is among them as often as was "
        "asked for (the coverage); the smaller, the surer.",
        ("conformal sets", "conformal set"),
    ),
    Term(
        "test prior",
        "How frequent the classes are among the images to be classified; training's frequencies are another prior.",
        ("test prior", "test priors"),
    ),
    Term(
        "sigma", "The spectral norm of the moving average of the weighted confusions: what CAR makes small.", ("sigma",)
    ),
    Term(
        "spectral norm",
        "The largest singular value: how much of the mistakes goes in one common direction.",
        ("spectral norm",),
    ),
    Term(
        "weighted worst-class error",
        "The largest part of a class that is wrong, classes weighted by rarity; at most "
        "the weighted spectral norm times the root of the number of classes.",
        ("weighted worst-class error",),
    ),
    Term(
        "moving average",
        "The mean over the last training steps, the latest most: CAR's view of the confusions.",
        ("moving average",),
    ),
    Term(
        "LoMa",
        "Logit margin: by how much a class's logit is larger, on average, on its own images than on others.",
        ("LoMa",),
    ),
)

_BY_PHRASE = {phrase.lower(): term for term in TERMS for phrase in term.phrases}
_ALONE = {text: term for term in TERMS for text in term.alone}
_PHRASES = re.compile(  # a space may be one that does not break
    r"(?<!\w)({})(?!\w)".format(
        "|".join(r"\s".join(map(re.escape, phrase.split())) for phrase in sorted(_BY_PHRASE, key=len, reverse=True))
    ),
    re.IGNORECASE,
)


class Glossary:
    """The terms of one page: marks them in its texts and keeps those that it has marked."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    @property
    def terms(self) -> list[Term]:
        """Those marked so far, in the order of `TERMS`."""
        return [term for term in TERMS if term.name in self._used]

    def mark(self, text: str) -> Markup:
        """A text escaped, each of its terms, where it first occurs, a link to what it means."""
        if text in _ALONE:
            return self._link(_ALONE[text], text)
        marked, seen = Markup(), set[Term]()
        for at, part in enumerate(_PHRASES.split(text)):
            term = _BY_PHRASE[" ".join(part.lower().split())] if at % 2 else None
            if term and term not in seen:
                marked += self._link(term, part)
                seen.add(term)
            else:
                marked += escape(part)
        return marked

    def _link(self, term: Term, text: str) -> Markup:
        self._used.add(term.name)
        return Markup('<a class="term" href="#{}">{}</a>').format(term.id, text)

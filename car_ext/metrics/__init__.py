"""Scores of a classifier, the worst class in front."""

from car_ext.metrics.confusions import Confusions
from car_ext.metrics.counts import confusion_counts
from car_ext.metrics.summary import group_accuracies, summarize, worst_confusions
from car_ext.metrics.vocabulary import Score, register

__all__ = ["Confusions", "Score", "confusion_counts", "group_accuracies", "register", "summarize", "worst_confusions"]

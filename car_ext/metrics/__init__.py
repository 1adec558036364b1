"""Scores of a classifier, the worst class in front."""

from car_ext.metrics.summary import confusion_counts, group_accuracies, summarize, worst_confusions

__all__ = ["confusion_counts", "group_accuracies", "summarize", "worst_confusions"]

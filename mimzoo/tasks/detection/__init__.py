"""Object detection: boxes with classes, and how well they fit."""

from mimzoo.tasks.detection.average_precision import AveragePrecision, DetectionScores

__all__ = ["AveragePrecision", "DetectionScores"]

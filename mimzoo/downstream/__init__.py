"""What pretrained features are good for."""

from mimzoo.downstream.feature_probe import FeatureProbe
from mimzoo.downstream.knn import knn_accuracy
from mimzoo.downstream.linear_probe import extract_features, linear_probe

__all__ = ["FeatureProbe", "extract_features", "knn_accuracy", "linear_probe"]

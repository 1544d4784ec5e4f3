"""From a recipe to a fitted pipeline: estimators by name or by code, preprocessing, calibration and threshold."""

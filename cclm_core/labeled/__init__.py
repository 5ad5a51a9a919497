"""Labeled data sets of the user's own task: read, checked, split and published by the stage `labeled`."""
